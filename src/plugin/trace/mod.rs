//! `trace`: reports the duration of queries and of their exchanges with upstreams to a Zipkin or
//! Datadog collector.
//!
//! One span per query, with its name, type and code, and a child span for each exchange with an
//! upstream. `parse` parses the directive, `span` encodes spans, `report` posts them. An untraced
//! query costs one atomic increment.

mod parse;
mod report;
mod span;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub use parse::parse;
pub use span::Format;

use super::{
    Block, Build, BuildError, Context, MetadataSource, Observer, Offer, OnQuery, Plugin, Setup,
    Shutdown, Step, Work, Written, forward::ExchangeObserver,
};
use crate::{
    hooks,
    query::{Extension, Query},
    reply::Reply,
    upstream::AttemptReport,
    wire::Rcode,
};
use report::Reporter;
use span::{SpanEncoder, TraceSpan};

/// The directive's name.
const NAME: &str = "trace";

/// The metadata label of a query's trace id.
const TRACE_ID: &str = "trace/traceid";

/// The parsed directive.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The format of spans.
    pub format: Format,
    /// The URL of the collector.
    pub endpoint: String,
    /// Traces one of this many queries; 0 traces none.
    pub every: u64,
    /// The service name.
    pub service: String,
    /// Maximum number of unsent spans.
    pub backlog: usize,
    /// Number of spans that triggers a post.
    pub batch: usize,
    /// Interval of posts with fewer spans.
    pub interval: Duration,
}

impl Setup for Config {
    fn offers(&self) -> &'static [Offer] {
        &[Offer::ExchangeObservers]
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        let key = format!("{self:?}");
        let kept = build
            .resources
            .keep(&key, || Reporter::open(self, build.runtime));
        let reporter = kept.map_err(|source| BuildError {
            plugin: NAME,
            action: format!("cannot post to {}", self.endpoint),
            source: Some(source),
        })?;
        let served = build.addresses.first();
        let tracer = Arc::new(Tracer {
            reporter,
            encoder: SpanEncoder::new(self.format, &self.service, served),
        });
        build
            .offers
            .exchange_observers
            .push(Arc::clone(&tracer) as _);
        Ok(Plugin::from(Trace {
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

hooks!(Trace, NAME => on_query, observer, metadata, shutdown);

impl OnQuery for Trace {
    fn on_query(&self, _: &Context<'_>, query: &mut Query, _: &mut Reply) -> Step {
        // Sub-queries belong to the client's query.
        if self.every > 0 && query.depth == 0 && query.extensions.get::<Traced>().is_none() {
            let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
            if number.is_multiple_of(self.every) {
                query.extensions.insert(Traced {
                    id: random_span_id(),
                });
            }
        }
        Step::Pass
    }
}

impl Observer for Trace {
    fn on_sent(&self, _: &Block, query: &Query, reply: &Reply, written: Written) {
        if let Some(traced) = Traced::of(query) {
            self.tracer.answered(traced, query, reply, written);
        }
    }
}

impl MetadataSource for Trace {
    fn metadata(&self, query: &Query, _: Option<&Reply>, label: &str) -> Option<String> {
        let traced = Traced::of(query).filter(|_| label == TRACE_ID)?;
        Some(format!("{:016x}", traced.id))
    }
}

impl Shutdown for Trace {
    fn ended(&self) -> Work {
        Box::pin(self.tracer.reporter.end())
    }
}

/// Marks a traced query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traced {
    /// The id of the trace, and of its root span.
    id: u64,
}

impl Extension for Traced {
    fn is_inherited(&self) -> bool {
        true
    }
}

impl Traced {
    /// The mark of this query, if it is traced.
    pub fn of(query: &Query) -> Option<Self> {
        query.extensions.get().copied()
    }
}

/// Creates spans for the plugin and for `forward`.
pub struct Tracer {
    reporter: Arc<Reporter>,
    encoder: SpanEncoder,
}

impl Tracer {
    /// Reports the span of an answered query.
    fn answered(&self, traced: Traced, query: &Query, reply: &Reply, written: Written) {
        let asked = &query.original;
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
        self.push(&TraceSpan {
            trace: traced.id,
            id: traced.id,
            name: "servedns",
            resource: asked.lower.to_string(),
            begun: query.received,
            took: written.took,
            tags,
        });
    }

    fn push(&self, span: &TraceSpan) {
        self.reporter.push(&self.encoder.encode(span));
    }
}

impl ExchangeObserver for Tracer {
    fn observes(&self, query: &Query) -> bool {
        Traced::of(query).is_some()
    }

    fn exchanged(&self, _: &Block, query: &Query, tried: &AttemptReport<'_>) {
        let Some(traced) = Traced::of(query) else {
            return;
        };
        let mut tags = BTreeMap::from([("peer.address", tried.upstream.to_string())]);
        if tried.reply.is_none() {
            tags.insert("error", "no answer".to_owned());
        }
        self.push(&TraceSpan {
            trace: traced.id,
            id: random_span_id(),
            name: "connect",
            resource: tried.upstream.to_string(),
            begun: tried.started,
            took: tried.duration,
            tags,
        });
    }
}

/// A random span id other than 0, which means none.
fn random_span_id() -> u64 {
    rand::random_range(1..=u64::MAX)
}
