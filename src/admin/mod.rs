//! HTTP pages: health, readiness, metrics and profiles.
//!
//! Listeners are identified by their address in the Corefile and are kept across reloads. A new
//! configuration is first prepared, which binds new addresses and can fail, and then applied, which
//! cannot fail: a failed reload does not affect the liveness page.

mod bind;
pub mod health;
pub mod profile;
pub mod ready;
mod serve;
mod tls;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::{
    Router,
    http::header::CONTENT_TYPE,
    http::{StatusCode, Uri},
    routing::get,
};
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::{sync::watch, task::AbortHandle, time::Instant};

pub use ready::Readiness;
pub use serve::PageLimits;

use self::serve::ServedPages;
use crate::{
    corefile::Listen,
    error_text,
    http_page::{HttpPage, Page},
    metrics::{self, Metrics},
    server::{accept::Acceptor, connection_limit::ConnectionLimit, limits::TaskTracker},
};

/// Why pages cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("plugin/{plugin}: cannot listen on {address}")]
pub struct BindError {
    /// The directive that requires the listener.
    pub plugin: &'static str,
    /// The address as written in the Corefile.
    pub address: String,
    /// The system's error.
    #[source]
    pub source: io::Error,
}

/// The HTTP listeners of the process.
pub struct Admin {
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    limits: PageLimits,
    /// Whether another process may have the addresses, from which this one takes over.
    takes_over: bool,
    /// Whether another process has the addresses, which has taken over from this one.
    is_succeeded: bool,
    listeners: Mutex<Listeners>,
}

/// Listeners by their address in the Corefile.
type Listeners = BTreeMap<String, PageListener>;

/// Required listeners by their address in the Corefile.
type ListenerSpecs = BTreeMap<String, ListenerSpec>;

struct ListenerSpec {
    listen: Listen,
    pages: BTreeSet<Page>,
    tls_file: Option<PathBuf>,
    tls: Option<Arc<ServerConfig>>,
}

struct PageListener {
    addresses: Vec<SocketAddr>,
    served: Arc<ArcSwap<ServedPages>>,
    check: Option<SelfCheck>,
    /// Dropping it stops the accept loops and, after the current response, the connections.
    stop: watch::Sender<bool>,
    tasks: TaskTracker,
}

/// The task that requests the health page; it ends when this is dropped.
struct SelfCheck(AbortHandle);

/// A configuration that is ready to be applied.
pub struct Prepared {
    specs: ListenerSpecs,
    /// Where another socket has the address, it does not listen yet: connections reach that one until the
    /// configuration is applied.
    bound: BTreeMap<String, Vec<TcpListener>>,
}

/// Validates a TLS configuration file, for `lodestone check`.
pub fn check_tls(file: &std::path::Path) -> Result<(), impl std::fmt::Display + use<>> {
    tls::load(file).map(drop)
}

impl Admin {
    /// Without listeners.
    pub fn new(metrics: Arc<Metrics>, readiness: Arc<Readiness>, limits: PageLimits) -> Self {
        Self {
            metrics,
            readiness,
            limits,
            takes_over: false,
            is_succeeded: false,
            listeners: Mutex::default(),
        }
    }

    /// Sets whether another process may listen at the addresses.
    pub fn take_over(&mut self, takes_over: bool) {
        self.takes_over = takes_over;
    }

    /// Binds the addresses of `pages` that are new, beside the current listeners, even on the same
    /// port. Nothing else changes.
    pub async fn prepare(&self, pages: &[HttpPage]) -> Result<Prepared, BindError> {
        let mut specs = group(pages)?;
        for (address, spec) in &mut specs {
            if let Some(file) = &spec.tls_file {
                let loaded = tls::load(file).map_err(|error| spec.error(address, error.into()));
                spec.tls = Some(loaded?);
            }
        }
        let (current, closing) = self.current(&specs);
        let mut bound = BTreeMap::new();
        for (address, spec) in &specs {
            if current.contains(address) {
                continue;
            }
            let is_closing = self.takes_over || closing.contains(&spec.listen.port);
            let sockets = bind::bind(&spec.listen, is_closing).await;
            let sockets = sockets.map_err(|error| spec.error(address, error))?;
            bound.insert(address.clone(), sockets);
        }
        Ok(Prepared { specs, bound })
    }

    /// The current addresses, and the ports of listeners that will be closed.
    fn current(&self, specs: &ListenerSpecs) -> (BTreeSet<String>, BTreeSet<u16>) {
        let listeners = self.listeners.lock();
        let closing = listeners
            .iter()
            .filter(|(address, _)| !specs.contains_key(*address))
            .flat_map(|(_, listener)| listener.addresses.iter().map(SocketAddr::port));
        (listeners.keys().cloned().collect(), closing.collect())
    }

    /// Activates a prepared configuration and closes other listeners. No other configuration may be
    /// prepared in between.
    pub fn apply(&self, prepared: Prepared) {
        let Prepared { specs, mut bound } = prepared;
        let mut listeners = self.listeners.lock();
        let mut before = std::mem::take(&mut *listeners);
        for (address, spec) in specs {
            let listener = match (before.remove(&address), bound.remove(&address)) {
                (Some(mut listener), _) => {
                    self.set_pages(&mut listener, &spec);
                    listener
                }
                (None, Some(sockets)) => self.open(sockets, &spec),
                (None, None) => continue, // unreachable: each address is served or prepared
            };
            listeners.insert(address, listener);
        }
        for gone in before.into_values() {
            gone.stop.send_replace(true);
        }
    }

    /// Another process has taken over: new connections reach it when this one stops.
    pub fn succeed(&mut self) {
        self.is_succeeded = true;
    }

    /// Stops listening, and waits until the responses in progress are sent, for `timeout` at most.
    pub async fn drain(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let listeners = std::mem::take(&mut *self.listeners.lock());
        let drained = listeners
            .into_values()
            .map(|listener| listener.drain(self.is_succeeded, deadline));
        futures_util::future::join_all(drained).await;
    }

    /// Socket addresses of a listener.
    pub fn addresses(&self, listen: &Listen) -> Vec<SocketAddr> {
        let listeners = self.listeners.lock();
        listeners
            .get(&listen.to_string())
            .map_or_else(Vec::new, |listener| listener.addresses.clone())
    }

    fn open(&self, sockets: Vec<TcpListener>, spec: &ListenerSpec) -> PageListener {
        let addresses = sockets.iter().filter_map(|socket| socket.local_addr().ok());
        let addresses: Vec<_> = addresses.collect();
        let (stop, stopped) = watch::channel(false);
        let tasks = TaskTracker::new();
        let served = Arc::new(ArcSwap::from_pointee(ServedPages::default()));
        let context = serve::AcceptContext {
            served: Arc::clone(&served),
            connection_limit: ConnectionLimit::new(self.limits.connections),
            limits: self.limits,
            stop: stopped,
            token: tasks.token(),
        };
        let mut listener = PageListener {
            addresses,
            served,
            check: None,
            stop,
            tasks,
        };
        self.set_pages(&mut listener, spec);
        // After the pages are set: otherwise the first probe would get 404.
        for socket in sockets {
            match Acceptor::new(socket, serve::ACCEPT_BOUNDS) {
                Ok(acceptor) => drop(tokio::spawn(serve::accept(acceptor, context.clone()))),
                // Only where another program began to listen within the start of this one.
                Err(error) => tracing::error!(
                    "cannot listen on {}: {}",
                    spec.listen,
                    error_text::io(&error)
                ),
            }
        }
        listener
    }

    /// Sets the pages of a listener.
    fn set_pages(&self, listener: &mut PageListener, spec: &ListenerSpec) {
        let mut router = Router::new();
        for page in &spec.pages {
            router = match page {
                Page::Health => router.route("/health", get(|| async { "OK" })),
                Page::Ready => {
                    let readiness = Arc::clone(&self.readiness);
                    let report = move |uri: Uri| std::future::ready(report(&readiness, &uri));
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
        let tls = spec.tls.clone();
        listener.served.store(Arc::new(ServedPages { router, tls }));
        let checks = spec.pages.contains(&Page::Health);
        if !checks {
            listener.check = None;
        }
        if let (true, None, Some(address)) = (checks, &listener.check, listener.addresses.first()) {
            let check = health::check_self(*address, self.metrics.health.clone());
            listener.check = Some(SelfCheck(tokio::spawn(check).abort_handle()));
        }
    }
}

/// Groups the pages by address.
fn group(pages: &[HttpPage]) -> Result<ListenerSpecs, BindError> {
    let mut specs = ListenerSpecs::new();
    for HttpPage { listen, page, tls } in pages {
        let address = listen.to_string();
        let spec = specs
            .entry(address.clone())
            .or_insert_with(|| ListenerSpec {
                listen: listen.clone(),
                pages: BTreeSet::new(),
                tls_file: tls.clone(),
                tls: None,
            });
        spec.pages.insert(*page);
        if spec.tls_file != *tls {
            let reason = "it is required with and without TLS, or with different TLS files";
            return Err(spec.error(&address, io::Error::other(reason)));
        }
    }
    Ok(specs)
}

impl ListenerSpec {
    fn error(&self, address: &str, source: io::Error) -> BindError {
        let last = self.pages.last().expect("a listener has at least one page");
        BindError {
            plugin: last.plugin(),
            address: address.to_owned(),
            source,
        }
    }
}

/// The response of `/ready`; with the query parameter `verbose`, followed by one line per resource.
fn report(readiness: &Readiness, uri: &Uri) -> (StatusCode, String) {
    let (status, mut text) = match readiness.report() {
        Ok(()) => (StatusCode::OK, "OK".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    };
    let mut parameters = uri.query().unwrap_or_default().split('&');
    if parameters.any(|it| it == "verbose" || it.starts_with("verbose=")) {
        for line in readiness.details() {
            text = text + "\n" + &line;
        }
        text.push('\n');
    }
    (status, text)
}

impl PageListener {
    async fn drain(self, succeeded: bool, deadline: Instant) {
        let Self {
            stop, tasks, check, ..
        } = self;
        stop.send_replace(succeeded);
        drop((stop, check));
        tasks.wait(deadline).await;
    }
}

impl Drop for SelfCheck {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests;
