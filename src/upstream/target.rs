//! Where an upstream is: the forms in which a Corefile names it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    path::PathBuf,
    str::FromStr,
};

use rustls::pki_types::ServerName;

/// What is written behind `forward FROM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// A server.
    Server(Target),
    /// A file in the form of resolv.conf that lists servers.
    File(PathBuf),
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its address and port.
    pub address: SocketAddr,
    /// Whether it is asked over TLS, and the name it must prove where one is written for it.
    pub tls: Option<Option<ServerName<'static>>>,
}

/// Why a word is no upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // each says it
pub enum TargetError {
    #[error("invalid address: {0:?}")]
    Empty(String),
    #[error("'{scheme}' is not supported as a destination protocol in forward: {word}")]
    Scheme { scheme: String, word: String },
    #[error("not an IP address or file: {0:?}; host names are not supported yet, write an address")]
    HostName(String),
    #[error("not an IP address, file, or valid domain: {0:?}")]
    Nothing(String),
    #[error("{0:?} is no port")]
    Port(String),
    #[error("{0:?} is no name that a certificate can be for")]
    ServerName(String),
    #[error("no network interface is called {0:?}")]
    Interface(String),
}

/// The port of plain DNS.
const DNS_PORT: u16 = 53;
/// The port of DNS over TLS (RFC 7858 §3.1).
const TLS_PORT: u16 = 853;

impl Target {
    /// A server asked in plain at its usual port.
    pub fn plain(address: IpAddr) -> Self {
        Self {
            address: (address, DNS_PORT).into(),
            tls: None,
        }
    }
}

impl fmt::Display for Target {
    /// As metrics have it: address and port, without a scheme.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(out)
    }
}

impl FromStr for To {
    type Err = TargetError;

    fn from_str(word: &str) -> Result<Self, TargetError> {
        let (scheme, rest) = word.split_once("://").unwrap_or(("", word));
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "" | "dns" => false,
            "tls" => true,
            _ => {
                let (scheme, word) = (scheme.to_owned(), word.to_owned());
                return Err(TargetError::Scheme { scheme, word });
            }
        };
        if rest.is_empty() {
            return Err(TargetError::Empty(word.to_owned()));
        }
        let default_port = if tls { TLS_PORT } else { DNS_PORT };
        let (host, percent, port) = split(rest, default_port)?;
        let Ok(ip) = host.parse::<IpAddr>() else {
            return file_or_nothing(word, scheme, rest, host);
        };
        let mut address = SocketAddr::new(ip, port);
        if !tls {
            if let Some(zone) = percent {
                address = scoped(address, zone)?;
            }
            return Ok(Self::Server(Target { address, tls: None }));
        }
        let name = percent.map(|name| {
            ServerName::try_from(name.to_owned())
                .map_err(|_| TargetError::ServerName(name.to_owned()))
        });
        let tls = Some(name.transpose()?);
        Ok(Self::Server(Target { address, tls }))
    }
}

/// Host, what stands behind a percent sign, and port: `1.2.3.4%name:853`, `[::1%eth0]:53`, `::1`.
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
        // A bare IPv6 address has colons of its own.
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
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(TargetError::Port(port.to_owned())),
        },
    };
    Ok((host, percent, port))
}

/// The part of `inside` that holds `host` and, where something stands between bracket and port,
/// that too.
fn join_percent<'t>(inside: &'t str, host: &'t str, between: &str) -> &'t str {
    if between.is_empty() {
        host
    } else {
        &inside[..=host.len() + between.len()]
    }
}

/// A link-local address needs the number of the interface that it is reached through.
fn scoped(address: SocketAddr, zone: &str) -> Result<SocketAddr, TargetError> {
    let SocketAddr::V6(address) = address else {
        return Err(TargetError::Interface(zone.to_owned()));
    };
    let number = zone.parse().ok().or_else(|| interface_number(zone));
    let number = number.ok_or_else(|| TargetError::Interface(zone.to_owned()))?;
    Ok(SocketAddrV6::new(*address.ip(), address.port(), 0, number).into())
}

fn interface_number(name: &str) -> Option<u32> {
    if name.contains('/') || name.starts_with('.') {
        return None;
    }
    let path = format!("/sys/class/net/{name}/ifindex");
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn file_or_nothing(word: &str, scheme: &str, rest: &str, host: &str) -> Result<To, TargetError> {
    let path = PathBuf::from(rest);
    if scheme.is_empty() && (rest.contains('/') || path.is_file()) {
        return Ok(To::File(path));
    }
    let mut octets = host.bytes();
    let is_name = octets.all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet));
    // Digits and dots alone are a mistyped address.
    let is_name = is_name && host.bytes().any(|octet| octet.is_ascii_alphabetic());
    Err(if is_name {
        TargetError::HostName(word.to_owned())
    } else {
        TargetError::Nothing(word.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(word: &str) -> (String, Option<String>) {
        match word.parse() {
            Ok(To::Server(target)) => {
                let name = target.tls.as_ref().map(|name| {
                    let name = name.as_ref().map(|name| name.to_str().into_owned());
                    name.unwrap_or_default()
                });
                (target.to_string(), name)
            }
            other => panic!("{word}: {other:?}"),
        }
    }

    #[test]
    fn every_form_of_an_address_is_read() {
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
        let file = To::File("/etc/resolv.conf".into());
        assert_eq!("/etc/resolv.conf".parse(), Ok(file));
        assert_eq!("./r.conf".parse(), Ok(To::File("./r.conf".into())));
    }

    #[test]
    fn what_is_no_upstream_is_told_apart() {
        let error = |word: &str| word.parse::<To>().unwrap_err();
        for word in [
            "https://dns.google",
            "quic://1.1.1.1",
            "grpc://1.1.1.1",
            "ftp://x",
        ] {
            assert!(matches!(error(word), TargetError::Scheme { .. }), "{word}");
        }
        for word in ["dns.google", "dns.google:53", "tls://dns.google"] {
            assert!(matches!(error(word), TargetError::HostName(_)), "{word}");
        }
        for word in ["8.8.8", "8.8.8.8.8", "1.2.3.4/24x", "::g", "[::1", "a b"] {
            let told = error_or_file(word);
            assert!(told, "{word}");
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
        match word.parse::<To>() {
            Err(TargetError::Nothing(_)) => true,
            Ok(To::File(_)) => word.contains('/'),
            _ => false,
        }
    }
}
