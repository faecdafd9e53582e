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
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub use parse::parse;
pub use span::Form;

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
    fn offers(&self) -> &'static [Offer] {
        &[Offer::ExchangeObservers]
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
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
        // What plugins ask is part of what the client asked.
        if self.every > 0 && query.depth == 0 && query.extensions.get::<Traced>().is_none() {
            let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
            if number.is_multiple_of(self.every) {
                query.extensions.insert(Traced {
                    id: number_of_span(),
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

/// A query's place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traced {
    /// The number of the trace, and of the span of the whole query in it.
    id: u64,
}

impl Extension for Traced {
    fn is_inherited(&self) -> bool {
        true
    }
}

impl Traced {
    /// The place of this query, where it is traced.
    pub fn of(query: &Query) -> Option<Self> {
        query.extensions.get().copied()
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
        self.push(&Span {
            trace: traced.id,
            id: number_of_span(),
            name: "connect",
            resource: tried.upstream.to_string(),
            begun: tried.started,
            took: tried.duration,
            tags,
        });
    }
}

/// Any but 0, which means none.
fn number_of_span() -> u64 {
    rand::random_range(1..=u64::MAX)
}
