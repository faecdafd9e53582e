//! The address of an upstream: the forms in which a Corefile writes it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use rustls::pki_types::ServerName;

use crate::{
    features::{Feature, NotBuilt},
    interfaces::{AddressError, HostAddress, lacks_interface},
    query::Transport,
    wire::Name,
};

/// An argument of `forward FROM TO...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A server.
    Server(Target),
    /// A file in the format of resolv.conf that lists servers.
    File(PathBuf),
    /// A host name that is resolved when serving begins.
    Host(Host),
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its address and port.
    pub address: SocketAddr,
    /// The protocol.
    pub protocol: UpstreamProtocol,
    /// The name that its certificate must be for, and that SNI sends, if the Corefile has one for it.
    pub name: Option<ServerName<'static>>,
    /// The host name that was resolved to the address: its certificate must be for this if no other name is
    /// configured.
    pub host: Option<ServerName<'static>>,
}

/// A server given by a host name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    /// The host name, as written.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: UpstreamProtocol,
    /// The name that its certificate must be for, if it is another one than [`Host::host`].
    pub name: Option<ServerName<'static>>,
}

/// The protocol of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamProtocol {
    /// Plain DNS over UDP and TCP.
    Dns,
    /// DNS over TLS (RFC 7858).
    Tls,
    /// DNS over HTTPS (RFC 8484), HTTP/2.
    Https,
    /// DNS over QUIC (RFC 9250).
    Quic,
}

/// The HTTP method of queries over HTTPS (RFC 8484 section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DohMethod {
    /// The query is the request body.
    #[default]
    Post,
    /// The query is in the URI, so that HTTP caches can store the response.
    Get,
}

/// Why a word is not an upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages describe them
pub enum TargetError {
    #[error("invalid address: {0:?}")]
    Empty(String),
    #[error("'{scheme}' is not supported as a destination protocol in forward: {word}")]
    Scheme { scheme: String, word: String },
    #[error(
        "paths are not allowed in HTTPS upstream addresses (the /dns-query path is used by \
         default): {0}"
    )]
    Path(String),
    #[error("not an IP address, file, or valid domain: {0:?}")]
    Nothing(String),
    #[error("{0:?} is not a port, which is a number from 1 to 65535")]
    Port(String),
    #[error("{0:?} is not a name that a certificate can be for")]
    ServerName(String),
    #[error("no network interface is called {0:?}")]
    Interface(String),
    #[error("{word}: {missing}")]
    NotBuilt { word: String, missing: NotBuilt },
}

impl UpstreamProtocol {
    /// The default port (RFC 7858 section 3.1, RFC 8484 with RFC 9110 section 4.2.2, RFC 9250 section
    /// 4.1.1).
    pub fn default_port(self) -> u16 {
        match self {
            Self::Dns => 53,
            Self::Tls | Self::Quic => 853,
            Self::Https => 443,
        }
    }

    /// The transport that its replies come over, unless the query is sent over TCP.
    pub fn transport(self) -> Transport {
        match self {
            Self::Dns => Transport::Udp,
            Self::Tls => Transport::Tls,
            Self::Https => Transport::Https,
            Self::Quic => Transport::Quic,
        }
    }

    /// An error if this build lacks it.
    pub fn required(self) -> Result<(), NotBuilt> {
        match self {
            Self::Dns | Self::Tls => Ok(()),
            Self::Https => Feature::Https.required(),
            Self::Quic => Feature::Quic.required(),
        }
    }

    /// Whether the upstream is authenticated with a certificate.
    pub fn is_secure(self) -> bool {
        self != Self::Dns
    }
}

impl Target {
    /// A server of plain DNS.
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address,
            protocol: UpstreamProtocol::Dns,
            name: None,
            host: None,
        }
    }

    /// Whether it is a link-local address without its interface, which cannot be reached.
    pub fn lacks_interface(&self) -> bool {
        lacks_interface(self.address)
    }
}

impl Host {
    /// The server at one of its addresses.
    pub fn at(&self, address: HostAddress) -> Target {
        let own = || ServerName::try_from(self.host.trim_end_matches('.').to_owned()).ok();
        Target {
            address: address.with_port(self.port),
            protocol: self.protocol,
            name: self.name.clone(),
            host: self.protocol.is_secure().then(own).flatten(),
        }
    }
}

impl From<AddressError> for TargetError {
    fn from(error: AddressError) -> Self {
        match error {
            AddressError::Address(text) => Self::Nothing(text),
            AddressError::Interface(zone) => Self::Interface(zone),
        }
    }
}

impl fmt::Display for Target {
    /// As in metrics: address and port, without a scheme.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(out)
    }
}

impl FromStr for Destination {
    type Err = TargetError;

    fn from_str(word: &str) -> Result<Self, TargetError> {
        let (scheme, rest) = word.split_once("://").unwrap_or(("", word));
        let protocol = match scheme.to_ascii_lowercase().as_str() {
            "" | "dns" => UpstreamProtocol::Dns,
            "tls" => UpstreamProtocol::Tls,
            "https" => UpstreamProtocol::Https,
            "quic" => UpstreamProtocol::Quic,
            _ => {
                let (scheme, word) = (scheme.to_owned(), word.to_owned());
                return Err(TargetError::Scheme { scheme, word });
            }
        };
        if rest.is_empty() {
            return Err(TargetError::Empty(word.to_owned()));
        }
        if protocol == UpstreamProtocol::Https && rest.contains('/') {
            return Err(TargetError::Path(word.to_owned()));
        }
        protocol.required().map_err(|missing| {
            let word = word.to_owned();
            TargetError::NotBuilt { word, missing }
        })?;
        let (host, percent, port) = split(rest, protocol.default_port())?;
        let Ok(ip) = host.parse::<IpAddr>() else {
            return file_or_host(word, scheme, rest, protocol);
        };
        let mut address = SocketAddr::new(ip, port);
        let mut name = None;
        match percent {
            Some(zone) if protocol == UpstreamProtocol::Dns => {
                let scoped: HostAddress = format!("{host}%{zone}").parse()?;
                address = scoped.with_port(port);
            }
            Some(proven) => name = Some(server_name(proven)?),
            None => {}
        }
        Ok(Self::Server(Target {
            address,
            protocol,
            name,
            host: None,
        }))
    }
}

fn read_port(text: &str) -> Result<u16, TargetError> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| TargetError::Port(text.to_owned()))
}

fn server_name(text: &str) -> Result<ServerName<'static>, TargetError> {
    ServerName::try_from(text.to_owned()).map_err(|_| TargetError::ServerName(text.to_owned()))
}

/// Host, the part after a percent sign, and port: `1.2.3.4%name:853`, `[::1%eth0]:53`, `::1`.
fn split(text: &str, default_port: u16) -> Result<(&str, Option<&str>, u16), TargetError> {
    let (host, port) = if let Some(inside) = text.strip_prefix('[') {
        match inside.split_once(']') {
            Some((host, rest)) => match rest.rsplit_once(':') {
                // `[::1]%name:853`
                Some((between, port)) => (join_percent(inside, host, between), Some(port)),
                None => (join_percent(inside, host, rest), None),
            },
            None => (text, None),
        }
    } else {
        let (address, percent) = text.split_once('%').unwrap_or((text, ""));
        // An IPv6 address without brackets contains colons.
        let bare = address.parse::<IpAddr>().is_ok() && address.contains(':');
        match text.rsplit_once(':') {
            Some((host, port)) if !bare || percent.contains(':') => (host, Some(port)),
            _ => (text, None),
        }
    };
    let (host, percent) = match host.split_once('%') {
        Some((host, percent)) => (host.trim_end_matches(']'), Some(percent)),
        None => (host, None),
    };
    let port = match port {
        None => default_port,
        Some(_) if host.parse::<IpAddr>().is_err() => default_port,
        Some(port) => read_port(port)?,
    };
    Ok((host, percent, port))
}

/// The part of `inside` up to the port: `host`, and what stands between the bracket and the port.
fn join_percent<'t>(inside: &'t str, host: &'t str, between: &str) -> &'t str {
    if between.is_empty() {
        host
    } else {
        &inside[..=host.len() + between.len()]
    }
}

fn file_or_host(
    word: &str,
    scheme: &str,
    rest: &str,
    protocol: UpstreamProtocol,
) -> Result<Destination, TargetError> {
    let path = PathBuf::from(rest);
    if scheme.is_empty() && (rest.contains('/') || path.is_file()) {
        return Ok(Destination::File(path));
    }
    // `dns.example.org%name:853`; name and port are optional.
    let (before, port) = match rest.rsplit_once(':') {
        Some((before, port)) => (before, Some(port)),
        None => (rest, None),
    };
    let (host, percent) = match before.split_once('%') {
        Some((host, percent)) => (host, Some(percent)),
        None => (before, None),
    };
    let mut bytes = host.bytes();
    let is_name = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        // Digits and dots only are a mistyped address.
        && host.bytes().any(|byte| byte.is_ascii_alphabetic())
        && Name::parse(host).is_ok();
    if !is_name {
        return Err(TargetError::Nothing(word.to_owned()));
    }
    let port = match port {
        None => protocol.default_port(),
        Some(port) => read_port(port)?,
    };
    let name = match percent {
        Some(zone) if protocol == UpstreamProtocol::Dns => {
            return Err(TargetError::Interface(zone.to_owned()));
        }
        Some(proven) => Some(server_name(proven)?),
        None => None,
    };
    Ok(Destination::Host(Host {
        host: host.to_owned(),
        port,
        protocol,
        name,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(word: &str) -> (String, Option<String>) {
        match word.parse() {
            Ok(Destination::Server(target)) => {
                let name = target.protocol.is_secure().then(|| {
                    let name = target.name.as_ref().map(|name| name.to_str().into_owned());
                    name.unwrap_or_default()
                });
                (target.to_string(), name)
            }
            other => panic!("{word}: {other:?}"),
        }
    }

    #[test]
    fn every_form_of_an_address_is_parsed() {
        for (word, address, tls) in [
            ("8.8.8.8", "8.8.8.8:53", None),
            ("8.8.8.8:5353", "8.8.8.8:5353", None),
            ("dns://8.8.8.8", "8.8.8.8:53", None),
            ("DNS://8.8.8.8:54", "8.8.8.8:54", None),
            ("2001:db8::1", "[2001:db8::1]:53", None),
            ("[2001:db8::1]", "[2001:db8::1]:53", None),
            ("[2001:db8::1]:5353", "[2001:db8::1]:5353", None),
            ("fe80::1%7", "[fe80::1%7]:53", None),
            ("[fe80::1%7]:54", "[fe80::1%7]:54", None),
            ("tls://9.9.9.9", "9.9.9.9:853", Some("")),
            ("tls://9.9.9.9:8853", "9.9.9.9:8853", Some("")),
            (
                "tls://9.9.9.9%dns.quad9.net",
                "9.9.9.9:853",
                Some("dns.quad9.net"),
            ),
            (
                "tls://9.9.9.9%dns.quad9.net:8853",
                "9.9.9.9:8853",
                Some("dns.quad9.net"),
            ),
            (
                "tls://2620:fe::fe%dns.quad9.net",
                "[2620:fe::fe]:853",
                Some("dns.quad9.net"),
            ),
            (
                "tls://[2620:fe::fe%dns.quad9.net]:8853",
                "[2620:fe::fe]:8853",
                Some("dns.quad9.net"),
            ),
            (
                "tls://[2620:fe::fe]%dns.quad9.net:8853",
                "[2620:fe::fe]:8853",
                Some("dns.quad9.net"),
            ),
            ("https://9.9.9.9", "9.9.9.9:443", Some("")),
            ("https://[2620:fe::fe]:8443", "[2620:fe::fe]:8443", Some("")),
            (
                "https://9.9.9.9%dns.quad9.net",
                "9.9.9.9:443",
                Some("dns.quad9.net"),
            ),
            ("quic://9.9.9.9", "9.9.9.9:853", Some("")),
        ] {
            assert_eq!(
                server(word),
                (address.into(), tls.map(str::to_owned)),
                "{word}"
            );
        }
    }

    #[test]
    fn a_path_is_a_file() {
        let file = Destination::File("/etc/resolv.conf".into());
        assert_eq!("/etc/resolv.conf".parse(), Ok(file));
        assert_eq!("./r.conf".parse(), Ok(Destination::File("./r.conf".into())));
    }

    #[test]
    fn a_host_name_is_parsed_without_resolving_it() {
        for (word, host, port, protocol, name) in [
            ("dns.google", "dns.google", 53, UpstreamProtocol::Dns, None),
            (
                "dns.google:54",
                "dns.google",
                54,
                UpstreamProtocol::Dns,
                None,
            ),
            (
                "tls://dns.google",
                "dns.google",
                853,
                UpstreamProtocol::Tls,
                None,
            ),
            (
                "tls://lb.example%dns.example:8853",
                "lb.example",
                8853,
                UpstreamProtocol::Tls,
                Some("dns.example"),
            ),
            (
                "https://dns.google",
                "dns.google",
                443,
                UpstreamProtocol::Https,
                None,
            ),
            (
                "quic://dns.google:8853",
                "dns.google",
                8853,
                UpstreamProtocol::Quic,
                None,
            ),
        ] {
            let Ok(Destination::Host(read)) = word.parse() else {
                panic!("{word}");
            };
            let name_of_host = read.name.as_ref().map(|name| name.to_str().into_owned());
            assert_eq!(
                (
                    &*read.host,
                    read.port,
                    read.protocol,
                    name_of_host.as_deref()
                ),
                (host, port, protocol, name)
            );
            let target = read.at(IpAddr::from([192, 0, 2, 1]).into());
            let text = |name: Option<ServerName<'_>>| name.map(|name| name.to_str().into_owned());
            assert_eq!(text(target.name).as_deref(), name, "{word}");
            let found_by = protocol.is_secure().then_some(host);
            assert_eq!(text(target.host).as_deref(), found_by, "{word}");
        }
    }

    #[test]
    fn each_kind_of_invalid_upstream_has_its_own_error() {
        let error = |word: &str| word.parse::<Destination>().unwrap_err();
        for word in ["grpc://1.1.1.1", "ftp://x"] {
            assert!(matches!(error(word), TargetError::Scheme { .. }), "{word}");
        }
        for word in ["https://dns.google/dns-query", "https://1.1.1.1/"] {
            assert!(matches!(error(word), TargetError::Path(_)), "{word}");
        }
        assert!(matches!(error("dns.google:0"), TargetError::Port(_)));
        assert!(matches!(error("dns.google%x"), TargetError::Interface(_)));
        for word in ["8.8.8", "8.8.8.8.8", "1.2.3.4/24x", "::g", "[::1", "a b"] {
            let invalid = error_or_file(word);
            assert!(invalid, "{word}");
        }
        assert!(matches!(error("8.8.8.8:0"), TargetError::Port(_)));
        assert!(matches!(error("8.8.8.8:65536"), TargetError::Port(_)));
        assert!(matches!(error("8.8.8.8:"), TargetError::Port(_)));
        assert!(matches!(error("dns://"), TargetError::Empty(_)));
        assert!(matches!(
            error("tls://9.9.9.9%-"),
            TargetError::ServerName(_)
        ));
        assert!(matches!(error("8.8.8.8%eth0"), TargetError::Interface(_)));
    }

    fn error_or_file(word: &str) -> bool {
        match word.parse::<Destination>() {
            Err(TargetError::Nothing(_)) => true,
            Ok(Destination::File(_)) => word.contains('/'),
            _ => false,
        }
    }
}
