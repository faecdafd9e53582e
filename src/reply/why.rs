//! Why a reply is what it is.

/// The reason for a reply, as a value: logs, metrics and explanations all read this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Why {
    /// Nobody has said anything yet.
    #[default]
    Unanswered,
    /// A record of the cluster.
    ClusterRecord,
    /// The name is the cluster's, without a record of this type.
    ClusterNoData,
    /// The name lies in the cluster's zone, outside of any form that a name there can have.
    NoSuchForm,
    /// The namespace does not exist, or is hidden by the configuration.
    NoSuchNamespace,
    /// The namespace has no such Service.
    NoSuchService,
    /// The Service exists and is headless, and no endpoint of it is ready.
    NoReadyEndpoint,
    /// The Service has endpoints, none of this name.
    NoSuchEndpoint,
    /// The Service has an endpoint of this name, which is not ready.
    EndpointNotReady,
    /// The Service has no ready endpoint, and the configuration hides such.
    EmptyService,
    /// The Service has no address outside of the cluster.
    NotExternal,
    /// The Service has ports, none of this name and protocol.
    NoSuchPort,
    /// No pod has this address, or pods are not served.
    NoSuchPod,
    /// No Service or endpoint has this address.
    NoSuchAddress,
    /// The cluster's objects have not been read yet.
    NotSynced,
    /// A record of a hosts table.
    HostsRecord,
    /// The hosts table knows the name, without a record of this type.
    HostsNoData,
    /// The hosts table does not know the name, and nobody else may be asked.
    NoSuchHost,
    /// A record of a zone that is served from a file or from another server's copy.
    ZoneRecord,
    /// The zone knows the name, without a record of this type.
    ZoneNoData,
    /// The zone has no such name.
    NoSuchName,
    /// The name lies in a part of the zone that other servers have.
    Delegated,
    /// The zone is ours to serve, and has not been read yet.
    NotLoaded,
    /// The zone's own servers have been silent for longer than a copy may be served.
    Expired,
    /// An upstream's word.
    Upstream,
    /// An upstream's word, remembered.
    Cached,
    /// An upstream's word, remembered past its time because the upstream does not answer.
    Stale,
    /// No upstream answered in time.
    UpstreamTimeout,
    /// No upstream could be reached.
    UpstreamUnreachable,
    /// An upstream's reply made no sense.
    UpstreamMalformed,
    /// An upstream could not prove who it is, or spoke no TLS.
    UpstreamTls,
    /// Every upstream is known to be down, and the configuration says not to try them.
    UpstreamsDown,
    /// Every upstream leads back to this server.
    UpstreamLoop,
    /// Too many questions are under way at once.
    Overload,
    /// No upstream could be asked because this machine lacks something: descriptors, memory, a route.
    LocalFailure,
    /// The answer did not come within the time that the configuration gives it.
    TooLate,
    /// No server block is for this name.
    NoZone,
    /// The block's plugins all passed the question on.
    NobodyAnswered,
    /// The message was no query that can be read.
    Malformed,
    /// The class, opcode or EDNS version is not served.
    NotServed,
    /// Refused by rule.
    Policy,
    /// Sub-queries went too deep.
    TooDeep,
    /// A plugin made the answer up from the question.
    Synthesized,
    /// Something here broke.
    Internal,
}

impl Why {
    /// Whether the reply is an upstream's fresh word, or its silence: what a cache may remember.
    /// All else is made here, from data that change under a cache's hands, and is made again.
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
