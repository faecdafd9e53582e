//! A process from its start to its end: start, replace the configuration, lame duck, drain.
//!
//! A configuration is built whole before anything of it is served. Sockets, connections, caches
//! and the cluster's state outlive it where nothing about them changed; where the new one cannot
//! be had, the old one goes on as if nothing had been asked.

use std::{future::Future, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use crate::{
    admin::{self, Admin, Readiness},
    config::{Config, settings::Reload},
    corefile::Transport,
    logging,
    metrics::Metrics,
    plugin::{BuildError, Parts},
    server::{self, LoopKind, Servers, Wanted, descriptors, limits, route::Routes},
    site::{Listener, Site},
};

/// Everything that runs.
pub struct Running {
    default_port: u16,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    admin: Admin,
    servers: Servers,
    site: Site,
    imported: Vec<PathBuf>,
}

/// A configuration that is ready to take the place of another one.
pub struct Next {
    site: Site,
    pages: admin::Prepared,
    sockets: server::Prepared,
    imported: Vec<PathBuf>,
}

/// Why a configuration cannot be put to work.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each says it
pub enum StartError {
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Bind(#[from] server::BindError),
    #[error(transparent)]
    BindPage(#[from] admin::BindError),
}

/// How long plugins may take to tell what they still have to tell.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long questions under way may take to be answered once nothing new is taken in. Forwarded
/// ones end by themselves before.
const PATIENCE: Duration = Duration::from_secs(5);

impl Running {
    /// Builds the configuration, waits for what it needs to start, and serves it.
    ///
    /// Liveness and readiness are told from the beginning; questions are taken in once every
    /// plugin has started, as CoreDNS does.
    pub async fn start(
        config: Config,
        default_port: u16,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        Self::start_with(config, default_port, metrics, LoopKind::default()).await
    }

    /// The same, with plain DNS served by loops of this kind.
    pub async fn start_with(
        config: Config,
        default_port: u16,
        metrics: Arc<Metrics>,
        loops: LoopKind,
    ) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Handle::current();
        let readiness = Arc::new(Readiness::default());
        let limits = admin::Limits::default();
        let admin = Admin::new(Arc::clone(&metrics), Arc::clone(&readiness), limits);
        let mut granted = limits::Limits::default();
        if let Some(descriptors) = descriptors::limit() {
            // The other half is for pages, upstreams, files and the cluster.
            granted.connections = granted.connections.min(descriptors / 2);
        }
        let mut servers = Servers::new(runtime, granted, Arc::clone(&metrics));
        servers.use_loops(loops);

        let site = Site::build(&config, default_port, Parts::default(), &metrics)?;
        let pages = admin.prepare(&site.pages).await?;
        let sockets = servers.prepare(site.listeners.iter().map(wanted).collect())?;
        admin.apply(pages);
        readiness.watch(site.watched.iter().cloned());
        site.started().await;
        servers.allow_pending(pending(granted, &site));
        servers.commit(sockets)?;
        let running = Self {
            default_port,
            metrics,
            readiness,
            admin,
            servers,
            site,
            imported: config.imported,
        };
        running.report(&running.site);
        let granted = pending(granted, &running.site);
        tracing::info!(
            "At most {} questions wait at a time, in at most {} MiB",
            granted.waiting,
            granted.waiting_octets() >> 20
        );
        Ok(running)
    }

    /// Builds another configuration and binds what it listens on. Nothing changes by that: the one
    /// that is served goes on, also where this is given up halfway.
    pub async fn prepare(&self, config: Config) -> Result<Next, StartError> {
        let parts = self.site.parts.succeed();
        let site = Site::build(&config, self.default_port, parts, &self.metrics)?;
        // What is bound already takes questions in, so nothing is bound before it can be answered.
        site.started().await;
        let pages = self.admin.prepare(&site.pages).await?;
        let sockets = self
            .servers
            .prepare(site.listeners.iter().map(wanted).collect())?;
        Ok(Next {
            site,
            pages,
            sockets,
            imported: config.imported,
        })
    }

    /// Puts another configuration in the place of the one that is served, or leaves everything as
    /// it is. To be called soon after it was prepared: its sockets receive already.
    pub fn commit(&mut self, next: Next) -> Result<(), StartError> {
        let Next {
            mut site,
            pages,
            sockets,
            imported,
        } = next;
        self.servers.commit(sockets)?;
        self.servers
            .allow_pending(pending(limits::Limits::default(), &site));
        self.admin.apply(pages);
        self.readiness.watch(site.watched.iter().cloned());
        site.parts.settle();
        self.report(&site);
        self.imported = imported;
        self.site = site;
        Ok(())
    }

    /// Prepares another configuration and puts it to work.
    pub async fn replace(&mut self, config: Config) -> Result<(), StartError> {
        let next = self.prepare(config).await?;
        self.commit(next)
    }

    /// Tells the log and the metrics what is served.
    fn report(&self, site: &Site) {
        logging::set_debug(site.debug);
        self.metrics.reload.served(site.hash);
        // What only the configuration before had must not stand on.
        self.metrics.plugin_enabled.reset();
        for route in site.listeners.iter().flat_map(|one| &one.routes) {
            let block = &route.block;
            let names = block.chain.plugins().iter().map(|plugin| plugin.name());
            let labels = [&*block.server, &block.zone_label, &block.view];
            self.metrics.enable_plugins(labels, names);
        }
    }

    /// Not ready from now on, but answering: balancers and resolvers need a while to notice. Ends
    /// after the time that the configuration gives, or when `cut` completes.
    pub async fn lame_duck(&self, cut: impl Future<Output = ()>) {
        self.readiness.leave();
        let lame_duck = self.site.lame_duck;
        if !lame_duck.is_zero() {
            tracing::info!(target: "plugin/health", "Going into lameduck mode for {lame_duck:?}");
            tokio::select! {
                () = tokio::time::sleep(lame_duck) => {}
                () = cut => {}
            }
        }
    }

    /// Takes nothing new in and finishes what is under way.
    pub async fn drain(&mut self) {
        self.readiness.leave();
        if !self.servers.drain(PATIENCE).await {
            tracing::warn!("questions were still under way after {PATIENCE:?}");
        }
        // Whoever they tell may be gone, which is no reason to stay.
        let _ = tokio::time::timeout(FAREWELL, self.site.ended()).await;
    }

    /// What is served, in CoreDNS's form: a line for each zone of each listener.
    pub fn banner(&self) -> String {
        let listeners = self.site.listeners.iter();
        let mut lines: Vec<String> = listeners.flat_map(|one| self.lines(one)).collect();
        lines.sort();
        lines.concat()
    }

    /// `cluster.local.:53`, with the scheme before it where it is not plain DNS, and the address
    /// behind it where there is one. A port that the system chose is shown as it is.
    fn lines(&self, listener: &Listener) -> Vec<String> {
        let scheme = match listener.transport {
            Transport::Dns => String::new(),
            other => format!("{other}://"),
        };
        let on = match listener.address.ip() {
            any if any.is_unspecified() => String::new(),
            bound => format!(" on {bound}"),
        };
        let bound = self.servers.bound(known_by(listener)).first();
        let port = bound.unwrap_or(&listener.address).port();
        let zones = listener.routes.iter().map(|route| &route.block.zone_label);
        zones
            .map(|zone| format!("{scheme}{zone}:{port}{on}\n"))
            .collect()
    }

    /// The addresses that are listened on for questions.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let listeners = self.site.listeners.iter();
        listeners
            .flat_map(|one| self.servers.bound(known_by(one)))
            .copied()
            .collect()
    }

    /// The HTTP pages' listeners.
    pub fn pages(&self) -> Vec<SocketAddr> {
        let pages = self.site.pages.iter();
        pages
            .flat_map(|page| self.admin.addresses(&page.listen))
            .collect()
    }

    /// How the Corefile is followed, if it is.
    pub fn follows(&self) -> Option<Reload> {
        self.site.reload
    }

    /// Files and directories besides the Corefile that the configuration was read from.
    pub fn imported(&self) -> &[PathBuf] {
        &self.imported
    }

    /// Follows the text of the configuration that is served.
    pub fn hash(&self) -> u64 {
        self.site.hash
    }

    /// Every metric.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

fn known_by(listener: &Listener) -> server::Listener {
    server::Listener {
        scheme: listener.transport.into(),
        address: listener.address,
    }
}

/// Limits for a site: as many pending queries as the limits of its plugins allow together, and never fewer
/// than by default.
fn pending(limits: limits::Limits, site: &Site) -> limits::Limits {
    let wanted = site.plugins.iter().map(|plugin| plugin.pending_at_most());
    limits::Limits {
        waiting: limits.waiting.max(wanted.sum()),
        ..limits
    }
}

fn wanted(listener: &Listener) -> Wanted {
    Wanted {
        listener: known_by(listener),
        label: Arc::clone(&listener.label),
        routes: Routes::new(listener.routes.iter().cloned()),
        streams: listener.streams,
        udp_threads: listener.udp_threads,
        tls: listener.tls.clone(),
        proxy: listener.proxy.clone(),
    }
}
