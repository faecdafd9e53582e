//! A configuration built: chains of plugins behind zones, behind listeners.
//!
//! Building opens no listener. What a plugin needs of the machine (files, connections, the
//! cluster's state) it gets here, from the configuration before where nothing about it changed.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future;

use crate::{
    config::{Config, ServerBlock, settings::{Reload, Tls}},
    corefile::{Key, Transport, Zone},
    metrics::Metrics,
    plugin::{Block, Build, BuildError, Chain, Parts, Plugin},
    server::{Route, Routes},
    wire::Name,
};

/// A configuration, built.
pub struct Site {
    /// What is to be listened on, and what is answered there.
    pub listeners: Vec<Listener>,
    /// Every plugin of every block, with the block's first key for messages.
    pub plugins: Vec<Arc<dyn Plugin>>,
    /// How long to go on answering when told to stop: the longest that any block wants.
    pub lame_duck: Duration,
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
    /// Where: one address, or the two wildcards.
    pub addresses: Vec<SocketAddr>,
    /// What metrics and messages call it: `dns://:53`.
    pub label: Arc<str>,
    /// The certificate, for TLS.
    pub tls: Option<Tls>,
    /// What is answered.
    pub routes: Arc<Routes>,
}

/// What listeners are told apart by; without an address it is all of the machine.
type Place = (Transport, Option<IpAddr>, u16);

impl Site {
    /// Builds every block of `config`. `parts` is empty at a start, and follows the parts of the
    /// site before at a reload.
    pub fn build(
        config: &Config,
        default_port: u16,
        parts: Parts,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, BuildError> {
        let mut places: BTreeMap<Place, (Option<Tls>, Vec<Route>)> = BTreeMap::new();
        let mut plugins = Vec::new();
        for block in &config.blocks {
            let chain = build_chain(block, default_port, &parts, metrics)?;
            plugins.extend(chain.plugins().iter().cloned());
            let chain = Arc::new(chain);
            for key in &block.keys {
                for bound in bindings(block) {
                    let place = (key.transport, bound, key.port_or(default_port));
                    let built = built_block(key, &label(&place), &chain, metrics);
                    let (tls, routes) = places.entry(place).or_default();
                    tls.clone_from(&block.settings.tls);
                    routes.push(Route::new(Arc::new(built)));
                }
            }
        }
        let listeners = places.into_iter().map(|(place, (tls, routes))| Listener {
            transport: place.0,
            addresses: addresses(place.1, place.2),
            label: label(&place),
            tls,
            routes: Arc::new(Routes::new(routes)),
        });
        let settings = || config.blocks.iter().map(|block| &block.settings);
        Ok(Self {
            listeners: listeners.collect(),
            plugins,
            lame_duck: settings()
                .filter_map(|settings| settings.health.as_ref())
                .map(|health| health.lameduck)
                .max()
                .unwrap_or_default(),
            reload: settings().filter_map(|settings| settings.reload).last(),
            parts,
            hash: config.hash,
        })
    }

    /// Waits until every plugin has what it needs to start, or has waited long enough.
    pub async fn started(&self) {
        future::join_all(self.plugins.iter().filter_map(|plugin| plugin.started())).await;
    }

    /// The words of the plugins that cannot do their work yet, each once.
    pub fn not_ready(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self
            .plugins
            .iter()
            .filter(|plugin| !plugin.is_ready())
            .map(|plugin| plugin.name())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// The chain of a block, built in plugin order.
fn build_chain(
    block: &ServerBlock,
    default_port: u16,
    parts: &Parts,
    metrics: &Arc<Metrics>,
) -> Result<Chain, BuildError> {
    let zones: Vec<Name> = block.keys.iter().map(|key| wire_name(&key.zone)).collect();
    let places = block.keys.iter().flat_map(|key| {
        let port = key.port_or(default_port);
        bindings(block).into_iter().map(move |bound| (key.transport, bound, port))
    });
    let places: Vec<Place> = places.collect();
    let served: Vec<SocketAddr> =
        places.iter().flat_map(|(_, bound, port)| addresses(*bound, *port)).collect();
    let server = places.first().map_or_else(|| "".into(), label);
    let mut build = Build {
        runtime: &tokio::runtime::Handle::current(),
        parts,
        metrics,
        zones: &zones,
        addresses: &served,
        server: &server,
        offered: Vec::new(),
    };
    let mut plugins = Vec::with_capacity(block.plugins.len());
    for (_, setup) in &block.plugins {
        plugins.push(setup.build(&mut build)?);
    }
    Ok(Chain::new(plugins))
}

fn built_block(key: &Key, server: &Arc<str>, chain: &Arc<Chain>, metrics: &Arc<Metrics>) -> Block {
    let zone_label: Arc<str> = key.zone.as_str().into();
    let names = chain.plugins().iter().map(|plugin| plugin.name());
    metrics.enable_plugins([server, &zone_label, ""], names);
    Block {
        zone: wire_name(&key.zone),
        server: Arc::clone(server),
        counters: metrics.zone(server, &zone_label, ""),
        zone_label,
        view: "".into(),
        chain: Arc::clone(chain),
    }
}

/// The addresses that a block is bound to; nothing stands for all of the machine.
fn bindings(block: &ServerBlock) -> Vec<Option<IpAddr>> {
    match block.settings.bind.as_slice() {
        [] => vec![None],
        bound => bound.iter().copied().map(Some).collect(),
    }
}

fn addresses(bound: Option<IpAddr>, port: u16) -> Vec<SocketAddr> {
    match bound {
        Some(address) => vec![SocketAddr::new(address, port)],
        None => vec![(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()],
    }
}

/// CoreDNS's name of a listener: `dns://:53`, `dns://10.0.0.1:53`, `dns://[::1]:53`.
fn label((transport, bound, port): &Place) -> Arc<str> {
    match bound {
        None => format!("{transport}://:{port}").into(),
        Some(address) => format!("{transport}://{}", SocketAddr::new(*address, *port)).into(),
    }
}

/// The wire form of a zone that the language has checked.
pub fn wire_name(zone: &Zone) -> Name {
    // The language accepts some names that are none on the wire: an escape that is cut short, say.
    // No question can be for them, and the root must not stand in for them.
    Name::parse(zone.as_str()).unwrap_or_else(|_| Name::parse("invalid.").expect("a name"))
}
