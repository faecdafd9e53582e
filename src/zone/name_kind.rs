//! The kinds of names, as parsed by [`super::name`].

use ipnet::IpNet;

/// The kind of a name in a cluster zone. Labels are in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind<'q> {
    /// The apex.
    Apex,
    /// An empty non-terminal: `svc`, `pod`, `dns`.
    Empty,
    /// `dns-version`
    Version,
    /// `ns.dns`, the primary name server in the SOA record.
    NameServer,
    /// `NS.svc`
    Namespace(&'q str),
    /// `NS.pod`
    PodNamespace(&'q str),
    /// `IP.NS.pod`
    Pod {
        /// The namespace.
        namespace: &'q str,
        /// An address in dashed form.
        label: &'q str,
    },
    /// `SVC.NS.svc` and names below it.
    Service {
        /// The namespace.
        namespace: &'q str,
        /// The Service.
        service: &'q str,
        /// The part of the Service.
        scope: NameScope<'q>,
    },
    /// `SVC.NS.svc` and names below it in a multicluster zone.
    ServiceImport {
        /// The namespace.
        namespace: &'q str,
        /// The ServiceImport.
        import: &'q str,
        /// The part of the ServiceImport; the label of [`NameScope::Endpoint`] is a cluster's name.
        scope: NameScope<'q>,
    },
    /// A reverse name: of an address, or of a block of addresses.
    Address(IpNet),
    /// `NAME.why`: its TXT record says why `NAME` has the answer that it has.
    Explained,
    /// No valid name of a cluster zone.
    Unknown,
}

/// The part of a Service that a name refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameScope<'q> {
    /// The whole Service: `SVC.NS.svc`.
    All,
    /// One endpoint: `EP.SVC.NS.svc`.
    Endpoint(&'q str),
    /// One port: `_PORT._PROTO.SVC.NS.svc`.
    Port(PortName<'q>),
    /// One endpoint of one cluster: `EP.CLUSTER.SVC.NS.svc`, only of a ServiceImport.
    ClusterEndpoint {
        /// The cluster.
        cluster: &'q str,
        /// The endpoint.
        endpoint: &'q str,
    },
    /// An empty non-terminal: `pin._zone.SVC.NS.svc` or `prefer._zone.SVC.NS.svc`.
    ZonalParent,
    /// The endpoints of one topology zone: `TZ.pin._zone.SVC.NS.svc`.
    Zonal {
        /// The topology zone.
        zone: TopologyZone<'q>,
        /// Whether all endpoints are used if the zone has none: `prefer` instead of `pin`.
        fallback: bool,
    },
}

/// The label below a Service under which names of topology zones exist.
pub const ZONAL: &[u8] = b"_zone";
/// Below [`ZONAL`]: only the endpoints of one topology zone.
pub const PIN: &str = "pin";
/// Below [`ZONAL`]: the endpoints of one topology zone, or all if it has none.
pub const PREFER: &str = "prefer";

/// The name of a topology zone: lower-case labels in wire form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopologyZone<'q>(&'q [u8]);

impl<'q> TopologyZone<'q> {
    /// From labels in wire form.
    pub fn new(labels: &'q [u8]) -> Self {
        Self(labels)
    }

    /// The labels separated by dots.
    pub fn text(self) -> String {
        let mut text = String::new();
        let mut labels = self.0;
        while let Some((&length, rest)) = labels.split_first() {
            let Some((label, rest)) = rest.split_at_checked(length.into()) else {
                break;
            };
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(&String::from_utf8_lossy(label));
            labels = rest;
        }
        text
    }

    /// Whether it equals `zone`, labels separated by dots.
    pub fn is(self, zone: &str) -> bool {
        let mut labels = self.0;
        for part in zone.split('.') {
            let Some((&length, rest)) = labels.split_first() else {
                return false;
            };
            let Some((label, rest)) = rest.split_at_checked(length.into()) else {
                return false;
            };
            if !label.eq_ignore_ascii_case(part.as_bytes()) {
                return false;
            }
            labels = rest;
        }
        labels.is_empty()
    }
}

/// A port by name and protocol. The underscores are optional: names were once published without
/// them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortName<'q> {
    /// The port's name, without underscore.
    pub port: &'q str,
    /// The protocol, without underscore.
    pub protocol: &'q str,
}

/// The label without one leading underscore.
pub fn bare(label: &str) -> &str {
    label.strip_prefix('_').unwrap_or(label)
}
