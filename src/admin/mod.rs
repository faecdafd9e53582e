//! Health, readiness, metrics and profiles over HTTP, for kubelet, Prometheus and people.
//!
//! Listeners are known by the address as the Corefile has it and stay as they are across reloads.
//! A new configuration is prepared first, which binds what is new and can fail, and applied after,
//! which cannot: a page that liveness hangs on is never lost to a reload.

mod bind;
pub mod health;
pub mod profile;
pub mod ready;
mod serve;
mod tls;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
};

use arc_swap::ArcSwap;
use axum::{Router, http::StatusCode, http::header::CONTENT_TYPE, routing::get};
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::{net::TcpListener, sync::watch, task::AbortHandle};

pub use ready::Readiness;
pub use serve::Limits;

use self::serve::Face;
use crate::{
    corefile::Listen,
    metrics::{self, Metrics},
    server::connection_limit::ConnectionLimit,
};

/// What can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Page {
    /// `/health`: the process lives.
    Health,
    /// `/ready`: it can answer.
    Ready,
    /// `/metrics`, in Prometheus's text format.
    Metrics,
    /// `/debug/pprof/`: what the process costs.
    Profile,
}

impl Page {
    /// The Corefile's word for it.
    pub fn plugin(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Ready => "ready",
            Self::Metrics => "prometheus",
            Self::Profile => "pprof",
        }
    }
}

/// A page at an address. Several may have one address, and one may be asked for several times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where.
    pub listen: Listen,
    /// What.
    pub page: Page,
    /// A file that says how to serve it over TLS: its `tls_server_config`. All pages of an address agree.
    pub tls: Option<PathBuf>,
}

/// Why a configuration cannot be applied.
#[derive(Debug, thiserror::Error)]
#[error("plugin/{plugin}: cannot listen on {address}")]
pub struct BindError {
    /// The Corefile's word for what wants to listen.
    pub plugin: &'static str,
    /// The address as the Corefile has it.
    pub address: String,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

/// The listeners of the process.
pub struct Admin {
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    limits: Limits,
    listeners: Mutex<Listeners>,
}

/// By the address as the Corefile has it.
type Listeners = BTreeMap<String, Listener>;

/// What each address is to serve.
type Wanted = BTreeMap<String, Place>;

struct Place {
    listen: Listen,
    pages: BTreeSet<Page>,
    tls_file: Option<PathBuf>,
    tls: Option<Arc<ServerConfig>>,
}

struct Listener {
    addresses: Vec<SocketAddr>,
    face: Arc<ArcSwap<Face>>,
    check: Option<AbortHandle>,
    /// Dropped, it ends the tasks and, once they have answered, the connections.
    _stop: watch::Sender<()>,
}

/// A configuration that can be applied.
pub struct Prepared {
    wanted: Wanted,
    bound: BTreeMap<String, Vec<TcpListener>>,
}

/// Reads a file that says how to serve TLS, as a start would.
pub fn check_tls(file: &std::path::Path) -> Result<(), impl std::fmt::Display + use<>> {
    tls::load(file).map(drop)
}

impl Admin {
    /// No listeners yet.
    pub fn new(metrics: Arc<Metrics>, readiness: Arc<Readiness>, limits: Limits) -> Self {
        Self {
            metrics,
            readiness,
            limits,
            listeners: Mutex::default(),
        }
    }

    /// Binds what is new of `endpoints` and changes nothing else. What is new stands beside the
    /// listeners that go, at the same port too.
    pub async fn prepare(&self, endpoints: &[Endpoint]) -> Result<Prepared, BindError> {
        let mut wanted = gather(endpoints)?;
        for (address, place) in &mut wanted {
            if let Some(file) = &place.tls_file {
                let loaded = tls::load(file).map_err(|error| place.refuse(address, error.into()));
                place.tls = Some(loaded?);
            }
        }
        let (known, going) = self.known(&wanted);
        let mut bound = BTreeMap::new();
        for (address, place) in &wanted {
            if known.contains(address) {
                continue;
            }
            let sockets = bind::bind(&place.listen, &going).await;
            let sockets = sockets.map_err(|error| place.refuse(address, error))?;
            bound.insert(address.clone(), sockets);
        }
        Ok(Prepared { wanted, bound })
    }

    /// The addresses that are served, and the ports of those that will not be any more.
    fn known(&self, wanted: &Wanted) -> (BTreeSet<String>, BTreeSet<u16>) {
        let listeners = self.listeners.lock();
        let going = listeners
            .iter()
            .filter(|(address, _)| !wanted.contains_key(*address))
            .flat_map(|(_, listener)| listener.addresses.iter().map(SocketAddr::port));
        (listeners.keys().cloned().collect(), going.collect())
    }

    /// Serves what was prepared and nothing else. One configuration after the other: between the two
    /// steps nothing else may be prepared.
    pub fn apply(&self, prepared: Prepared) {
        let Prepared { wanted, mut bound } = prepared;
        let mut listeners = self.listeners.lock();
        let mut before = std::mem::take(&mut *listeners);
        for (address, place) in wanted {
            let listener = match (before.remove(&address), bound.remove(&address)) {
                (Some(mut listener), _) => {
                    self.dress(&mut listener, &place);
                    listener
                }
                (None, Some(sockets)) => self.open(sockets, &place),
                (None, None) => continue, // it was neither served nor prepared
            };
            listeners.insert(address, listener);
        }
    }

    /// The sockets behind an address of the Corefile.
    pub fn addresses(&self, listen: &Listen) -> Vec<SocketAddr> {
        let listeners = self.listeners.lock();
        listeners
            .get(&listen.to_string())
            .map_or_else(Vec::new, |listener| listener.addresses.clone())
    }

    fn open(&self, sockets: Vec<TcpListener>, place: &Place) -> Listener {
        let addresses = sockets.iter().filter_map(|socket| socket.local_addr().ok());
        let addresses: Vec<_> = addresses.collect();
        let (stop, stopped) = watch::channel(());
        let face = Arc::new(ArcSwap::from_pointee(Face::default()));
        let context = serve::AcceptContext {
            face: Arc::clone(&face),
            connection_limit: ConnectionLimit::new(self.limits.connections),
            limits: self.limits,
            stop: stopped,
        };
        let mut listener = Listener {
            addresses,
            face,
            check: None,
            _stop: stop,
        };
        self.dress(&mut listener, place);
        // Not before it has its pages: the first probe would hear that there is none.
        for socket in sockets {
            tokio::spawn(serve::accept(socket, context.clone()));
        }
        listener
    }

    /// Gives a listener its pages.
    fn dress(&self, listener: &mut Listener, place: &Place) {
        let mut router = Router::new();
        for page in &place.pages {
            router = match page {
                Page::Health => router.route("/health", get(|| async { "OK" })),
                Page::Ready => {
                    let readiness = Arc::clone(&self.readiness);
                    let report = move || std::future::ready(report(&readiness));
                    router.route("/ready", get(report))
                }
                Page::Metrics => {
                    let metrics = Arc::clone(&self.metrics);
                    let encode = move || {
                        let head = [(CONTENT_TYPE, metrics::CONTENT_TYPE)];
                        std::future::ready((head, metrics.encode()))
                    };
                    router.route("/metrics", get(encode))
                }
                Page::Profile => router.merge(profile::pages()),
            };
        }
        let tls = place.tls.clone();
        listener.face.store(Arc::new(Face { router, tls }));
        let checks = place.pages.contains(&Page::Health);
        if !checks && let Some(check) = listener.check.take() {
            check.abort();
        }
        if let (true, None, Some(address)) = (checks, &listener.check, listener.addresses.first()) {
            let check = health::check_self(*address, self.metrics.health.clone());
            listener.check = Some(tokio::spawn(check).abort_handle());
        }
    }
}

/// Puts together what each address is to serve.
fn gather(endpoints: &[Endpoint]) -> Result<Wanted, BindError> {
    let mut wanted = Wanted::new();
    for Endpoint { listen, page, tls } in endpoints {
        let address = listen.to_string();
        let place = wanted.entry(address.clone()).or_insert_with(|| Place {
            listen: listen.clone(),
            pages: BTreeSet::new(),
            tls_file: tls.clone(),
            tls: None,
        });
        place.pages.insert(*page);
        if place.tls_file != *tls {
            let reason = "it is wanted with and without TLS, or with two kinds of it";
            return Err(place.refuse(&address, io::Error::other(reason)));
        }
    }
    Ok(wanted)
}

impl Place {
    fn refuse(&self, address: &str, source: io::Error) -> BindError {
        let last = self.pages.last().expect("an address is wanted for a page");
        BindError {
            plugin: last.plugin(),
            address: address.to_owned(),
            source,
        }
    }
}

fn report(readiness: &Readiness) -> (StatusCode, String) {
    match readiness.report() {
        Ok(()) => (StatusCode::OK, "OK".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(check) = &self.check {
            check.abort();
        }
    }
}

#[cfg(test)]
mod tests;
