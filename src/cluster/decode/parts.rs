//! The parts that several kinds of object have: addresses, names, ports, times. Each is read as far
//! as it can be used; the rest is a flaw.

use super::field::{Field, Many};
use super::wire::{self, Text};
use crate::cluster::flaw::{Flaws, quote};
use crate::cluster::object::Port;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub(super) fn addresses(texts: &Many<Text<'_>>, path: &str, flaws: &mut Flaws) -> Vec<IpAddr> {
    let texts = texts.each(&path, flaws);
    texts
        .filter_map(|(number, text)| address(text, &format_args!("{path}[{number}]"), flaws))
        .collect()
}

/// An address; empty text is none, as in an absent field.
pub(in crate::cluster) fn address(
    text: &str,
    path: &dyn Display,
    flaws: &mut Flaws,
) -> Option<IpAddr> {
    let address = parse_address(text);
    if address.is_none() && !text.is_empty() {
        flaws.add(path, &quote(text), "an IP address");
    }
    address
}

/// Reads an address as Kubernetes does where it routes (`netutils.ParseIPSloppy`): the numbers of
/// an IPv4 address are decimal though they begin with zeros, which API servers stored before 1.36
/// and keep; an IPv4-mapped IPv6 address is the IPv4 address.
pub(super) fn parse_address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    // The text before an IPv4 address at the end of an IPv6 address.
    let tail = text.rfind(':').map_or(0, |colon| colon + 1);
    let (before, v4) = text.split_at(tail);
    let v4 = without_leading_zeros(v4)?;
    if before.is_empty() {
        return Some(v4.into());
    }
    let address = format!("{before}{v4}").parse::<IpAddr>().ok()?;
    Some(address.to_canonical())
}

fn without_leading_zeros(text: &str) -> Option<Ipv4Addr> {
    let mut parts = text.split('.').map(|part| {
        let digits = !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit());
        digits.then(|| part.parse::<u8>().ok()).flatten()
    });
    let mut next = || parts.next().flatten();
    let octets = [next()?, next()?, next()?, next()?];
    parts.next().is_none().then(|| octets.into())
}

/// Text that names an endpoint: a label (RFC 1035 section 2.3.4).
pub(in crate::cluster) fn label<'t>(
    field: &'t Field<Text<'_>>,
    path: &dyn Display,
    flaws: &mut Flaws,
) -> Option<&'t str> {
    let text = field.get(path, flaws)?;
    let is_label = text.len() <= 63 && !text.contains('.');
    if !is_label {
        flaws.add(path, &quote(text), "a label of 63 octets at most");
    }
    is_label.then_some(&**text)
}

/// Whether text is a host name, by the lengths of it and of its labels (RFC 1035 section 2.3.4).
/// Empty text is none, as in an absent field.
pub(super) fn is_host(name: &str, path: &dyn Display, flaws: &mut Flaws) -> bool {
    let labels = name.strip_suffix('.').unwrap_or(name);
    let is_host = labels.len() <= 253 && labels.split('.').all(|it| (1..=63).contains(&it.len()));
    if !is_host && !name.is_empty() {
        flaws.add(path, &quote(name), "a host name");
    }
    is_host
}

/// The ports. One without a usable number is left out; one with another flaw is served without it.
pub(in crate::cluster) fn ports(
    ports: &Many<wire::Port<'_>>,
    path: &str,
    flaws: &mut Flaws,
) -> Arc<[Port]> {
    let ports = ports.each(&path, flaws);
    let read = |(number, it): (usize, &wire::Port<'_>)| {
        let name = it.name.get(&format_args!("{path}[{number}].name"), flaws);
        let protocol = it
            .protocol
            .get(&format_args!("{path}[{number}].protocol"), flaws);
        let port = it.port.get(&format_args!("{path}[{number}].port"), flaws);
        if matches!(it.port, Field::Invalid(_)) {
            return None;
        }
        Some(Port {
            name: name.map_or("", |name| name).into(),
            number: port.copied(),
            protocol: protocol.copied().unwrap_or_default(),
        })
    };
    ports.filter_map(read).collect()
}

/// An RFC 3339 time. One that is none is as if it were absent: it serves a metric only.
pub(super) fn time(text: &str) -> Option<SystemTime> {
    let nanoseconds = text.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
    Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanoseconds).ok()?))
}
