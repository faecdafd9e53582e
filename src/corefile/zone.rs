//! Zone names, and the reverse zones of networks.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;

use ipnet::IpNet;
use smol_str::SmolStr;

/// A zone name: validated, lower-case, with a trailing dot.
///
/// Escapes (`\.`, `\032`) are kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZoneName(SmolStr);

/// Why a text is not a zone, with CoreDNS's messages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    /// Empty text; the root zone is `.`.
    #[error("zone is not a valid domain name: the name is empty")]
    Empty,
    /// More than 255 bytes of text.
    #[error("specified zone is too long: {0} > 255")]
    TooLong(usize),
    /// Empty label, label above 63 bytes, name above 255 bytes, or a trailing backslash.
    #[error("zone is not a valid domain name: {0}")]
    Invalid(String),
    /// A network that CoreDNS refuses to expand.
    #[error("invalid CIDR {0}")]
    Network(String),
}

impl ZoneName {
    /// Validates and normalizes a name.
    pub fn new(text: &str) -> Result<Self, ZoneError> {
        if text.is_empty() {
            return Err(ZoneError::Empty);
        }
        if text.len() > 255 {
            return Err(ZoneError::TooLong(text.len()));
        }
        let Some(is_absolute) = scan(text) else {
            return Err(ZoneError::Invalid(text.to_owned()));
        };
        let mut name = text.to_ascii_lowercase();
        if !is_absolute {
            name.push('.');
        }
        Ok(Self(name.into()))
    }

    /// The zones of a name or a network. A prefix length that is not a multiple of 8 (IPv4) or 4
    /// (IPv6) is rounded up: `10.0.0.0/15` gives two zones, `10.9.3.0/18` gives 64.
    pub fn expand(text: &str) -> Result<Vec<Self>, ZoneError> {
        let name = Self::new(text)?;
        // An invalid prefix length makes the text a name, as in CoreDNS.
        let Ok(network) = text.parse::<IpNet>() else {
            return Ok(vec![name]);
        };
        let is_v6 = matches!(network, IpNet::V6(_));
        if is_v6 && text.starts_with([':', '0']) {
            return Err(ZoneError::Network(text.to_owned()));
        }
        let step = if is_v6 { 4 } else { 8 };
        let boundary = network.prefix_len().next_multiple_of(step);
        let subnets = network.trunc().subnets(boundary);
        let subnets = subnets.map_err(|_| ZoneError::Network(text.to_owned()))?;
        Ok(subnets.map(|subnet| Self::reverse(&subnet)).collect())
    }

    /// The root zone.
    pub fn root() -> Self {
        Self(SmolStr::new_static("."))
    }

    /// Whether this is the root zone.
    pub fn is_root(&self) -> bool {
        self.0 == "."
    }

    /// Whether it lies under `in-addr.arpa.` or `ip6.arpa.`.
    pub fn is_reverse(&self) -> bool {
        ["in-addr.arpa.", "ip6.arpa."].iter().any(|top| {
            let below = self.0.strip_suffix(top);
            below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
        })
    }

    /// Whether every label follows the preferred syntax of RFC 1035 section 2.3.1: letters, digits
    /// and inner hyphens, starting with a letter. The root and reverse zones count as preferred.
    pub fn is_preferred_syntax(&self) -> bool {
        self.is_root()
            || self.is_reverse()
            || self.0.trim_end_matches('.').split('.').all(|label| {
                label.starts_with(|first: char| first.is_ascii_lowercase())
                    && !label.ends_with('-')
                    && label
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            })
    }

    /// The name with its trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The reverse zone of a network with a suitable prefix length.
    fn reverse(network: &IpNet) -> Self {
        let length = usize::from(network.prefix_len());
        let mut name = String::new();
        match network.network() {
            IpAddr::V4(address) => {
                for octet in address.octets()[..length / 8].iter().rev() {
                    name.push_str(&octet.to_string());
                    name.push('.');
                }
                name.push_str("in-addr.arpa.");
            }
            IpAddr::V6(address) => {
                let bits = u128::from(address);
                for nibble in (0..length / 4).rev() {
                    let digit = (bits >> (124 - 4 * nibble) & 0xf) as usize;
                    name.push(char::from(b"0123456789abcdef"[digit]));
                    name.push('.');
                }
                name.push_str("ip6.arpa.");
            }
        }
        Self(name.into())
    }
}

impl Deref for ZoneName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ZoneName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Validates a domain name as loosely as CoreDNS: any byte is allowed, `\DDD` and `\X` stand for
/// one byte. `Some(true)` if the name has a trailing dot.
fn scan(text: &str) -> Option<bool> {
    if text == "." {
        return Some(true);
    }
    let bytes = text.as_bytes();
    let (mut at, mut label, mut total, mut is_absolute) = (0, 0, 1, false);
    while at < bytes.len() {
        is_absolute = bytes[at] == b'.';
        if is_absolute {
            if label == 0 {
                return None;
            }
            label = 0;
            at += 1;
            continue;
        }
        at += match bytes[at..] {
            [b'\\', b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', ..] => 4,
            [b'\\', _, ..] => 2,
            [b'\\'] => return None,
            _ => 1,
        };
        // Each label costs its bytes plus one length byte (RFC 1035 section 3.1).
        total += 1 + usize::from(label == 0);
        label += 1;
        if label > 63 || total > 255 {
            return None;
        }
    }
    Some(is_absolute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Vec<String> {
        ZoneName::expand(text)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn names_are_normalized() {
        let cases = [
            (".", "."),
            ("Example.ORG", "example.org."),
            ("example.org.", "example.org."),
            ("a_b.c/d", "a_b.c/d."),
            (r"a\.", r"a\.."),
            (r"a\..b", r"a\..b."),
            (r"\032x", r"\032x."),
            ("10.0.0.0", "10.0.0.0."),
        ];
        for (text, zone) in cases {
            assert_eq!(ZoneName::new(text).unwrap().as_str(), zone, "{text}");
        }
        let label = "a".repeat(63);
        assert!(ZoneName::new(&label).is_ok());
        assert!(ZoneName::new(&format!("{label}a")).is_err());
        assert_eq!(
            ZoneName::new(&"a.".repeat(128)),
            Err(ZoneError::TooLong(256))
        );
        assert!(ZoneName::new(&"a.".repeat(127)).is_ok());
        for bad in ["", "..", ".a", "a..b", "a.b..", ".:53{", "a\\"] {
            assert!(ZoneName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_expand_to_reverse_zones() {
        assert_eq!(
            expand("10.0.0.0/15"),
            ["0.10.in-addr.arpa.", "1.10.in-addr.arpa."]
        );
        assert_eq!(expand("10.1.2.3/8"), ["10.in-addr.arpa."]);
        assert_eq!(expand("0.0.0.0/0"), ["in-addr.arpa."]);
        assert_eq!(expand("192.0.2.1/32"), ["1.2.0.192.in-addr.arpa."]);
        assert_eq!(expand("2001:db8::/32"), ["8.b.d.0.1.0.0.2.ip6.arpa."]);
        assert_eq!(expand("10.0.0.0/33"), ["10.0.0.0/33."]);
        assert_eq!(expand("1::/0"), ["ip6.arpa."]);
        let wide = expand("10.9.3.0/18");
        assert_eq!(wide.len(), 64);
        assert_eq!(wide[0], "0.9.10.in-addr.arpa.");
        assert_eq!(wide[63], "63.9.10.in-addr.arpa.");
        let hosts = expand("10.0.0.0/27");
        assert_eq!(
            (hosts.len(), hosts[31].as_str()),
            (32, "31.0.0.10.in-addr.arpa.")
        );
        let six = expand("2001:db8::/29");
        assert_eq!(six.len(), 8);
        assert_eq!(six[7], "f.b.d.0.1.0.0.2.ip6.arpa.");
        assert_eq!(
            expand("2001:db8::1/128")[0].len(),
            32 * 2 + "ip6.arpa.".len()
        );
        for refused in ["::/0", "::1/128", "0:1::/32", "064:ff9b::/96"] {
            assert_eq!(
                ZoneName::expand(refused),
                Err(ZoneError::Network(refused.into()))
            );
        }
    }

    #[test]
    fn preferred_syntax_is_recognized() {
        for good in [
            ".",
            "example.org",
            "a-1.b",
            "10.in-addr.arpa",
            "8.b.d.0.ip6.arpa",
        ] {
            assert!(ZoneName::new(good).unwrap().is_preferred_syntax(), "{good}");
        }
        for odd in [
            "a:x",
            "30s",
            "}",
            "10.0.0.0/33",
            "_tcp.a",
            "a-.b",
            "xin-addr.arpa_",
        ] {
            assert!(!ZoneName::new(odd).unwrap().is_preferred_syntax(), "{odd}");
        }
    }
}
