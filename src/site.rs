//! A configuration built: chains of plugins behind zones, behind listeners.
//!
//! Building opens no listener. What a plugin needs of the machine (files, connections, the
//! cluster's state) it gets here, from the configuration before where nothing about it changed.

mod shared_tls;
mod trial;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future;
use tokio::runtime::Handle;

use crate::{
    admin::{Endpoint, ready::Monitor},
    config::{Config, ServerBlock, settings::Reload},
    corefile::{Key, Transport, Zone},
    interfaces::HostAddress,
    metrics::Metrics,
    plain,
    plugin::{Block, Build, BuildError, Chain, Parts, Plugin},
    server::{
        limits::StreamSettings,
        proxy::ProxyPolicy,
        route::{Filter, Route},
    },
    tls::{self, Files, Identity},
    wire::Name,
};

pub use trial::trial;

/// A configuration, built.
pub struct Site {
    /// What is to be listened on, and what is answered there.
    pub listeners: Vec<Listener>,
    /// Every plugin of every block.
    pub plugins: Vec<Arc<dyn Plugin>>,
    /// Those that `/ready` asks: the plugins of the blocks that say `ready`.
    pub watched: Vec<(Arc<dyn Plugin>, Monitor)>,
    /// The pages to be served over HTTP.
    pub pages: Vec<Endpoint>,
    /// How long to go on answering when told to stop: the longest that any block wants.
    pub lame_duck: Duration,
    /// Whether lines of level DEBUG are logged.
    pub debug: bool,
    /// How the Corefile is followed; the last block that says so counts, as in CoreDNS.
    pub reload: Option<Reload>,
    /// What outlives this site.
    pub parts: Parts,
    /// Follows the Corefile's text.
    pub hash: u64,
}

/// One way in: a transport on one address, or on all of the machine.
pub struct Listener {
    /// What comes in there.
    pub transport: Transport,
    /// Where; `[::]` stands for all of the machine, IPv4 as well as IPv6.
    pub address: SocketAddr,
    /// What metrics and messages call it: `dns://:53`.
    pub label: Arc<str>,
    /// The certificate and its key, where there is one.
    pub tls: Option<Arc<Identity>>,
    /// How connections are treated: by what the first block says, with the times of the last one.
    pub streams: StreamSettings,
    /// Whose PROXY headers are believed; the last block that says so counts.
    pub proxy: Option<Arc<ProxyPolicy>>,
    /// Threads for each address of UDP, if it is said: the first block of the listener decides.
    pub udp_threads: Option<usize>,
    /// What is answered.
    pub routes: Vec<Route>,
}

/// What listeners are told apart by; without an address it is all of the machine.
type Place = (Transport, Option<HostAddress>, u16);

impl Site {
    /// Builds every block of `config`. `parts` is empty at a start, and follows the parts of the
    /// site before at a reload.
    pub fn build(
        config: &Config,
        default_port: u16,
        parts: Parts,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, BuildError> {
        if let Some(clash) = shared_tls::find(config, default_port) {
            return Err(BuildError {
                plugin: "tls",
                action: clash.to_line(&config.warnings.sources),
                source: None,
            });
        }
        let mut listeners: BTreeMap<Place, Listener> = BTreeMap::new();
        let mut plugins = Vec::new();
        let mut watched = Vec::new();
        for block in &config.blocks {
            warn_of_root(block);
            let chain = build_chain(block, default_port, &parts, metrics)?;
            plugins.extend(chain.plugins().iter().cloned());
            if let Some(ready) = &block.settings.ready {
                let asked = chain.plugins().iter().cloned();
                watched.extend(asked.map(|plugin| (plugin, ready.monitor)));
            }
            let chain = Arc::new(chain);
            let filter = block.view().map(|_| filter(&chain));
            let listening = &block.settings.listening;
            let tls = listening
                .tls
                .as_ref()
                .map(|files| identity(files, &parts))
                .transpose()?;
            let proxy = listening.proxy.clone().map(Arc::new);
            for key in &block.keys {
                for bound in bindings(block) {
                    let place = (key.transport, bound, key.port_or(default_port));
                    let view = block.view().unwrap_or_default();
                    let built = built_block(key, &label(&place), view, &chain, metrics);
                    let listener = listeners.entry(place).or_insert_with(|| Listener {
                        transport: place.0,
                        address: addresses(place.1, place.2)[0],
                        label: label(&place),
                        tls: None,
                        streams: listening.settings(place.0),
                        proxy: None,
                        udp_threads: block.settings.udp_threads,
                        routes: Vec::new(),
                    });
                    listening.follow(place.0, &mut listener.streams);
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
            lame_duck: settings()
                .filter_map(|settings| settings.health.as_ref())
                .map(|health| health.lameduck)
                .max()
                .unwrap_or_default(),
            debug: settings().any(|settings| settings.debug),
            reload: settings().rev().find_map(|settings| settings.reload),
            parts,
            hash: config.hash,
        })
    }

    /// Waits until every plugin has told what it still has to tell.
    pub async fn ended(&self) {
        future::join_all(self.plugins.iter().filter_map(|plugin| plugin.ended())).await;
    }

    /// Waits until every plugin has what it needs to start, or has waited long enough.
    pub async fn started(&self) {
        future::join_all(self.plugins.iter().filter_map(|plugin| plugin.started())).await;
    }
}

/// What the files of a `tls` line say. It outlives reloads, and follows its files without one.
fn identity(files: &Files, parts: &Parts) -> Result<Arc<Identity>, BuildError> {
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
    let kept = parts.keep(&format!("{files:?}"), make)?;
    // A reload is as good a time as any to look whether they have changed.
    kept.refresh().map_err(failed)?;
    Ok(Arc::clone(&kept))
}

/// Says so where the directory that a block's files are under is not there (yet).
fn warn_of_root(block: &ServerBlock) {
    let Some(root) = &block.settings.root else {
        return;
    };
    if let Err(error) = std::fs::metadata(root) {
        let (root, why) = (root.display(), plain::io(&error));
        tracing::warn!(target: "plugin/root", "the directory {root} cannot be seen: {why}");
    }
}

/// The chain of a block, built in plugin order.
fn build_chain(
    block: &ServerBlock,
    default_port: u16,
    parts: &Parts,
    metrics: &Arc<Metrics>,
) -> Result<Chain, BuildError> {
    let surroundings = Surroundings::of(block, default_port);
    let mut build = surroundings.build(parts, metrics);
    let mut built = BTreeMap::new();
    for place in block.building_order() {
        built.insert(place, block.plugins[place].1.build(&mut build)?);
    }
    Ok(Chain::new(built.into_values().collect()))
}

/// What the plugins of a block are built in, on the runtime that this is made in.
struct Surroundings<'b> {
    block: &'b ServerBlock,
    runtime: Handle,
    zones: Vec<Name>,
    addresses: Vec<SocketAddr>,
    server: Arc<str>,
}

impl<'b> Surroundings<'b> {
    fn of(block: &'b ServerBlock, default_port: u16) -> Self {
        let places = block.keys.iter().flat_map(|key| {
            let port = key.port_or(default_port);
            let bound = bindings(block).into_iter();
            bound.map(move |bound| (key.transport, bound, port))
        });
        let places: Vec<Place> = places.collect();
        let served = places.iter();
        Self {
            block,
            runtime: Handle::current(),
            zones: block.keys.iter().map(|key| wire_name(&key.zone)).collect(),
            addresses: served
                .flat_map(|(_, bound, port)| addresses(*bound, *port))
                .collect(),
            server: places.first().map_or_else(|| "".into(), label),
        }
    }

    /// What the first plugin is built from, and each of the others after it.
    fn build<'a>(&'a self, parts: &'a Parts, metrics: &'a Arc<Metrics>) -> Build<'a> {
        Build {
            runtime: &self.runtime,
            parts,
            metrics,
            zones: &self.zones,
            addresses: &self.addresses,
            server: &self.server,
            view: self.block.view().unwrap_or_default(),
            offered: Vec::new(),
        }
    }
}

/// Decides whether a block with a view is for a query: whether all of its plugins admit it.
fn filter(chain: &Arc<Chain>) -> Filter {
    let chain = Arc::clone(chain);
    Arc::new(move |query| {
        let mut plugins = chain.plugins().iter();
        plugins.all(|plugin| plugin.admits(&chain, query))
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
        zone_label,
        view: view.into(),
        chain: Arc::clone(chain),
    }
}

/// The addresses that a block is bound to; nothing stands for all of the machine.
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

/// CoreDNS's name of a listener: `dns://:53`, `dns://10.0.0.1:53`, `dns://[::1]:53`.
fn label((transport, bound, port): &Place) -> Arc<str> {
    match bound {
        None => format!("{transport}://:{port}").into(),
        Some(address) => format!("{transport}://{}", address.with_port(*port)).into(),
    }
}

/// The wire form of a zone that the language has checked.
pub fn wire_name(zone: &Zone) -> Name {
    // The language accepts some names that are none on the wire: an escape that is cut short, say.
    // No question can be for them, and the root must not stand in for them.
    Name::parse(zone.as_str()).unwrap_or_else(|_| Name::parse("invalid.").expect("a name"))
}
