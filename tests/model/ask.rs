//! Queries to a view, and replies as text.

use std::net::{Ipv4Addr, Ipv6Addr};

use lodestone::{
    query::Question,
    reply::{Owner, Record, Reply, Section},
    wire::{Class, Name, NameRef, Type},
    zone::{ClusterLookup, ClusterView, LookupOutcome},
};

/// A reply. Records are `OWNER TTL TYPE DATA`, without serials.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Response {
    pub rcode: String,
    /// CNAME records in order, then the others, sorted.
    pub answer: Vec<String>,
    pub authority: Vec<String>,
    /// Sorted.
    pub additional: Vec<String>,
    /// The CNAME target outside of the zones.
    pub onward: Option<String>,
}

/// Queries a view; None if the name is in none of its zones.
pub fn ask(view: &ClusterView, name: &str, rtype: &str) -> Option<Response> {
    let name = Name::parse(name).unwrap();
    let question = Question::new(name, rtype.parse().unwrap(), Class::IN);
    let mut reply = Reply::default();
    let mut onward = None;
    match view.answer(&question, &mut reply) {
        LookupOutcome::Outside => return None,
        LookupOutcome::Answered => {}
        LookupOutcome::Denied(why) => view.deny(&question, why, view.can_deny(why), &mut reply),
        LookupOutcome::Alias(target) => onward = Some(target.to_string()),
    }
    let mut response = response(&question, &reply);
    response.onward = onward;
    Some(response)
}

/// A reply as text.
pub fn response(question: &Question, reply: &Reply) -> Response {
    let section = |section| {
        let records = reply.section(section).iter();
        let mut records: Vec<_> = records.map(|it| record(question, reply, it)).collect();
        let is_alias = |text: &String| text.contains(" CNAME ");
        let aliases = records.iter().take_while(|text| is_alias(text)).count();
        records[aliases..].sort();
        records
    };
    Response {
        rcode: reply.rcode.to_string(),
        answer: section(Section::Answer),
        authority: section(Section::Authority),
        additional: section(Section::Additional),
        onward: None,
    }
}

fn record(question: &Question, reply: &Reply, record: &Record) -> String {
    let owner = match reply.owner(record) {
        Owner::Question => question.name,
        Owner::Name(name) => name.to_name(),
    };
    let data = reply.data(record);
    let word = |at: usize| u16::from_be_bytes([data[at], data[at + 1]]);
    let data = match record.rtype {
        Type::A => Ipv4Addr::from(<[u8; 4]>::try_from(data).unwrap()).to_string(),
        Type::AAAA => Ipv6Addr::from(<[u8; 16]>::try_from(data).unwrap()).to_string(),
        Type::TXT => format!("{:?}", std::str::from_utf8(&data[1..]).unwrap()),
        Type::SRV => {
            let target = NameRef::from_wire(&data[6..]).unwrap();
            format!("{} {} {} {target}", word(0), word(2), word(4))
        }
        Type::SOA => soa(data),
        _ => reply.data_name(record).unwrap().to_string(),
    };
    format!("{owner} {} {} {data}", record.ttl, record.rtype)
}

fn soa(data: &[u8]) -> String {
    let (numbers, names) = (&data[data.len() - 20..], &data[..data.len() - 20]);
    let primary_length = (1..names.len())
        .find(|at| NameRef::from_wire(&names[..*at]).is_ok())
        .unwrap();
    let (primary, mailbox) = names.split_at(primary_length);
    let [primary, mailbox] = [primary, mailbox].map(|it| NameRef::from_wire(it).unwrap());
    let number = |at: usize| u32::from_be_bytes(numbers[at * 4..][..4].try_into().unwrap());
    let [refresh, retry, expire, minimum] = [1, 2, 3, 4].map(number);
    format!("{primary} {mailbox} SERIAL {refresh} {retry} {expire} {minimum}")
}
