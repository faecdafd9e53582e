//! A query to upstreams in wire form, shared by all of its attempts.

use std::{
    hash::{BuildHasher, Hasher},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{AttemptObserver, transport::TransportPolicy};
use crate::{
    edns::Options,
    message::{read_reply, write_query},
    query::{Edns, Query, Question},
    reply::{Reply, Why},
    wire::{HEADER_LENGTH, Header, MIN_UDP_PAYLOAD, MalformedMessage, NameError, Opcode, Rcode},
};

/// Bound on the bytes of a query: header, the longest name, type and class, an OPT record.
pub(super) const MAX_QUERY: usize = HEADER_LENGTH + 255 + 4 + 11 + Options::MAX;

/// Bytes of a query that are hashed at a time: most queries without options.
const HASHED: usize = 64;

/// A query in wire form without an id: each attempt sets its own.
#[derive(Debug)]
pub struct Packet {
    bytes: Box<[u8]>,
    question_end: usize,
    /// Number of replies with its id and another question.
    wrong: AtomicUsize,
    observer: Option<Arc<dyn AttemptObserver>>,
}

impl Packet {
    /// The present question of `query`, with the client's flags and options. AD is always set (RFC 6840
    /// section 5.7): the reply is shared by coalesced clients and the cache, so it must not depend on which
    /// client was first.
    pub fn of(query: &Query) -> Self {
        let edns = query.edns.map(|edns| Edns {
            udp_payload: edns
                .udp_payload
                .max(u16::try_from(MIN_UDP_PAYLOAD).expect("512")),
            ..edns
        });
        let bytes = write_query(
            0,
            &query.question,
            query.onward_recursion,
            query.checking_disabled,
            true,
            edns,
            &query.options,
        );
        Self::new(bytes, &query.question)
    }

    /// A query of this server itself: no EDNS, no AD or CD.
    pub fn probe(question: &Question, recursion_desired: bool) -> Self {
        let bytes = write_query(
            0,
            question,
            recursion_desired,
            false,
            false,
            None,
            &Options::default(),
        );
        Self::new(bytes, question)
    }

    fn new(bytes: Vec<u8>, question: &Question) -> Self {
        Self {
            bytes: bytes.into(),
            question_end: HEADER_LENGTH + question.name.as_wire().len() + 4,
            wrong: AtomicUsize::new(0),
            observer: None,
        }
    }

    /// Reports the attempts to `observer`.
    pub fn observe(&mut self, observer: Arc<dyn AttemptObserver>) {
        self.observer = Some(observer);
    }

    /// The observer of the attempts.
    pub(super) fn observer(&self) -> Option<&dyn AttemptObserver> {
        self.observer.as_deref()
    }

    /// Whether the other packet is the same query: all bytes are equal, ignoring case in the name.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let end = self.question_end;
        end == other.question_end
            && self.matches_question_of(&other.bytes)
            && self.bytes[..HEADER_LENGTH] == other.bytes[..HEADER_LENGTH]
            && self.bytes[end..] == other.bytes[end..]
    }

    /// A hash that is equal for packets that are the [same](Self::is_same) and go over the same transport.
    pub(super) fn hash(&self, transport: TransportPolicy, hasher: &impl BuildHasher) -> u64 {
        let mut state = hasher.build_hasher();
        state.write_u8(transport as u8);
        // All bytes in lower case, not only those of the name: packets that differ in others are told apart
        // by `is_same`. In parts of a fixed size, to be folded without a buffer for the longest query.
        for part in self.bytes.chunks(HASHED) {
            let mut lower = [0; HASHED];
            lower[..part.len()].copy_from_slice(part);
            lower.make_ascii_lowercase();
            state.write(&lower);
        }
        state.finish()
    }

    /// The bytes to send but for the id, which is zero: the first two.
    pub(super) fn without_id(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes to send with `id`, written into `buffer`.
    pub(super) fn under<'r>(&self, id: u16, buffer: &'r mut [u8; MAX_QUERY]) -> &'r [u8] {
        let out = &mut buffer[..self.bytes.len()];
        out.copy_from_slice(&self.bytes);
        out[..2].copy_from_slice(&id.to_be_bytes());
        out
    }

    /// The complete message with `id`.
    pub fn message(&self, id: u16) -> Vec<u8> {
        let mut buffer = [0; MAX_QUERY];
        self.under(id, &mut buffer).to_vec()
    }

    /// Parses a reply on a stream of its own, where the id has no meaning.
    pub fn read(&self, message: &[u8], header: &Header) -> Option<Reply> {
        let mut reply = Reply::default();
        let verdict = self.judge(message, header, false, &mut reply);
        (verdict == MessageMatch::Reply).then_some(reply)
    }

    /// Parses `message`, whose id matched, into `reply`. Its buffers are reused; unless this is
    /// [`MessageMatch::Reply`], its contents are unspecified.
    pub(super) fn judge(
        &self,
        message: &[u8],
        header: &Header,
        by_datagram: bool,
        reply: &mut Reply,
    ) -> MessageMatch {
        let verdict = self.compare(message, header, by_datagram, reply);
        if verdict == MessageMatch::OtherQuestion {
            self.wrong.fetch_add(1, Ordering::Relaxed);
        }
        verdict
    }

    /// Number of replies with an id of this query and another question.
    pub(super) fn wrong_answers(&self) -> usize {
        self.wrong.load(Ordering::Relaxed)
    }

    fn compare(
        &self,
        message: &[u8],
        header: &Header,
        by_datagram: bool,
        reply: &mut Reply,
    ) -> MessageMatch {
        if !header.has(Header::RESPONSE) || header.opcode() != Opcode::QUERY {
            return MessageMatch::OtherQuestion;
        }
        if header.counts[0] == 0 {
            let Some(error) = bare_error(header) else {
                return MessageMatch::OtherQuestion;
            };
            *reply = error;
            return MessageMatch::Reply;
        }
        if header.counts[0] != 1 || !self.matches_question_of(message) {
            return MessageMatch::OtherQuestion;
        }
        match read_reply(message, reply) {
            Ok(_) => reply.why = Why::Upstream,
            Err(MalformedMessage::Truncated | MalformedMessage::Name(NameError::Truncated))
                if by_datagram =>
            {
                truncate(header, reply);
            }
            Err(_) => return MessageMatch::Unreadable,
        }
        MessageMatch::Reply
    }

    /// Whether the question of a message is this one, ignoring case.
    fn matches_question_of(&self, message: &[u8]) -> bool {
        let own = &self.bytes[HEADER_LENGTH..self.question_end];
        let Some(other) = message.get(HEADER_LENGTH..self.question_end) else {
            return false;
        };
        let name = own.len() - 4;
        own[..name].eq_ignore_ascii_case(&other[..name]) && own[name..] == other[name..]
    }
}

/// The relation of a message to the query with its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageMatch {
    /// Its reply.
    Reply,
    /// The reply to another question, possibly forged: the query stays in flight (CVE-2023-28452).
    OtherQuestion,
    /// A reply to this question that cannot be parsed; no other reply is expected.
    Unreadable,
}

/// Makes `reply` what is left of a datagram that ends in the middle of a record: some servers and
/// middleboxes cut at the size that the client takes, with or without TC. Nothing of its records is used
/// (RFC 2181 section 9); the client retries over TCP.
fn truncate(header: &Header, reply: &mut Reply) {
    reply.clear();
    reply.rcode = Rcode(header.flags & 0x0F);
    reply.recursion_available = header.has(Header::RECURSION_AVAILABLE);
    reply.truncated = true;
    reply.why = Why::Upstream;
}

/// Some servers omit the question from an error reply, for example FORMERR. Only the rcode of such a reply
/// is used.
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

    fn verdict(packet: &Packet, message: &[u8], by_datagram: bool) -> (MessageMatch, Reply) {
        let header = Header::read(message).unwrap();
        let mut reply = Reply::default();
        let verdict = packet.judge(message, &header, by_datagram, &mut reply);
        (verdict, reply)
    }

    fn accepted(packet: &Packet, message: &[u8]) -> bool {
        verdict(packet, message, true).0 == MessageMatch::Reply
    }

    #[test]
    fn only_a_reply_to_the_question_is_accepted() {
        let packet = Packet::of(&query("www.Example.org", Type::A));
        assert!(accepted(
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
                !accepted(&packet, &answer_to(&query(name, rtype))),
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
                let (cut, reply) = verdict(&packet, &message[..end], true);
                let (broken, _) = verdict(&packet, &message[..end], false);
                if has_question {
                    assert_eq!(
                        (cut, broken),
                        (MessageMatch::Reply, MessageMatch::Unreadable),
                        "{end}"
                    );
                    assert!(reply.truncated && reply.records().next().is_none());
                    assert_eq!((reply.rcode, reply.why), (Rcode::NOERROR, Why::Upstream));
                } else {
                    assert_eq!(
                        (cut, broken),
                        (MessageMatch::OtherQuestion, MessageMatch::OtherQuestion),
                        "{end}"
                    );
                }
            }
        }
        let mut buffer = [0; MAX_QUERY];
        assert!(!accepted(&packet, packet.under(7, &mut buffer)), "a query");
    }

    #[test]
    fn a_reply_with_a_compression_loop_is_unreadable() {
        let packet = Packet::of(&query("www.example.org", Type::A));
        let mut message = answer_to(&query("www.example.org", Type::A));
        let end = packet.question_end;
        // A pointer to itself.
        message[end..end + 2].copy_from_slice(&[0xC0, u8::try_from(end).unwrap()]);
        assert_eq!(verdict(&packet, &message, true).0, MessageMatch::Unreadable);
        assert_eq!(packet.wrong_answers(), 0);
    }

    #[test]
    fn an_error_without_a_question_is_accepted_and_other_rcodes_are_not() {
        let packet = Packet::of(&query("www.example.org", Type::A));
        assert!(accepted(&packet, &[0, 1, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]));
        assert!(!accepted(&packet, &[0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        assert!(!accepted(&packet, &[0, 1, 0x80, 3, 0, 0, 0, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn case_does_not_distinguish_queries_and_flags_and_options_do() {
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
        knowing.receive(|it| it.authentic_data = true);
        assert!(same(&plain, &knowing));
        let mut checking = plain.clone();
        checking.receive(|it| it.checking_disabled = true);
        let mut signed = plain.clone();
        signed.receive(|it| {
            it.edns = Some(Edns {
                udp_payload: 1232,
                version: 0,
                dnssec_ok: true,
                wants_nsid: false,
                is_padded: false,
            });
        });
        let mut iterative = plain.clone();
        iterative.receive(|it| it.recursion_desired = false);
        let mut made_iterative = plain.clone();
        made_iterative.onward_recursion = false;
        assert!(same(&iterative, &made_iterative));
        let mut from = plain.clone();
        from.options.push(Options::SUBNET, b"net");
        assert_ne!(key(&packet), packet.hash(TransportPolicy::Tcp, &hasher));
        for other in [checking, signed, iterative, from] {
            assert!(!same(&plain, &other));
        }
    }
}
