//! The keys of server blocks: `[scheme://]ZONE[:PORT]`, where ZONE is a name or a network.

use std::fmt;

use super::diagnostic::{Diagnostic, Severity};
use super::nearest::nearest;
use super::source::{Span, Word};
use super::tree::ServerBlock;
use super::zone::{ZoneError, ZoneName};

/// A zone and transport served by a server block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// From the scheme.
    pub transport: Transport,
    /// From the name or the network.
    pub zone: ZoneName,
    /// Port as written. `None`: the transport's default, or `-dns.port` for plain DNS.
    pub port: Option<u16>,
    /// Source span of the key.
    pub span: Span,
}

/// The keys of one block.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Zones in CoreDNS's order: the first zone of each written key, then the further zones that
    /// networks expand to.
    pub list: Vec<Key>,
    /// Warnings about zone names that are probably mistakes.
    pub warnings: Vec<Diagnostic>,
}

/// Transport over which queries arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// UDP and TCP; `dns://` or no scheme.
    Dns,
    /// DNS over TLS (RFC 7858).
    Tls,
    /// DNS over QUIC (RFC 9250).
    Quic,
    /// CoreDNS's own gRPC service.
    Grpc,
    /// DNS over HTTPS (RFC 8484), HTTP/1.1 and HTTP/2.
    Https,
    /// DNS over HTTPS with HTTP/3.
    Https3,
}

impl Transport {
    /// All transports.
    pub const ALL: [Self; 6] = [
        Self::Dns,
        Self::Tls,
        Self::Quic,
        Self::Grpc,
        Self::Https,
        Self::Https3,
    ];

    /// The scheme, without `://`.
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Quic => "quic",
            Self::Grpc => "grpc",
            Self::Https => "https",
            Self::Https3 => "https3",
        }
    }

    /// Port of a key without one. The command line can override it for [`Dns`](Self::Dns).
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Dns => 53,
            Self::Tls | Self::Quic => 853,
            Self::Grpc | Self::Https | Self::Https3 => 443,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme())
    }
}

impl Key {
    /// The key's port, with `dns_port` as the default of plain DNS.
    pub fn port_or(&self, dns_port: u16) -> u16 {
        self.port.unwrap_or(match self.transport {
            Transport::Dns => dns_port,
            other => other.default_port(),
        })
    }
}

impl ServerBlock {
    /// Parses the keys and reports every invalid one.
    pub fn read_keys(&self) -> Result<Keys, Vec<Diagnostic>> {
        let (mut first, mut others) = (Vec::new(), Vec::new());
        let mut diagnostics = Vec::new();
        for word in &self.keys {
            match keys_of(word) {
                Ok(keys) => {
                    diagnostics.extend(keys.first().and_then(|key| odd_zone(word, &key.zone)));
                    let mut keys = keys.into_iter();
                    first.extend(keys.next());
                    others.extend(keys);
                }
                Err(diagnostic) => diagnostics.push(diagnostic),
            }
        }
        if diagnostics
            .iter()
            .any(|one| one.severity == Severity::Error)
        {
            return Err(diagnostics);
        }
        first.extend(others);
        Ok(Keys {
            list: first,
            warnings: diagnostics,
        })
    }
}

/// A key split into scheme, zone and port. `zone_start` is a byte offset into the text.
pub(super) struct KeyParts<'a> {
    pub(super) transport: Transport,
    pub(super) zone: &'a str,
    zone_start: usize,
    port: Option<&'a str>,
}

/// Splits off scheme and port. Text after the last colon is the port if it is a decimal number;
/// otherwise it is part of the zone.
pub(super) fn split(word: &Word) -> Result<KeyParts<'_>, Diagnostic> {
    let text = word.as_str();
    if text.starts_with("unix://") {
        return Err(word
            .error("no server can be built for a unix:// key")
            .at(word.part(0..7))
            .expected(format!("no scheme, or one of {}", schemes())));
    }
    let scheme = |transport: &Transport| {
        text.strip_prefix(transport.scheme())
            .is_some_and(|rest| rest.starts_with("://"))
    };
    let found = Transport::ALL.into_iter().find(scheme);
    let zone_start = found.map_or(0, |transport| transport.scheme().len() + 3);
    let transport = found.unwrap_or(Transport::Dns);
    let rest = &text[zone_start..];
    let Some((zone, port)) = rest.rsplit_once(':') else {
        return Ok(KeyParts {
            transport,
            zone: rest,
            zone_start,
            port: None,
        });
    };
    if port.is_empty() {
        return Err(word
            .error(format!("expecting data after last colon: \"{text}\""))
            .at(word.part(text.len() - 1..text.len()))
            .expected("a port behind the colon")
            .help(format!(
                "write {text}{} or remove the colon",
                transport.default_port()
            )));
    }
    let digits = port.strip_prefix(['+', '-']).unwrap_or(port);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(KeyParts {
            transport,
            zone: rest,
            zone_start,
            port: None,
        });
    }
    Ok(KeyParts {
        transport,
        zone,
        zone_start,
        port: Some(port),
    })
}

/// The zones of a key or zone argument.
pub(super) fn zones_of(word: &Word, parts: &KeyParts<'_>) -> Result<Vec<ZoneName>, Diagnostic> {
    ZoneName::expand(parts.zone).map_err(|error| {
        let span = word.part(parts.zone_start..parts.zone_start + parts.zone.len());
        let diagnostic = word.error(error.to_string()).at(span);
        match error {
            ZoneError::Empty => diagnostic
                .expected("a zone")
                .help(empty_zone_help(word, parts)),
            ZoneError::Invalid(name) => {
                let what = if name.contains("..") || name.starts_with('.') {
                    "a domain name without empty labels"
                } else {
                    "a domain name: labels of at most 63 bytes"
                };
                diagnostic.expected(what).maybe_help(brace_help(word))
            }
            ZoneError::TooLong(_) => diagnostic.expected("a domain name"),
            ZoneError::Network(_) => diagnostic
                .expected("an IPv6 network that begins with a digit from 1 to f")
                .help("write the zone's name: ip6.arpa for all of IPv6"),
        }
    })
}

fn keys_of(word: &Word) -> Result<Vec<Key>, Diagnostic> {
    let parts = split(word)?;
    let zones = zones_of(word, &parts)?;
    let port = parts.port.map(|port| read_port(word, port)).transpose()?;
    let key = |zone| Key {
        transport: parts.transport,
        zone,
        port,
        span: word.span,
    };
    Ok(zones.into_iter().map(key).collect())
}

fn read_port(word: &Word, port: &str) -> Result<u16, Diagnostic> {
    let digits = port.strip_prefix('+').unwrap_or(port);
    digits.parse().map_err(|_| {
        word.error(format!("address {port}: invalid port"))
            .at(word.part(word.len() - port.len()..word.len()))
            .expected("a port from 0 to 65535")
    })
}

fn empty_zone_help(word: &Word, parts: &KeyParts<'_>) -> String {
    let (scheme, port) = word.split_at(parts.zone_start);
    format!("write {scheme}.{port} for the root zone")
}

/// Help for a key that ends in `{`: a missing space in front of the brace.
fn brace_help(word: &Word) -> Option<String> {
    let key = word.strip_suffix('{')?;
    Some(format!("put a blank in front of the brace: {key} {{"))
}

/// Warns about a zone that CoreDNS accepts but that clients do not query.
fn odd_zone(word: &Word, zone: &ZoneName) -> Option<Diagnostic> {
    if zone.is_preferred_syntax() {
        return None;
    }
    let help = brace_help(word).or_else(|| scheme_help(word)).or_else(|| {
        let bits = match word.parse().ok()? {
            std::net::IpAddr::V4(_) => 32,
            std::net::IpAddr::V6(_) => 128,
        };
        Some(format!("for a reverse zone write {word}/{bits}"))
    });
    Some(
        word.warning(format!(
            "Domain \"{zone}\" does not follow RFC1035 preferred syntax"
        ))
        .label(format!("served as the zone {zone}"))
        .maybe_help(help),
    )
}

fn scheme_help(word: &Word) -> Option<String> {
    let (scheme, rest) = word.split_once("://")?;
    let near = nearest(scheme, Transport::ALL.map(Transport::scheme));
    Some(near.map_or_else(
        || format!("the schemes are {}", schemes()),
        |near| format!("did you mean {near}://{rest}?"),
    ))
}

fn schemes() -> String {
    Transport::ALL
        .map(|transport| format!("{transport}://"))
        .join(", ")
}
