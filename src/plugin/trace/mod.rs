//! `trace`: tells a collector of Zipkin's or Datadog's how long queries took, and which upstreams
//! they met.
//!
//! One span a query, with its name, type and code, and below it one for each try at an upstream.
//! `parse` is the Corefile's form, `span` the collectors', `report` takes spans there. A query that is not
//! traced costs one look at a counter.

mod parse;
mod report;
mod span;

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub use parse::parse;
pub use span::Form;

use super::{
    Block, Build, BuildError, Context, Plugin, Setup, Step, Written,
    forward::{ExchangeObserver, OfferedObserver},
};
use crate::{
    query::{Query, Traced},
    reply::Reply,
    upstream::Tried,
    wire::Rcode,
};
use report::Reporter;
use span::{Maker, Span};

/// The Corefile's word.
const NAME: &str = "trace";

/// The metadata label of a query's trace.
const TRACE_ID: &str = "trace/traceid";

/// What the directive says.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Whose form spans have.
    pub form: Form,
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
            maker: Maker::new(self.form, &self.service, served),
        });
        let observer = OfferedObserver(Arc::clone(&tracer) as _);
        build.offered.push(Arc::new(observer));
        Ok(Arc::new(Trace {
            tracer,
            every: self.every,
            count: AtomicU64::new(0),
        }))
    }
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
    maker: Maker,
}

impl Tracer {
    /// A client was answered.
    fn answered(&self, traced: Traced, query: &Query, reply: &Reply, written: Written) {
        let asked = &query.asked;
        let mut tags = BTreeMap::from([
            ("coredns.io/name", asked.lower.to_string()),
            ("coredns.io/type", asked.rtype.to_string()),
            ("coredns.io/rcode", reply.rcode.to_string()),
            ("coredns.io/proto", query.transport.label().to_owned()),
            (
                "coredns.io/remote",
                query.client.ip().to_canonical().to_string(),
            ),
        ]);
        if let (Rcode::SERVFAIL, Some(cause)) = (reply.rcode, &reply.cause) {
            tags.insert("error", cause.to_string());
        }
        self.push(&Span {
            trace: traced.id,
            id: traced.id,
            name: "servedns",
            resource: asked.lower.to_string(),
            begun: query.received,
            took: written.took,
            tags,
        });
    }

    fn push(&self, span: &Span) {
        self.reporter.push(&self.maker.made(span));
    }
}

impl ExchangeObserver for Tracer {
    fn observes(&self, query: &Query) -> bool {
        query.traced.is_some()
    }

    fn exchanged(&self, _: &Block, query: &Query, tried: &Tried<'_>) {
        let Some(traced) = query.traced else { return };
        let mut tags = BTreeMap::from([("peer.address", tried.upstream.to_string())]);
        if tried.reply.is_none() {
            tags.insert("error", "no answer".to_owned());
        }
        self.push(&Span {
            trace: traced.id,
            id: number_of_span(),
            name: "connect",
            resource: tried.upstream.to_string(),
            begun: tried.begun,
            took: tried.took,
            tags,
        });
    }
}

/// Any but 0, which means none.
fn number_of_span() -> u64 {
    rand::random_range(1..=u64::MAX)
}
