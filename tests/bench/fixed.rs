//! What the server costs by itself: every name under `test` has one address, which costs nothing
//! to find. Run it with an address to listen on, and load it with dnsperf.

use std::{net::Ipv4Addr, sync::Arc};

use lodestone::{
    metrics::Metrics,
    plugin::{Block, Chain, Context, Plugin, Resolved, Step, Written},
    query::Query,
    reply::{Data, Reply},
    server::{
        Listener, ListenerConfig, Scheme, Servers,
        limits::{Limits, StreamSettings},
        route::{Route, Routes},
    },
    wire::{Name, Type},
};

/// Counts, as every stock configuration does.
struct Counting;

impl Plugin for Counting {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    fn observes(&self) -> bool {
        true
    }

    fn wrote(&self, block: &Block, query: &Query, reply: &Reply, written: Written) {
        block
            .counters
            .count(query, reply, written.octets, written.took);
    }
}

/// Answers; where the name begins with `w`, only after a turn of the scheduler.
struct Fixed;

impl Plugin for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn ask(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
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
        chain: Arc::new(Chain::new(vec![Arc::new(Counting), Arc::new(Fixed)])),
        counters: metrics.dns.zone("dns://:53", "test.", ""),
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
