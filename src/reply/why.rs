//! Reasons for a response.

/// The reason for a response, for logs, metrics and diagnostics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Why {
    /// Not answered yet.
    #[default]
    Unanswered,
    /// A record of the cluster.
    ClusterRecord,
    /// The name exists in the cluster, without records of this type.
    ClusterNoData,
    /// The name is in the cluster's zone and matches no form of the DNS specification for
    /// Kubernetes.
    NoSuchForm,
    /// The namespace does not exist or is not served.
    NoSuchNamespace,
    /// The Service does not exist in its namespace.
    NoSuchService,
    /// The headless Service has no ready endpoint.
    NoReadyEndpoint,
    /// The Service has no endpoint of this name.
    NoSuchEndpoint,
    /// The endpoint is not ready.
    EndpointNotReady,
    /// The Service has no ready endpoint, and the configuration ignores such Services.
    EmptyService,
    /// The Service has no external address.
    NotExternal,
    /// The Service has no port of this name and protocol.
    NoSuchPort,
    /// No pod has this address, or pod records are disabled.
    NoSuchPod,
    /// No Service or endpoint has this address.
    NoSuchAddress,
    /// The initial cluster state is incomplete.
    NotSynced,
    /// A record of a hosts table.
    HostsRecord,
    /// The name is in the hosts table, without records of this type.
    HostsNoData,
    /// The name is not in the hosts table, without fallthrough.
    NoSuchHost,
    /// A record of an authoritative zone, from a file or a transfer.
    ZoneRecord,
    /// The name exists in the zone, without records of this type.
    ZoneNoData,
    /// The name does not exist in the zone.
    NoSuchName,
    /// The name is below a delegation.
    Delegated,
    /// The zone has not been loaded.
    NotLoaded,
    /// The zone's copy has expired without contact to its primaries.
    Expired,
    /// A response of an upstream.
    Upstream,
    /// A cached response of an upstream.
    Cached,
    /// An expired cached response, served because the upstream does not answer.
    Stale,
    /// No upstream answered in time.
    UpstreamTimeout,
    /// No upstream was reachable.
    UpstreamUnreachable,
    /// An upstream's response was malformed.
    UpstreamMalformed,
    /// TLS to an upstream failed.
    UpstreamTls,
    /// Every upstream is marked down, and the configuration forbids trying them.
    UpstreamsDown,
    /// Every upstream leads back to this server.
    UpstreamLoop,
    /// Too many queries are in flight.
    Overload,
    /// A local failure prevented the exchange: no descriptors, no memory, no route.
    LocalFailure,
    /// The configured time limit was exceeded.
    TooLate,
    /// No server block matches the name.
    NoZone,
    /// No plugin of the block answered.
    NoPluginAnswered,
    /// The query was malformed.
    Malformed,
    /// The class, opcode or EDNS version is not supported.
    NotServed,
    /// Refused by a rule.
    Policy,
    /// A zone transfer that is not allowed to this client, or over UDP.
    TransferRefused,
    /// Sub-queries exceeded their depth limit.
    TooDeep,
    /// ExternalName Services form a loop, or a chain that is too long.
    EndlessAlias,
    /// Synthesized from the question by a plugin.
    Synthesized,
    /// An internal error.
    Internal,
}

impl Why {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 46] = [
        Self::Unanswered,
        Self::ClusterRecord,
        Self::ClusterNoData,
        Self::NoSuchForm,
        Self::NoSuchNamespace,
        Self::NoSuchService,
        Self::NoReadyEndpoint,
        Self::NoSuchEndpoint,
        Self::EndpointNotReady,
        Self::EmptyService,
        Self::NotExternal,
        Self::NoSuchPort,
        Self::NoSuchPod,
        Self::NoSuchAddress,
        Self::NotSynced,
        Self::HostsRecord,
        Self::HostsNoData,
        Self::NoSuchHost,
        Self::ZoneRecord,
        Self::ZoneNoData,
        Self::NoSuchName,
        Self::Delegated,
        Self::NotLoaded,
        Self::Expired,
        Self::Upstream,
        Self::Cached,
        Self::Stale,
        Self::UpstreamTimeout,
        Self::UpstreamUnreachable,
        Self::UpstreamMalformed,
        Self::UpstreamTls,
        Self::UpstreamsDown,
        Self::UpstreamLoop,
        Self::Overload,
        Self::LocalFailure,
        Self::TooLate,
        Self::NoZone,
        Self::NoPluginAnswered,
        Self::Malformed,
        Self::NotServed,
        Self::Policy,
        Self::TransferRefused,
        Self::TooDeep,
        Self::EndlessAlias,
        Self::Synthesized,
        Self::Internal,
    ];

    /// The name in metrics and programs' output.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The INFO-CODE of an extended DNS error (RFC 8914 section 4, and the registry that it establishes). 0
    /// is "Other Error": the registry has no code for a name that does not exist.
    pub fn info_code(self) -> u16 {
        self.row().1
    }

    /// A text without particulars.
    pub fn text(self) -> &'static str {
        self.row().2
    }

    /// Whether no upstream could be made to answer.
    pub fn is_upstream_failure(self) -> bool {
        self.is_upstreams() && self != Self::Upstream
    }

    fn row(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::Unanswered => ("unanswered", 0, "not answered"),
            Self::ClusterRecord => ("cluster-record", 0, "a record of the cluster"),
            Self::ClusterNoData => (
                "cluster-no-data",
                0,
                "the name exists, without records of this type",
            ),
            Self::NoSuchForm => ("no-such-form", 0, "no name of the cluster has this form"),
            Self::NoSuchNamespace => ("no-such-namespace", 0, "no such namespace"),
            Self::NoSuchService => ("no-such-service", 0, "no such Service"),
            Self::NoReadyEndpoint => ("no-ready-endpoint", 0, "no endpoint is ready"),
            Self::NoSuchEndpoint => ("no-such-endpoint", 0, "no such endpoint"),
            Self::EndpointNotReady => ("endpoint-not-ready", 0, "the endpoint is not ready"),
            Self::EmptyService => ("empty-service", 0, "the Service has no ready endpoint"),
            Self::NotExternal => ("not-external", 0, "the Service has no external address"),
            Self::NoSuchPort => ("no-such-port", 0, "no such port and protocol"),
            Self::NoSuchPod => (
                "no-such-pod",
                0,
                "no such pod, or names of pods are disabled",
            ),
            Self::NoSuchAddress => (
                "no-such-address",
                0,
                "no Service or endpoint has this address",
            ),
            Self::NotSynced => (
                "not-synced",
                14,
                "objects of the cluster are not listed yet",
            ),
            Self::HostsRecord => ("hosts-record", 0, "a record of a hosts table"),
            Self::HostsNoData => (
                "hosts-no-data",
                0,
                "the hosts table has the name without addresses of this family",
            ),
            Self::NoSuchHost => ("no-such-host", 0, "the name is not in the hosts table"),
            Self::ZoneRecord => ("zone-record", 0, "a record of a zone"),
            Self::ZoneNoData => (
                "zone-no-data",
                0,
                "the name exists in the zone, without records of this type",
            ),
            Self::NoSuchName => (
                "no-such-name",
                0,
                "the name does not exist in the zone served here",
            ),
            Self::Delegated => ("delegated", 0, "the name is below a delegation"),
            Self::NotLoaded => ("not-loaded", 14, "the zone is not loaded"),
            Self::Expired => (
                "expired",
                24,
                "the copy of the zone has expired: its primaries do not answer",
            ),
            Self::Upstream => ("upstream", 0, "answer of an upstream server"),
            Self::Cached => ("cached", 0, "cached answer of an upstream server"),
            Self::Stale => (
                "stale",
                3,
                "stale answer: the upstream servers do not answer",
            ),
            Self::UpstreamTimeout => (
                "upstream-timeout",
                22,
                "no upstream server answered in time",
            ),
            Self::UpstreamUnreachable => (
                "upstream-unreachable",
                23,
                "no upstream server could be reached",
            ),
            Self::UpstreamMalformed => (
                "upstream-malformed",
                23,
                "the upstream server's answer was malformed",
            ),
            Self::UpstreamTls => ("upstream-tls", 23, "TLS to the upstream server failed"),
            Self::UpstreamsDown => ("upstreams-down", 22, "all upstream servers are marked down"),
            Self::UpstreamLoop => (
                "upstream-loop",
                23,
                "the upstream servers lead back to this server",
            ),
            Self::Overload => ("overload", 0, "the server is overloaded"),
            Self::LocalFailure => ("local-failure", 23, "this server could not send the query"),
            Self::TooLate => ("too-late", 22, "not answered within the configured time"),
            Self::NoZone => ("no-zone", 20, "no server block serves this name"),
            Self::NoPluginAnswered => (
                "no-plugin-answered",
                0,
                "no plugin of the server block answers this name",
            ),
            Self::Malformed => ("malformed", 0, "the query is malformed"),
            Self::NotServed => (
                "not-served",
                21,
                "class, opcode or EDNS version not supported",
            ),
            Self::Policy => ("policy", 18, "refused by a rule"),
            Self::TransferRefused => (
                "transfer-refused",
                18,
                "zone transfers need TCP, and the client in the option `to` of the plugin transfer",
            ),
            Self::TooDeep => ("too-deep", 0, "the chain of aliases is too long, or a loop"),
            Self::EndlessAlias => (
                "endless-alias",
                0,
                "ExternalName Services form a loop, or a chain that is too long",
            ),
            Self::Synthesized => ("synthesized", 29, "synthesized from the question"),
            Self::Internal => ("internal", 0, "internal error, see the log"),
        }
    }

    /// Whether the reply is a fresh upstream response or an upstream failure, which may be cached.
    /// Other replies are generated from local data, which can change at any time.
    pub fn is_upstreams(self) -> bool {
        matches!(
            self,
            Self::Upstream
                | Self::UpstreamTimeout
                | Self::UpstreamUnreachable
                | Self::UpstreamMalformed
                | Self::UpstreamTls
                | Self::UpstreamsDown
                | Self::UpstreamLoop
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_reasons_have_a_number_and_a_name_of_their_own() {
        let mut names = std::collections::HashSet::new();
        for (number, why) in Why::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, number);
            let name = why.name();
            assert!(names.insert(name), "{name}");
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
            );
            assert!(why.text().len() <= super::super::ReasonText::MAX);
        }
    }
}
