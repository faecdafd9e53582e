//! Answers from a snapshot: a short TTL, and an extended error with their age.

use std::time::Duration;

use crate::{
    cluster::{Cluster, LoadedSnapshot},
    reply::{ExtendedError, Reply, Why},
    wire::Rcode,
};

/// Maximum TTL in seconds: the API server's list may come at any time.
const MAX_TTL: u32 = 5;
/// INFO-CODE "Stale Answer" (RFC 8914 section 4.4).
const STALE_ANSWER: u16 = 3;
/// INFO-CODE "Stale NXDOMAIN Answer" (RFC 8914 section 4.20).
const STALE_NXDOMAIN: u16 = 19;

/// Marks a reply if the cluster serves a snapshot.
pub(super) fn mark(cluster: &Cluster, reply: &mut Reply) {
    if cluster.began_with_snapshot() {
        mark_restored(cluster, reply);
    }
}

/// Out of line, so that it costs answers of a usual start nothing.
#[cold]
#[inline(never)]
fn mark_restored(cluster: &Cluster, reply: &mut Reply) {
    if let Some(snapshot) = cluster.snapshot() {
        mark_by(snapshot, reply);
    }
}

/// Marks a reply with the records of a snapshot.
#[cold]
pub(super) fn mark_by(snapshot: LoadedSnapshot, reply: &mut Reply) {
    // A failure because of what the snapshot lacks has a reason of its own.
    if reply.why == Why::NotSynced {
        return;
    }
    for record in reply.records_mut() {
        record.ttl = record.ttl.min(MAX_TTL);
    }
    let code = if reply.rcode == Rcode::NXDOMAIN {
        STALE_NXDOMAIN
    } else {
        STALE_ANSWER
    };
    reply.extended_error.get_or_insert_with(|| {
        let text = format!(
            "from a snapshot of the cluster, {} old",
            age(snapshot.age())
        );
        ExtendedError {
            code,
            text: text.into(),
        }
    });
}

/// `12 s`, `7 min`, `3 h`
fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_one_unit() {
        let shown = |seconds| age(Duration::from_secs(seconds));
        assert_eq!(shown(119), "119 s");
        assert_eq!(shown(120), "2 min");
        assert_eq!(shown(7_199), "119 min");
        assert_eq!(shown(7_200), "2 h");
    }
}
