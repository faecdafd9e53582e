//! Records with their data in wire form.

use std::net::IpAddr;

use super::super::service::SkyDnsService;
use crate::{
    plugin::alias::AliasTarget,
    reply::{Owner, Section},
    wire::{Name, Type},
};

/// A record for the reply, with its data in wire form.
#[derive(Clone, Debug)]
pub(super) struct WireRecord {
    pub(super) owner: Name,
    pub(super) rtype: Type,
    pub(super) ttl: u32,
    pub(super) data: Vec<u8>,
}

/// The records of a target's answer.
pub(super) fn records_of(target: &AliasTarget) -> Vec<WireRecord> {
    let reply = target.found();
    let answer = reply.section(Section::Answer).iter();
    let made = answer.map(|record| WireRecord {
        owner: match reply.owner(record) {
            Owner::Question => target.name(),
            Owner::Name(owner) => owner.to_name(),
        },
        rtype: record.rtype,
        ttl: record.ttl,
        data: reply.data(record).to_vec(),
    });
    made.collect()
}

pub(super) fn address_of(owner: Name, ttl: u32, address: IpAddr) -> WireRecord {
    let (rtype, data) = match address {
        IpAddr::V4(ip) => (Type::A, ip.octets().to_vec()),
        IpAddr::V6(ip) => (Type::AAAA, ip.octets().to_vec()),
    };
    WireRecord {
        owner,
        rtype,
        ttl,
        data,
    }
}

/// A record for each service whose host is a name.
pub(super) fn named<'s>(
    services: impl IntoIterator<Item = &'s SkyDnsService>,
    owner: Name,
    rtype: Type,
) -> Vec<WireRecord> {
    let made = services.into_iter().filter_map(|service| {
        let is_address = service.host.parse::<IpAddr>().is_ok();
        let target = Name::parse(&service.host).ok().filter(|_| !is_address)?;
        Some(WireRecord {
            owner,
            rtype,
            ttl: service.ttl,
            data: target.as_wire().to_vec(),
        })
    });
    made.collect()
}

/// A text as character strings, each prefixed with its length (RFC 1035 section 3.3).
pub(super) fn strings(text: &str) -> Vec<u8> {
    let mut data = Vec::with_capacity(text.len() + 1);
    // Truncated to the size of a record (65,535 bytes, with the lengths).
    for piece in text.as_bytes()[..text.len().min(65_000)].chunks(255) {
        data.push(u8::try_from(piece.len()).expect("at most 255"));
        data.extend(piece);
    }
    if data.is_empty() {
        data.push(0);
    }
    data
}
