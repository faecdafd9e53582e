//! RDATA: from presentation to wire format.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    lexer::{Token, quote},
    parameters, special,
    value::{self, hex, name, number, seconds},
};
use crate::{
    authority::format::{RdataField, fields, type_from_text},
    wire::{NameRef, Type},
};

/// Maximum length of RDATA in bytes.
const MAX_DATA: usize = 65_535;

const HINFO: Type = Type(13);

/// Parses the RDATA of a record of this type. Relative names are relative to `origin`.
pub fn data(rtype: Type, tokens: &[Token<'_>], origin: NameRef<'_>) -> Result<Vec<u8>, String> {
    if let Some((_, tokens)) = tokens.split_first().filter(|(first, _)| first.is(r"\#")) {
        return generic(tokens);
    }
    let Some(fields) = fields(rtype) else {
        let help = r"write its data as '\# LENGTH HEX' (RFC 3597)";
        return Err(format!("unknown record type {rtype}: {help}"));
    };
    let mut out = Vec::new();
    let mut rest = tokens;
    for (at, field) in fields.iter().enumerate() {
        let taken = field.token_count().unwrap_or(rest.len());
        // HINFO with one string gets an empty second one, as in other servers.
        if (rtype, at) == (HINFO, 1) && rest.is_empty() {
            out.push(0);
            continue;
        }
        if taken > rest.len() {
            let expected: usize = fields
                .iter()
                .map(|field| field.token_count().unwrap_or(1))
                .sum();
            let found = tokens.len();
            return Err(format!("{rtype} has {expected} fields, found {found}"));
        }
        let (own, others) = rest.split_at(taken);
        write(*field, own, origin, &mut out)?;
        rest = others;
    }
    if let Some(token) = rest.first() {
        return Err(format!(
            "unexpected {} after the fields of {rtype}",
            quote(token)
        ));
    }
    checked(out)
}

/// `LENGTH HEX…` (RFC 3597 section 5).
fn generic(tokens: &[Token<'_>]) -> Result<Vec<u8>, String> {
    let Some((length, tokens)) = tokens.split_first() else {
        return Err(r"expected a length and hexadecimal data after '\#'".to_owned());
    };
    let length: u16 = number(length)?;
    let bytes = hex(tokens)?;
    if bytes.len() != usize::from(length) {
        let found = bytes.len();
        return Err(format!("expected {length} bytes of data, found {found}"));
    }
    Ok(bytes)
}

fn checked(out: Vec<u8>) -> Result<Vec<u8>, String> {
    if out.len() > MAX_DATA {
        return Err("more than 65,535 bytes of data".to_owned());
    }
    Ok(out)
}

/// Writes a field: one token, or all remaining ones.
fn write(
    field: RdataField,
    tokens: &[Token<'_>],
    origin: NameRef<'_>,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let token = tokens.first();
    let one = || {
        token.copied().unwrap_or(Token {
            text: b"",
            is_quoted: false,
        })
    };
    match field {
        RdataField::Name => out.extend(name(&one(), origin)?.as_wire()),
        RdataField::U8 => out.push(number(&one())?),
        RdataField::U16 => out.extend(number::<u16>(&one())?.to_be_bytes()),
        RdataField::U32 => out.extend(number::<u32>(&one())?.to_be_bytes()),
        RdataField::Seconds => out.extend(seconds(&one())?.to_be_bytes()),
        RdataField::Ipv4 => {
            out.extend(value::parsed::<Ipv4Addr>(&one(), "an IPv4 address")?.octets());
        }
        RdataField::Ipv6 => {
            out.extend(value::parsed::<Ipv6Addr>(&one(), "an IPv6 address")?.octets());
        }
        RdataField::Text => text(&one(), out)?,
        RdataField::Texts if tokens.is_empty() => {
            return Err("expected at least one string".to_owned());
        }
        RdataField::Texts => {
            for token in tokens {
                texts(token, out)?;
            }
        }
        RdataField::Rest => out.extend(one().unescaped()?),
        RdataField::Hex => out.extend(hex(tokens)?),
        RdataField::Base64 => {
            let joined = tokens.iter().flat_map(|token| token.text).copied();
            let joined: Vec<u8> = joined.collect();
            let bytes = STANDARD.decode(&joined);
            out.extend(bytes.map_err(|error| format!("invalid base64: {error}"))?);
        }
        RdataField::Type => {
            let rtype = type_from_text(one().text);
            let rtype = rtype.ok_or_else(|| format!("{} is not a record type", quote(&one())))?;
            out.extend(rtype.0.to_be_bytes());
        }
        RdataField::Algorithm => out.push(value::algorithm(&one())?),
        RdataField::Time => out.extend(value::time(&one())?.to_be_bytes()),
        RdataField::Types => types(tokens, out)?,
        RdataField::Parameters => parameters::write(tokens, out)?,
        RdataField::CertType => out.extend(value::cert_type(&one())?.to_be_bytes()),
        RdataField::Names => {
            for token in tokens {
                out.extend(name(token, origin)?.as_wire());
            }
        }
        RdataField::Location => special::location(tokens, out)?,
        RdataField::Prefixes => special::prefixes(tokens, out)?,
        RdataField::Gateway => special::gateway(tokens, origin, out)?,
        RdataField::Relay => special::relay(tokens, origin, out)?,
        RdataField::Identity => special::identity(tokens, out)?,
        RdataField::Hardware(bytes) => special::hardware(&one(), bytes, out)?,
        RdataField::Node => special::node(&one(), out)?,
    }
    Ok(())
}

fn text(token: &Token<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    let bytes = token.unescaped()?;
    let length = u8::try_from(bytes.len()).map_err(|_| {
        let length = bytes.len();
        format!("a string has at most 255 bytes, found {length}: split it into several")
    })?;
    out.push(length);
    out.extend(bytes);
    Ok(())
}

/// A string of any length as one or more character-strings of up to 255 bytes (RFC 1035 section
/// 3.3).
fn texts(token: &Token<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    let bytes = token.unescaped()?;
    if bytes.is_empty() {
        out.push(0);
    }
    for string in bytes.chunks(255) {
        out.push(u8::try_from(string.len()).expect("at most 255"));
        out.extend(string);
    }
    Ok(())
}

/// Writes a type bit map, in windows of 256 types (RFC 4034 section 4.1.2).
fn types(tokens: &[Token<'_>], out: &mut Vec<u8>) -> Result<(), String> {
    let mut numbers = Vec::with_capacity(tokens.len());
    for token in tokens {
        let rtype = type_from_text(token.text);
        numbers.push(
            rtype
                .ok_or_else(|| format!("{} is not a record type", quote(token)))?
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
        out.push(u8::try_from(window[0] >> 8).expect("the upper byte of two"));
        out.push(u8::try_from(length).expect("at most 32"));
        out.extend(&bits[..length]);
    }
    Ok(())
}
