//! Steps of a walk, as texts for [`Recorder`].

use crate::{
    plugin::Step,
    query::{Query, Recorder},
    reply::{Reply, Section},
};

/// Records what a plugin did with a query.
pub(super) fn step(
    recorder: &Recorder,
    query: &Query,
    plugin: &'static str,
    step: &Step,
    reply: &Reply,
) {
    let action = match step {
        Step::Pass => "passes".to_owned(),
        Step::Answer => format!("answers {}", summary(reply)),
        Step::Drop => "drops the query".to_owned(),
        Step::Forward(_) => "asks its upstream servers".to_owned(),
        Step::Wait(_) => "resolves further names".to_owned(),
    };
    recorder.add(query.depth, plugin, action);
}

/// Records the reply that a plugin waited for.
pub(super) fn resolved(query: &Query, plugin: &'static str, reply: &Reply) {
    let Some(recorder) = &query.recorder else {
        return;
    };
    let mut action = format!("answers {}", summary(reply));
    if let Some(source) = &reply.source {
        action.push_str(", from upstream ");
        action.push_str(&source.upstream);
    }
    if let Some(cause) = &reply.cause {
        action.push_str(": ");
        action.push_str(cause);
    }
    recorder.add(query.depth, plugin, action);
}

/// Records that a plugin has changed a reply, if it has.
pub(super) fn change(
    recorder: &Recorder,
    query: &Query,
    plugin: &'static str,
    before: &str,
    reply: &Reply,
) {
    let after = summary(reply);
    if before != after {
        recorder.add(query.depth, plugin, format!("changes it to {after}"));
    }
}

/// `NOERROR, 1 record (cluster-record)`
pub(super) fn summary(reply: &Reply) -> String {
    let count = reply.section(Section::Answer).len();
    let records = match count {
        0 => "no record".to_owned(),
        1 => "1 record".to_owned(),
        _ => format!("{count} records"),
    };
    format!("{}, {records} ({})", reply.rcode, reply.why.name())
}
