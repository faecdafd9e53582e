//! Spans in two formats: Zipkin JSON version 2, and the JSON of the Datadog agent's trace API
//! version 0.3.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

/// The format of spans.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Format {
    /// A list of spans.
    Zipkin,
    /// A list of traces, each a list of spans, with the analytics rate from 0 to 1.
    Datadog(f64),
}

/// A timed operation.
pub(super) struct TraceSpan {
    /// The trace id, which is the id of its root span.
    pub(super) trace: u64,
    /// The span id.
    pub(super) id: u64,
    pub(super) name: &'static str,
    /// The resource that Datadog groups spans by.
    pub(super) resource: String,
    pub(super) begun: Instant,
    pub(super) took: Duration,
    pub(super) tags: BTreeMap<&'static str, String>,
}

/// Encodes spans in one format.
pub(super) struct SpanEncoder {
    format: Format,
    service: String,
    /// The local endpoint in Zipkin's format.
    endpoint: Value,
}

impl SpanEncoder {
    /// An encoder for a service at this address.
    pub(super) fn new(format: Format, service: &str, served: Option<&SocketAddr>) -> Self {
        let mut endpoint = json!({ "serviceName": service });
        if let Some(served) = served.filter(|served| !served.ip().is_unspecified()) {
            let family = if served.is_ipv4() { "ipv4" } else { "ipv6" };
            endpoint[family] = json!(served.ip().to_string());
            endpoint["port"] = json!(served.port());
        }
        Self {
            format,
            service: service.to_owned(),
            endpoint,
        }
    }

    /// The JSON value that is posted for a span.
    pub(super) fn encode(&self, span: &TraceSpan) -> Value {
        match self.format {
            Format::Zipkin => self.zipkin(span),
            Format::Datadog(rate) => json!([self.datadog(span, rate)]),
        }
    }

    fn zipkin(&self, span: &TraceSpan) -> Value {
        let hexadecimal = |number: u64| format!("{number:016x}");
        let mut made = json!({
            "traceId": hexadecimal(span.trace),
            "id": hexadecimal(span.id),
            "name": span.name,
            "timestamp": microseconds(since_epoch(span.begun)),
            // Zipkin takes 0 for unknown.
            "duration": microseconds(span.took).max(1),
            "localEndpoint": self.endpoint,
            "tags": span.tags,
        });
        if span.id == span.trace {
            made["kind"] = json!("SERVER");
        } else {
            made["parentId"] = json!(hexadecimal(span.trace));
        }
        made
    }

    fn datadog(&self, span: &TraceSpan, rate: f64) -> Value {
        let is_root = span.id == span.trace;
        let failed = span.tags.contains_key("error");
        let mut meta: BTreeMap<&str, &str> = span.tags.iter().map(|(k, v)| (*k, &**v)).collect();
        if let Some(error) = meta.remove("error") {
            meta.insert("error.msg", error);
        }
        let mut made = json!({
            "trace_id": span.trace,
            "span_id": span.id,
            "parent_id": if is_root { 0 } else { span.trace },
            "service": self.service,
            "name": span.name,
            "resource": span.resource,
            "type": "dns",
            "start": nanoseconds(since_epoch(span.begun)),
            "duration": nanoseconds(span.took),
            "error": i32::from(failed),
            "meta": meta,
        });
        if is_root {
            // Keep all traces: sampling is done by `every`.
            made["metrics"] = json!({ "_sampling_priority_v1": 1.0, "_dd1.sr.eausr": rate });
        }
        made
    }
}

fn since_epoch(moment: Instant) -> Duration {
    let then = SystemTime::now() - moment.elapsed();
    then.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn microseconds(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn nanoseconds(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}
