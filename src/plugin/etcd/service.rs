//! The value of a key, and the keys of a name.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer};

use super::{client::KeyValue, unreadable::explain};
use crate::wire::{Name, NameRef};

/// The default priority.
const PRIORITY: i64 = 10;
/// The default TTL in seconds.
const TTL: u32 = 300;

/// A value in the format of SkyDNS.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Hash)]
#[serde(default)]
pub(super) struct SkyDnsService {
    #[serde(deserialize_with = "absent_if_null")]
    pub(super) host: String,
    #[serde(deserialize_with = "absent_if_null")]
    pub(super) port: i64,
    #[serde(deserialize_with = "absent_if_null")]
    pub(super) priority: i64,
    #[serde(deserialize_with = "absent_if_null")]
    pub(super) weight: i64,
    #[serde(deserialize_with = "absent_if_null")]
    pub(super) text: String,
    /// Whether it is a mail server too.
    #[serde(deserialize_with = "absent_if_null")]
    pub(super) mail: bool,
    #[serde(deserialize_with = "absent_if_null")]
    pub(super) ttl: u32,
    /// Number of labels to strip from the name that is made from the key.
    #[serde(deserialize_with = "absent_if_null")]
    pub(super) targetstrip: usize,
    /// Only services of one group are answered together.
    #[serde(deserialize_with = "absent_if_null")]
    pub(super) group: String,
    /// Its key.
    #[serde(skip)]
    pub(super) key: String,
}

/// The field, or its default where it is `null`, as in Go.
fn absent_if_null<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    field: D,
) -> Result<T, D::Error> {
    Option::deserialize(field).map(Option::unwrap_or_default)
}

/// The kind of a service's host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServiceHost {
    /// An address.
    Address(IpAddr),
    /// A name.
    Name,
    /// No host, only a text.
    Text,
}

/// The bounds of the TTL of leased keys, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leases {
    pub(super) least: u32,
    pub(super) most: u32,
}

impl Leases {
    /// The TTL in seconds: the service's own, or the rest of its key's lease if that is less.
    pub(super) fn ttl(self, own: u32, left: Option<i64>) -> u32 {
        // If the bounds contradict each other, the upper one applies.
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

impl SkyDnsService {
    /// Decodes the value of a key.
    pub(super) fn read(pair: &KeyValue) -> Result<Self, String> {
        let key = String::from_utf8_lossy(&pair.key).into_owned();
        let mut service: Self = serde_json::from_slice(&pair.value)
            .map_err(|error| format!("{key}: {}", explain(&error)))?;
        if service.priority == 0 {
            service.priority = PRIORITY;
        }
        service.key = key;
        Ok(service)
    }

    pub(super) fn host(&self) -> ServiceHost {
        match self.host.parse::<IpAddr>() {
            Ok(address) => ServiceHost::Address(address.to_canonical()),
            Err(_) if self.text.is_empty() => ServiceHost::Name,
            Err(_) => ServiceHost::Text,
        }
    }

    /// The host as the target of SRV, MX and NS records; if it is an address, the name of its key.
    pub(super) fn target(&self, path: &str) -> Option<Name> {
        let name = match self.host() {
            ServiceHost::Address(_) => name_of(&self.key, path)?,
            ServiceHost::Name | ServiceHost::Text => Name::parse(&self.host).ok()?,
        };
        let mut stripped = name.as_ref();
        for _ in 0..self.targetstrip {
            match stripped.parent() {
                Some(parent) if !parent.is_root() => stripped = parent,
                // More labels than the name has: nothing is stripped.
                _ => return Some(name),
            }
        }
        Some(stripped.to_name())
    }
}

/// The services of one group, if those with the shortest keys agree on a group; otherwise all.
pub(super) fn grouped(services: Vec<SkyDnsService>) -> Vec<SkyDnsService> {
    let depth = |service: &SkyDnsService| service.key.matches('/').count();
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
    let disagrees = |service: &SkyDnsService| {
        !service.group.is_empty() && depth(service) == shortest && service.group != group
    };
    if group.is_empty() || services.iter().any(disagrees) {
        return services;
    }
    let mut services = services;
    services.retain(|service| service.group.is_empty() || service.group == group);
    services
}

/// The parts of a name's key, the name's last label first. `None` if a label cannot be a part.
pub(super) fn parts(name: NameRef<'_>) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    for label in name.labels() {
        let text = std::str::from_utf8(label).ok()?.to_ascii_lowercase();
        // Would yield the key of another name.
        if text.contains('/') || text.contains('.') {
            return None;
        }
        parts.push(text);
    }
    parts.reverse();
    Some(parts)
}

/// Whether a part of a key matches any label.
pub(super) fn is_wild(part: &str) -> bool {
    part == "*" || part == "any"
}

/// The name of a key.
fn name_of(key: &str, path: &str) -> Option<Name> {
    let below = key.strip_prefix(path)?;
    let mut labels: Vec<_> = below.split('/').filter(|part| !part.is_empty()).collect();
    labels.reverse();
    Name::parse(&labels.join(".")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(key: &str, value: &str) -> SkyDnsService {
        let pair = KeyValue {
            key: key.into(),
            value: value.into(),
            lease: 0,
        };
        SkyDnsService::read(&pair).unwrap()
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
            let keys = grouped(list.collect()).into_iter().map(|one| one.key);
            keys.collect::<Vec<_>>().join(" ")
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
        for (own, left, wanted) in [
            (0, None, 300),
            (60, None, 60),
            (60, Some(45), 45),
            (60, Some(5), 30),
            (20, Some(45), 20),
            (0, Some(1_000_000), 3600),
            (0, Some(-1), 300),
        ] {
            assert_eq!(leases.ttl(own, left), wanted, "{own} {left:?}");
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
