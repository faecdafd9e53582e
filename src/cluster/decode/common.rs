//! Conversions common to several kinds: addresses, names, ports, times. Invalid values are reported
//! and skipped.

use super::field::{ApiField, ApiText, FieldList};
use super::wire;
use crate::cluster::invalid::{InvalidFields, quote};
use crate::cluster::object::Port;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub(super) fn addresses(
    texts: &FieldList<ApiText<'_>>,
    path: &str,
    invalid: &mut InvalidFields,
) -> Vec<IpAddr> {
    let texts = texts.each(&path, invalid);
    texts
        .filter_map(|(number, text)| address(text, &format_args!("{path}[{number}]"), invalid))
        .collect()
}

/// An IP address; an empty string is treated as absent.
pub(in crate::cluster) fn address(
    text: &str,
    path: &dyn Display,
    invalid: &mut InvalidFields,
) -> Option<IpAddr> {
    let address = parse_address(text);
    if address.is_none() && !text.is_empty() {
        invalid.add(path, &quote(text), "an IP address");
    }
    address
}

/// Parses an address like Kubernetes does when it routes (`netutils.ParseIPSloppy`): IPv4 octets
/// are decimal even with leading zeros, which API servers accepted before 1.36 and still store; an
/// IPv4-mapped IPv6 address is the IPv4 address.
pub(super) fn parse_address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    // Splits off an IPv4 address at the end of an IPv6 address.
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

/// A hostname of an endpoint: one label (RFC 1035 section 2.3.4).
pub(in crate::cluster) fn label<'t>(
    field: &'t ApiField<ApiText<'_>>,
    path: &dyn Display,
    invalid: &mut InvalidFields,
) -> Option<&'t str> {
    let text = field.get(path, invalid)?;
    let is_label = text.len() <= 63 && !text.contains('.');
    if !is_label {
        invalid.add(path, &quote(text), "a label of at most 63 bytes");
    }
    is_label.then_some(&**text)
}

/// Whether a string is a host name, by its length and those of its labels (RFC 1035 section 2.3.4).
/// An empty string is treated as absent.
pub(super) fn is_host(name: &str, path: &dyn Display, invalid: &mut InvalidFields) -> bool {
    let labels = name.strip_suffix('.').unwrap_or(name);
    let is_host = labels.len() <= 253 && labels.split('.').all(|it| (1..=63).contains(&it.len()));
    if !is_host && !name.is_empty() {
        invalid.add(path, &quote(name), "a host name");
    }
    is_host
}

/// The ports. A port with an invalid number is skipped; one with another invalid field is kept
/// without it.
pub(in crate::cluster) fn ports(
    ports: &FieldList<wire::Port<'_>>,
    path: &str,
    invalid: &mut InvalidFields,
) -> Arc<[Port]> {
    let ports = ports.each(&path, invalid);
    let read = |(number, it): (usize, &wire::Port<'_>)| {
        let name = it.name.get(&format_args!("{path}[{number}].name"), invalid);
        let protocol = it
            .protocol
            .get(&format_args!("{path}[{number}].protocol"), invalid);
        let port = it.port.get(&format_args!("{path}[{number}].port"), invalid);
        if matches!(it.port, ApiField::Invalid(_)) {
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

/// An RFC 3339 time. Invalid ones are treated as absent: it is only used for a metric.
pub(super) fn time(text: &str) -> Option<SystemTime> {
    let nanoseconds = text.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
    Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanoseconds).ok()?))
}
