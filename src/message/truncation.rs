//! Truncation: whether TC must be set, and which RRsets are incomplete.
//!
//! TC means that a required RRset is missing or incomplete. The client retries over TCP, or fails
//! if the response came over TCP. TC must not be set for missing extra records (RFC 2181 section
//! 9). Required are:
//!
//! ```text
//! answer       everything
//! authority    everything, where the answer is empty: a denial's SOA and proofs, a referral's NS;
//!              SOA, NSEC and NSEC3 also behind an answer (RFC 2308 §2.1, RFC 4035 §3.1.3.3)
//! additional   the addresses of in-domain name servers of a referral (RFC 9471 §3.1)
//! ```

use std::{collections::HashSet, hash::BuildHasher};

use crate::{
    reply::{Owner, Record, Reply, Section},
    wire::{NameRef, Rcode, Type},
};

/// A reply of which only the first records were written, in the order answer, authority,
/// additional.
pub(super) struct TruncatedReply<'a> {
    reply: &'a Reply,
    /// The name for [`Owner::Question`].
    question: NameRef<'a>,
    /// The incomplete section; later sections are missing entirely.
    section: Section,
    /// Number of its records that were written.
    written: usize,
    /// Number of records written in earlier sections.
    before: usize,
}

impl<'a> TruncatedReply<'a> {
    /// `reply` without the records from index `next` on.
    pub(super) fn at(reply: &'a Reply, question: NameRef<'a>, next: usize) -> Self {
        let (mut section, mut before) = (Section::Answer, 0);
        for later in [Section::Authority, Section::Additional] {
            let length = reply.section(section).len();
            if next < before + length {
                break;
            }
            before += length;
            section = later;
        }
        Self {
            reply,
            question,
            section,
            written: next - before,
            before,
        }
    }

    /// Whether a required record is missing.
    pub(super) fn is_truncation(&self) -> bool {
        let no_answer = self.reply.section(Section::Answer).is_empty();
        match self.section {
            Section::Answer => true,
            Section::Authority => no_answer || self.missing().iter().any(|it| denies(it.rtype)),
            Section::Additional => no_answer && self.lacks_glue(),
        }
    }

    /// Index of the first record of an incomplete RRset, or of the first missing record. RRsets
    /// that are not required are sent completely or not at all (RFC 2181 section 9). An RRSIG
    /// belongs to the RRset it covers.
    pub(super) fn complete_rrsets(&self) -> usize {
        let hasher = foldhash::fast::RandomState::default();
        let set = |record: &Record| {
            let owner = self.owner(record).to_name().to_lower();
            hasher.hash_one((owner.as_ref().as_wire(), covered(self.reply, record).0))
        };
        let missing: HashSet<u64, foldhash::fast::RandomState> =
            self.missing().iter().map(set).collect();
        let mut written = self.records()[..self.written].iter();
        let first = written.position(|record| missing.contains(&set(record)));
        self.before + first.unwrap_or(self.written)
    }

    /// Whether glue of a referral's in-domain name servers is missing.
    fn lacks_glue(&self) -> bool {
        let authority = self.reply.section(Section::Authority);
        if self.reply.rcode != Rcode::NOERROR || authority.iter().any(|it| denies(it.rtype)) {
            return false;
        }
        let mut servers = authority.iter().filter(|it| it.rtype == Type::NS);
        let Some(delegation) = servers.next().map(|record| self.owner(record)) else {
            return false;
        };
        self.missing().iter().any(|record| {
            matches!(record.rtype, Type::A | Type::AAAA) && self.owner(record).is_under(delegation)
        })
    }

    fn records(&self) -> &'a [Record] {
        self.reply.section(self.section)
    }

    fn missing(&self) -> &'a [Record] {
        &self.records()[self.written..]
    }

    fn owner(&self, record: &Record) -> NameRef<'a> {
        match self.reply.owner(record) {
            Owner::Question => self.question,
            Owner::Name(name) => name,
        }
    }
}

/// Whether a record of the authority section proves nonexistence.
fn denies(rtype: Type) -> bool {
    const NSEC: Type = Type(47);
    const NSEC3: Type = Type(50);
    matches!(rtype, Type::SOA | NSEC | NSEC3)
}

/// The type of a record; for an RRSIG, the type covered (RFC 4034 section 3.1.1).
fn covered(reply: &Reply, record: &Record) -> Type {
    match (record.rtype, reply.data(record).first_chunk::<2>()) {
        (Type::RRSIG, Some(covered)) => Type(u16::from_be_bytes(*covered)),
        (rtype, _) => rtype,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{
        message::{Writer, read_reply},
        query::{Edns, Query, Question, Request},
        reply::{Data, Soa},
        wire::{Class, Header, Name},
    };

    const NSEC: Type = Type(47);

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    /// A query with this UDP payload size.
    fn query(payload: u16) -> Query {
        let question = Question::new(name("a.sub.example"), Type::A, Class::IN);
        Query::new(Request {
            edns: Some(Edns {
                udp_payload: payload,
                version: 0,
                dnssec_ok: true,
                wants_nsid: false,
                is_padded: false,
            }),
            ..Request::internal(question)
        })
    }

    fn push(reply: &mut Reply, section: Section, owner: &str, rtype: Type, data: Data<'_>) {
        reply.push(section, Owner::Name(name(owner).as_ref()), rtype, 5, data);
    }

    /// Whether TC is set, and the number of records per section without the OPT record.
    fn written(payload: u16, reply: &Reply) -> (bool, [usize; 3]) {
        let mut out = Vec::new();
        Writer::default().write(&query(payload), reply, &mut out);
        assert!(
            out.len() <= usize::from(payload),
            "{} of {payload}",
            out.len()
        );
        let mut read = Reply::default();
        read_reply(&out, &mut read).unwrap();
        let header = Header::read(&out).unwrap();
        let counts = Section::ALL.map(|section| read.section(section).len());
        assert_eq!(usize::from(header.counts[3]), counts[2] + 1, "OPT stays");
        (header.has(Header::TRUNCATED), counts)
    }

    fn address(number: u8) -> Data<'static> {
        Data::A(Ipv4Addr::new(192, 0, 2, number))
    }

    /// 20 name servers of `zone`, below `parent`, with one address each.
    fn delegate(reply: &mut Reply, zone: &str, parent: &str) {
        for number in 0..20 {
            let server = format!("server-number-{number}.{parent}");
            let data = name(&server);
            let data = Data::Name(data.as_ref());
            push(reply, Section::Authority, zone, Type::NS, data);
            push(
                reply,
                Section::Additional,
                &server,
                Type::A,
                address(number),
            );
        }
    }

    fn deny(reply: &mut Reply) {
        let zone = name("example");
        let soa = Soa {
            primary: zone.as_ref(),
            mailbox: zone.as_ref(),
            serial: 1,
            refresh: 2,
            retry: 3,
            expire: 4,
            minimum: 5,
        };
        push(
            reply,
            Section::Authority,
            "example",
            Type::SOA,
            Data::Soa(soa),
        );
    }

    #[test]
    fn missing_extra_records_do_not_set_tc() {
        let mut reply = Reply::default();
        reply.answer(Type::A, 5, address(1));
        delegate(&mut reply, "example", "example");
        assert_eq!(written(1232, &reply), (false, [1, 20, 20]));
        let (truncated, [answer, authority, additional]) = written(800, &reply);
        assert!(!truncated && answer == 1 && authority == 20);
        assert!((1..20).contains(&additional), "{additional}");
        // Name servers are sent all or none (RFC 2181 section 9).
        assert_eq!(written(512, &reply), (false, [1, 0, 0]));
    }

    #[test]
    fn an_incomplete_answer_sets_tc() {
        let mut reply = Reply::default();
        for number in 0..100 {
            reply.answer(Type::A, 5, address(number));
        }
        deny(&mut reply);
        let (truncated, [answer, authority, _]) = written(512, &reply);
        assert!(truncated && answer > 25 && authority == 0);
    }

    #[test]
    fn a_denial_requires_its_soa_record_and_its_proofs() {
        let mut reply = Reply::default();
        reply.rcode = Rcode::NXDOMAIN;
        for number in 0..4 {
            let owner = format!("{number}.example");
            push(
                &mut reply,
                Section::Authority,
                &owner,
                NSEC,
                Data::Raw(&[0; 150]),
            );
        }
        deny(&mut reply);
        assert_eq!(written(1232, &reply), (false, [0, 5, 0]));
        assert_eq!(written(512, &reply), (true, [0, 2, 0]));
        // The same holds for the target of a CNAME.
        reply.rcode = Rcode::NOERROR;
        reply.answer(Type::CNAME, 5, Data::Name(name("b.example").as_ref()));
        assert_eq!(written(512, &reply), (true, [1, 2, 0]));
    }

    #[test]
    fn a_referral_requires_its_in_domain_addresses() {
        for (parent, truncated) in [("sub.example", true), ("other.example", false)] {
            let mut reply = Reply::default();
            delegate(&mut reply, "sub.example", parent);
            assert_eq!(written(1232, &reply), (false, [0, 20, 20]));
            let (cut, [_, authority, additional]) = written(800, &reply);
            assert_eq!((cut, authority), (truncated, 20), "{parent}");
            assert!((1..20).contains(&additional));
            // A referral requires all its name servers.
            let (cut, [_, authority, _]) = written(512, &reply);
            assert!(cut && authority < 20);
        }
    }

    #[test]
    fn an_additional_rrset_is_sent_completely_or_not_at_all() {
        let mut reply = Reply::default();
        reply.answer(Type::A, 5, address(1));
        push(
            &mut reply,
            Section::Additional,
            "x.example",
            Type::A,
            address(2),
        );
        for number in 0..100 {
            let owner = ["Y.example", "y.EXAMPLE"][usize::from(number % 2)];
            push(
                &mut reply,
                Section::Additional,
                owner,
                Type::A,
                address(number),
            );
        }
        assert_eq!(written(512, &reply), (false, [1, 0, 1]));
        // An RRSIG belongs to the RRset it covers.
        let mut signed = Reply::default();
        signed.answer(Type::A, 5, address(1));
        push(
            &mut signed,
            Section::Additional,
            "x.example",
            Type::A,
            address(2),
        );
        push(
            &mut signed,
            Section::Additional,
            "y.example",
            Type::A,
            address(3),
        );
        let signature = [&[0, 1][..], &[0; 500]].concat();
        let data = Data::Raw(&signature);
        push(
            &mut signed,
            Section::Additional,
            "y.example",
            Type::RRSIG,
            data,
        );
        assert_eq!(written(512, &signed), (false, [1, 0, 1]));
    }

    #[test]
    fn tc_of_an_upstream_is_kept() {
        let mut reply = Reply::default();
        reply.answer(Type::A, 5, address(1));
        reply.truncated = true;
        assert_eq!(written(512, &reply), (true, [1, 0, 0]));
    }
}
