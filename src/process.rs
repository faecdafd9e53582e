//! The serving process: start, replacement of the configuration, lame duck, drain.
//!
//! A configuration is built completely before any of it is served. Sockets, connections, caches and cluster
//! state survive a reload; if the new configuration cannot be served, the old one stays in force unchanged.

mod memory_plan;

use std::{
    future::Future,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval};

use crate::{
    admin::{self, Admin, Readiness, health::Drain},
    config::{Config, settings::ReloadSchedule},
    control::{
        Control, ControlError, ControlSettings,
        client::{Client, ClientError},
        socket,
    },
    corefile::Transport,
    explain::Target,
    logging,
    memory::Memory,
    metrics::Metrics,
    pipeline::{Listener, Pipeline},
    plugin::{BuildError, SharedResources},
    server::{
        self, ListenerConfig, LoopKind, Servers, accept::HANDSHAKE_WAIT, descriptors,
        limits::Limits, route::Routes,
    },
};

pub use memory_plan::{LoweredCaches, MemoryPlan};

/// A serving process.
pub struct Process {
    default_port: u16,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    admin: Admin,
    control: Control,
    servers: Servers,
    pipeline: Pipeline,
    imported: Vec<PathBuf>,
    limits: Limits,
    /// When the configuration was last replaced.
    committed: Option<tokio::time::Instant>,
}

/// A configuration that is built and bound, ready to replace another one.
pub struct Prepared {
    pipeline: Pipeline,
    pages: admin::Prepared,
    sockets: server::Prepared,
    imported: Vec<PathBuf>,
}

/// Why a configuration cannot be served.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages describe them
pub enum StartError {
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Bind(#[from] server::BindError),
    #[error(transparent)]
    BindPage(#[from] admin::BindError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("cannot take over: {0}")]
    TakeOver(ClientError),
}

/// Options of a process that no reload changes.
#[derive(Clone, Debug, Default)]
pub struct ProcessOptions {
    /// What reads and writes the sockets of plain DNS.
    pub loops: LoopKind,
    /// How the control API is offered; not at all by default.
    pub control: ControlSettings,
    /// Whether to take over from the server that runs here: the addresses are shared with it until this process
    /// answers, and it then drains and exits. Without such a server, an ordinary start.
    pub takes_over: Option<TakeOver>,
}

/// Which server is taken over from.
#[derive(Clone, Debug, Default)]
pub struct TakeOver {
    /// Its control socket; without it, that of the only server in this network namespace.
    pub socket: Option<socket::Address>,
}

/// Timeout for the server that is taken over from to confirm that it drains.
const HAND_OVER: Duration = Duration::from_secs(10);

/// Interval at which the number of received queries is read after SIGTERM: the error of `quiet`.
const QUIET_POLL: Duration = Duration::from_millis(50);

/// Timeout for plugins to flush their buffers.
const PLUGIN_DRAIN: Duration = Duration::from_secs(2);

/// Timeout for the responses of pages, which end at the same time.
const PAGE_DRAIN: Duration = Duration::from_secs(1);

/// Timeout for pending queries once no more are read. Forwarded ones time out earlier.
const DRAIN: Duration = Duration::from_secs(5);

impl Process {
    /// Builds the configuration, waits for its plugins to start, and serves it.
    ///
    /// Health and readiness are served from the beginning, queries once every plugin has started, as in
    /// CoreDNS.
    pub async fn start(
        config: Config,
        default_port: u16,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        Self::start_with(config, default_port, metrics, ProcessOptions::default()).await
    }

    /// Like [`start`](Self::start), with options.
    pub async fn start_with(
        mut config: Config,
        default_port: u16,
        metrics: Arc<Metrics>,
        options: ProcessOptions,
    ) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Handle::current();
        let readiness = Arc::new(Readiness::default());
        let page_limits = admin::PageLimits::default();
        let mut admin = Admin::new(Arc::clone(&metrics), Arc::clone(&readiness), page_limits);
        // Before the control socket of this process, which would be found too.
        let predecessor = match &options.takes_over {
            Some(take_over) => predecessor(take_over).await?,
            None => None,
        };
        admin.take_over(predecessor.is_some());
        let mut limits = Limits::default();
        if let Some(descriptors) = descriptors::limit() {
            // The other half is for HTTP pages, upstreams, files and the API server.
            limits.connections = limits.connections.min(descriptors / 2);
        }
        let plan = fit_memory(&mut config, &limits);
        let mut servers = Servers::new(runtime, limits, Arc::clone(&metrics));
        servers.use_loops(options.loops);
        servers.take_over(predecessor.is_some());

        let pipeline =
            Pipeline::build(&config, default_port, SharedResources::default(), &metrics)?;
        let pages = admin.prepare(&pipeline.pages).await?;
        let sockets = servers.prepare(pipeline.listeners.iter().map(listener_config).collect())?;
        admin.apply(pages);
        readiness.watch(pipeline.watched.iter().cloned());
        // Before the wait for the cluster's objects, which is one of the things that it explains.
        let mut control = Control::new(Arc::clone(&metrics.feed));
        control.publish(&pipeline, Target::offline(&pipeline, &metrics));
        control.listen(&options.control).await?;
        pipeline.started().await;
        servers.commit(sockets)?;
        if let Some(predecessor) = predecessor {
            hand_over(predecessor).await;
        }
        admin.take_over(false);
        servers.take_over(false);
        let process = Self {
            default_port,
            metrics,
            readiness,
            admin,
            control,
            servers,
            pipeline,
            imported: config.imported,
            limits,
            committed: None,
        };
        process.report(&process.pipeline);
        tracing::info!(
            "Memory: {plan}. At most {} pending queries, {} connections",
            limits.pending,
            limits.connections
        );
        Ok(process)
    }

    /// Builds another configuration and binds its new listeners. The present one stays in force, also if
    /// this is cancelled.
    pub async fn prepare(&self, mut config: Config) -> Result<Prepared, StartError> {
        if let Some(committed) = self.committed {
            // The first socket of an address is the one that serves. One that was succeeded must be closed before the
            // next listens: after the wait, and when its task has run.
            tokio::time::sleep_until(committed + 2 * HANDSHAKE_WAIT).await;
        }
        fit_memory(&mut config, &self.limits);
        let resources = self.pipeline.resources.succeed();
        let pipeline = Pipeline::build(&config, self.default_port, resources, &self.metrics)?;
        // Bound sockets receive queries, so they are bound only once those can be answered.
        pipeline.started().await;
        let pages = self.admin.prepare(&pipeline.pages).await?;
        let sockets = self
            .servers
            .prepare(pipeline.listeners.iter().map(listener_config).collect())?;
        Ok(Prepared {
            pipeline,
            pages,
            sockets,
            imported: config.imported,
        })
    }

    /// Replaces the configuration; on an error nothing changes. Call soon after [`prepare`](Self::prepare):
    /// the new sockets receive already.
    pub fn commit(&mut self, next: Prepared) -> Result<(), StartError> {
        let Prepared {
            mut pipeline,
            pages,
            sockets,
            imported,
        } = next;
        self.servers.commit(sockets)?;
        self.admin.apply(pages);
        self.committed = Some(tokio::time::Instant::now());
        self.readiness.watch(pipeline.watched.iter().cloned());
        pipeline.resources.settle();
        self.report(&pipeline);
        let target = Target::offline(&pipeline, &self.metrics);
        self.control.publish(&pipeline, target);
        self.imported = imported;
        self.pipeline = pipeline;
        Ok(())
    }

    /// Prepares another configuration and commits it.
    pub async fn replace(&mut self, config: Config) -> Result<(), StartError> {
        let next = self.prepare(config).await?;
        self.commit(next)
    }

    /// Sets log level and metrics for the configuration being served.
    fn report(&self, pipeline: &Pipeline) {
        logging::set_debug(pipeline.debug);
        self.metrics.reload.served(pipeline.hash);
        // Removes the series of the previous configuration.
        self.metrics.plugin_enabled.reset();
        for route in pipeline.listeners.iter().flat_map(|one| &one.routes) {
            let block = &route.block;
            let names = block.chain.plugins().iter().map(|plugin| plugin.name);
            let labels = [&*block.server, &block.zone_label, &block.view];
            self.metrics.enable_plugins(labels, names);
        }
    }

    /// Reports not ready and keeps answering, so that load balancers and resolvers notice: for `lameduck`, and
    /// then until no query has come for `quiet`. Completes then, or when `cut` completes.
    pub async fn lame_duck(&self, cut: impl Future<Output = ()>) {
        self.readiness.shut_down();
        self.metrics.after_unready.begin();
        let drain = self.pipeline.drain;
        if drain.is_immediate() {
            return;
        }
        let lame_duck = drain.lameduck;
        tracing::info!(target: "plugin/health", "Going into lameduck mode for {lame_duck:?}");
        tokio::select! {
            () = self.until_quiet(drain) => {}
            () = cut => {}
        }
    }

    async fn until_quiet(&self, drain: Drain) {
        let received = || self.metrics.after_unready.count();
        let begun = Instant::now();
        let (mut known, mut last) = (received(), begun);
        let mut ticks = interval(QUIET_POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (now, count) = (Instant::now(), received());
            if count != known {
                (known, last) = (count, now);
            }
            let (elapsed, idle) = (now - begun, now - last);
            if drain.is_over(elapsed, idle) {
                tracing::info!(
                    target: "plugin/health",
                    "Stopping {elapsed:.1?} after SIGTERM: {count} queries came meanwhile, the last {idle:.1?} ago"
                );
                return;
            }
        }
    }

    /// Stops reading queries and waits for the pending ones.
    pub async fn drain(&mut self) {
        self.readiness.shut_down();
        if !self.servers.drain(DRAIN).await {
            tracing::warn!("queries were still pending after {DRAIN:?}");
        }
        // The pages come after the queries: a probe that fails counts as a failure of the server.
        let pages = self.admin.drain(PAGE_DRAIN);
        // An unreachable receiver must not delay the exit.
        let plugins = tokio::time::timeout(PLUGIN_DRAIN, self.pipeline.ended());
        let ((), _) = tokio::join!(pages, plugins);
    }

    /// Completes when another process has taken over: see [`ProcessOptions::takes_over`].
    pub async fn taken_over(&self) {
        self.control.taken_over().await;
    }

    /// Another process has taken over: connections reach it from [`drain`](Self::drain) on.
    pub fn succeed(&mut self) {
        self.servers.succeed();
        self.admin.succeed();
    }

    /// The zones that are served, in CoreDNS's form: a line for each zone of each listener.
    pub fn banner(&self) -> String {
        let listeners = self.pipeline.listeners.iter();
        let mut lines: Vec<String> = listeners.flat_map(|one| self.lines(one)).collect();
        lines.sort();
        lines.concat()
    }

    /// `cluster.local.:53`, with the scheme unless it is plain DNS, and the address if there is one. Port 0
    /// is shown as the port that the system chose.
    fn lines(&self, listener: &Listener) -> Vec<String> {
        let scheme = match listener.transport {
            Transport::Dns => String::new(),
            other => format!("{other}://"),
        };
        let on = match listener.address.ip() {
            any if any.is_unspecified() => String::new(),
            bound => format!(" on {bound}"),
        };
        let bound = self.servers.bound(listener_of(listener)).first();
        let port = bound.unwrap_or(&listener.address).port();
        let zones = listener.routes.iter().map(|route| &route.block.zone_label);
        zones
            .map(|zone| format!("{scheme}{zone}:{port}{on}\n"))
            .collect()
    }

    /// The addresses of all listeners of queries.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let listeners = self.pipeline.listeners.iter();
        listeners
            .flat_map(|one| self.servers.bound(listener_of(one)))
            .copied()
            .collect()
    }

    /// The addresses of the HTTP pages' listeners.
    pub fn pages(&self) -> Vec<SocketAddr> {
        let pages = self.pipeline.pages.iter();
        pages
            .flat_map(|page| self.admin.addresses(&page.listen))
            .collect()
    }

    /// The reload schedule, if `reload` is configured.
    pub fn follows(&self) -> Option<ReloadSchedule> {
        self.pipeline.reload
    }

    /// Files and directories of the Corefile's imports.
    pub fn imported(&self) -> &[PathBuf] {
        &self.imported
    }

    /// Hash of the Corefile's text.
    pub fn hash(&self) -> u64 {
        self.pipeline.hash
    }

    /// The metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

/// Makes the caches fit the memory limit of the process; what was lowered is logged.
fn fit_memory(config: &mut Config, limits: &Limits) -> MemoryPlan {
    let (plan, lowered) = MemoryPlan::fit(config, limits, Memory::of_process());
    if let Some(LoweredCaches { from, to }) = lowered {
        let (from, to) = (from >> 20, to >> 20);
        tracing::warn!(
            "caches may take {to} MiB instead of the configured {from} MiB: the memory limit has no room for more"
        );
    }
    if plan.exceeds_limit() {
        tracing::warn!("the memory limit is too low for this configuration: {plan}");
    }
    plan
}

/// The server that runs here; `None` if there is none.
async fn predecessor(take_over: &TakeOver) -> Result<Option<Client>, StartError> {
    match Client::connect(take_over.socket.as_ref()).await {
        Ok(client) => Ok(Some(client)),
        Err(ClientError::NoServer(_)) => {
            tracing::info!("no server is running here to take over from");
            Ok(None)
        }
        Err(error) => Err(StartError::TakeOver(error)),
    }
}

/// Tells another server to drain and exit, once this one answers at its addresses.
async fn hand_over(predecessor: Client) {
    let address = predecessor.address().clone();
    match tokio::time::timeout(HAND_OVER, predecessor.drain()).await {
        Ok(Ok(process)) => tracing::info!("Took over from process {process}"),
        // Both answer meanwhile.
        Ok(Err(error)) => tracing::warn!("the former server goes on: {error}"),
        Err(_) => tracing::warn!("the former server at {address} goes on: it does not answer"),
    }
}

fn listener_of(listener: &Listener) -> server::Listener {
    server::Listener {
        scheme: listener.transport.into(),
        address: listener.address,
    }
}

fn listener_config(listener: &Listener) -> ListenerConfig {
    ListenerConfig {
        listener: listener_of(listener),
        label: Arc::clone(&listener.label),
        routes: Routes::new(listener.routes.iter().cloned()),
        streams: listener.streams,
        udp_threads: listener.udp_threads,
        tls: listener.tls.clone(),
        proxy: listener.proxy.clone(),
    }
}
