//! The control API of a serving process: what it serves, why it answers as it does, and its queries as they
//! come. The subcommands `records`, `top`, `tail`, `explain` and `doctor` use it over a Unix socket, a browser
//! over TCP where the page is on.
//!
//! ```text
//! socket   the Unix socket: name, permitted users, search for it
//! serve    HTTP connections
//! api      the routes and their parameters
//! respond  errors and JSON
//! status   version, state of the cluster, rates
//! records  the records of all zones
//! tail     queries, one by one
//! top      the most frequent names, clients and mistakes
//! page     the page
//! client   requests to a running server
//! ```
//!
//! It changes nothing, but for the request of a process that takes over to drain, which only the socket has. A
//! request costs the queries of clients nothing but the observation that it asks for.

mod api;
pub mod client;
mod page;
mod records;
mod respond;
mod serve;
pub mod socket;
mod status;
mod tail;
mod top;

use std::{io, net::SocketAddr, sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use tokio::{net::TcpListener, sync::Notify, task::AbortHandle};

use self::{socket::Address, status::RateCounters};
use crate::{
    explain::Target, pipeline::Pipeline, plugin::transfer::Transferable, query_feed::QueryFeed,
    zone::ClusterView,
};

/// What `tail`, `top` and `records` hold: some 0.5 MiB each, two at a time. Not a bound: an operator may open more.
pub const VIEW_BYTES: usize = 1 << 20;

/// How a process offers its control API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlSettings {
    /// The Unix socket; none without one.
    pub socket: Option<Address>,
    /// Addresses of the page.
    pub page: Vec<SocketAddr>,
    /// Whether to go on without the page if an address is taken.
    pub page_is_optional: bool,
}

/// Why the control API cannot be offered.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages describe them
pub enum ControlError {
    #[error("cannot listen at the control socket {address}")]
    Socket {
        address: Address,
        #[source]
        source: io::Error,
    },
    #[error("cannot listen at {address} for the page")]
    Page {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

/// What is served at present.
#[derive(Default)]
struct Serving {
    configuration: u64,
    /// Label of the listener, and zone.
    zones: Vec<(String, String)>,
    target: Target,
    transferable: Vec<Arc<dyn Transferable>>,
    clusters: Vec<Arc<ClusterView>>,
}

/// The control API.
pub struct Control {
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
}

/// What the routes use.
struct Shared {
    started: Instant,
    feed: Arc<QueryFeed>,
    serving: ArcSwap<Serving>,
    rates: RateCounters,
    /// Another process has taken over.
    taken_over: Notify,
}

impl Control {
    /// An API without listeners.
    pub fn new(feed: Arc<QueryFeed>) -> Self {
        let shared = Shared {
            started: Instant::now(),
            rates: RateCounters::new(Arc::clone(&feed)),
            feed,
            serving: ArcSwap::default(),
            taken_over: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
            tasks: Vec::new(),
        }
    }

    /// Listens. Only a listener that was asked for by its address can fail: the default socket must not
    /// prevent a start.
    ///
    /// # Errors
    /// A listener cannot be bound.
    pub async fn listen(&mut self, settings: &ControlSettings) -> Result<(), ControlError> {
        for &address in &settings.page {
            let listener = match TcpListener::bind(address).await {
                Ok(listener) => listener,
                Err(source) if settings.page_is_optional => {
                    let why = crate::error_text::io(&source);
                    tracing::warn!("no page at http://{address}/: {why}");
                    continue;
                }
                Err(source) => return Err(ControlError::Page { address, source }),
            };
            let router = page::with_page(api::routes(&self.shared));
            let task = tokio::spawn(serve::tcp(listener, router));
            self.tasks.push(task.abort_handle());
        }
        let Some(address) = &settings.socket else {
            return Ok(());
        };
        match socket::bind(address) {
            Ok(listener) => {
                let task = tokio::spawn(serve::unix(listener, api::socket_routes(&self.shared)));
                self.tasks.push(task.abort_handle());
            }
            Err(source) if *address == Address::Automatic => {
                let why = crate::error_text::io(&source);
                tracing::warn!("no control socket, so no 'lodestone tail' and the like: {why}");
            }
            Err(source) => {
                let address = address.clone();
                return Err(ControlError::Socket { address, source });
            }
        }
        Ok(())
    }

    /// Completes when another process has asked this one to drain.
    pub async fn taken_over(&self) {
        self.shared.taken_over.notified().await;
    }

    /// Sets what is served.
    pub fn publish(&self, pipeline: &Pipeline, target: Target) {
        let zones = pipeline.listeners.iter().flat_map(|listener| {
            let zones = listener.routes.iter().map(|route| &route.block.zone_label);
            zones.map(|zone| (listener.label.to_string(), zone.to_string()))
        });
        self.shared.serving.store(Arc::new(Serving {
            configuration: pipeline.hash,
            zones: zones.collect(),
            target,
            transferable: pipeline.zones.clone(),
            clusters: pipeline.clusters.clone(),
        }));
    }
}

/// The hash of a Corefile as it is shown: the 48 bits that `lodestone_config_hash` has too.
pub fn configuration(hash: u64) -> String {
    format!("{:012x}", hash >> 16)
}

impl Drop for Control {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
