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
    /// Sub-queries exceeded their depth limit.
    TooDeep,
    /// Synthesized from the question by a plugin.
    Synthesized,
    /// An internal error.
    Internal,
}

impl Why {
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
