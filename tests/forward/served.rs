//! The `loop` and `forward` lines of a Corefile, built into a block that accepts queries.

use std::{collections::BTreeMap, net::SocketAddr, pin::Pin, sync::Arc};

use futures_util::future::{Either, ready};
use lodestone::{
    config::{Config, Source},
    corefile::InMemory,
    interfaces::Interfaces,
    metrics::Metrics,
    plugin::{
        Block, Build, BuildError, Chain, Context, Offers, Outcome, Plugin, SharedResources,
        SubQueryHandler,
    },
    query::{Query, Question},
    reply::{Reply, Why},
    wire::{Class, Name, Rcode, Type},
};

/// A block as the server builds it.
pub struct Served {
    pub metrics: Arc<Metrics>,
    pub resources: SharedResources,
    block: Arc<Block>,
    sub_queries: Arc<dyn SubQueryHandler>,
}

impl Served {
    /// A block with these lines.
    pub fn new(lines: &str) -> Self {
        Self::build(lines, SharedResources::default(), &[]).unwrap()
    }

    /// The block after a reload with these lines, with the resources kept from `self`.
    pub fn reload(&self, lines: &str) -> Self {
        Self::build(lines, self.resources.succeed(), &[]).unwrap()
    }

    /// A block with these lines, resources and listen addresses.
    pub fn build(
        lines: &str,
        resources: SharedResources,
        addresses: &[SocketAddr],
    ) -> Result<Self, BuildError> {
        let config = Config::read(&Source {
            name: "Corefile",
            text: &format!(".:53 {{\n{lines}\n}}\n"),
            loader: &InMemory::default(),
            interfaces: &Interfaces::default(),
            default_port: 53,
        })
        .unwrap_or_else(|errors| panic!("{errors}"));
        let metrics = Metrics::new();
        let server: Arc<str> = "dns://:53".into();
        let mut build = Build {
            runtime: &tokio::runtime::Handle::current(),
            resources: &resources,
            metrics: &metrics,
            zones: &[Name::ROOT],
            addresses,
            server: &server,
            view: "",
            offers: Offers::default(),
        };
        let mut plugins: BTreeMap<usize, Plugin> = BTreeMap::new();
        for place in config.blocks[0].building_order() {
            let (_, setup) = &config.blocks[0].plugins[place];
            plugins.insert(place, setup.build(&mut build)?);
        }
        let block = Block {
            zone: Name::ROOT,
            server,
            zone_label: ".".into(),
            view: "".into(),
            chain: Arc::new(Chain::new(plugins.into_values().collect())),
            counters: metrics.dns.zone("dns://:53", ".", ""),
            feed: Arc::default(),
        };
        Ok(Self {
            metrics,
            resources,
            block: Arc::new(block),
            sub_queries: Arc::new(Nowhere),
        })
    }

    /// Waits until every plugin is ready.
    pub async fn started(self) -> Self {
        for plugin in self.block.chain.plugins() {
            if let Some(started) = plugin.started() {
                started.await;
            }
        }
        self
    }

    /// Sends an A query without EDNS.
    pub async fn ask(&self, name: &str) -> Reply {
        self.query(query(name, Type::A)).await
    }

    /// Sends a query.
    pub async fn query(&self, query: Query) -> Reply {
        self.begin(query).await
    }

    /// Starts a query; the future completes with its reply.
    pub fn begin(&self, mut query: Query) -> impl Future<Output = Reply> + Send + 'static {
        let mut reply = Reply::default();
        let context = Context {
            sub_queries: &self.sub_queries,
            block: &self.block,
        };
        let walk = self.block.chain.walk(&context, &mut query, &mut reply);
        match walk {
            Outcome::Done => Either::Left(ready(reply)),
            Outcome::Dropped => panic!("dropped"),
            Outcome::Pending(suspended) => {
                Either::Right(async { suspended.finish().await.1.unwrap() })
            }
        }
    }

    /// Number of failed health checks of an upstream.
    pub fn failed_checks(&self, upstream: impl std::fmt::Display) -> f64 {
        let labels = format!("{{proxy_name=\"forward\",to=\"{upstream}\"}}");
        self.metric(&format!("coredns_proxy_healthcheck_failures_total{labels}"))
    }

    /// Waits until `count` checks have failed.
    pub async fn checks_failed(&self, upstream: impl std::fmt::Display, count: f64) {
        while self.failed_checks(&upstream) < count {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// The value of a metric's series; 0 if it does not exist.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }
}

/// A query for `name`.
pub fn query(name: &str, rtype: Type) -> Query {
    Query::internal(Question::new(Name::parse(name).unwrap(), rtype, Class::IN))
}

struct Nowhere;

impl SubQueryHandler for Nowhere {
    fn answer(self: Arc<Self>, _: Query) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        Box::pin(std::future::ready(Reply::failure(
            Rcode::REFUSED,
            Why::NoZone,
        )))
    }
}
