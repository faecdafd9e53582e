//! Data that are written in ways of their own: places on the earth (LOC), lists of prefixes (APL),
//! gateways (IPSECKEY, AMTRELAY), host identities (HIP), hardware addresses (EUI48, EUI64) and node
//! identifiers (NID, L64).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::{Engine, engine::general_purpose::STANDARD};
use ipnet::IpNet;

use super::{
    data::{Fault, hex, shown},
    lexer::Word,
    value::{self, name, number},
};
use crate::wire::NameRef;

/// Thousandths of a second of arc in a degree, in a minute and in a second.
const ARC: [u64; 3] = [3_600_000, 60_000, 1_000];

/// Size, horizontal and vertical precision where none are said: 1 m, 10 km and 10 m (RFC 1876
/// section 3), each as the digit and the power of ten of centimetres.
const PRECISIONS: [u8; 3] = [0x12, 0x16, 0x13];

/// `D1 [M1 [S1]] N|S D2 [M2 [S2]] E|W ALTITUDE[m] [SIZE[m] [HORIZONTAL[m] [VERTICAL[m]]]]` (RFC 1876
/// section 3).
pub fn location(words: &[Word<'_>], out: &mut Vec<u8>) -> Result<(), Fault> {
    let (latitude, rest) = angle(words, 90, ["N", "S"])?;
    let (longitude, rest) = angle(rest, 180, ["E", "W"])?;
    let Some((altitude, sizes)) = rest.split_first() else {
        return Err("an altitude in metres is expected".to_owned());
    };
    // Centimetres above 100 km below the reference spheroid.
    let altitude = metres(altitude).and_then(|metres| metres.checked_add(10_000_000));
    let altitude = altitude.and_then(|metres| u32::try_from(metres).ok());
    let altitude =
        altitude.ok_or("the altitude is no number of metres from -100000 to 42849672.95")?;
    if let Some(word) = sizes.get(PRECISIONS.len()) {
        return Err(format!("LOC ends before {}", shown(word)));
    }
    out.push(0);
    for (at, usual) in PRECISIONS.into_iter().enumerate() {
        let said = sizes.get(at).map(|word| {
            let size = metres(word).and_then(power_of_ten);
            size.ok_or_else(|| format!("{} is no number of metres up to 90000000", shown(word)))
        });
        out.push(said.transpose()?.unwrap_or(usual));
    }
    for number in [latitude, longitude, altitude] {
        out.extend(number.to_be_bytes());
    }
    Ok(())
}

/// Degrees, minutes and seconds up to one of two directions: thousandths of a second of arc, from 2^31
/// on; and the words behind it.
fn angle<'w, 't>(
    words: &'w [Word<'t>],
    most: u64,
    directions: [&str; 2],
) -> Result<(u32, &'w [Word<'t>]), Fault> {
    let [positive, negative] = directions;
    let expected = || {
        format!(
            "degrees up to {most}, minutes, seconds, then {positive} or {negative} are expected"
        )
    };
    let is_end = |word: &Word<'_>| word.is(positive) || word.is(negative);
    let end = words.iter().position(is_end).ok_or_else(expected)?;
    if end == 0 || end > ARC.len() {
        return Err(expected());
    }
    let mut total = 0;
    for (at, word) in words[..end].iter().enumerate() {
        // Seconds alone have a fraction.
        let digits = if at == 2 { 3 } else { 0 };
        let limit = if at == 0 { most + 1 } else { 60 };
        let scale = 10u64.pow(digits);
        let value = fixed(word.text, digits).and_then(|value| u64::try_from(value).ok());
        let value = value.filter(|value| *value < limit * scale);
        total += value.ok_or_else(expected)? * ARC[at] / scale;
    }
    if total > most * ARC[0] {
        return Err(expected());
    }
    let total = u32::try_from(total).expect("at most 180 degrees");
    let equator = 1 << 31;
    let angle = if words[end].is(positive) {
        equator + total
    } else {
        equator - total
    };
    Ok((angle, &words[end + 1..]))
}

/// Metres as centimetres.
fn metres(word: &Word<'_>) -> Option<i64> {
    let text = word.text;
    let bare = text.strip_suffix(b"m").or_else(|| text.strip_suffix(b"M"));
    fixed(bare.unwrap_or(text), 2)
}

/// A decimal number in units of its last digit that counts; further ones are cut off.
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

/// Centimetres as a digit and a power of ten, of four bits each.
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
pub fn gateway(words: &[Word<'_>], origin: NameRef<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let kind: u8 = number(&words[0])?;
    out.push(kind);
    out.push(number(&words[1])?);
    reached(kind, &words[2], origin, out)
}

/// `DISCOVERY TYPE RELAY` of AMTRELAY (RFC 8777 section 4.3.1).
pub fn relay(words: &[Word<'_>], origin: NameRef<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let is_optional: u8 = number(&words[0])?;
    let kind: u8 = number(&words[1])?;
    if is_optional > 1 || kind > 3 {
        return Err("the discovery bit is 0 or 1, and the type of the relay 0 to 3".to_owned());
    }
    out.push(is_optional << 7 | kind);
    reached(kind, &words[2], origin, out)
}

/// Where a gateway of this type is reached: nowhere, at an address of IPv4 or IPv6, at a name.
fn reached(kind: u8, word: &Word<'_>, origin: NameRef<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    match kind {
        0 if word.is(".") => {}
        0 => return Err(format!("{} is not '.', which type 0 wants", shown(word))),
        1 => out.extend(value::parsed::<Ipv4Addr>(word, "an IPv4 address")?.octets()),
        2 => out.extend(value::parsed::<Ipv6Addr>(word, "an IPv6 address")?.octets()),
        3 => out.extend(name(word, origin)?.as_wire()),
        _ => return Err("the type of the gateway is 0 to 3".to_owned()),
    }
    Ok(())
}

/// `ALGORITHM HIT KEY` of HIP (RFC 8005 section 6).
pub fn identity(words: &[Word<'_>], out: &mut Vec<u8>) -> Result<(), Fault> {
    let algorithm: u8 = number(&words[0])?;
    let tag = hex(&words[1..2])?;
    let length = u8::try_from(tag.len()).map_err(|_| "the identity tag is too long")?;
    let key = STANDARD.decode(words[2].text);
    let key = key.map_err(|error| format!("no base 64: {error}"))?;
    let key_length = u16::try_from(key.len()).map_err(|_| "the key is too long")?;
    out.extend([length, algorithm]);
    out.extend(key_length.to_be_bytes());
    out.extend(tag);
    out.extend(key);
    Ok(())
}

/// Prefixes, `[!]FAMILY:ADDRESS/BITS` each (RFC 3123 section 5).
pub fn prefixes(words: &[Word<'_>], out: &mut Vec<u8>) -> Result<(), Fault> {
    for word in words {
        let wrong = || {
            format!(
                "{} is no prefix such as 1:192.0.2.0/24 or !2:2001:db8::/32",
                shown(word)
            )
        };
        let text = std::str::from_utf8(word.text).map_err(|_| wrong())?;
        let (negation, text) = match text.strip_prefix('!') {
            Some(text) => (0x80, text),
            None => (0, text),
        };
        let (family, network) = text.split_once(':').ok_or_else(wrong)?;
        let network: IpNet = network.parse().map_err(|_| wrong())?;
        if network.trunc() != network {
            return Err(format!("{} has bits behind its prefix", shown(word)));
        }
        let (known, octets) = match network.addr() {
            IpAddr::V4(address) => ("1", address.octets().to_vec()),
            IpAddr::V6(address) => ("2", address.octets().to_vec()),
        };
        if family != known {
            return Err(wrong());
        }
        let length = octets
            .iter()
            .rposition(|octet| *octet != 0)
            .map_or(0, |last| last + 1);
        out.extend([0, family.as_bytes()[0] - b'0', network.prefix_len()]);
        out.push(negation | u8::try_from(length).expect("at most 16"));
        out.extend(&octets[..length]);
    }
    Ok(())
}

/// Bytes in hexadecimal with dashes between them (RFC 7043).
pub fn hardware(word: &Word<'_>, count: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    let groups = groups(word, b'-', 2);
    let groups = groups.filter(|groups| groups.len() == count);
    let groups = groups.ok_or_else(|| {
        let word = shown(word);
        format!("{word} is no {count} octets of two hexadecimal digits with '-' between")
    })?;
    // Two digits are an octet.
    out.extend(groups.iter().map(|group| group.to_be_bytes()[1]));
    Ok(())
}

/// Four groups of hexadecimal digits with colons between them (RFC 6742 section 2.1.2).
pub fn node(word: &Word<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let groups = groups(word, b':', 4).filter(|groups| groups.len() == 4);
    let groups = groups.ok_or_else(|| {
        let word = shown(word);
        format!("{word} is no four groups of hexadecimal digits with ':' between")
    })?;
    out.extend(groups.iter().flat_map(|group| group.to_be_bytes()));
    Ok(())
}

/// Groups of so many hexadecimal digits each; fewer do for those of four.
fn groups(word: &Word<'_>, between: u8, digits: usize) -> Option<Vec<u16>> {
    let groups = word.text.split(|octet| *octet == between);
    let groups = groups.map(|group| {
        let is_long_enough =
            group.len() == digits || (digits == 4 && (1..4).contains(&group.len()));
        let group = std::str::from_utf8(group).ok()?;
        let is_hex = group.bytes().all(|digit| digit.is_ascii_hexdigit());
        (is_long_enough && is_hex).then(|| u16::from_str_radix(group, 16).ok())?
    });
    groups.collect()
}
