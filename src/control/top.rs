//! The most frequent names, clients, mistakes and wasted search steps, counted while somebody waits for them.
//!
//! Counts are sketches of a fixed size (Space-Saving, Metwally et al. 2005): a key that is frequent is in it,
//! and its count is at most one part in [`CAPACITY`] of all queries too high.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::tail::client;
use crate::{
    query_feed::{AnsweredQuery, QueryFeed, QueryWatcher},
    wire::{Name, NameRef, Rcode},
    zone::ClusterView,
};

/// The most frequent keys of a time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Top {
    /// How long queries were counted, in seconds.
    pub seconds: f64,
    /// Answered queries.
    pub queries: u64,
    /// Queried names.
    pub names: Vec<KeyCount>,
    /// Addresses of clients.
    pub clients: Vec<KeyCount>,
    /// Ends of names that do not exist: the last two labels, or more below a cluster's zone.
    pub nxdomain: Vec<KeyCount>,
    /// Names that were queried in vain with a domain of a search list: a dot at their end saves these queries.
    pub wasted: Vec<KeyCount>,
}

/// A key and its number of queries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCount {
    /// The key.
    pub key: String,
    /// The number.
    pub count: u64,
}

/// Number of keys in a sketch.
const CAPACITY: usize = 1024;

/// Counts of the most frequent keys.
struct Sketch<K> {
    counts: HashMap<K, u64, foldhash::fast::RandomState>,
}

impl<K> Default for Sketch<K> {
    fn default() -> Self {
        Self {
            counts: HashMap::default(),
        }
    }
}

impl<K: Eq + std::hash::Hash + Clone + Ord> Sketch<K> {
    fn add(&mut self, key: K) {
        if let Some(count) = self.counts.get_mut(&key) {
            *count += 1;
            return;
        }
        let mut inherited = 0;
        if self.counts.len() >= CAPACITY {
            let rarest = self.counts.iter().min_by_key(|(_, count)| **count);
            let Some((rarest, count)) = rarest.map(|(key, count)| (key.clone(), *count)) else {
                return;
            };
            self.counts.remove(&rarest);
            inherited = count;
        }
        self.counts.insert(key, inherited + 1);
    }

    fn top(&self, limit: usize, text: impl Fn(&K) -> String) -> Vec<KeyCount> {
        let mut counts: Vec<_> = self.counts.iter().collect();
        counts.sort_by(|(key, count), (other, more)| more.cmp(count).then(key.cmp(other)));
        let counts = counts
            .into_iter()
            .take(limit)
            .map(|(key, &count)| KeyCount {
                key: text(key),
                count,
            });
        counts.collect()
    }
}

struct TopWatcher {
    clusters: Vec<Arc<ClusterView>>,
    sketches: Mutex<Sketches>,
}

#[derive(Default)]
struct Sketches {
    queries: u64,
    names: Sketch<Box<[u8]>>,
    clients: Sketch<IpAddr>,
    nxdomain: Sketch<Box<[u8]>>,
    wasted: Sketch<Box<[u8]>>,
}

impl QueryWatcher for TopWatcher {
    fn on_answered(&self, answered: &AnsweredQuery<'_>) {
        let name = answered.query.original.name.to_lower();
        let denied = (answered.reply.rcode == Rcode::NXDOMAIN).then(|| self.split(name.as_ref()));
        let mut sketches = self.sketches.lock();
        sketches.queries += 1;
        sketches.names.add(name.as_wire().into());
        sketches.clients.add(client(answered));
        if let Some(DeniedName { suffix, searched }) = denied {
            sketches.nxdomain.add(suffix.as_wire().into());
            if let Some(searched) = searched {
                sketches.wasted.add(searched.as_wire().into());
            }
        }
    }
}

/// A name that does not exist.
struct DeniedName {
    /// The search domain that it ends with, or its last two labels.
    suffix: Name,
    /// The name before the search domain.
    searched: Option<Name>,
}

impl TopWatcher {
    /// Splits a name into what was looked for and the domain of a search list, if it ends with one of a pod.
    fn split(&self, name: NameRef<'_>) -> DeniedName {
        for view in &self.clusters {
            let zones = view.zones().iter().filter(|zone| !zone.is_reverse());
            for zone in zones {
                let Some(labels) = name.strip(zone.name().as_ref()) else {
                    continue;
                };
                let labels: Vec<&[u8]> = labels.collect();
                let is_namespace = |label: &[u8]| {
                    let label = std::str::from_utf8(label);
                    label.is_ok_and(|label| view.serves_namespace(label))
                };
                let searched = match labels.as_slice() {
                    [searched @ .., namespace, b"svc"] if is_namespace(namespace) => searched,
                    [searched @ .., b"svc"] | searched => searched,
                };
                return DeniedName {
                    suffix: end_of(name, searched.len()),
                    searched: Name::from_labels(searched.iter().copied(), Name::ROOT.as_ref())
                        .ok()
                        .filter(|_| !searched.is_empty()),
                };
            }
        }
        DeniedName {
            suffix: end_of(name, name.label_count().saturating_sub(2)),
            searched: None,
        }
    }
}

/// A name without its first labels.
fn end_of(name: NameRef<'_>, labels: usize) -> Name {
    let mut end = name;
    for _ in 0..labels {
        match end.parent() {
            Some(parent) => end = parent,
            None => break,
        }
    }
    end.to_name()
}

fn shown(key: &[u8]) -> String {
    NameRef::from_wire(key).map_or_else(|_| String::new(), |name| name.to_string())
}

/// Counts the queries of a time.
pub(super) async fn count(
    feed: &Arc<QueryFeed>,
    clusters: &[Arc<ClusterView>],
    duration: Duration,
    limit: usize,
) -> Top {
    let watcher = Arc::new(TopWatcher {
        clusters: clusters.to_vec(),
        sketches: Mutex::default(),
    });
    let started = tokio::time::Instant::now();
    let subscription = feed.subscribe(Arc::clone(&watcher) as _);
    tokio::time::sleep(duration).await;
    drop(subscription);
    let sketches = watcher.sketches.lock();
    Top {
        seconds: started.elapsed().as_secs_f64(),
        queries: sketches.queries,
        names: sketches.names.top(limit, |key| shown(key)),
        clients: sketches.clients.top(limit, ToString::to_string),
        nxdomain: sketches.nxdomain.top(limit, |key| shown(key)),
        wasted: sketches.wasted.top(limit, |key| shown(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sketch_keeps_its_size_and_its_most_frequent_keys() {
        let mut sketch = Sketch::default();
        for number in 0..20_000_u32 {
            sketch.add(number + 10);
            sketch.add(number % 3);
        }
        assert_eq!(sketch.counts.len(), CAPACITY);
        let top = sketch.top(3, ToString::to_string);
        let keys: Vec<_> = top.iter().map(|it| it.key.as_str()).collect();
        assert_eq!(keys, ["0", "1", "2"]);
        assert!(
            top.iter().all(|it| (6_666..=6_667).contains(&it.count)),
            "{top:?}"
        );
    }

    #[test]
    fn names_without_a_cluster_end_with_two_labels() {
        let watcher = TopWatcher {
            clusters: Vec::new(),
            sketches: Mutex::default(),
        };
        let split = |name: &str| watcher.split(Name::parse(name).unwrap().as_ref());
        assert_eq!(split("a.b.example.com.").suffix.to_string(), "example.com.");
        assert_eq!(split("com.").suffix.to_string(), "com.");
        assert!(split("a.example.com.").searched.is_none());
    }
}
