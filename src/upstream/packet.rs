//! One question as it goes to upstreams, shared by every try to have it answered.

use std::{
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{Witness, transport::TransportPolicy};
use crate::{
    edns::Options,
    message::{read_reply, write_query},
    query::{Edns, Query, Question},
    reply::{Reply, Why},
    wire::{HEADER_LENGTH, Header, MIN_UDP_PAYLOAD, MalformedMessage, NameError, Opcode, Rcode},
};

/// Octets of a query at most: header, the longest name, type and class, an OPT.
pub(super) const MAX_QUERY: usize = HEADER_LENGTH + 255 + 4 + 11 + Options::MAX;

/// A query in octets, its id left open: each try puts its own.
#[derive(Debug)]
pub struct Packet {
    octets: Box<[u8]>,
    question_end: usize,
    /// How many replies with its id were none to this question.
    wrong: AtomicUsize,
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
            wrong: AtomicUsize::new(0),
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

    /// Whether the other packet asks the same in the same way: all bytes are equal but for the case of
    /// letters in the name.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let end = self.question_end;
        end == other.question_end
            && self.is_question_of(&other.octets)
            && self.octets[..HEADER_LENGTH] == other.octets[..HEADER_LENGTH]
            && self.octets[end..] == other.octets[end..]
    }

    /// A hash that is equal for packets that are the [same](Self::is_same) and go over the same transport.
    pub(super) fn hash(&self, transport: TransportPolicy, hasher: &impl BuildHasher) -> u64 {
        let mut room = [0; MAX_QUERY];
        let bytes = &mut room[..self.octets.len()];
        bytes.copy_from_slice(&self.octets);
        // In the place of the id, which is not set yet.
        bytes[0] = transport as u8;
        bytes[HEADER_LENGTH..self.question_end - 4].make_ascii_lowercase();
        hasher.hash_one(&*bytes)
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

    /// Reads an answer that came alone on a stream, where the id has no meaning.
    pub fn read(&self, message: &[u8], header: &Header) -> Option<Reply> {
        let mut reply = Reply::default();
        let judged = self.judge(message, header, false, &mut reply);
        (judged == Verdict::Reply).then_some(reply)
    }

    /// Reads `message`, whose id has been found right, into `reply`. Its buffers are reused; unless
    /// this is [`Verdict::Reply`], its contents are unspecified.
    pub(super) fn judge(
        &self,
        message: &[u8],
        header: &Header,
        by_datagram: bool,
        reply: &mut Reply,
    ) -> Verdict {
        let judged = self.compare(message, header, by_datagram, reply);
        if judged == Verdict::OtherQuestion {
            self.wrong.fetch_add(1, Ordering::Relaxed);
        }
        judged
    }

    /// How many replies came under an id of its own that were none to this question.
    pub(super) fn wrong_answers(&self) -> usize {
        self.wrong.load(Ordering::Relaxed)
    }

    fn compare(
        &self,
        message: &[u8],
        header: &Header,
        by_datagram: bool,
        reply: &mut Reply,
    ) -> Verdict {
        if !header.has(Header::RESPONSE) || header.opcode() != Opcode::QUERY {
            return Verdict::OtherQuestion;
        }
        if header.counts[0] == 0 {
            let Some(error) = bare_error(header) else {
                return Verdict::OtherQuestion;
            };
            *reply = error;
            return Verdict::Reply;
        }
        if header.counts[0] != 1 || !self.is_question_of(message) {
            return Verdict::OtherQuestion;
        }
        match read_reply(message, reply) {
            Ok(_) => reply.why = Why::Upstream,
            Err(MalformedMessage::Truncated | MalformedMessage::Name(NameError::Truncated))
                if by_datagram =>
            {
                truncate(header, reply);
            }
            Err(_) => return Verdict::Unreadable,
        }
        Verdict::Reply
    }

    /// Whether the question of a message is this one, whatever its spelling.
    fn is_question_of(&self, message: &[u8]) -> bool {
        let asked = &self.octets[HEADER_LENGTH..self.question_end];
        let Some(answered) = message.get(HEADER_LENGTH..self.question_end) else {
            return false;
        };
        let name = asked.len() - 4;
        asked[..name].eq_ignore_ascii_case(&answered[..name]) && asked[name..] == answered[name..]
    }
}

/// What a message with the id of a query is to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its reply.
    Reply,
    /// No answer to this question. A stranger may have sent it: the wait for the right one goes on
    /// (CVE-2023-28452).
    OtherQuestion,
    /// An answer to this question that cannot be read: no other is to be expected.
    Unreadable,
}

/// Makes `reply` what is left of a datagram that ends in the middle of a record: some servers and
/// middleboxes cut at the size that the client takes, with or without TC. Nothing of its records is used
/// (RFC 2181 section 9); the client asks again by TCP.
fn truncate(header: &Header, reply: &mut Reply) {
    reply.clear();
    reply.rcode = Rcode(header.flags & 0x0F);
    reply.recursion_available = header.has(Header::RECURSION_AVAILABLE);
    reply.truncated = true;
    reply.why = Why::Upstream;
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

    fn judged(packet: &Packet, message: &[u8], by_datagram: bool) -> (Verdict, Reply) {
        let header = Header::read(message).unwrap();
        let mut reply = Reply::default();
        let judged = packet.judge(message, &header, by_datagram, &mut reply);
        (judged, reply)
    }

    fn believed(packet: &Packet, message: &[u8]) -> bool {
        judged(packet, message, true).0 == Verdict::Reply
    }

    #[test]
    fn only_an_answer_to_the_question_is_believed() {
        let packet = Packet::of(&query("www.Example.org", Type::A));
        assert!(believed(
            &packet,
            &answer_to(&query("WWW.example.org", Type::A))
        ));
        assert_eq!(packet.wrong_answers(), 0);
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
        assert_eq!(packet.wrong_answers(), 3);
    }

    #[test]
    fn a_prefix_is_a_truncated_reply_by_datagram_and_unreadable_by_stream() {
        let packet = Packet::of(&query("www.example.org", Type::A));
        let mut message = answer_to(&query("www.example.org", Type::A));
        for tc in [0, 2] {
            message[2] = message[2] & !2 | tc;
            for end in HEADER_LENGTH..message.len() {
                let has_question = end >= packet.question_end;
                let (cut, reply) = judged(&packet, &message[..end], true);
                let (broken, _) = judged(&packet, &message[..end], false);
                if has_question {
                    assert_eq!(
                        (cut, broken),
                        (Verdict::Reply, Verdict::Unreadable),
                        "{end}"
                    );
                    assert!(reply.truncated && reply.records().next().is_none());
                    assert_eq!((reply.rcode, reply.why), (Rcode::NOERROR, Why::Upstream));
                } else {
                    assert_eq!(
                        (cut, broken),
                        (Verdict::OtherQuestion, Verdict::OtherQuestion),
                        "{end}"
                    );
                }
            }
        }
        let mut room = [0; MAX_QUERY];
        assert!(!believed(&packet, packet.under(7, &mut room)), "a query");
    }

    #[test]
    fn an_answer_with_nonsense_in_it_is_unreadable() {
        let packet = Packet::of(&query("www.example.org", Type::A));
        let mut message = answer_to(&query("www.example.org", Type::A));
        let end = packet.question_end;
        // A pointer to itself.
        message[end..end + 2].copy_from_slice(&[0xC0, u8::try_from(end).unwrap()]);
        assert_eq!(judged(&packet, &message, true).0, Verdict::Unreadable);
        assert_eq!(packet.wrong_answers(), 0);
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
        let packet = Packet::of(&plain);
        let hasher = std::hash::RandomState::new();
        let key = |packet: &Packet| packet.hash(TransportPolicy::Udp, &hasher);
        let same = |one: &Query, other: &Query| {
            let (one, other) = (Packet::of(one), Packet::of(other));
            assert_eq!(one.is_same(&other), key(&one) == key(&other));
            one.is_same(&other)
        };
        assert!(same(&plain, &query("WWW.example.ORG", Type::A)));
        let mut knowing = plain.clone();
        knowing.authentic_data = true;
        assert!(same(&plain, &knowing));
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
        assert!(same(&iterative, &made_iterative));
        let mut from = plain.clone();
        from.options.push(Options::SUBNET, b"net");
        assert_ne!(key(&packet), packet.hash(TransportPolicy::Tcp, &hasher));
        for other in [checking, signed, iterative, from] {
            assert!(!same(&plain, &other));
        }
    }
}
