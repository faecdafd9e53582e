//! Measures the server's own cost: every name under `test` has one address, found without a lookup.
//! Run it with a listen address, and send queries with dnsperf.

use std::{net::Ipv4Addr, sync::Arc};

use lodestone::{
    hooks,
    metrics::Metrics,
    plugin::{Block, Chain, Context, Observer, OnQuery, Resolved, Step, Written},
    query::Query,
    reply::{Data, Reply},
    server::{
        Listener, ListenerConfig, Scheme, Servers,
        limits::{Limits, StreamSettings},
        route::{Route, Routes},
    },
    wire::{Name, Type},
};

/// Counts queries, as `prometheus` does in every stock configuration.
struct Counting;

hooks!(Counting, "prometheus" => observer);

impl Observer for Counting {
    fn on_sent(&self, block: &Block, query: &Query, reply: &Reply, written: Written) {
        block
            .counters
            .count(query, reply, written.size, written.took);
    }
}

/// Answers with one address; names that begin with `w` only after yielding to the scheduler once.
struct Fixed;

hooks!(Fixed, "fixed" => on_query);

impl OnQuery for Fixed {
    fn on_query(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        if query.question.lower.as_wire().get(1) == Some(&b'w') {
            return Step::Wait(Box::pin(async {
                tokio::task::yield_now().await;
                let mut reply = Reply::default();
                reply.answer(Type::A, 5, Data::A(Ipv4Addr::new(192, 0, 2, 1)));
                Resolved::Answer(reply)
            }));
        }
        reply.authoritative = true;
        reply.answer(Type::A, 5, Data::A(Ipv4Addr::new(192, 0, 2, 1)));
        Step::Answer
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:5300".into());
    let metrics = Metrics::new();
    let block = Block {
        zone: Name::parse("test")?,
        server: "dns://:53".into(),
        zone_label: "test.".into(),
        view: "".into(),
        chain: Arc::new(Chain::new(vec![Counting.into(), Fixed.into()])),
        counters: metrics.dns.zone("dns://:53", "test.", ""),
        feed: Arc::default(),
    };
    let mut servers = Servers::new(
        tokio::runtime::Handle::current(),
        Limits::default(),
        Arc::clone(&metrics),
    );
    servers.apply(vec![ListenerConfig {
        listener: Listener {
            scheme: Scheme::Dns,
            address: address.parse()?,
        },
        label: "dns://:53".into(),
        routes: Routes::new([Route::from(Arc::new(block))]),
        streams: StreamSettings::default(),
        udp_threads: None,
        tls: None,
        proxy: None,
    }])?;
    tokio::signal::ctrl_c().await?;
    servers.drain(std::time::Duration::from_secs(5)).await;
    Ok(())
}
