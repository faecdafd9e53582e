//! Types with a special presentation format: LOC, APL, IPSECKEY, AMTRELAY, HIP, EUI48 and EUI64,
//! NID and L64.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::{Engine, engine::general_purpose::STANDARD};
use ipnet::IpNet;

use super::{
    lexer::{Token, quote},
    value::{self, hex, name, number},
};
use crate::wire::NameRef;

/// Milliarcseconds in a degree, a minute and a second.
const ARC: [u64; 3] = [3_600_000, 60_000, 1_000];

/// Default size, horizontal and vertical precision: 1 m, 10 km and 10 m (RFC 1876 section 3), each
/// as mantissa and exponent in centimetres.
const PRECISIONS: [u8; 3] = [0x12, 0x16, 0x13];

/// `D1 [M1 [S1]] N|S D2 [M2 [S2]] E|W ALTITUDE[m] [SIZE[m] [HORIZONTAL[m] [VERTICAL[m]]]]` (RFC 1876
/// section 3).
pub fn location(tokens: &[Token<'_>], out: &mut Vec<u8>) -> Result<(), String> {
    let (latitude, rest) = angle(tokens, 90, ["N", "S"])?;
    let (longitude, rest) = angle(rest, 180, ["E", "W"])?;
    let Some((altitude, sizes)) = rest.split_first() else {
        return Err("expected an altitude in metres".to_owned());
    };
    // Centimetres above a base 100 km below the reference spheroid.
    let altitude = metres(altitude).and_then(|metres| metres.checked_add(10_000_000));
    let altitude = altitude.and_then(|metres| u32::try_from(metres).ok());
    let altitude = altitude.ok_or("expected an altitude from -100000 to 42849672.95 metres")?;
    if let Some(token) = sizes.get(PRECISIONS.len()) {
        return Err(format!(
            "unexpected {} after the fields of LOC",
            quote(token)
        ));
    }
    out.push(0);
    for (at, default) in PRECISIONS.into_iter().enumerate() {
        let explicit = sizes.get(at).map(|token| {
            let size = metres(token).and_then(power_of_ten);
            size.ok_or_else(|| format!("{} is not a number of metres up to 90000000", quote(token)))
        });
        out.push(explicit.transpose()?.unwrap_or(default));
    }
    for number in [latitude, longitude, altitude] {
        out.extend(number.to_be_bytes());
    }
    Ok(())
}

/// Parses degrees, minutes and seconds up to a direction; returns milliarcseconds offset by 2^31,
/// and the remaining tokens.
fn angle<'w, 't>(
    tokens: &'w [Token<'t>],
    most: u64,
    directions: [&str; 2],
) -> Result<(u32, &'w [Token<'t>]), String> {
    let [positive, negative] = directions;
    let expected = || {
        format!("expected degrees up to {most}, minutes, seconds, then {positive} or {negative}")
    };
    let is_end = |token: &Token<'_>| token.is(positive) || token.is(negative);
    let end = tokens.iter().position(is_end).ok_or_else(expected)?;
    if end == 0 || end > ARC.len() {
        return Err(expected());
    }
    let mut total = 0;
    for (at, token) in tokens[..end].iter().enumerate() {
        // Only seconds may have a fraction.
        let digits = if at == 2 { 3 } else { 0 };
        let limit = if at == 0 { most + 1 } else { 60 };
        let scale = 10u64.pow(digits);
        let value = fixed(token.text, digits).and_then(|value| u64::try_from(value).ok());
        let value = value.filter(|value| *value < limit * scale);
        total += value.ok_or_else(expected)? * ARC[at] / scale;
    }
    if total > most * ARC[0] {
        return Err(expected());
    }
    let total = u32::try_from(total).expect("at most 180 degrees");
    let equator = 1 << 31;
    let angle = if tokens[end].is(positive) {
        equator + total
    } else {
        equator - total
    };
    Ok((angle, &tokens[end + 1..]))
}

/// Parses metres; returns centimetres.
fn metres(token: &Token<'_>) -> Option<i64> {
    let text = token.text;
    let bare = text.strip_suffix(b"m").or_else(|| text.strip_suffix(b"M"));
    fixed(bare.unwrap_or(text), 2)
}

/// Parses a decimal number as fixed point with `digits` decimals; further ones are truncated.
fn fixed(text: &[u8], digits: u32) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |part: &str| part.bytes().all(|digit| digit.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    if digits == 0 && text.contains('.') {
        return None;
    }
    let fraction = fraction.chars().chain(std::iter::repeat('0'));
    let digits = usize::try_from(digits).ok()?;
    let joined: String = whole.chars().chain(fraction.take(digits)).collect();
    let value: i64 = format!("0{joined}").parse().ok()?;
    Some(if is_negative { -value } else { value })
}

/// Encodes centimetres as mantissa and exponent of 4 bits each.
fn power_of_ten(centimetres: i64) -> Option<u8> {
    let mut digit = u64::try_from(centimetres).ok()?;
    let mut exponent = 0;
    while digit > 9 {
        digit /= 10;
        exponent += 1;
    }
    let digit = u8::try_from(digit).expect("one digit");
    (exponent <= 9).then_some(digit << 4 | exponent)
}

/// `TYPE ALGORITHM GATEWAY` of IPSECKEY (RFC 4025 section 3.1).
pub fn gateway(tokens: &[Token<'_>], origin: NameRef<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    let kind: u8 = number(&tokens[0])?;
    out.push(kind);
    out.push(number(&tokens[1])?);
    reached(kind, &tokens[2], origin, out)
}

/// `DISCOVERY TYPE RELAY` of AMTRELAY (RFC 8777 section 4.3.1).
pub fn relay(tokens: &[Token<'_>], origin: NameRef<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    let is_optional: u8 = number(&tokens[0])?;
    let kind: u8 = number(&tokens[1])?;
    if is_optional > 1 || kind > 3 {
        return Err("expected a discovery bit of 0 or 1 and a relay type of 0 to 3".to_owned());
    }
    out.push(is_optional << 7 | kind);
    reached(kind, &tokens[2], origin, out)
}

/// Writes a gateway of this type: none, an IPv4 or IPv6 address, or a name.
fn reached(
    kind: u8,
    token: &Token<'_>,
    origin: NameRef<'_>,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    match kind {
        0 if token.is(".") => {}
        0 => {
            return Err(format!(
                "expected '.' for gateway type 0, found {}",
                quote(token)
            ));
        }
        1 => out.extend(value::parsed::<Ipv4Addr>(token, "an IPv4 address")?.octets()),
        2 => out.extend(value::parsed::<Ipv6Addr>(token, "an IPv6 address")?.octets()),
        3 => out.extend(name(token, origin)?.as_wire()),
        _ => return Err("expected a gateway type of 0 to 3".to_owned()),
    }
    Ok(())
}

/// `ALGORITHM HIT KEY` of HIP (RFC 8005 section 6).
pub fn identity(tokens: &[Token<'_>], out: &mut Vec<u8>) -> Result<(), String> {
    let algorithm: u8 = number(&tokens[0])?;
    let tag = hex(&tokens[1..2])?;
    let length = u8::try_from(tag.len()).map_err(|_| "the host identity tag is too long")?;
    let key = STANDARD.decode(tokens[2].text);
    let key = key.map_err(|error| format!("invalid base64: {error}"))?;
    let key_length = u16::try_from(key.len()).map_err(|_| "the key is too long")?;
    out.extend([length, algorithm]);
    out.extend(key_length.to_be_bytes());
    out.extend(tag);
    out.extend(key);
    Ok(())
}

/// Prefixes, `[!]FAMILY:ADDRESS/BITS` each (RFC 3123 section 5).
pub fn prefixes(tokens: &[Token<'_>], out: &mut Vec<u8>) -> Result<(), String> {
    for token in tokens {
        let wrong = || {
            format!(
                "{} is not a prefix such as 1:192.0.2.0/24 or !2:2001:db8::/32",
                quote(token)
            )
        };
        let text = std::str::from_utf8(token.text).map_err(|_| wrong())?;
        let (negation, text) = match text.strip_prefix('!') {
            Some(text) => (0x80, text),
            None => (0, text),
        };
        let (family, network) = text.split_once(':').ok_or_else(wrong)?;
        let network: IpNet = network.parse().map_err(|_| wrong())?;
        if network.trunc() != network {
            return Err(format!("{} has host bits set", quote(token)));
        }
        let (known, bytes) = match network.addr() {
            IpAddr::V4(address) => ("1", address.octets().to_vec()),
            IpAddr::V6(address) => ("2", address.octets().to_vec()),
        };
        if family != known {
            return Err(wrong());
        }
        let length = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        out.extend([0, family.as_bytes()[0] - b'0', network.prefix_len()]);
        out.push(negation | u8::try_from(length).expect("at most 16"));
        out.extend(&bytes[..length]);
    }
    Ok(())
}

/// `XX-XX-…`: `count` bytes in hexadecimal (RFC 7043).
pub fn hardware(token: &Token<'_>, count: usize, out: &mut Vec<u8>) -> Result<(), String> {
    let groups = groups(token, b'-', 2);
    let groups = groups.filter(|groups| groups.len() == count);
    let groups = groups.ok_or_else(|| {
        let token = quote(token);
        format!("{token} is not {count} bytes in hexadecimal separated by '-'")
    })?;
    // A group of two digits is one byte.
    out.extend(groups.iter().map(|group| group.to_be_bytes()[1]));
    Ok(())
}

/// Four groups of hexadecimal digits with colons between them (RFC 6742 section 2.1.2).
pub fn node(token: &Token<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    let groups = groups(token, b':', 4).filter(|groups| groups.len() == 4);
    let groups = groups.ok_or_else(|| {
        let token = quote(token);
        format!("{token} is not four groups of hexadecimal digits separated by ':'")
    })?;
    out.extend(groups.iter().flat_map(|group| group.to_be_bytes()));
    Ok(())
}

/// Splits groups of `digits` hexadecimal digits; groups of four may be shorter.
fn groups(token: &Token<'_>, between: u8, digits: usize) -> Option<Vec<u16>> {
    let groups = token.text.split(|byte| *byte == between);
    let groups = groups.map(|group| {
        let is_long_enough =
            group.len() == digits || (digits == 4 && (1..4).contains(&group.len()));
        let group = std::str::from_utf8(group).ok()?;
        let is_hex = group.bytes().all(|digit| digit.is_ascii_hexdigit());
        (is_long_enough && is_hex).then(|| u16::from_str_radix(group, 16).ok())?
    });
    groups.collect()
}
