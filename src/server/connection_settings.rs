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
    /// Whose PROXY headers are used; without it they are not looked for.
    pub(super) proxy: Option<Arc<ProxyPolicy>>,
    /// The listener's own limit (`max_connections`).
    pub(super) own_limit: Option<ConnectionLimit>,
    /// Permits for queries that are read and answered at once, if each has a QUIC stream (`worker_pool_size`).
    pub(super) workers: Arc<Semaphore>,
}

/// CoreDNS's default in its code; its documentation says 512.
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

    /// These settings in the place of others. Limits that stay the same keep counting the connections and
    /// queries that exist.
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
