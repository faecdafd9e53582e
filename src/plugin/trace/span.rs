//! Spans in the forms of two collectors: Zipkin's JSON, version 2, and that of Datadog's agent
//! (traces API, version 0.3).

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

/// Whose form spans have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// A list of spans.
    Zipkin,
    /// A list of traces, each a list of spans; with the share of them that is to be analysed, 0 to 1.
    Datadog(f64),
}

/// Something that took time.
pub(super) struct Span {
    /// The trace's number, which is that of its outermost span.
    pub(super) trace: u64,
    /// Its own.
    pub(super) id: u64,
    pub(super) name: &'static str,
    /// What it was about, for those who group by it.
    pub(super) resource: String,
    pub(super) begun: Instant,
    pub(super) took: Duration,
    pub(super) tags: BTreeMap<&'static str, String>,
}

/// Who makes spans, in one form.
pub(super) struct Maker {
    form: Form,
    service: String,
    /// As Zipkin tells it.
    endpoint: Value,
}

impl Maker {
    /// For a service that is served there.
    pub(super) fn new(form: Form, service: &str, served: Option<&SocketAddr>) -> Self {
        let mut endpoint = json!({ "serviceName": service });
        if let Some(served) = served.filter(|served| !served.ip().is_unspecified()) {
            let family = if served.is_ipv4() { "ipv4" } else { "ipv6" };
            endpoint[family] = json!(served.ip().to_string());
            endpoint["port"] = json!(served.port());
        }
        Self {
            form,
            service: service.to_owned(),
            endpoint,
        }
    }

    /// What is posted for a span, between commas.
    pub(super) fn made(&self, span: &Span) -> Value {
        match self.form {
            Form::Zipkin => self.zipkin(span),
            Form::Datadog(rate) => json!([self.datadog(span, rate)]),
        }
    }

    fn zipkin(&self, span: &Span) -> Value {
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

    fn datadog(&self, span: &Span, rate: f64) -> Value {
        let is_outermost = span.id == span.trace;
        let failed = span.tags.contains_key("error");
        let mut meta: BTreeMap<&str, &str> = span.tags.iter().map(|(k, v)| (*k, &**v)).collect();
        if let Some(error) = meta.remove("error") {
            meta.insert("error.msg", error);
        }
        let mut made = json!({
            "trace_id": span.trace,
            "span_id": span.id,
            "parent_id": if is_outermost { 0 } else { span.trace },
            "service": self.service,
            "name": span.name,
            "resource": span.resource,
            "type": "dns",
            "start": nanoseconds(since_epoch(span.begun)),
            "duration": nanoseconds(span.took),
            "error": i32::from(failed),
            "meta": meta,
        });
        if is_outermost {
            // All of them are kept: which queries are traced was decided here.
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
