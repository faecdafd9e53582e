//! `trace`: tells a collector of Zipkin how long queries took, and which upstreams they met.
//!
//! One span a query, with its name, type and code, and below it one for each try at an upstream.
//! `parse` is the Corefile's form, `report` takes spans to the collector. A query that is not
//! traced costs one look at a counter.

mod parse;
mod report;

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

pub use parse::parse;

use super::{Block, Build, BuildError, Context, Plugin, Setup, Step, Written};
use crate::{
    query::{Query, Traced},
    reply::Reply,
    upstream::Tried,
    wire::Rcode,
};
use report::Reporter;

/// The Corefile's word.
const NAME: &str = "trace";

/// The metadata label of a query's trace.
const TRACE_ID: &str = "trace/traceid";

/// What the directive says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// Where spans are posted.
    pub endpoint: String,
    /// One query of so many is traced; 0 for none.
    pub every: u64,
    /// Who we say we are.
    pub service: String,
    /// Spans that may wait.
    pub backlog: usize,
    /// Spans that are posted as soon as there are so many.
    pub batch: usize,
    /// How long fewer wait.
    pub interval: Duration,
}

impl Setup for Config {
    fn offers(&self) -> bool {
        true
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        let key = format!("{self:?}");
        let kept = build
            .parts
            .keep(&key, || Reporter::open(self, build.runtime));
        let reporter = kept.map_err(|source| BuildError {
            plugin: NAME,
            action: format!("cannot post to {}", self.endpoint),
            source: Some(source),
        })?;
        let served = build.addresses.first();
        let tracer = Arc::new(Tracer {
            reporter,
            endpoint: endpoint(&self.service, served),
        });
        build.offered.push(Arc::clone(&tracer) as _);
        Ok(Arc::new(Trace {
            tracer,
            every: self.every,
            count: AtomicU64::new(0),
        }))
    }
}

/// Who we are, as spans tell it.
fn endpoint(service: &str, served: Option<&SocketAddr>) -> Value {
    let mut endpoint = json!({ "serviceName": service });
    if let Some(served) = served.filter(|served| !served.ip().is_unspecified()) {
        let family = if served.is_ipv4() { "ipv4" } else { "ipv6" };
        endpoint[family] = json!(served.ip().to_string());
        endpoint["port"] = json!(served.port());
    }
    endpoint
}

/// The plugin.
struct Trace {
    tracer: Arc<Tracer>,
    every: u64,
    count: AtomicU64,
}

impl Plugin for Trace {
    fn name(&self) -> &'static str {
        NAME
    }

    fn ask(&self, _: &Context<'_>, query: &mut Query, _: &mut Reply) -> Step {
        // What plugins ask is part of what the client asked.
        if self.every > 0 && query.depth == 0 && query.traced.is_none() {
            let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
            if number.is_multiple_of(self.every) {
                query.traced = Some(Traced {
                    id: number_of_span(),
                });
            }
        }
        Step::Pass
    }

    fn observes(&self) -> bool {
        true
    }

    fn wrote(&self, _: &Block, query: &Query, reply: &Reply, written: Written) {
        if let Some(traced) = query.traced {
            self.tracer.answered(traced, query, reply, written);
        }
    }

    fn ended(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        Some(Box::pin(self.tracer.reporter.end()))
    }

    fn metadata(&self, query: &Query, label: &str) -> Option<String> {
        let traced = query.traced.filter(|_| label == TRACE_ID)?;
        Some(format!("{:016x}", traced.id))
    }
}

/// What makes spans, for the plugin and for `forward`.
pub struct Tracer {
    reporter: Arc<Reporter>,
    endpoint: Value,
}

impl Tracer {
    /// A client was answered.
    fn answered(&self, traced: Traced, query: &Query, reply: &Reply, written: Written) {
        let mut tags = json!({
            "coredns.io/name": query.asked.lower.to_string(),
            "coredns.io/type": query.asked.rtype.to_string(),
            "coredns.io/rcode": reply.rcode.to_string(),
            "coredns.io/proto": query.transport.label(),
            "coredns.io/remote": query.client.ip().to_canonical().to_string(),
        });
        if let (Rcode::SERVFAIL, Some(cause)) = (reply.rcode, &reply.cause) {
            tags["error"] = json!(cause);
        }
        self.reporter.push(&json!({
            "traceId": format!("{:016x}", traced.id),
            "id": format!("{:016x}", traced.id),
            "kind": "SERVER",
            "name": "servedns",
            "timestamp": microseconds(query.received),
            "duration": duration(written.took),
            "localEndpoint": self.endpoint,
            "tags": tags,
        }));
    }

    /// An upstream was asked for a query that is traced.
    pub fn connected(&self, traced: Traced, tried: &Tried<'_>) {
        let mut tags = json!({ "peer.address": tried.upstream.to_string() });
        if tried.reply.is_none() {
            tags["error"] = json!("no answer");
        }
        self.reporter.push(&json!({
            "traceId": format!("{:016x}", traced.id),
            "parentId": format!("{:016x}", traced.id),
            "id": format!("{:016x}", number_of_span()),
            "name": "connect",
            "timestamp": microseconds(tried.begun),
            "duration": duration(tried.took),
            "localEndpoint": self.endpoint,
            "tags": tags,
        }));
    }
}

/// Any but 0, which means none.
fn number_of_span() -> u64 {
    rand::random_range(1..=u64::MAX)
}

fn microseconds(moment: Instant) -> u64 {
    let then = SystemTime::now() - moment.elapsed();
    let since = then.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// At least one microsecond: Zipkin takes 0 for unknown.
fn duration(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1)
}
