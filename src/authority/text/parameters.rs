//! SvcParams of SVCB and HTTPS records (RFC 9460 section 2.1).

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    lexer::{Token, quote},
    value::{number, quoted},
};

/// Names by SvcParamKey.
const NAMES: [&str; 10] = [
    "mandatory",
    "alpn",
    "no-default-alpn",
    "port",
    "ipv4hint",
    "ech",
    "ipv6hint",
    "dohpath",
    "ohttp",
    "tls-supported-groups",
];

/// Writes `KEY=VALUE…`, sorted by key.
pub fn write(tokens: &[Token<'_>], out: &mut Vec<u8>) -> Result<(), String> {
    let mut read: Vec<(u16, Vec<u8>)> = Vec::new();
    for token in tokens {
        let equals = token.text.iter().position(|byte| *byte == b'=');
        let (name, value) = token.text.split_at(equals.unwrap_or(token.text.len()));
        let key = key(name).ok_or_else(|| format!("{} is not a parameter", quote(token)))?;
        if read.iter().any(|(other, _)| *other == key) {
            return Err(format!("{} is duplicated", quote(token)));
        }
        let value = value.strip_prefix(b"=").unwrap_or(value);
        let bare = value
            .strip_prefix(b"\"")
            .and_then(|it| it.strip_suffix(b"\""));
        let value = Token {
            text: bare.unwrap_or(value),
            is_quoted: bare.is_some(),
        };
        let value = self::value(key, &value)
            .map_err(|error| format!("the parameter {}: {error}", quote(token)))?;
        read.push((key, value));
    }
    read.sort_unstable();
    for (key, value) in read {
        let length = u16::try_from(value.len()).map_err(|_| "a parameter is too long")?;
        out.extend(key.to_be_bytes());
        out.extend(length.to_be_bytes());
        out.extend(value);
    }
    Ok(())
}

/// The SvcParams of RDATA, in wire format, as `KEY=VALUE…`; `None` if they are malformed.
pub fn presentation(mut data: &[u8]) -> Option<String> {
    let mut words = Vec::new();
    while let [k1, k2, l1, l2, rest @ ..] = data {
        let key = u16::from_be_bytes([*k1, *k2]);
        let (value, rest) = rest.split_at_checked(u16::from_be_bytes([*l1, *l2]).into())?;
        let name = key_name(key);
        let text = value_text(key, value)?;
        words.push(if text.is_empty() {
            name
        } else {
            format!("{name}={text}")
        });
        data = rest;
    }
    data.is_empty().then(|| words.join(" "))
}

fn key_name(key: u16) -> String {
    let known = NAMES.get(usize::from(key));
    known.map_or_else(|| format!("key{key}"), |name| (*name).to_owned())
}

/// The value of a parameter as text, which is empty for a parameter without one.
fn value_text(key: u16, value: &[u8]) -> Option<String> {
    let words = || {
        let (words, rest) = value.as_chunks::<2>();
        let words = words.iter().map(|word| u16::from_be_bytes(*word));
        (rest.is_empty() && !value.is_empty()).then_some(words)
    };
    let joined = |list: Vec<String>| list.join(",");
    let text = match key {
        0 => joined(words()?.map(key_name).collect()),
        1 => {
            let (mut rest, mut protocols) = (value, Vec::new());
            while let [length, behind @ ..] = rest {
                let (protocol, behind) = behind.split_at_checked(usize::from(*length))?;
                // A comma separates: one within a protocol is escaped (RFC 9460 appendix A.1).
                let escaped = protocol.iter().flat_map(|byte| match byte {
                    b',' | b'\\' => vec![b'\\', *byte],
                    other => vec![*other],
                });
                protocols.push(escaped.collect::<Vec<u8>>());
                rest = behind;
            }
            quoted(&protocols.join(&b','))
        }
        2 | 8 => return value.is_empty().then(String::new),
        3 => u16::from_be_bytes(value.try_into().ok()?).to_string(),
        4 => {
            let (addresses, rest) = value.as_chunks::<4>();
            let shown = addresses.iter().map(|it| Ipv4Addr::from(*it).to_string());
            rest.is_empty().then(|| joined(shown.collect()))?
        }
        5 => STANDARD.encode(value),
        6 => {
            let (addresses, rest) = value.as_chunks::<16>();
            let shown = addresses.iter().map(|it| Ipv6Addr::from(*it).to_string());
            rest.is_empty().then(|| joined(shown.collect()))?
        }
        9 => joined(words()?.map(|word| word.to_string()).collect()),
        _ if value.is_empty() => String::new(),
        _ => quoted(value),
    };
    Some(text)
}

fn key(name: &[u8]) -> Option<u16> {
    let known = NAMES.iter().position(|known| known.as_bytes() == name);
    if let Some(number) = known {
        return u16::try_from(number).ok();
    }
    let digits = std::str::from_utf8(name.strip_prefix(b"key")?).ok()?;
    digits.parse().ok()
}

fn value(key: u16, token: &Token<'_>) -> Result<Vec<u8>, String> {
    let bytes = token.unescaped()?;
    match key {
        0 => {
            let mut keys = Vec::new();
            for name in bytes.split(|byte| *byte == b',') {
                keys.push(self::key(name).ok_or("expected a key")?);
            }
            keys.sort_unstable();
            Ok(keys.into_iter().flat_map(u16::to_be_bytes).collect())
        }
        1 => {
            let mut out = Vec::new();
            for protocol in items(&bytes) {
                let length = u8::try_from(protocol.len())
                    .ok()
                    .filter(|length| *length > 0);
                out.push(length.ok_or("a protocol has 1 to 255 bytes")?);
                out.extend(protocol);
            }
            Ok(out)
        }
        2 | 8 if bytes.is_empty() => Ok(bytes),
        2 | 8 => Err("unexpected value".to_owned()),
        3 => Ok(number::<u16>(token)?.to_be_bytes().to_vec()),
        4 => addresses(&bytes, |it: Ipv4Addr| it.octets().to_vec()),
        5 => STANDARD
            .decode(&bytes)
            .map_err(|error| format!("invalid base64: {error}")),
        6 => addresses(&bytes, |it: Ipv6Addr| it.octets().to_vec()),
        9 => {
            let mut out = Vec::new();
            for group in bytes.split(|byte| *byte == b',') {
                let token = Token {
                    text: group,
                    is_quoted: false,
                };
                out.extend(number::<u16>(&token)?.to_be_bytes());
            }
            Ok(out)
        }
        _ => Ok(bytes),
    }
}

/// Splits a comma-separated list; `\,` and `\\` are escapes (RFC 9460 appendix A.1).
fn items(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut items = vec![Vec::new()];
    let mut bytes = bytes.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b',' => items.push(Vec::new()),
            b'\\' => items.last_mut().expect("never empty").extend(bytes.next()),
            plain => items.last_mut().expect("never empty").push(*plain),
        }
    }
    items
}

fn addresses<T: std::str::FromStr>(
    bytes: &[u8],
    write: impl Fn(T) -> Vec<u8>,
) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    for address in bytes.split(|byte| *byte == b',') {
        let text = std::str::from_utf8(address).ok();
        let address = text.and_then(|text| text.parse().ok());
        out.extend(write(address.ok_or("expected addresses")?));
    }
    Ok(out)
}
