//! One question as it goes to upstreams, shared by every try to have it answered.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{Way, Witness};
use crate::{
    edns::Options,
    message::{read_reply, write_query},
    query::{Edns, Query, Question},
    reply::{Reply, Why},
    wire::{HEADER_LENGTH, Header, MIN_UDP_PAYLOAD, Opcode, Rcode},
};

/// Octets of a query at most: header, the longest name, type and class, an OPT.
pub(super) const MAX_QUERY: usize = HEADER_LENGTH + 255 + 4 + 11 + Options::MAX;

/// A query in octets, its id left open: each try puts its own.
#[derive(Debug)]
pub struct Packet {
    octets: Box<[u8]>,
    question_end: usize,
    /// A reply came for it that cannot be believed.
    wrong: AtomicBool,
    witness: Option<Arc<dyn Witness>>,
}

impl Packet {
    /// The question that `query` has become, with the client's wishes. AD is always asked for: it
    /// goes to whoever understands it, so it must not depend on who asked first (RFC 6840 §5.7).
    pub fn of(query: &Query) -> Self {
        let edns = query.edns.map(|edns| Edns {
            udp_payload: edns
                .udp_payload
                .max(u16::try_from(MIN_UDP_PAYLOAD).expect("512")),
            ..edns
        });
        let octets = write_query(
            0,
            &query.question,
            query.onward_recursion.unwrap_or(query.recursion_desired),
            query.checking_disabled,
            true,
            edns,
            &query.options,
        );
        Self::new(octets, &query.question)
    }

    /// A question of our own: no EDNS, no wishes.
    pub fn probe(question: &Question, recursion_desired: bool) -> Self {
        let octets = write_query(
            0,
            question,
            recursion_desired,
            false,
            false,
            None,
            &Options::default(),
        );
        Self::new(octets, question)
    }

    fn new(octets: Vec<u8>, question: &Question) -> Self {
        Self {
            octets: octets.into(),
            question_end: HEADER_LENGTH + question.name.as_wire().len() + 4,
            wrong: AtomicBool::new(false),
            witness: None,
        }
    }

    /// Lets somebody hear of what becomes of it.
    pub fn witnessed(&mut self, witness: Arc<dyn Witness>) {
        self.witness = Some(witness);
    }

    /// Who hears of what becomes of it.
    pub(super) fn witness(&self) -> Option<&dyn Witness> {
        self.witness.as_deref()
    }

    /// Two packets of the same key ask the same in the same way: every octet but for spelling
    /// and the id, whose room the way takes.
    pub fn key(&self, way: Way) -> Arc<[u8]> {
        let mut shared = Arc::<[u8]>::from(&self.octets[..]);
        if let Some(key) = Arc::get_mut(&mut shared) {
            key[0] = way as u8;
            key[HEADER_LENGTH..self.question_end - 4].make_ascii_lowercase();
        }
        shared
    }

    /// The octets to send, under `id`, in `room`.
    pub(super) fn under<'r>(&self, id: u16, room: &'r mut [u8; MAX_QUERY]) -> &'r [u8] {
        let out = &mut room[..self.octets.len()];
        out.copy_from_slice(&self.octets);
        out[..2].copy_from_slice(&id.to_be_bytes());
        out
    }

    /// The whole message, under `id`.
    pub fn message(&self, id: u16) -> Vec<u8> {
        let mut room = [0; MAX_QUERY];
        self.under(id, &mut room).to_vec()
    }

    /// Reads an answer that came alone, so that its id tells nothing.
    pub fn read(&self, message: &[u8], header: &Header) -> Option<Reply> {
        self.read_answer(message, header)
    }

    /// Reads `message`, whose id has been found right, into a reply, if it is an answer to this
    /// question and whole. What is not is noted: it is ignored, and explains a silence.
    pub(super) fn read_answer(&self, message: &[u8], header: &Header) -> Option<Reply> {
        let mut reply = Reply::default();
        self.read_answer_into(message, header, &mut reply)
            .then_some(reply)
    }

    /// The same into a reply that is there, of which nothing is left but room; what is in it is of no
    /// meaning where this is false.
    pub(super) fn read_answer_into(
        &self,
        message: &[u8],
        header: &Header,
        reply: &mut Reply,
    ) -> bool {
        let is_right = self.believe(message, header, reply).is_some();
        if !is_right {
            self.wrong.store(true, Ordering::Relaxed);
        }
        is_right
    }

    /// Whether a reply came that could not be believed.
    pub fn was_answered_wrongly(&self) -> bool {
        self.wrong.load(Ordering::Relaxed)
    }

    fn believe(&self, message: &[u8], header: &Header, reply: &mut Reply) -> Option<()> {
        if !header.has(Header::RESPONSE) || header.opcode() != Opcode::QUERY {
            return None;
        }
        if header.counts[0] == 0 {
            *reply = bare_error(header)?;
            return Some(());
        }
        let asked = &self.octets[HEADER_LENGTH..self.question_end];
        let answered = message.get(HEADER_LENGTH..self.question_end)?;
        let name = asked.len() - 4;
        if !asked[..name].eq_ignore_ascii_case(&answered[..name])
            || asked[name..] != answered[name..]
        {
            return None;
        }
        read_reply(message, reply).ok()?;
        reply.why = Why::Upstream;
        Some(())
    }
}

/// A server that could not even read the question, or does not care to, may leave it out of its
/// error. There is nothing in such a reply to be believed but the error.
fn bare_error(header: &Header) -> Option<Reply> {
    let rcode = Rcode(header.flags & 0x0F);
    let is_error = !matches!(rcode, Rcode::NOERROR | Rcode::NXDOMAIN);
    (is_error && header.counts == [0; 4]).then(|| Reply::failure(rcode, Why::Upstream))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        message::Writer,
        reply::Data,
        wire::{Class, Name, Type},
    };

    fn query(name: &str, rtype: Type) -> Query {
        Query::internal(Question::new(Name::parse(name).unwrap(), rtype, Class::IN))
    }

    fn answer_to(query: &Query) -> Vec<u8> {
        let mut reply = Reply::default();
        reply.answer(Type::A, 60, Data::A([192, 0, 2, 1].into()));
        let mut out = Vec::new();
        Writer::default().write(query, &reply, &mut out);
        out
    }

    fn believed(packet: &Packet, message: &[u8]) -> bool {
        let header = Header::read(message).unwrap();
        packet.read_answer(message, &header).is_some()
    }

    #[test]
    fn only_an_answer_to_the_question_is_believed() {
        let packet = Packet::of(&query("www.Example.org", Type::A));
        assert!(believed(
            &packet,
            &answer_to(&query("WWW.example.org", Type::A))
        ));
        assert!(!packet.was_answered_wrongly());
        for (name, rtype) in [
            ("www.example.net", Type::A),
            ("www.example.org", Type::AAAA),
            ("a.www.example.org", Type::A),
        ] {
            assert!(
                !believed(&packet, &answer_to(&query(name, rtype))),
                "{name}"
            );
        }
        assert!(packet.was_answered_wrongly());
    }

    #[test]
    fn every_prefix_and_a_query_are_not_believed() {
        let packet = Packet::of(&query("www.example.org", Type::A));
        let message = answer_to(&query("www.example.org", Type::A));
        for end in HEADER_LENGTH..message.len() {
            assert!(!believed(&packet, &message[..end]), "{end}");
        }
        let mut room = [0; MAX_QUERY];
        assert!(!believed(&packet, packet.under(7, &mut room)));
    }

    #[test]
    fn an_error_without_question_is_an_error_and_nothing_more() {
        let packet = Packet::of(&query("www.example.org", Type::A));
        assert!(believed(&packet, &[0, 1, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]));
        assert!(!believed(&packet, &[0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        assert!(!believed(&packet, &[0, 1, 0x80, 3, 0, 0, 0, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn spelling_does_not_make_another_question_and_wishes_do() {
        let plain = query("www.example.org", Type::A);
        let key = Packet::of(&plain).key(Way::Datagram);
        assert_eq!(
            key,
            Packet::of(&query("WWW.example.ORG", Type::A)).key(Way::Datagram)
        );
        let mut knowing = plain.clone();
        knowing.authentic_data = true;
        assert_eq!(key, Packet::of(&knowing).key(Way::Datagram));
        let mut checking = plain.clone();
        checking.checking_disabled = true;
        let mut signed = plain.clone();
        signed.edns = Some(Edns {
            udp_payload: 1232,
            version: 0,
            dnssec_ok: true,
            wants_nsid: false,
            is_padded: false,
        });
        let mut iterative = plain.clone();
        iterative.recursion_desired = false;
        let mut made_iterative = plain.clone();
        made_iterative.onward_recursion = Some(false);
        let iterative_key = Packet::of(&iterative).key(Way::Datagram);
        assert_eq!(
            iterative_key,
            Packet::of(&made_iterative).key(Way::Datagram)
        );
        let mut from = plain.clone();
        from.options.push(Options::SUBNET, b"net");
        assert_ne!(key, Packet::of(&plain).key(Way::Stream));
        for other in [checking, signed, iterative, from] {
            assert_ne!(key, Packet::of(&other).key(Way::Datagram));
        }
    }
}
