//! The parameters of SVCB and HTTPS records (RFC 9460 §2.1).

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{data::shown, lexer::Word, value::number};

/// Their names, by number.
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

/// Writes `KEY=VALUE…` in the order of their numbers.
pub fn write(words: &[Word<'_>], out: &mut Vec<u8>) -> Result<(), String> {
    let mut read: Vec<(u16, Vec<u8>)> = Vec::new();
    for word in words {
        let equals = word.text.iter().position(|octet| *octet == b'=');
        let (name, value) = word.text.split_at(equals.unwrap_or(word.text.len()));
        let key = key(name).ok_or_else(|| format!("{} is no parameter", shown(word)))?;
        if read.iter().any(|(other, _)| *other == key) {
            return Err(format!("{} is said twice", shown(word)));
        }
        let value = value.strip_prefix(b"=").unwrap_or(value);
        let bare = value
            .strip_prefix(b"\"")
            .and_then(|it| it.strip_suffix(b"\""));
        let value = Word {
            text: bare.unwrap_or(value),
            is_quoted: bare.is_some(),
        };
        let value = self::value(key, &value)
            .map_err(|error| format!("the parameter {}: {error}", shown(word)))?;
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

fn key(name: &[u8]) -> Option<u16> {
    let known = NAMES.iter().position(|known| known.as_bytes() == name);
    if let Some(number) = known {
        return u16::try_from(number).ok();
    }
    let digits = std::str::from_utf8(name.strip_prefix(b"key")?).ok()?;
    digits.parse().ok()
}

fn value(key: u16, word: &Word<'_>) -> Result<Vec<u8>, String> {
    let octets = word.unescaped()?;
    match key {
        0 => {
            let mut keys = Vec::new();
            for name in octets.split(|octet| *octet == b',') {
                keys.push(self::key(name).ok_or("a key is expected")?);
            }
            keys.sort_unstable();
            Ok(keys.into_iter().flat_map(u16::to_be_bytes).collect())
        }
        1 => {
            let mut out = Vec::new();
            for protocol in items(&octets) {
                let length = u8::try_from(protocol.len())
                    .ok()
                    .filter(|length| *length > 0);
                out.push(length.ok_or("a protocol has 1 to 255 octets")?);
                out.extend(protocol);
            }
            Ok(out)
        }
        2 | 8 if octets.is_empty() => Ok(octets),
        2 | 8 => Err("it has no value".to_owned()),
        3 => Ok(number::<u16>(word)?.to_be_bytes().to_vec()),
        4 => addresses(&octets, |it: Ipv4Addr| it.octets().to_vec()),
        5 => STANDARD
            .decode(&octets)
            .map_err(|error| format!("no base 64: {error}")),
        6 => addresses(&octets, |it: Ipv6Addr| it.octets().to_vec()),
        9 => {
            let mut out = Vec::new();
            for group in octets.split(|octet| *octet == b',') {
                let word = Word {
                    text: group,
                    is_quoted: false,
                };
                out.extend(number::<u16>(&word)?.to_be_bytes());
            }
            Ok(out)
        }
        _ => Ok(octets),
    }
}

/// The items of a list with commas between them; `\,` and `\\` stand for themselves (RFC 9460
/// appendix A.1).
fn items(octets: &[u8]) -> Vec<Vec<u8>> {
    let mut items = vec![Vec::new()];
    let mut octets = octets.iter();
    while let Some(octet) = octets.next() {
        match octet {
            b',' => items.push(Vec::new()),
            b'\\' => items
                .last_mut()
                .expect("one at least")
                .extend(octets.next()),
            plain => items.last_mut().expect("one at least").push(*plain),
        }
    }
    items
}

fn addresses<T: std::str::FromStr>(
    octets: &[u8],
    write: impl Fn(T) -> Vec<u8>,
) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    for address in octets.split(|octet| *octet == b',') {
        let text = std::str::from_utf8(address).ok();
        let address = text.and_then(|text| text.parse().ok());
        out.extend(write(address.ok_or("addresses are expected")?));
    }
    Ok(out)
}
