//! The OPT record as text: BIND's `OPT PSEUDOSECTION`.

use std::{
    fmt::Write,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::layout::Direction;
use crate::{
    edns::{self, Options},
    wire::RawRecord,
};

const EXPIRE: u16 = 9;

/// The purposes of extended DNS errors (IANA registry of RFC 8914), by code.
const EXTENDED_ERRORS: [&str; 31] = [
    "Other",
    "Unsupported DNSKEY Algorithm",
    "Unsupported DS Digest Type",
    "Stale Answer",
    "Forged Answer",
    "DNSSEC Indeterminate",
    "DNSSEC Bogus",
    "Signature Expired",
    "Signature Not Yet Valid",
    "DNSKEY Missing",
    "RRSIGs Missing",
    "No Zone Key Bit Set",
    "NSEC Missing",
    "Cached Error",
    "Not Ready",
    "Blocked",
    "Censored",
    "Filtered",
    "Prohibited",
    "Stale NXDOMAIN Answer",
    "Not Authoritative",
    "Not Supported",
    "No Reachable Authority",
    "Network Error",
    "Invalid Data",
    "Signature Expired before Valid",
    "Too Early",
    "Unsupported NSEC3 Iterations Value",
    "Unable to conform to policy",
    "Synthesized",
    "Invalid Query Type",
];

/// Appends the lines of an OPT record.
pub fn opt(record: &RawRecord, message: &[u8], direction: Direction<'_>, out: &mut String) {
    let [_, version, high, low] = record.ttl.to_be_bytes();
    let flags = u16::from_be_bytes([high, low]);
    let _ = write!(out, "; EDNS: version: {version}, flags:");
    if flags & 0x8000 != 0 {
        out.push_str(" do");
    }
    // The compact-answers bit (RFC 9824 section 4).
    if flags & 0x4000 != 0 {
        out.push_str(" co");
    }
    match flags & 0x3FFF {
        0 => out.push_str("; udp: "),
        others => _ = write!(out, "; MBZ: 0x{others:04x}, udp: "),
    }
    let _ = writeln!(out, "{}", record.class.0);
    for option in edns::walk(record.data(message)) {
        let Ok((code, data)) = option else {
            return;
        };
        self::option(code, data, direction, out);
    }
}

fn option(code: u16, data: &[u8], direction: Direction<'_>, out: &mut String) {
    let known = match (code, data) {
        (Options::SUBNET, _) => subnet(data),
        (Options::EXTENDED_ERROR, [high, low, text @ ..]) => {
            Some(extended_error(u16::from_be_bytes([*high, *low]), text))
        }
        (Options::COOKIE, _) if !data.is_empty() => Some(cookie(data, direction)),
        (Options::KEEPALIVE, [high, low]) => {
            // In units of 100 milliseconds (RFC 7828 section 3.1).
            let tenths = u16::from_be_bytes([*high, *low]);
            Some(format!(
                "TCP KEEPALIVE: {}.{} secs",
                tenths / 10,
                tenths % 10
            ))
        }
        (EXPIRE, &[a, b, c, d]) => {
            let seconds = u32::from_be_bytes([a, b, c, d]);
            Some(format!("EXPIRE: {seconds}"))
        }
        (Options::PADDING, _) => Some(format!("PADDING: ({} bytes)", data.len())),
        _ => None,
    };
    let line = known.unwrap_or_else(|| other(code, data));
    let _ = writeln!(out, "; {line}");
}

/// An option whose data is shown as bytes, and as text.
fn other(code: u16, data: &[u8]) -> String {
    let mut line = match code {
        Options::NSID => "NSID".to_owned(),
        Options::SUBNET => "CLIENT-SUBNET".to_owned(),
        Options::EXTENDED_ERROR => "EDE".to_owned(),
        Options::COOKIE => "COOKIE".to_owned(),
        Options::KEEPALIVE => "TCP KEEPALIVE".to_owned(),
        EXPIRE => "EXPIRE".to_owned(),
        other => format!("OPT={other}"),
    };
    line.push(':');
    if data.is_empty() {
        return line;
    }
    for byte in data {
        let _ = write!(line, " {byte:02x}");
    }
    let text = data.iter().map(|byte| match byte {
        0x20..=0x7E => char::from(*byte),
        _ => '.',
    });
    let text: String = text.collect();
    line + &format!(" (\"{text}\")")
}

/// `EDE: CODE (PURPOSE): (TEXT)` (RFC 8914 section 2). Control characters of the text are dots.
fn extended_error(code: u16, text: &[u8]) -> String {
    let mut line = format!("EDE: {code}");
    if let Some(purpose) = EXTENDED_ERRORS.get(usize::from(code)) {
        let _ = write!(line, " ({purpose})");
    }
    // Some servers end the text with a null byte.
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    if !text.is_empty() {
        let text = String::from_utf8_lossy(text);
        let text = text
            .chars()
            .map(|it| if it.is_control() { '.' } else { it });
        let _ = write!(line, ": ({})", text.collect::<String>());
    }
    line
}

/// The cookie, and whether the client's part is the one sent (RFC 7873 section 5.3).
fn cookie(data: &[u8], direction: Direction<'_>) -> String {
    let mut line = "COOKIE: ".to_owned();
    for byte in data {
        let _ = write!(line, "{byte:02x}");
    }
    if let Direction::Reply(Some(sent)) = direction {
        let is_own = data.get(..8) == sent.get(..8);
        line.push_str(match data.len() {
            16..=40 if is_own => " (good)",
            8 if is_own => " (echoed)",
            _ => " (bad)",
        });
    }
    line
}

/// Whether a reply has a cookie, and its client part is not the one sent.
pub fn has_other_cookie(record: &RawRecord, message: &[u8], sent: &[u8]) -> bool {
    let mut options = edns::walk(record.data(message)).filter_map(Result::ok);
    let cookie = options.find_map(|(code, data)| (code == Options::COOKIE).then_some(data));
    cookie.is_some_and(|cookie| cookie.get(..8) != sent.get(..8))
}

/// `ADDRESS/SOURCE/SCOPE` (RFC 7871 section 6); `None` if malformed.
fn subnet(data: &[u8]) -> Option<String> {
    let [0, family, source, scope, prefix @ ..] = data else {
        return None;
    };
    if prefix.len() != usize::from(*source).div_ceil(8) {
        return None;
    }
    let mut octets = [0; 16];
    octets.get_mut(..prefix.len())?.copy_from_slice(prefix);
    let address = match (family, *octets.first_chunk::<4>()?) {
        (1, first) if *source <= 32 => Ipv4Addr::from(first).to_string(),
        (2, _) => Ipv6Addr::from(octets).to_string(),
        // BIND's form of the empty prefix.
        (0, _) if *source == 0 => "0".to_owned(),
        _ => return None,
    };
    Some(format!("CLIENT-SUBNET: {address}/{source}/{scope}"))
}
