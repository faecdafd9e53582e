//! Builds a configuration: chains of plugins, grouped by zone and listener.
//!
//! Building opens no listener. Plugins acquire their resources here (files, connections, cluster
//! state), reusing those of the previous configuration where their settings are unchanged.

mod shared_tls;
mod trial;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use futures_util::future;
use tokio::runtime::Handle;

use crate::{
    admin::{health::Drain, ready::Monitor},
    config::{Config, ServerBlock, settings::ReloadSchedule},
    corefile::{Key, Transport, ZoneName},
    error_text,
    http_page::HttpPage,
    interfaces::HostAddress,
    metrics::Metrics,
    plugin::{
        Block, Build, BuildError, Chain, Offers, Plugin, SharedResources, transfer::Transferable,
    },
    server::{
        limits::StreamSettings,
        proxy::ProxyPolicy,
        route::{Filter, Route},
    },
    tls::{self, Identity, ServerFiles},
    wire::Name,
    zone::ClusterView,
};

pub use trial::{trial, trial_here};

/// A built configuration.
pub struct Pipeline {
    /// Listeners with their routes.
    pub listeners: Vec<Listener>,
    /// All plugins of all blocks.
    pub plugins: Vec<Plugin>,
    /// Plugins that `/ready` checks: those of blocks with `ready`.
    pub watched: Vec<(Plugin, Monitor)>,
    /// HTTP pages to serve.
    pub pages: Vec<HttpPage>,
    /// How long queries are still answered after SIGTERM.
    pub drain: Drain,
    /// Whether DEBUG lines are logged.
    pub debug: bool,
    /// Reload schedule; the last block with `reload` applies, as in CoreDNS.
    pub reload: Option<ReloadSchedule>,
    /// Resources that are kept across reloads.
    pub resources: SharedResources,
    /// Zones of which all records can be listed.
    pub zones: Vec<Arc<dyn Transferable>>,
    /// The clusters' names.
    pub clusters: Vec<Arc<ClusterView>>,
    /// Hash of the Corefile's text.
    pub hash: u64,
}

/// A transport on one address, or on all addresses.
pub struct Listener {
    /// The transport.
    pub transport: Transport,
    /// Listen address; `[::]` means all IPv4 and IPv6 addresses.
    pub address: SocketAddr,
    /// Name in metrics and messages: `dns://:53`.
    pub label: Arc<str>,
    /// Certificate and key of encrypted transports.
    pub tls: Option<Arc<Identity>>,
    /// Connection settings: from the first block, with the timeouts of the last one.
    pub streams: StreamSettings,
    /// Networks whose PROXY headers are accepted; the last block that sets it applies.
    pub proxy: Option<Arc<ProxyPolicy>>,
    /// UDP threads per address, if configured; the first block applies.
    pub udp_threads: Option<usize>,
    /// The zones served and their chains.
    pub routes: Vec<Route>,
}

/// Identity of a listener; `None` as address means all addresses.
type ListenerKey = (Transport, Option<HostAddress>, u16);

impl Pipeline {
    /// Builds every block of `config`. `resources` is empty at start; at a reload it is derived from
    /// the previous configuration.
    pub fn build(
        config: &Config,
        default_port: u16,
        resources: SharedResources,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, BuildError> {
        if let Some(conflict) = shared_tls::find(config, default_port) {
            return Err(BuildError {
                plugin: "tls",
                action: conflict.to_line(&config.warnings.sources),
                source: None,
            });
        }
        let mut listeners: BTreeMap<ListenerKey, Listener> = BTreeMap::new();
        let mut plugins = Vec::new();
        let mut watched = Vec::new();
        let (mut zones, mut clusters) = (Vec::new(), Vec::new());
        for block in &config.blocks {
            warn_of_root(block);
            let (chain, offers) = build_chain(block, default_port, &resources, metrics)?;
            zones.extend(offers.zones);
            clusters.extend(offers.cluster);
            plugins.extend(chain.plugins().iter().cloned());
            if let Some(ready) = &block.settings.ready {
                let checked = chain.plugins().iter().cloned();
                watched.extend(checked.map(|plugin| (plugin, ready.monitor)));
            }
            let chain = Arc::new(chain);
            let filter = block.view().map(|_| filter(&chain));
            let listening = &block.settings.listening;
            let tls = listening
                .tls
                .as_ref()
                .map(|files| identity(files, &resources))
                .transpose()?;
            let proxy = listening.proxy.clone().map(Arc::new);
            for key in &block.keys {
                for bound in bindings(block) {
                    let listener_key = (key.transport, bound, key.port_or(default_port));
                    let view = block.view().unwrap_or_default();
                    let built = built_block(key, &label(&listener_key), view, &chain, metrics);
                    let listener = listeners.entry(listener_key).or_insert_with(|| Listener {
                        transport: listener_key.0,
                        address: addresses(listener_key.1, listener_key.2)[0],
                        label: label(&listener_key),
                        tls: None,
                        streams: listening.settings(listener_key.0),
                        proxy: None,
                        udp_threads: block.settings.udp_threads,
                        routes: Vec::new(),
                    });
                    listening.follow(listener_key.0, &mut listener.streams);
                    listener.tls = tls.clone().or(listener.tls.take());
                    listener.proxy = proxy.clone().or(listener.proxy.take());
                    listener.routes.push(Route {
                        block: Arc::new(built),
                        filter: filter.clone(),
                    });
                }
            }
        }
        let settings = || config.blocks.iter().map(|block| &block.settings);
        Ok(Self {
            listeners: listeners.into_values().collect(),
            plugins,
            watched,
            pages: config.blocks.iter().flat_map(ServerBlock::pages).collect(),
            drain: Drain::of(settings().filter_map(|settings| settings.health.as_ref())),
            debug: settings().any(|settings| settings.debug),
            reload: settings().rev().find_map(|settings| settings.reload),
            resources,
            zones,
            clusters,
            hash: config.hash,
        })
    }

    /// Waits until every plugin has finished its background output.
    pub async fn ended(&self) {
        future::join_all(self.plugins.iter().filter_map(Plugin::ended)).await;
    }

    /// Waits until every plugin is ready to start or has reached its own time limit.
    pub async fn started(&self) {
        future::join_all(self.plugins.iter().filter_map(Plugin::started)).await;
    }
}

/// The certificate of a `tls` directive. Kept across reloads; its files are watched.
fn identity(files: &ServerFiles, resources: &SharedResources) -> Result<Arc<Identity>, BuildError> {
    let failed = |source: tls::TlsError| BuildError {
        plugin: "tls",
        action: "cannot use the certificate".to_owned(),
        source: Some(source.into()),
    };
    let make = || {
        let identity = Identity::load(files.clone()).map_err(failed)?;
        identity.follow(tls::INTERVAL);
        Ok(identity)
    };
    let identity = resources.keep(&format!("{files:?}"), make)?;
    // A reload also checks the files for changes.
    identity.refresh().map_err(failed)?;
    Ok(Arc::clone(&identity))
}

/// Warns if the block's `root` directory does not exist.
fn warn_of_root(block: &ServerBlock) {
    let Some(root) = &block.settings.root else {
        return;
    };
    if let Err(error) = std::fs::metadata(root) {
        let (root, why) = (root.display(), error_text::io(&error));
        tracing::warn!(target: "plugin/root", "cannot access the directory {root}: {why}");
    }
}

/// The chain of a block, with plugins built in dependency order, and what these offer.
fn build_chain(
    block: &ServerBlock,
    default_port: u16,
    resources: &SharedResources,
    metrics: &Arc<Metrics>,
) -> Result<(Chain, Offers), BuildError> {
    let inputs = BuildInputs::of(block, default_port);
    let mut build = inputs.build(resources, metrics);
    let mut built = BTreeMap::new();
    for index in block.building_order() {
        built.insert(index, block.plugins[index].1.build(&mut build)?);
    }
    let chain = Chain::new(built.into_values().collect());
    Ok((chain, build.offers))
}

/// Owned inputs from which a plugin's build context is made. Captures the current runtime.
struct BuildInputs<'b> {
    block: &'b ServerBlock,
    runtime: Handle,
    zones: Vec<Name>,
    addresses: Vec<SocketAddr>,
    server: Arc<str>,
}

impl<'b> BuildInputs<'b> {
    fn of(block: &'b ServerBlock, default_port: u16) -> Self {
        let listeners = block.keys.iter().flat_map(|key| {
            let port = key.port_or(default_port);
            let bound = bindings(block).into_iter();
            bound.map(move |bound| (key.transport, bound, port))
        });
        let listeners: Vec<ListenerKey> = listeners.collect();
        let keys = listeners.iter();
        Self {
            block,
            runtime: Handle::current(),
            zones: block.keys.iter().map(|key| wire_name(&key.zone)).collect(),
            addresses: keys
                .flat_map(|(_, bound, port)| addresses(*bound, *port))
                .collect(),
            server: listeners.first().map_or_else(|| "".into(), label),
        }
    }

    /// The build context for one plugin.
    fn build<'a>(&'a self, resources: &'a SharedResources, metrics: &'a Arc<Metrics>) -> Build<'a> {
        Build {
            runtime: &self.runtime,
            resources,
            metrics,
            zones: &self.zones,
            addresses: &self.addresses,
            server: &self.server,
            view: self.block.view().unwrap_or_default(),
            offers: Offers::default(),
        }
    }
}

/// Filter of a block with a view: whether all of its plugins accept the query.
fn filter(chain: &Arc<Chain>) -> Filter {
    let chain = Arc::clone(chain);
    Arc::new(move |query| {
        let plugins = chain.plugins();
        plugins.iter().all(|plugin| plugin.accepts(plugins, query))
    })
}

fn built_block(
    key: &Key,
    server: &Arc<str>,
    view: &str,
    chain: &Arc<Chain>,
    metrics: &Arc<Metrics>,
) -> Block {
    let zone_label: Arc<str> = key.zone.as_str().into();
    Block {
        zone: wire_name(&key.zone),
        server: Arc::clone(server),
        counters: metrics.zone(server, &zone_label, view),
        feed: Arc::clone(&metrics.feed),
        zone_label,
        view: view.into(),
        chain: Arc::clone(chain),
    }
}

/// The addresses to which a block is bound; `None` for all addresses.
fn bindings(block: &ServerBlock) -> Vec<Option<HostAddress>> {
    match block.settings.bind.as_slice() {
        [] => vec![None],
        bound => bound.iter().copied().map(Some).collect(),
    }
}

fn addresses(bound: Option<HostAddress>, port: u16) -> Vec<SocketAddr> {
    match bound {
        Some(address) => vec![address.with_port(port)],
        None => vec![
            (Ipv6Addr::UNSPECIFIED, port).into(),
            (Ipv4Addr::UNSPECIFIED, port).into(),
        ],
    }
}

/// A listener's name as in CoreDNS: `dns://:53`, `dns://10.0.0.1:53`, `dns://[::1]:53`.
fn label((transport, bound, port): &ListenerKey) -> Arc<str> {
    match bound {
        None => format!("{transport}://:{port}").into(),
        Some(address) => format!("{transport}://{}", address.with_port(*port)).into(),
    }
}

/// Wire form of a zone.
pub fn wire_name(zone: &ZoneName) -> Name {
    // The Corefile accepts some names without a wire form, such as a truncated escape. No query can
    // match them. The root must not be used instead: it would match all queries.
    Name::parse(zone.as_str()).unwrap_or_else(|_| Name::parse("invalid.").expect("a name"))
}
