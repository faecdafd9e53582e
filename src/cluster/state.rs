//! The published state: what readers see, without locks, without waiting and without allocation.
//!
//! Everything about one Service is one [`Entry`], replaced whole, so that its records change
//! together. Two indices lead from an address to entries and pods; they are hints, put in place
//! before the entry and taken away after it: what counts is what the entry itself says.

use super::endpoint::SeenEndpoint;
use super::event::Kind;
use super::named::{Named, NamedBy, NamedIn};
use super::object::{Namespace, Pod, Service, ServiceImport, Slice};
use super::shards::{Found, Shards, Tagged, tag};
use super::stats::Stats;
use futures_util::Stream;
use parking_lot::{Mutex, MutexGuard};
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use tokio::sync::watch;

/// All that is known of the cluster. Shared by all who ask; changed by one [`Writer`] alone.
///
/// [`Writer`]: super::fold::Writer
pub struct Cluster {
    /// Seeded at random, and no secret: what is hashed is what the cluster names.
    hasher: foldhash::fast::RandomState,
    pub(super) namespaces: Shards<Tagged<Namespace>>,
    pub(super) entries: Shards<Tagged<Entry>>,
    pub(super) owners: Shards<Owner>,
    pub(super) pods: Shards<Tagged<Pod>>,
    /// The addresses that have names, of all namespaces; and of each.
    pub(super) named: Named,
    pub(super) named_in: Shards<Tagged<NamedIn>>,
    /// Held while an event is folded, and while one state of the whole is read.
    writing: Mutex<()>,
    /// A bit for each kind that must be listed before anything can be denied.
    wanted: u8,
    /// A bit for each kind that has been listed at least once.
    listed: AtomicU8,
    /// What the cluster before this one knew; see [`Cluster::succeed`].
    inherited: Inherited,
    serial: AtomicU32,
    /// The last serial under which a whole zone was told.
    told: AtomicU32,
    stats: Stats,
    /// Counts publications; `true` beside it once all is listed.
    published: watch::Sender<Published>,
}

/// What a cluster has from the one that it takes the place of.
#[derive(Clone, Copy, Default)]
struct Inherited {
    /// A bit for each kind that had been listed.
    known: u8,
    /// It was served.
    is_ready: bool,
}

/// What those who wait for changes are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Published {
    revision: u64,
    synced: bool,
}

/// Everything about one Service name, at one moment.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which name it is.
    pub key: Arc<EntryKey>,
    /// The Service; without it there are only slices that claim to be its.
    pub service: Option<Arc<Service>>,
    /// Its slices, sorted by name.
    pub slices: Box<[Arc<Slice>]>,
    /// The import of the same name, from other clusters.
    pub import: Option<Arc<ServiceImport>>,
    /// The ServiceImport's slices, sorted by name.
    pub imported: Box<[Arc<Slice>]>,
}

/// The name of an [`Entry`].
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct EntryKey {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The Service's name.
    pub name: Arc<str>,
}

/// An address that an entry has, or one that shares the tag and the bucket with it: there is one
/// for each address of a cluster, so it is small and not exact.
#[derive(Clone)]
pub(super) struct Owner {
    pub(super) tag: u32,
    pub(super) count: Count,
    pub(super) key: Arc<EntryKey>,
}

/// How many times an entry has an address: in several slices, and as its Service's own. Each of the
/// two is counted up to a bound; a count that has reached it stays there, and only says that there
/// may be such an address, as an [`Owner`] always does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    endpoints: u16,
    service: u16,
}

impl Count {
    /// One more, of the Service itself or of an endpoint.
    pub(super) fn add(self, service: bool) -> Self {
        self.step(service, |count| count.saturating_add(1))
    }

    /// One less.
    pub(super) fn remove(self, service: bool) -> Self {
        self.step(service, |count| {
            if count == u16::MAX {
                count
            } else {
                count.saturating_sub(1)
            }
        })
    }

    /// Whether there are none left.
    pub(super) fn is_zero(self) -> bool {
        self == Self::default()
    }

    fn step(mut self, service: bool, step: impl Fn(u16) -> u16) -> Self {
        let count = if service {
            &mut self.service
        } else {
            &mut self.endpoints
        };
        *count = step(*count);
        self
    }
}

impl Cluster {
    /// Of which nothing is known yet; it is synced once all `wanted` kinds have been listed.
    pub fn new(wanted: &[Kind]) -> Self {
        // 8,192 buckets hold some 20 of 150,000 pods each, 4,096 some 25 of 100,000 services: a
        // change copies that many pointers, and an empty bucket costs 8 bytes.
        Self::with_buckets(wanted, 12)
    }

    /// With `2^bits` buckets for entries, and more of what there is more of.
    pub(super) fn with_buckets(wanted: &[Kind], bits: u32) -> Self {
        Self {
            hasher: foldhash::fast::RandomState::default(),
            namespaces: Shards::new(bits.min(8)),
            entries: Shards::new(bits),
            owners: Shards::new(bits + 1),
            pods: Shards::new(bits + 1),
            named: Named::default(),
            named_in: Shards::new(bits.min(8)),
            writing: Mutex::default(),
            wanted: wanted.iter().fold(0, |bits, kind| bits | bit(*kind)),
            listed: AtomicU8::new(0),
            inherited: Inherited::default(),
            serial: AtomicU32::new(0),
            told: AtomicU32::new(0),
            stats: Stats::default(),
            published: watch::Sender::new(Published {
                revision: 0,
                synced: wanted.is_empty(),
            }),
        }
    }

    /// A cluster in the place of another one, which it is served like until its own source has
    /// listed everything: see [`Writer::inherit`], which takes the objects over.
    ///
    /// [`Writer::inherit`]: super::fold::Writer::inherit
    pub(super) fn succeed(before: &Self, wanted: &[Kind]) -> Self {
        let mut cluster = Self::new(wanted);
        cluster.inherited = Inherited {
            // What was not watched in between has no objects to take over.
            known: before.known() & cluster.wanted,
            is_ready: before.is_ready(),
        };
        cluster.stats = before.stats.inherit(wanted);
        cluster.inherit_serial(before);
        cluster
    }

    /// Goes on with the serial of the cluster before: secondaries must not see it go back.
    pub(super) fn inherit_serial(&self, before: &Self) {
        let told = before.told.load(Ordering::SeqCst);
        self.told.store(told, Ordering::SeqCst);
        self.serial.store(before.serial(), Ordering::SeqCst);
    }

    /// Whether there is such a namespace.
    pub fn namespace(&self, name: &str) -> bool {
        let hash = self.hash(name);
        let tag = tag(hash);
        let found = self
            .namespaces
            .find(hash, |it| it.tag == tag && *it.name == *name);
        found.is_some()
    }

    /// What there is under a Service's name. Names are in lower case.
    pub fn entry(&self, namespace: &str, service: &str) -> Option<Found<Tagged<Entry>>> {
        let hash = self.hash((namespace, service));
        let tag = tag(hash);
        self.entries.find(hash, |it| {
            it.tag == tag && *it.key.name == *service && *it.key.namespace == *namespace
        })
    }

    /// The entries that may have this address: as a cluster address, an external one, or that of
    /// an endpoint, ready or not. Whether they do, and in which role, is for the caller to see.
    pub fn owners(&self, address: IpAddr) -> impl Iterator<Item = Found<Tagged<Entry>>> {
        self.owners_where(address, |_| None, |_| true)
    }

    /// The same, those first that come after number `begin` says, of a number at least as large as
    /// that of the entries.
    pub fn owners_from(
        &self,
        address: IpAddr,
        begin: impl FnOnce(usize) -> Option<usize>,
    ) -> impl Iterator<Item = Found<Tagged<Entry>>> {
        self.owners_where(address, begin, |_| true)
    }

    /// The entries whose Service may have this address, as a cluster address or an external one.
    /// Of an address that thousands of Services have an endpoint at, these are few.
    pub fn services_at(&self, address: IpAddr) -> impl Iterator<Item = Found<Tagged<Entry>>> {
        self.owners_where(address, |_| None, |owner| owner.count.service > 0)
    }

    fn owners_where(
        &self,
        address: IpAddr,
        begin: impl FnOnce(usize) -> Option<usize>,
        is: impl Fn(&Owner) -> bool,
    ) -> impl Iterator<Item = Found<Tagged<Entry>>> {
        let hash = self.hash(address);
        let (bucket, tag) = (self.owners.load(hash), tag(hash));
        let (mut at, mut left) = (begin(bucket.len()).unwrap_or(0), bucket.len());
        std::iter::from_fn(move || {
            loop {
                left = left.checked_sub(1)?;
                let owner = bucket.get(at)?;
                at += 1;
                if at == bucket.len() {
                    at = 0;
                }
                if owner.tag == tag
                    && is(owner)
                    && let Some(entry) = self.entry(&owner.key.namespace, &owner.key.name)
                {
                    return Some(entry);
                }
            }
        })
    }

    /// The addresses that have names, in order; those of namespaces too that do not exist.
    pub fn named(&self) -> &Named {
        &self.named
    }

    /// The same of one namespace.
    pub fn any_named(&self, namespace: &str, by: NamedBy, range: RangeInclusive<IpAddr>) -> bool {
        let here = self.named_in(namespace);
        here.is_some_and(|here| here.named.range(by, range).next().is_some())
    }

    pub(super) fn named_in(&self, namespace: &str) -> Option<Found<Tagged<NamedIn>>> {
        let hash = self.hash(namespace);
        let tag = tag(hash);
        self.named_in
            .find(hash, |it| it.tag == tag && *it.namespace == *namespace)
    }

    /// The pods that have this address; more than one where they share their node's.
    pub fn pods(&self, address: IpAddr) -> impl Iterator<Item = Arc<Pod>> + use<> {
        let hash = self.hash(address);
        let tag = tag(hash);
        let bucket = self.pods.load(hash);
        let mut at = 0;
        std::iter::from_fn(move || {
            let is = |pod: &Tagged<Pod>| pod.tag == tag && pod.has(address);
            let found = at + bucket.get(at..)?.iter().position(is)?;
            at = found + 1;
            Some(Arc::clone(&bucket[found].shared))
        })
    }

    /// A pod of this namespace that has this address.
    pub fn pod(&self, namespace: &str, address: IpAddr) -> Option<Found<Tagged<Pod>>> {
        let hash = self.hash(address);
        let tag = tag(hash);
        self.pods.find(hash, |pod| {
            pod.tag == tag && *pod.namespace == *namespace && pod.has(address)
        })
    }

    /// Reads while nothing changes: all that `read` sees is one state. The writer waits meanwhile, so
    /// this is for milliseconds; other readers are not held up.
    pub fn frozen<R>(&self, read: impl FnOnce(&Self) -> R) -> R {
        let _writing = self.writing();
        read(self)
    }

    /// To be held by the writer while it takes an event into the state.
    pub(super) fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock()
    }

    /// Every entry, in no order; each is of one moment, all together need not be, unless they are
    /// read [`frozen`](Self::frozen).
    pub fn entries(&self) -> impl Iterator<Item = Arc<Entry>> {
        self.entries.iter().map(|entry| entry.shared)
    }

    /// Every namespace, in no order.
    pub fn namespaces(&self) -> impl Iterator<Item = Arc<Namespace>> {
        self.namespaces.iter().map(|namespace| namespace.shared)
    }

    /// Whether the source has listed everything at least once. It stays true when the source is
    /// lost: the last known names are served on.
    pub fn synced(&self) -> bool {
        self.listed.load(Ordering::Acquire) & self.wanted == self.wanted
    }

    /// Whether names are served: everything has been listed, or had been listed when the
    /// configuration was changed.
    pub fn is_ready(&self) -> bool {
        self.inherited.is_ready || self.synced()
    }

    /// Whether all objects of a kind are known that are to be: what is not found among them is
    /// not there. True of a kind that is not watched.
    pub fn knows(&self, kind: Kind) -> bool {
        (self.known() | !self.wanted) & bit(kind) != 0
    }

    /// Of which kinds all objects are known, as they were listed by this source or the one before.
    fn known(&self) -> u8 {
        self.listed.load(Ordering::Acquire) | self.inherited.known
    }

    /// The kinds that have not been listed yet.
    pub fn unsynced(&self) -> impl Iterator<Item = Kind> + use<> {
        let missing = self.wanted & !self.listed.load(Ordering::Acquire);
        Kind::ALL
            .into_iter()
            .filter(move |kind| missing & bit(*kind) != 0)
    }

    /// Waits until [`synced`](Self::synced).
    pub async fn synced_event(&self) {
        let mut published = self.published.subscribe();
        // An error says that the sender is gone; it lives as long as self.
        let _ = published.wait_for(|published| published.synced).await;
    }

    /// Waits until `is` holds, looking again after each publication.
    pub async fn wait_for(&self, mut is: impl FnMut(&Self) -> bool) {
        let mut published = self.published.subscribe();
        while !is(self) {
            let _ = published.changed().await;
        }
    }

    /// Unix time in seconds of the last change that an answer could show; 0 before the first.
    /// The serial of the zone's SOA.
    pub fn serial(&self) -> u32 {
        self.serial.load(Ordering::Relaxed)
    }

    /// The [`serial`](Self::serial), for somebody who is told everything under it, to be taken
    /// before anything is read. What changes from now on has a later one, though it be within the
    /// same second: who holds a copy could not tell otherwise that it is old.
    pub fn tell_serial(&self) -> u32 {
        loop {
            let serial = self.serial.load(Ordering::SeqCst);
            self.told.store(serial, Ordering::SeqCst);
            if self.serial.load(Ordering::SeqCst) == serial {
                return serial;
            }
        }
    }

    /// An item whenever something may have changed that an answer shows, for as long as there is
    /// this cluster. Changes are told of together; how often is for whoever listens to say.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        futures_util::stream::unfold(self.published.subscribe(), async |mut published| {
            published.changed().await.ok()?;
            Some(((), published))
        })
    }

    /// Counts and ages, for metrics and explanations.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The hash under which namespaces (a `&str`), entries (a pair of `&str`) and addresses are
    /// kept.
    pub(super) fn hash(&self, key: impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    pub(super) fn set_listed(&self, kind: Kind) {
        self.listed.fetch_or(bit(kind), Ordering::Release);
    }

    /// Something has changed, and readers see it. `now` is Unix time in seconds; by one writer.
    pub(super) fn touch_serial(&self, now: u32) {
        let serial = self.serial.load(Ordering::SeqCst);
        let next = if self.told.load(Ordering::SeqCst) == serial {
            serial.wrapping_add(1)
        } else {
            serial
        };
        self.serial.store(now.max(next), Ordering::SeqCst);
    }

    /// As if the last change had been then.
    #[cfg(test)]
    pub(super) fn set_serial(&self, serial: u32) {
        self.serial.store(serial, Ordering::SeqCst);
    }

    /// Frees the memory of what was replaced some time ago.
    pub(super) fn release(&self) {
        self.namespaces.release();
        self.entries.release();
        self.owners.release();
        self.pods.release();
        self.named_in.release();
    }

    /// Wakes those who wait.
    pub(super) fn announce(&self) {
        let synced = self.synced();
        self.published.send_modify(|published| {
            published.revision += 1;
            published.synced = synced;
        });
    }
}

impl Entry {
    /// Of which nothing is known.
    pub(super) fn empty(key: Arc<EntryKey>) -> Self {
        Self {
            key,
            service: None,
            slices: Box::default(),
            import: None,
            imported: Box::default(),
        }
    }

    /// Whether there is nothing left of it.
    pub(super) fn is_empty(&self) -> bool {
        self.service.is_none()
            && self.slices.is_empty()
            && self.import.is_none()
            && self.imported.is_empty()
    }

    /// Every endpoint of every slice, ready or not.
    pub fn endpoints(&self) -> impl Iterator<Item = SeenEndpoint<'_>> {
        self.slices.iter().flat_map(|slice| &slice.endpoints)
    }
}

fn bit(kind: Kind) -> u8 {
    1 << kind as u8
}
