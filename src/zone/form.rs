//! The forms of names: what [`super::name`] makes of one.

use ipnet::IpNet;

/// The forms that a name in a zone of the cluster can have. Labels are in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form<'q> {
    /// The zone itself.
    Apex,
    /// A name that only others stand below: `svc`, `pod`, `dns`.
    Empty,
    /// `dns-version`
    Version,
    /// `ns.dns`, which the SOA record names.
    NameServer,
    /// `NS.svc`
    Namespace(&'q str),
    /// `NS.pod`
    PodNamespace(&'q str),
    /// `IP.NS.pod`
    Pod {
        /// The namespace.
        namespace: &'q str,
        /// An address, its dots or colons written as dashes.
        label: &'q str,
    },
    /// `SVC.NS.svc` and what may stand below it.
    Service {
        /// The namespace.
        namespace: &'q str,
        /// The Service.
        service: &'q str,
        /// What of it.
        part: Part<'q>,
    },
    /// The same in a multicluster zone.
    Import {
        /// The namespace.
        namespace: &'q str,
        /// The ServiceImport.
        import: &'q str,
        /// What of it; where that is [`Part::Endpoint`], it is a cluster's name.
        part: Part<'q>,
    },
    /// A reverse name: of one address, or of all addresses that begin alike.
    Address(IpNet),
    /// No form.
    Unknown,
}

/// What of a Service is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'q> {
    /// All of it: `SVC.NS.svc`.
    Whole,
    /// One endpoint: `EP.SVC.NS.svc`.
    Endpoint(&'q str),
    /// One port: `_PORT._PROTO.SVC.NS.svc`.
    Port(PortName<'q>),
    /// One endpoint of one cluster: `EP.CLUSTER.SVC.NS.svc`, of a ServiceImport alone.
    Member {
        /// The cluster.
        cluster: &'q str,
        /// The endpoint.
        endpoint: &'q str,
    },
    /// `pin._zone.SVC.NS.svc` or `prefer._zone.SVC.NS.svc`, which only others stand below.
    Zonal,
    /// The endpoints of one topology zone: `TZ.pin._zone.SVC.NS.svc`.
    Near {
        /// The topology zone.
        zone: TopologyZone<'q>,
        /// Whether those elsewhere will do where there are none: `prefer` for `pin`.
        elsewhere: bool,
    },
}

/// The label left of a Service that names of topology zones stand below.
pub const ZONAL: &[u8] = b"_zone";
/// Left of it: the endpoints of one topology zone and no others.
pub const PIN: &str = "pin";
/// Left of it: those of one topology zone, or all where it has none.
pub const PREFER: &str = "prefer";

/// The name of a topology zone: labels in lower case, each with its length before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopologyZone<'q>(&'q [u8]);

impl<'q> TopologyZone<'q> {
    /// Of these labels.
    pub fn new(labels: &'q [u8]) -> Self {
        Self(labels)
    }

    /// Its labels with dots between them.
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

    /// Whether this is it, dots between labels.
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

/// A port by name and protocol. The labels' underscores may be missing: the names were once
/// published without, and are still used so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortName<'q> {
    /// The port's name, without underscore.
    pub port: &'q str,
    /// The protocol, without underscore.
    pub protocol: &'q str,
}

/// The label less one leading underscore.
pub fn bare(label: &str) -> &str {
    label.strip_prefix('_').unwrap_or(label)
}
