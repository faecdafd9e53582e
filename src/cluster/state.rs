//! The published state, which readers access without locks, waiting or allocation.
//!
//! All data of one Service is one [`ServiceEntry`], replaced as a whole, so that its records change
//! together. Two indices lead from an address to entries and to pods. Index entries are hints,
//! inserted before the entry changes and removed after; the entry itself is authoritative.

use super::address_index::{AddressIndex, AddressRole, NamespaceAddresses};
use super::endpoint::EndpointRef;
use super::event::Kind;
use super::object::{EndpointSlice, Namespace, Pod, Service, ServiceImport};
use super::shards::{BucketRef, Shards, Tagged, tag};
use super::stats::Stats;
use futures_util::Stream;
use parking_lot::{Mutex, MutexGuard};
use std::borrow::Cow;
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// The state of the cluster. Shared by all readers; changed by one [`StateWriter`] only.
///
/// [`StateWriter`]: super::fold::StateWriter
pub struct Cluster {
    /// Randomly seeded; flooding is not a threat, as keys come from the cluster.
    hasher: foldhash::fast::RandomState,
    pub(super) namespaces: Shards<Tagged<Namespace>>,
    pub(super) entries: Shards<Tagged<ServiceEntry>>,
    pub(super) owners: Shards<AddressOwner>,
    pub(super) pods: Shards<Tagged<Pod>>,
    /// Addresses that have names: in all namespaces, and per namespace.
    pub(super) addresses: AddressIndex,
    pub(super) namespace_addresses: Shards<Tagged<NamespaceAddresses>>,
    /// Held while an event is folded, and during a consistent read.
    writing: Mutex<()>,
    /// Bit set of the kinds that must be listed before a name can be denied.
    wanted: u8,
    /// Bit set of the kinds listed at least once.
    listed: AtomicU8,
    /// State inherited from the replaced cluster; see [`Cluster::replacing`].
    inherited: Inherited,
    /// Whether all objects of the snapshot were loaded.
    is_snapshot_complete: AtomicBool,
    serial: AtomicU32,
    /// The last serial published with a zone transfer.
    published_serial: AtomicU32,
    stats: Stats,
    /// Wakes tasks that wait for changes.
    notifications: watch::Sender<Notification>,
}

/// Facts inherited from the replaced cluster.
#[derive(Clone, Copy, Default)]
struct Inherited {
    /// Bit set of the kinds that had been listed.
    listed: u8,
    /// Whether it was ready.
    is_ready: bool,
    /// The snapshot that is served until everything is listed.
    snapshot: Option<LoadedSnapshot>,
}

/// A loaded snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadedSnapshot {
    /// When its objects were last known to be current.
    pub current_at: SystemTime,
    /// Age up to which names that it lacks are denied; zero for never.
    pub denial_age: Duration,
}

impl LoadedSnapshot {
    /// Time since its objects were known to be current.
    pub fn age(&self) -> Duration {
        self.current_at.elapsed().unwrap_or_default()
    }

    fn without_denial(mut self) -> Self {
        self.denial_age = Duration::ZERO;
        self
    }
}

/// Sent to waiting tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Notification {
    revision: u64,
    synced: bool,
}

/// All objects of one Service name: a consistent snapshot.
#[derive(Clone, Debug)]
pub struct ServiceEntry {
    /// The name.
    pub key: Arc<ServiceKey>,
    /// The Service; absent if there are only slices that refer to it.
    pub service: Option<Arc<Service>>,
    /// The Service's EndpointSlices, sorted by name.
    pub slices: Box<[Arc<EndpointSlice>]>,
    /// The ServiceImport of the same name.
    pub import: Option<Arc<ServiceImport>>,
    /// The ServiceImport's EndpointSlices, sorted by name.
    pub imported: Box<[Arc<EndpointSlice>]>,
}

/// The key of a [`ServiceEntry`].
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ServiceKey {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The Service.
    pub name: Arc<str>,
}

/// Maps an address to an entry that may have it. There is one per address of the cluster, so it
/// holds a hash tag instead of the address: a lookup can return false positives.
#[derive(Clone)]
pub(super) struct AddressOwner {
    pub(super) tag: u32,
    pub(super) count: AddressCount,
    pub(super) key: Arc<ServiceKey>,
}

/// How often an entry has an address: as its Service's own, and in its slices. Saturating: a count
/// that has reached the maximum is never decremented, which only leaves a false positive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AddressCount {
    endpoints: u16,
    service: u16,
}

impl AddressCount {
    /// Adds an occurrence, of the Service itself or of an endpoint.
    pub(super) fn add(self, service: bool) -> Self {
        self.step(service, |count| count.saturating_add(1))
    }

    /// Removes an occurrence.
    pub(super) fn remove(self, service: bool) -> Self {
        self.step(service, |count| {
            if count == u16::MAX {
                count
            } else {
                count.saturating_sub(1)
            }
        })
    }

    /// Whether no occurrence is left.
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
    /// An empty state, synced once all `wanted` kinds have been listed.
    pub fn new(wanted: &[Kind]) -> Self {
        // With 150,000 pods, each of 8,192 buckets holds some 20; with 100,000 Services, each of
        // 4,096 some 25. A change copies that many pointers; an empty bucket costs 8 bytes.
        Self::with_buckets(wanted, 12)
    }

    /// With `2^bits` buckets for entries, and numbers derived from that for the other tables.
    pub(super) fn with_buckets(wanted: &[Kind], bits: u32) -> Self {
        Self {
            hasher: foldhash::fast::RandomState::default(),
            namespaces: Shards::new(bits.min(8)),
            entries: Shards::new(bits),
            owners: Shards::new(bits + 1),
            pods: Shards::new(bits + 1),
            addresses: AddressIndex::default(),
            namespace_addresses: Shards::new(bits.min(8)),
            writing: Mutex::default(),
            wanted: wanted.iter().fold(0, |bits, kind| bits | bit(*kind)),
            listed: AtomicU8::new(0),
            inherited: Inherited::default(),
            is_snapshot_complete: AtomicBool::new(false),
            serial: AtomicU32::new(0),
            published_serial: AtomicU32::new(0),
            stats: Stats::default(),
            notifications: watch::Sender::new(Notification {
                revision: 0,
                synced: wanted.is_empty(),
            }),
        }
    }

    /// A cluster that replaces `before`, and serves its objects until its own source has listed
    /// everything: see [`StateWriter::inherit`], which copies the objects.
    ///
    /// [`StateWriter::inherit`]: super::fold::StateWriter::inherit
    pub(super) fn replacing(before: &Self, wanted: &[Kind]) -> Self {
        let mut cluster = Self::new(wanted);
        cluster.inherited = Inherited {
            // Kinds that `before` did not watch have no objects to inherit.
            listed: before.listed_kinds() & cluster.wanted,
            is_ready: before.is_ready(),
            // Its settings may be others: what it lacks may be there.
            snapshot: before.snapshot().map(LoadedSnapshot::without_denial),
        };
        cluster.stats = before.stats.inherit(wanted);
        cluster.inherit_serial(before);
        cluster
    }

    /// A cluster that serves the objects of a snapshot until its source has listed everything. A name that is not
    /// among them is not denied before: no kind counts as listed.
    pub(super) fn restored(snapshot: LoadedSnapshot, wanted: &[Kind]) -> Self {
        let mut cluster = Self::new(wanted);
        cluster.inherited = Inherited {
            listed: 0,
            is_ready: true,
            snapshot: Some(snapshot),
        };
        cluster
    }

    /// Whether the objects were those of a snapshot at first.
    pub fn began_with_snapshot(&self) -> bool {
        self.inherited.snapshot.is_some()
    }

    /// The snapshot whose objects are served, if the source has not listed all kinds yet.
    pub fn snapshot(&self) -> Option<LoadedSnapshot> {
        self.inherited.snapshot.filter(|_| !self.synced())
    }

    /// Whether the snapshot that is served denies the names that it lacks: if that is configured, it is young, and it
    /// was loaded completely.
    pub fn snapshot_denies(&self) -> bool {
        self.is_snapshot_complete.load(Ordering::Relaxed)
            && self
                .snapshot()
                .is_some_and(|snapshot| snapshot.age() < snapshot.denial_age)
    }

    /// The objects of a snapshot are loaded, all of them if `is_complete`. Continues its serials.
    pub(super) fn restore_serials(&self, serial: u32, published: u32, is_complete: bool) {
        self.is_snapshot_complete
            .store(is_complete, Ordering::Relaxed);
        self.published_serial.store(published, Ordering::SeqCst);
        self.serial.store(serial, Ordering::SeqCst);
    }

    /// The last serial that a secondary may have.
    pub(super) fn published_serial(&self) -> u32 {
        self.published_serial.load(Ordering::SeqCst)
    }

    /// Continues the serial of `before`: it must not decrease for secondaries (RFC 1982).
    pub(super) fn inherit_serial(&self, before: &Self) {
        let serial = before.published_serial.load(Ordering::SeqCst);
        self.published_serial.store(serial, Ordering::SeqCst);
        self.serial.store(before.serial(), Ordering::SeqCst);
    }

    /// Whether the namespace exists.
    pub fn namespace(&self, name: &str) -> bool {
        let hash = self.hash(name);
        let tag = tag(hash);
        let found = self
            .namespaces
            .find(hash, |it| it.tag == tag && *it.name == *name);
        found.is_some()
    }

    /// The entry of a Service name, given in lower case.
    pub fn entry(&self, namespace: &str, service: &str) -> Option<BucketRef<Tagged<ServiceEntry>>> {
        let hash = self.hash((namespace, service));
        let tag = tag(hash);
        self.entries.find(hash, |it| {
            it.tag == tag && *it.key.name == *service && *it.key.namespace == *namespace
        })
    }

    /// The entries that may have this address: as a cluster IP, an external address, or the address
    /// of an endpoint, ready or not. The caller checks whether and in which role.
    pub fn entries_at(
        &self,
        address: IpAddr,
    ) -> impl Iterator<Item = BucketRef<Tagged<ServiceEntry>>> {
        self.entries_where(address, |_| None, |_| true)
    }

    /// Like [`entries_at`](Self::entries_at), starting at the index that `begin` returns for the
    /// bucket's length and wrapping around.
    pub fn entries_at_from(
        &self,
        address: IpAddr,
        begin: impl FnOnce(usize) -> Option<usize>,
    ) -> impl Iterator<Item = BucketRef<Tagged<ServiceEntry>>> {
        self.entries_where(address, begin, |_| true)
    }

    /// The entries whose Service may have this address, as a cluster IP or an external address.
    /// They are few even if thousands of Services have an endpoint at the address.
    pub fn services_at(
        &self,
        address: IpAddr,
    ) -> impl Iterator<Item = BucketRef<Tagged<ServiceEntry>>> {
        self.entries_where(address, |_| None, |owner| owner.count.service > 0)
    }

    fn entries_where(
        &self,
        address: IpAddr,
        begin: impl FnOnce(usize) -> Option<usize>,
        is: impl Fn(&AddressOwner) -> bool,
    ) -> impl Iterator<Item = BucketRef<Tagged<ServiceEntry>>> {
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

    /// The addresses that have names; including those in namespaces that do not exist.
    pub fn addresses(&self) -> &AddressIndex {
        &self.addresses
    }

    /// Whether an address in `range` has this role in a namespace.
    pub fn has_address_in(
        &self,
        namespace: &str,
        by: AddressRole,
        range: RangeInclusive<IpAddr>,
    ) -> bool {
        let here = self.namespace_addresses(namespace);
        here.is_some_and(|here| here.index.range(by, range).next().is_some())
    }

    pub(super) fn namespace_addresses(
        &self,
        namespace: &str,
    ) -> Option<BucketRef<Tagged<NamespaceAddresses>>> {
        let hash = self.hash(namespace);
        let tag = tag(hash);
        self.namespace_addresses
            .find(hash, |it| it.tag == tag && *it.namespace == *namespace)
    }

    /// The pods with this address; several if they use the host network.
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

    /// A pod in this namespace with this address.
    pub fn pod(&self, namespace: &str, address: IpAddr) -> Option<BucketRef<Tagged<Pod>>> {
        let hash = self.hash(address);
        let tag = tag(hash);
        self.pods.find(hash, |pod| {
            pod.tag == tag && *pod.namespace == *namespace && pod.has(address)
        })
    }

    /// A consistent read: the state does not change during `read`. The writer blocks meanwhile, so
    /// `read` must take milliseconds at most; other readers are not affected.
    pub fn consistent<R>(&self, read: impl FnOnce(&Self) -> R) -> R {
        let _writing = self.writing();
        read(self)
    }

    /// Held by the writer while it folds an event.
    pub(super) fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock()
    }

    /// All entries, unordered. Each is a consistent snapshot; all together are not, except in a
    /// [`consistent`](Self::consistent) read.
    pub fn entries(&self) -> impl Iterator<Item = Arc<ServiceEntry>> {
        self.entries.iter().map(|entry| entry.shared)
    }

    /// An address of the pod of this name. Takes a look at every pod: for people, not for queries.
    pub fn address_of_pod(&self, namespace: &str, name: &str) -> Option<IpAddr> {
        let mut pods = self.pods.iter();
        let pod = pods.find(|pod| *pod.namespace == *namespace && *pod.name == *name)?;
        pod.addresses().next()
    }

    /// All pods, unordered; a pod with two addresses once.
    pub(super) fn all_pods(&self) -> impl Iterator<Item = Arc<Pod>> {
        let pods = self.pods.iter();
        let first = pods.filter(|pod| {
            let mut addresses = pod.addresses();
            addresses
                .next()
                .is_some_and(|first| pod.tag == tag(self.hash(first)))
        });
        first.map(|pod| pod.shared)
    }

    /// All namespaces, unordered.
    pub fn namespaces(&self) -> impl Iterator<Item = Arc<Namespace>> {
        self.namespaces.iter().map(|namespace| namespace.shared)
    }

    /// Whether the source has listed all kinds at least once. Stays true when the source loses its
    /// connection: the last known names are served.
    pub fn synced(&self) -> bool {
        self.listed.load(Ordering::Acquire) & self.wanted == self.wanted
    }

    /// Whether names are served: all kinds have been listed, by this source or by the replaced one.
    pub fn is_ready(&self) -> bool {
        self.inherited.is_ready || self.synced()
    }

    /// [`synced`](Self::synced) and [`is_ready`](Self::is_ready) in words.
    pub fn sync_state(&self) -> Cow<'static, str> {
        if self.synced() {
            "synced".into()
        } else if let Some(snapshot) = self.snapshot() {
            let age = snapshot.age().as_secs();
            format!("serving a snapshot, {age} s old").into()
        } else if self.is_ready() {
            "serving objects of the previous configuration".into()
        } else {
            "not synced".into()
        }
    }

    /// Whether all objects of a kind are known, so that an absent one does not exist. True for
    /// kinds that are not watched.
    pub fn is_listed(&self, kind: Kind) -> bool {
        (self.listed_kinds() | !self.wanted) & bit(kind) != 0
    }

    /// Whether the source watches objects of this kind.
    pub fn is_watched(&self, kind: Kind) -> bool {
        self.wanted & bit(kind) != 0
    }

    /// The kinds listed by this source or the replaced one.
    fn listed_kinds(&self) -> u8 {
        self.listed.load(Ordering::Acquire) | self.inherited.listed
    }

    /// The watched kinds that have not been listed yet.
    pub fn unsynced(&self) -> impl Iterator<Item = Kind> + use<> {
        let missing = self.wanted & !self.listed.load(Ordering::Acquire);
        Kind::ALL
            .into_iter()
            .filter(move |kind| missing & bit(*kind) != 0)
    }

    /// Waits until [`synced`](Self::synced).
    pub async fn wait_synced(&self) {
        let mut published = self.notifications.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = published.wait_for(|published| published.synced).await;
    }

    /// Waits until `is` holds; checked after each notification.
    pub async fn wait_for(&self, mut is: impl FnMut(&Self) -> bool) {
        let mut published = self.notifications.subscribe();
        while !is(self) {
            let _ = published.changed().await;
        }
    }

    /// The number of notified batches of changes.
    pub(super) fn revision(&self) -> u64 {
        self.notifications.borrow().revision
    }

    /// Waits until the number of notified batches differs from `revision`.
    pub(super) async fn wait_for_revision_after(&self, revision: u64) {
        let mut published = self.notifications.subscribe();
        let _ = published.wait_for(|it| it.revision != revision).await;
    }

    /// The serial of the zones' SOA records: Unix time in seconds of the last change visible in an
    /// answer; 0 before the first.
    pub fn serial(&self) -> u32 {
        self.serial.load(Ordering::Relaxed)
    }

    /// The [`serial`](Self::serial) for a zone transfer, called before the data is read. Later
    /// changes get a higher serial even within the same second, so that a secondary detects that
    /// its copy is outdated.
    pub fn publish_serial(&self) -> u32 {
        loop {
            let serial = self.serial.load(Ordering::SeqCst);
            self.published_serial.store(serial, Ordering::SeqCst);
            if self.serial.load(Ordering::SeqCst) == serial {
                return serial;
            }
        }
    }

    /// A stream with an item after each batch of changes that may be visible in answers; it ends
    /// with this cluster. Unread items coalesce; consumers limit the rate.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        futures_util::stream::unfold(self.notifications.subscribe(), async |mut published| {
            published.changed().await.ok()?;
            Some(((), published))
        })
    }

    /// Statistics, for metrics.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The hash of a namespace (`&str`), an entry (pair of `&str`) or an address.
    pub(super) fn hash(&self, key: impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    pub(super) fn set_listed(&self, kind: Kind) {
        self.listed.fetch_or(bit(kind), Ordering::Release);
    }

    /// Called by the writer once a change is visible to readers. `now` is Unix time in seconds.
    pub(super) fn bump_serial(&self, now: u32) {
        let serial = self.serial.load(Ordering::SeqCst);
        let next = if self.published_serial.load(Ordering::SeqCst) == serial {
            serial.wrapping_add(1)
        } else {
            serial
        };
        self.serial.store(now.max(next), Ordering::SeqCst);
    }

    /// Overrides the serial.
    #[cfg(test)]
    pub(super) fn set_serial(&self, serial: u32) {
        self.serial.store(serial, Ordering::SeqCst);
    }

    /// Frees retired buckets.
    pub(super) fn release(&self) {
        self.namespaces.release();
        self.entries.release();
        self.owners.release();
        self.pods.release();
        self.namespace_addresses.release();
    }

    /// Wakes waiting tasks.
    pub(super) fn notify(&self) {
        let synced = self.synced();
        self.notifications.send_modify(|published| {
            published.revision += 1;
            published.synced = synced;
        });
    }
}

impl ServiceEntry {
    /// An entry without objects.
    pub(super) fn empty(key: Arc<ServiceKey>) -> Self {
        Self {
            key,
            service: None,
            slices: Box::default(),
            import: None,
            imported: Box::default(),
        }
    }

    /// Whether the entry has no objects.
    pub(super) fn is_empty(&self) -> bool {
        self.service.is_none()
            && self.slices.is_empty()
            && self.import.is_none()
            && self.imported.is_empty()
    }

    /// All endpoints of all slices, ready or not.
    pub fn endpoints(&self) -> impl Iterator<Item = EndpointRef<'_>> {
        self.slices.iter().flat_map(|slice| &slice.endpoints)
    }
}

fn bit(kind: Kind) -> u8 {
    1 << kind as u8
}
