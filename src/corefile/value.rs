//! Typed accessors of a word. Each error points at the word and says what was expected.

use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use regex::Regex;
use smol_str::SmolStr;

use super::address::{split, zones_of};
use super::diagnostic::Diagnostic;
use super::duration::{DurationError, parse_duration};
use super::nearest::nearest;
use super::source::Word;
use super::zone::ZoneName;
use crate::error_text;
use crate::interfaces::HostAddress;

/// Maximum length of a regular expression in bytes, as in CoreDNS.
const MAX_PATTERN: usize = 10_000;

/// Listen address of a plugin: `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Listen {
    /// An address or host name; empty for all addresses.
    pub host: SmolStr,
    /// 0 for a port chosen by the system.
    pub port: u16,
}

impl Word {
    /// A duration in Go's syntax, not negative.
    pub fn duration(&self) -> Result<Duration, Diagnostic> {
        parse_duration(self).map_err(|error| {
            let help = match error {
                DurationError::NoUnit(_) => Some(format!("write {self}s for seconds")),
                DurationError::UnknownUnit { .. } => {
                    Some("the units are ns, us, ms, s, m and h".to_owned())
                }
                DurationError::Invalid(_) | DurationError::Negative(_) => None,
            };
            let diagnostic = self.error(error.to_string());
            diagnostic
                .expected("a duration such as 5s or 1m30s")
                .maybe_help(help)
        })
    }

    /// A decimal integer within a range. A sign and leading zeros are allowed.
    pub fn integer<T>(&self, range: RangeInclusive<T>) -> Result<T, Diagnostic>
    where
        T: TryFrom<i64> + PartialOrd + Display + Copy,
    {
        let number = self
            .parse::<i64>()
            .ok()
            .and_then(|number| T::try_from(number).ok());
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (least, most) = (range.start(), range.end());
                let message = if self.parse::<i128>().is_ok() {
                    format!("'{self}' is out of range")
                } else {
                    format!("'{self}' is not a number")
                };
                self.error(message)
                    .expected(format!("a whole number from {least} to {most}"))
            })
    }

    /// A decimal number within a range.
    pub fn float(&self, range: RangeInclusive<f64>) -> Result<f64, Diagnostic> {
        let number = self.parse::<f64>().ok();
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (least, most) = (range.start(), range.end());
                let message = if number.is_some_and(f64::is_finite) {
                    format!("'{self}' is out of range")
                } else {
                    format!("'{self}' is not a number")
                };
                self.error(message)
                    .expected(format!("a number from {least} to {most}"))
            })
    }

    /// A boolean in the spellings that Go accepts.
    pub fn boolean(&self) -> Result<bool, Diagnostic> {
        match self.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(self
                .error(format!("'{self}' is no boolean"))
                .expected("true or false")),
        }
    }

    /// An IP address without port, mask or brackets.
    pub fn address(&self) -> Result<IpAddr, Diagnostic> {
        self.parse().map_err(|_| {
            let bare = self
                .trim_start_matches('[')
                .split([']', '/'])
                .next()
                .unwrap_or_default();
            let bare = bare.parse::<IpAddr>().ok().or_else(|| {
                let (host, port) = self.split_once(':')?;
                port.parse::<u16>().ok()?;
                host.parse().ok()
            });
            self.error(format!("not an IP address: '{self}'"))
                .expected("an IP address such as 10.0.0.10 or fd00::10")
                .maybe_help(bare.map(|bare| format!("write {bare} alone")))
        })
    }

    /// An IP address with an optional port (default `port`, not 0): `10.0.0.1`, `10.0.0.1:5353`,
    /// `fd00::1`, `[fd00::1]`, `[fd00::1]:5353`, `fe80::1%eth0`, `[fe80::1%eth0]:5353`. `None` if
    /// invalid.
    pub fn socket_address(&self, port: u16) -> Option<SocketAddr> {
        let (host, port) = if let Some(host) = host_of(self) {
            (host, port)
        } else {
            let (host, port) = self.rsplit_once(':')?;
            (host_of(host)?, port.parse().ok().filter(|port| *port > 0)?)
        };
        let address: HostAddress = host.parse().ok()?;
        Some(address.with_port(port))
    }

    /// A network in CIDR notation.
    pub fn network(&self) -> Result<IpNet, Diagnostic> {
        self.parse().map_err(|_| {
            let single = self.parse::<IpAddr>().ok().map(IpNet::from);
            self.error(format!("invalid CIDR {self}"))
                .expected("a network such as 10.0.0.0/8")
                .maybe_help(single.map(|single| format!("write {single} for this address alone")))
        })
    }

    /// `HOST:PORT` with an optional host: `:9153`, `127.0.0.1:9153`, `[::1]:9153`.
    pub fn listen(&self) -> Result<Listen, Diagnostic> {
        let refuse = |message: String| {
            Err(self
                .error(message)
                .expected("HOST:PORT such as :9153 or 127.0.0.1:9153"))
        };
        let Some((host, port)) = self.rsplit_once(':') else {
            let digits = !self.is_empty() && self.bytes().all(|byte| byte.is_ascii_digit());
            let help = if digits {
                format!("write :{self}")
            } else {
                format!("write {self}:PORT")
            };
            return refuse(format!("address {self}: missing port in address"))
                .map_err(|diagnostic: Diagnostic| diagnostic.help(help));
        };
        let host = match host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            Some(inner) if inner.parse::<Ipv6Addr>().is_ok() => inner,
            Some(_) => return refuse(format!("address {self}: '{host}' is no IPv6 address")),
            None if host.contains(':') => {
                return refuse(format!("address {self}: too many colons in address")).map_err(
                    |diagnostic: Diagnostic| {
                        diagnostic.help("put an IPv6 address in brackets: [::1]:9153")
                    },
                );
            }
            None => host,
        };
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        if !host.bytes().all(is_host) {
            return refuse(format!("address {self}: '{host}' is no host"));
        }
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return refuse(format!("address {self}: '{port}' is no port"));
        }
        match port.parse() {
            Ok(port) => Ok(Listen {
                host: host.into(),
                port,
            }),
            Err(_) => refuse(format!("address {port}: invalid port")),
        }
    }

    /// The zones of a name or network; scheme and port are ignored. Never empty.
    pub fn zones(&self) -> Result<Vec<ZoneName>, Diagnostic> {
        zones_of(self, &split(self)?)
    }

    /// The value of one of several keywords.
    pub fn one_of<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, Diagnostic> {
        let found = choices.iter().find(|(name, _)| *self == *name);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            let near = nearest(self, names.iter().copied());
            self.error(format!("unknown value '{self}'"))
                .expected(alternatives(&names))
                .maybe_help(near.map(|near| format!("did you mean '{near}'?")))
        })
    }

    /// Like [`one_of`](Self::one_of), ignoring case.
    pub fn one_of_any_case<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, Diagnostic> {
        let mut known = choices.iter();
        let found = known.find(|(name, _)| self.eq_ignore_ascii_case(name));
        found.map_or_else(|| self.one_of(choices), |(_, value)| Ok(*value))
    }

    /// A regular expression of at most 10,000 bytes.
    pub fn regex(&self) -> Result<Regex, Diagnostic> {
        if self.len() > MAX_PATTERN {
            let text = format!("a pattern has at most {MAX_PATTERN} bytes");
            return Err(self.error(text));
        }
        Regex::new(self).map_err(|error| {
            let reason = error_text::regex(&error);
            self.error(format!("not a regular expression: {reason}"))
        })
    }

    /// A file system path.
    pub fn path(&self) -> PathBuf {
        self.as_str().into()
    }
}

/// The host part in front of a port, without the brackets of an IPv6 address; may be empty. `None`
/// if it is not a host: brackets must hold an IPv6 address, and URL characters are not allowed.
pub fn host_of(text: &str) -> Option<&str> {
    let is_v6 = |text: &str| {
        let address = text.split('%').next().unwrap_or_default();
        address.parse::<Ipv6Addr>().is_ok()
    };
    match text.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').filter(|inner| is_v6(inner)),
        None if text.contains(['/', '?', '@', '[', ']']) => None,
        None => Some(text).filter(|text| !text.contains(':') || is_v6(text)),
    }
}

impl Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The zones of a list of names and networks, in order, without duplicates.
pub fn zones(words: &[Word]) -> Result<Vec<ZoneName>, Diagnostic> {
    let mut list = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for word in words {
        list.extend(
            word.zones()?
                .into_iter()
                .filter(|zone| seen.insert(zone.clone())),
        );
    }
    Ok(list)
}

/// `a, b or c`.
pub(super) fn alternatives(names: &[&str]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [only] => (*only).to_owned(),
        [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Word {
        Word::detached(text)
    }

    #[test]
    fn numbers_are_parsed_within_range() {
        assert_eq!(word("30").integer(1..=65535_u16).unwrap(), 30);
        assert_eq!(word("+007").integer(0..=9_u32).unwrap(), 7);
        assert_eq!(word("-1").integer(-1..=9_i64).unwrap(), -1);
        for bad in [
            "",
            "1_0",
            "0x1",
            "65536",
            "-1",
            "1.0",
            "99999999999999999999",
            "30s",
        ] {
            assert!(word(bad).integer(0..=65535_u16).is_err(), "{bad}");
        }
        assert!((word("0.25").float(0.0..=1.0).unwrap() - 0.25).abs() < f64::EPSILON);
        for bad in ["NaN", "inf", "1.1", "x", ""] {
            assert!(word(bad).float(0.0..=1.0).is_err(), "{bad}");
        }
        assert!(word("T").boolean().unwrap());
        assert!(!word("False").boolean().unwrap());
        assert!(word("yes").boolean().is_err());
    }

    #[test]
    fn addresses_and_listen_addresses_are_parsed() {
        assert_eq!(word("fd00::10").address().unwrap().to_string(), "fd00::10");
        for bad in [
            "[::1]",
            "10.0.0.1:53",
            "10.0.0.1/32",
            "localhost",
            "010.0.0.1",
            "",
        ] {
            assert!(word(bad).address().is_err(), "{bad}");
        }
        for (text, same) in [
            ("10.0.0.1", "10.0.0.1:53"),
            ("10.0.0.1:5353", "10.0.0.1:5353"),
            ("fd00::1", "[fd00::1]:53"),
            ("[fd00::1]", "[fd00::1]:53"),
            ("[fd00::1]:5353", "[fd00::1]:5353"),
            ("fe80::1%7", "[fe80::1%7]:53"),
            ("[fe80::1%7]", "[fe80::1%7]:53"),
            ("[fe80::1%7]:5353", "[fe80::1%7]:5353"),
        ] {
            let address = word(text).socket_address(53).unwrap();
            assert_eq!(address.to_string(), same);
        }
        for bad in [
            "[10.0.0.1",
            "10.0.0.1]",
            "[fd00::1",
            "[[fd00::1]]",
            "10.0.0.1:0",
            "10.0.0.1:x",
            "10.0.0.1%7",
            "fe80::1%no-such-thing",
            "fd00::1:0:0:0:0:0:0:53:53",
            "localhost",
            "",
        ] {
            assert_eq!(word(bad).socket_address(53), None, "{bad}");
        }
        let help = word("10.0.0.1:53").address().unwrap_err().help;
        assert_eq!(help.as_deref(), Some("write 10.0.0.1 alone"));
        assert_eq!(
            word("10.1.2.3/8").network().unwrap().to_string(),
            "10.1.2.3/8"
        );
        assert!(word("10.1.2.3").network().is_err());
        for good in [":9153", "127.0.0.1:0", "[::1]:53", "localhost:8080"] {
            assert_eq!(word(good).listen().unwrap().to_string(), good);
        }
        for bad in [
            "", "9153", "a", "::1:53", "a:", "a:b", "a:+1", ":65536", "[x]:1", "a b:1",
        ] {
            assert!(word(bad).listen().is_err(), "{bad}");
        }
    }

    #[test]
    fn zone_lists_drop_schemes_ports_and_duplicates() {
        let words = ["dns://A.example:53", "10.0.0.0/15", "a.example.", "."].map(word);
        let list = zones(&words).unwrap();
        let list: Vec<_> = list.iter().map(ZoneName::as_str).collect();
        assert_eq!(
            list,
            [
                "a.example.",
                "0.10.in-addr.arpa.",
                "1.10.in-addr.arpa.",
                "."
            ]
        );
        assert!(zones(&[word("a..b")]).is_err());
    }
}
