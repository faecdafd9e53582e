//! The state of the process: version, objects of the cluster, and rates while somebody looks.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::{
    cluster::{Cluster, Kind},
    query_feed::{AnsweredQuery, QueryFeed, QueryWatcher, Subscription},
    wire::Rcode,
};

/// The state of a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of Lodestone.
    pub version: String,
    /// Process id, in the process's own namespace.
    pub pid: u32,
    /// Hash of the Corefile.
    pub configuration: String,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// The cluster; `None` without `kubernetes`.
    pub cluster: Option<ClusterStatus>,
    /// The zones of each listener.
    pub zones: Vec<ServedZone>,
    /// Queries since somebody began to look.
    pub counters: Counters,
}

/// The state of the cluster's objects.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// `synced`, `not synced`, or that objects of the previous configuration are served.
    pub state: String,
    /// The kinds of objects.
    pub resources: Vec<ResourceStatus>,
}

/// The state of the objects of one kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResourceStatus {
    /// `services`.
    pub name: String,
    /// Number of objects.
    pub count: u64,
    /// Seconds since the last contact with their source; `None` before the first.
    pub age_s: Option<u64>,
}

/// A zone of a listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServedZone {
    /// `dns://:53`
    pub listener: String,
    /// `cluster.local.`
    pub zone: String,
}

/// Cumulative counters.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Answered queries.
    pub queries: u64,
    /// By response code.
    pub rcodes: BTreeMap<String, u64>,
    /// Cumulative numbers by duration: upper bound in seconds, the last without one.
    pub latency: Vec<(Option<f64>, u64)>,
}

/// Counts the queries while their number is asked for, so that it costs nothing otherwise.
pub(super) struct RateCounters {
    feed: Arc<QueryFeed>,
    active: Arc<Mutex<Option<ActiveCounters>>>,
}

struct ActiveCounters {
    counts: Arc<RateCounts>,
    last_read: Instant,
    _subscription: Subscription,
}

/// Time without a request after which counting ends.
const IDLE: Duration = Duration::from_secs(30);

/// Bounds of durations in microseconds: 2, 4, ... 2^22, some four seconds.
const BOUNDS: u32 = 22;
/// Response codes with a counter of their own; the last is for all others.
const RCODES: usize = 24;

struct RateCounts {
    rcodes: [AtomicU64; RCODES + 1],
    durations: [AtomicU64; BOUNDS as usize + 1],
}

impl QueryWatcher for RateCounts {
    fn on_answered(&self, answered: &AnsweredQuery<'_>) {
        let rcode = usize::from(answered.reply.rcode.0).min(RCODES);
        self.rcodes[rcode].fetch_add(1, Relaxed);
        let micros = u64::try_from(answered.took.as_micros()).unwrap_or(u64::MAX);
        // The smallest n with micros <= 2^(n + 1).
        let bound = u64::BITS - micros.saturating_sub(1).leading_zeros();
        let slot = bound.saturating_sub(1).min(BOUNDS) as usize;
        self.durations[slot].fetch_add(1, Relaxed);
    }
}

impl RateCounts {
    fn new() -> Self {
        Self {
            rcodes: [const { AtomicU64::new(0) }; RCODES + 1],
            durations: [const { AtomicU64::new(0) }; BOUNDS as usize + 1],
        }
    }

    fn read(&self) -> Counters {
        let mut counters = Counters::default();
        for (code, count) in (0..).zip(&self.rcodes) {
            let count = count.load(Relaxed);
            if count > 0 {
                let name = if usize::from(code) == RCODES {
                    "other".to_owned()
                } else {
                    Rcode(code).to_string()
                };
                counters.rcodes.insert(name, count);
            }
        }
        for (slot, count) in (0..).zip(&self.durations) {
            counters.queries += count.load(Relaxed);
            let bound = (slot < BOUNDS).then(|| f64::from(2_u32 << slot) / 1e6);
            counters.latency.push((bound, counters.queries));
        }
        counters
    }
}

impl RateCounters {
    pub(super) fn new(feed: Arc<QueryFeed>) -> Self {
        Self {
            feed,
            active: Arc::default(),
        }
    }

    /// The counters; all zero at the first call, with which counting begins.
    fn read(&self) -> Counters {
        let mut active = self.active.lock();
        if let Some(active) = &mut *active {
            active.last_read = Instant::now();
            return active.counts.read();
        }
        let counts = Arc::new(RateCounts::new());
        *active = Some(ActiveCounters {
            _subscription: self.feed.subscribe(Arc::clone(&counts) as _),
            last_read: Instant::now(),
            counts: Arc::clone(&counts),
        });
        tokio::spawn(end_when_idle(Arc::downgrade(&self.active)));
        counts.read()
    }
}

/// Ends counting when the counters were not read for a while.
async fn end_when_idle(counters: Weak<Mutex<Option<ActiveCounters>>>) {
    let mut wait = IDLE;
    loop {
        tokio::time::sleep(wait).await;
        let Some(counters) = counters.upgrade() else {
            return;
        };
        let mut active = counters.lock();
        let idle = active.as_ref().map_or(IDLE, |it| it.last_read.elapsed());
        match IDLE.checked_sub(idle) {
            Some(left) if !left.is_zero() => wait = left,
            _ => {
                *active = None;
                return;
            }
        }
    }
}

/// The present state.
pub(super) fn status(shared: &Shared) -> Status {
    let serving = shared.serving.load();
    let zones = serving.zones.iter().map(|(listener, zone)| ServedZone {
        listener: listener.clone(),
        zone: zone.clone(),
    });
    let cluster = serving.clusters.first();
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        configuration: super::configuration(serving.configuration),
        uptime_s: shared.started.elapsed().as_secs(),
        cluster: cluster.map(|view| cluster_status(view.cluster())),
        zones: zones.collect(),
        counters: shared.rates.read(),
    }
}

fn cluster_status(cluster: &Cluster) -> ClusterStatus {
    let stats = cluster.stats();
    let unsynced: Vec<Kind> = cluster.unsynced().collect();
    let resources = Kind::ALL.into_iter().filter_map(|kind| {
        let age = stats.age(kind);
        (age.is_some() || unsynced.contains(&kind)).then(|| ResourceStatus {
            name: kind.resource().to_owned(),
            count: stats.objects(kind),
            age_s: age.map(|age| age.as_secs()),
        })
    });
    ClusterStatus {
        state: cluster.sync_state().into_owned(),
        resources: resources.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{query::Query, reply::Reply};

    #[test]
    fn durations_are_counted_below_their_bound() {
        let counts = RateCounts::new();
        let (query, reply) = (Query::default(), Reply::default());
        for micros in [0, 2, 3, 4, 5, 5_000_000] {
            counts.on_answered(&AnsweredQuery {
                query: &query,
                reply: &reply,
                took: Duration::from_micros(micros),
                describe: &|_| {},
            });
        }
        let read = counts.read();
        assert_eq!(read.queries, 6);
        assert_eq!(read.rcodes["NOERROR"], 6);
        assert_eq!(read.latency[0], (Some(2e-6), 2));
        assert_eq!(read.latency[1], (Some(4e-6), 4));
        assert_eq!(read.latency[2], (Some(8e-6), 5));
        assert_eq!(read.latency.last(), Some(&(None, 6)));
    }
}
