//! Record data, from the words of a zone file to wire form.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    lexer::Word,
    parameters, rare,
    value::{self, name, number, seconds},
};
use crate::{
    authority::format::{Field, fields, named},
    wire::{NameRef, Type},
};

/// Octets of a record's data at most.
const MAX_DATA: usize = 65_535;

const HINFO: Type = Type(13);

/// What is wrong with a word, or with all of them.
pub type Fault = String;

/// Reads the data of a record of this type. Relative names are under `origin`.
pub fn data(rtype: Type, words: &[Word<'_>], origin: NameRef<'_>) -> Result<Vec<u8>, Fault> {
    if let Some((_, words)) = words.split_first().filter(|(first, _)| first.is(r"\#")) {
        return generic(words);
    }
    let Some(fields) = fields(rtype) else {
        let help = r"write its data as '\# LENGTH HEX' (RFC 3597)";
        return Err(format!("{rtype} records are not known here: {help}"));
    };
    let mut out = Vec::new();
    let mut rest = words;
    for (at, field) in fields.iter().enumerate() {
        let taken = field.words().unwrap_or(rest.len());
        // HINFO of one text has an empty second one, as others read it.
        if (rtype, at) == (HINFO, 1) && rest.is_empty() {
            out.push(0);
            continue;
        }
        if taken > rest.len() {
            let wanted: usize = fields.iter().map(|field| field.words().unwrap_or(1)).sum();
            let found = words.len();
            return Err(format!("{rtype} has {wanted} fields, not {found}"));
        }
        let (own, others) = rest.split_at(taken);
        write(*field, own, origin, &mut out)?;
        rest = others;
    }
    if let Some(word) = rest.first() {
        return Err(format!("{rtype} ends before {}", shown(word)));
    }
    checked(out)
}

/// `LENGTH HEX…` (RFC 3597 §5).
fn generic(words: &[Word<'_>]) -> Result<Vec<u8>, Fault> {
    let Some((length, words)) = words.split_first() else {
        return Err(r"'\#' is followed by a length and so many octets".to_owned());
    };
    let length: u16 = number(length)?;
    let octets = hex(words)?;
    if octets.len() != usize::from(length) {
        let found = octets.len();
        return Err(format!(
            "the length says {length} octets, there are {found}"
        ));
    }
    Ok(octets)
}

fn checked(out: Vec<u8>) -> Result<Vec<u8>, Fault> {
    if out.len() > MAX_DATA {
        return Err("a record has at most 65,535 octets of data".to_owned());
    }
    Ok(out)
}

/// Writes one field: a word, or all that are left.
fn write(
    field: Field,
    words: &[Word<'_>],
    origin: NameRef<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let word = words.first();
    let one = || {
        word.copied().unwrap_or(Word {
            text: b"",
            is_quoted: false,
        })
    };
    match field {
        Field::Name => out.extend(name(&one(), origin)?.as_wire()),
        Field::U8 => out.push(number(&one())?),
        Field::U16 => out.extend(number::<u16>(&one())?.to_be_bytes()),
        Field::U32 => out.extend(number::<u32>(&one())?.to_be_bytes()),
        Field::Seconds => out.extend(seconds(&one())?.to_be_bytes()),
        Field::Ipv4 => {
            out.extend(value::parsed::<Ipv4Addr>(&one(), "an IPv4 address")?.octets());
        }
        Field::Ipv6 => {
            out.extend(value::parsed::<Ipv6Addr>(&one(), "an IPv6 address")?.octets());
        }
        Field::Text => text(&one(), out)?,
        Field::Texts if words.is_empty() => return Err("one text at least is expected".to_owned()),
        Field::Texts => {
            for word in words {
                texts(word, out)?;
            }
        }
        Field::Rest => out.extend(one().unescaped()?),
        Field::Hex => out.extend(hex(words)?),
        Field::Base64 => {
            let joined = words.iter().flat_map(|word| word.text).copied();
            let joined: Vec<u8> = joined.collect();
            let octets = STANDARD.decode(&joined);
            out.extend(octets.map_err(|error| format!("no base 64: {error}"))?);
        }
        Field::Type => {
            let rtype = named(one().text);
            let rtype = rtype.ok_or_else(|| format!("{} is no record type", shown(&one())))?;
            out.extend(rtype.0.to_be_bytes());
        }
        Field::Algorithm => out.push(value::algorithm(&one())?),
        Field::Time => out.extend(value::time(&one())?.to_be_bytes()),
        Field::Types => types(words, out)?,
        Field::Parameters => parameters::write(words, out)?,
        Field::CertType => out.extend(value::cert_type(&one())?.to_be_bytes()),
        Field::Names => {
            for word in words {
                out.extend(name(word, origin)?.as_wire());
            }
        }
        Field::Location => rare::location(words, out)?,
        Field::Prefixes => rare::prefixes(words, out)?,
        Field::Gateway => rare::gateway(words, origin, out)?,
        Field::Relay => rare::relay(words, origin, out)?,
        Field::Identity => rare::identity(words, out)?,
        Field::Hardware(octets) => rare::hardware(&one(), octets, out)?,
        Field::Node => rare::node(&one(), out)?,
    }
    Ok(())
}

fn text(word: &Word<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let octets = word.unescaped()?;
    let length = u8::try_from(octets.len()).map_err(|_| {
        let length = octets.len();
        format!("a text has at most 255 octets, this one {length}: split it into several")
    })?;
    out.push(length);
    out.extend(octets);
    Ok(())
}

/// A text of any length as character strings, all but the last as long as one can be.
fn texts(word: &Word<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let octets = word.unescaped()?;
    if octets.is_empty() {
        out.push(0);
    }
    for string in octets.chunks(255) {
        out.push(u8::try_from(string.len()).expect("at most 255"));
        out.extend(string);
    }
    Ok(())
}

/// Bytes in hexadecimal, two digits each, in one word or several.
pub fn hex(words: &[Word<'_>]) -> Result<Vec<u8>, Fault> {
    let digits = words.iter().flat_map(|word| word.text);
    let digits = digits.map(|digit| {
        let value = char::from(*digit).to_digit(16);
        value.and_then(|value| u8::try_from(value).ok())
    });
    let digits: Option<Vec<u8>> = digits.collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0);
    let digits = digits.ok_or("hexadecimal digits are expected, two an octet")?;
    Ok(digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect())
}

/// A set of types, in windows of 256 (RFC 4034 §4.1.2).
fn types(words: &[Word<'_>], out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut numbers = Vec::with_capacity(words.len());
    for word in words {
        let rtype = named(word.text);
        numbers.push(
            rtype
                .ok_or_else(|| format!("{} is no record type", shown(word)))?
                .0,
        );
    }
    numbers.sort_unstable();
    for window in numbers.chunk_by(|one, other| one >> 8 == other >> 8) {
        let mut bits = [0u8; 32];
        let mut length = 0;
        for number in window {
            let low = usize::from(number & 0xFF);
            bits[low / 8] |= 0x80 >> (low % 8);
            length = low / 8 + 1;
        }
        out.push(u8::try_from(window[0] >> 8).expect("the upper half of two octets"));
        out.push(u8::try_from(length).expect("at most 32"));
        out.extend(&bits[..length]);
    }
    Ok(())
}

/// A word as an error shows it, not too long.
pub fn shown(word: &Word<'_>) -> String {
    let text = &word.text[..word.text.len().min(60)];
    format!("'{}'", text.escape_ascii())
}
