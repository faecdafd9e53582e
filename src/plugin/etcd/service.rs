//! What is kept under one key, and where the keys of a name are.

use std::net::IpAddr;

use serde::Deserialize;

use super::client::KeyValue;
use crate::wire::{Name, NameRef};

/// Of several hosts, one without a priority.
const PRIORITY: i64 = 10;
/// Seconds that an answer may be kept where nobody says.
const TTL: u32 = 300;

/// A value, as SkyDNS made it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Hash)]
#[serde(default)]
pub(super) struct Service {
    pub(super) host: String,
    pub(super) port: i64,
    pub(super) priority: i64,
    pub(super) weight: i64,
    pub(super) text: String,
    /// It is a mail server as well.
    pub(super) mail: bool,
    pub(super) ttl: u32,
    /// Labels to be left out of a name that is made of the key.
    pub(super) targetstrip: usize,
    /// Only those of one group are told together.
    pub(super) group: String,
    /// Where it is kept.
    #[serde(skip)]
    pub(super) key: String,
}

/// What a service's host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// An address.
    Address(IpAddr),
    /// A name.
    Name,
    /// Nothing but a text.
    Text,
}

/// Between what seconds leases are told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leases {
    pub(super) least: u32,
    pub(super) most: u32,
}

impl Leases {
    /// Seconds that an answer may be kept: the service's own, or what is left of its key's lease
    /// if that is less.
    pub(super) fn ttl(self, own: u32, left: Option<i64>) -> u32 {
        // Where the bounds contradict each other, the upper one holds.
        let bounded = |left: i64| {
            let left = u32::try_from(left).unwrap_or(u32::MAX);
            left.max(self.least).min(self.most.max(1))
        };
        match (own, left.filter(|left| *left > 0).map(bounded)) {
            (0, None) => TTL,
            (0, Some(left)) => left,
            (own, None) => own,
            (own, Some(left)) => own.min(left),
        }
    }
}

impl Service {
    /// Reads what a key holds; the key is kept.
    pub(super) fn read(kept: &KeyValue) -> Result<Self, String> {
        let key = String::from_utf8_lossy(&kept.key).into_owned();
        let mut service: Self =
            serde_json::from_slice(&kept.value).map_err(|error| format!("{key}: {error}"))?;
        if service.priority == 0 {
            service.priority = PRIORITY;
        }
        service.key = key;
        Ok(service)
    }

    pub(super) fn host(&self) -> Host {
        match self.host.parse::<IpAddr>() {
            Ok(address) => Host::Address(address.to_canonical()),
            Err(_) if self.text.is_empty() => Host::Name,
            Err(_) => Host::Text,
        }
    }

    /// The host as a name that SRV, MX and NS lead to; where it is an address, the name that its
    /// key stands for.
    pub(super) fn target(&self, path: &str) -> Option<Name> {
        let name = match self.host() {
            Host::Address(_) => name_of(&self.key, path)?,
            Host::Name | Host::Text => Name::parse(&self.host).ok()?,
        };
        let mut stripped = name.as_ref();
        for _ in 0..self.targetstrip {
            match stripped.parent() {
                Some(parent) if !parent.is_root() => stripped = parent,
                // More than there are: none.
                _ => return Some(name),
            }
        }
        Some(stripped.to_name())
    }
}

/// Those of one group, where the ones with the shortest keys agree on a group.
pub(super) fn grouped(services: Vec<Service>) -> Vec<Service> {
    let depth = |service: &Service| service.key.matches('/').count();
    let Some(first) = services.first() else {
        return services;
    };
    let (mut group, mut shortest) = (first.group.clone(), depth(first));
    for service in &services {
        if depth(service) < shortest {
            if service.group.is_empty() {
                break;
            }
            shortest = depth(service);
            group.clone_from(&service.group);
        }
    }
    let disagrees = |service: &Service| {
        !service.group.is_empty() && depth(service) == shortest && service.group != group
    };
    if group.is_empty() || services.iter().any(disagrees) {
        return services;
    }
    let mut services = services;
    services.retain(|service| service.group.is_empty() || service.group == group);
    services
}

/// The parts of a name's key, the name's last label first; nothing where a label cannot be a part.
pub(super) fn parts(name: NameRef<'_>) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    for label in name.labels() {
        let text = std::str::from_utf8(label).ok()?.to_ascii_lowercase();
        // It would be another key.
        if text.contains('/') || text.contains('.') {
            return None;
        }
        parts.push(text);
    }
    parts.reverse();
    Some(parts)
}

/// Stands for any label.
pub(super) fn is_wild(part: &str) -> bool {
    part == "*" || part == "any"
}

/// The name that a key stands for.
fn name_of(key: &str, path: &str) -> Option<Name> {
    let below = key.strip_prefix(path)?;
    let mut labels: Vec<_> = below.split('/').filter(|part| !part.is_empty()).collect();
    labels.reverse();
    Name::parse(&labels.join(".")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(key: &str, value: &str) -> Service {
        let kept = KeyValue {
            key: key.into(),
            value: value.into(),
            lease: 0,
        };
        Service::read(&kept).unwrap()
    }

    fn target(key: &str, value: &str) -> String {
        service(key, value).target("/skydns").unwrap().to_string()
    }

    #[test]
    fn a_target_is_the_host_or_the_name_of_the_key() {
        let key = "/skydns/org/example/www/x1";
        assert_eq!(target(key, r#"{"host":"a.example"}"#), "a.example.");
        assert_eq!(
            target(key, r#"{"host":"192.0.2.1"}"#),
            "x1.www.example.org."
        );
        let strip = |count| format!(r#"{{"host":"::1","targetstrip":{count}}}"#);
        assert_eq!(target(key, &strip(1)), "www.example.org.");
        assert_eq!(target(key, &strip(9)), "x1.www.example.org.");
    }

    #[test]
    fn a_group_is_what_the_shortest_keys_agree_on() {
        let keys = |list: &[(&str, &str)]| {
            let list = list
                .iter()
                .map(|(key, group)| service(key, &format!(r#"{{"host":"a","group":"{group}"}}"#)));
            let kept = grouped(list.collect()).into_iter().map(|one| one.key);
            kept.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(keys(&[("/a/b", "g1"), ("/a/c", "g2")]), "/a/b /a/c");
        assert_eq!(keys(&[("/a/b", "g1"), ("/a/b/c", "g2")]), "/a/b");
        assert_eq!(keys(&[("/a/b", "g1"), ("/a/b/c", "")]), "/a/b /a/b/c");
        assert_eq!(keys(&[("/a/b/c", "g2"), ("/a/b", "g1")]), "/a/b");
        assert_eq!(keys(&[]), "");
    }

    #[test]
    fn the_shorter_of_ttl_and_lease_holds() {
        let leases = Leases {
            least: 30,
            most: 3600,
        };
        for (own, left, told) in [
            (0, None, 300),
            (60, None, 60),
            (60, Some(45), 45),
            (60, Some(5), 30),
            (20, Some(45), 20),
            (0, Some(1_000_000), 3600),
            (0, Some(-1), 300),
        ] {
            assert_eq!(leases.ttl(own, left), told, "{own} {left:?}");
        }
    }

    #[test]
    fn a_label_that_would_lead_elsewhere_is_no_part() {
        let parts = |name: &str| parts(Name::parse(name).unwrap().as_ref());
        assert_eq!(parts("WWW.example.org").unwrap(), ["org", "example", "www"]);
        assert_eq!(parts("a/b.example.org"), None);
        assert_eq!(parts("a\\.b.example.org"), None);
        assert_eq!(parts("\\255.example.org"), None);
    }
}
