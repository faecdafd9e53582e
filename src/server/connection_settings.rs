//! The settings of a listener's connections. A reload replaces them without a new socket, for connections
//! that are accepted from then on; connections that are open keep theirs.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{connection_limit::ConnectionLimit, limits::StreamSettings, proxy::ProxyPolicy};
use crate::tls::Identity;

/// Settings for the connections of one listener.
#[derive(Clone)]
pub(super) struct ConnectionSettings {
    pub(super) streams: StreamSettings,
    /// The certificate; without one there is no TLS.
    pub(super) tls: Option<Arc<Identity>>,
    /// The PROXY policy; `None` if headers are not parsed.
    pub(super) proxy: Option<Arc<ProxyPolicy>>,
    /// The listener's own limit (`max_connections`).
    pub(super) own_limit: Option<ConnectionLimit>,
    /// Permits for QUIC streams whose queries are read and answered concurrently (`worker_pool_size`).
    pub(super) workers: Arc<Semaphore>,
}

/// CoreDNS's default in its code; 512 in its documentation.
const WORKERS: usize = 1024;

impl ConnectionSettings {
    pub(super) fn new(
        streams: StreamSettings,
        tls: Option<Arc<Identity>>,
        proxy: Option<Arc<ProxyPolicy>>,
    ) -> Self {
        Self {
            streams,
            tls,
            proxy,
            own_limit: streams.connections.map(ConnectionLimit::new),
            workers: Arc::new(Semaphore::new(
                streams
                    .workers
                    .unwrap_or(WORKERS)
                    .min(Semaphore::MAX_PERMITS),
            )),
        }
    }

    /// These settings as a replacement of others. Unchanged limits keep counting the existing connections
    /// and queries.
    #[must_use]
    pub(super) fn succeeding(mut self, before: &Self) -> Self {
        if self.streams.connections == before.streams.connections {
            self.own_limit.clone_from(&before.own_limit);
        }
        if self.streams.workers == before.streams.workers {
            self.workers = Arc::clone(&before.workers);
        }
        self
    }
}
