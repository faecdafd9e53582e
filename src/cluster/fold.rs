//! Folds events into the published state. One writer; the cost of an event is what it changes.

mod inherit;
mod named;
mod owners;

use super::event::{Event, Kind, Object};
use super::intern::Interner;
use super::known::{Known, Listing};
use super::object::{Namespace, Pod, Service, ServiceImport, Slice};
use super::shards::{Tagged, tag};
use super::state::{Cluster, Entry, EntryKey};
use named::Renamed;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::mpsc;

/// How many events are folded before those who wait for changes are told. Readers need no
/// telling: they see each event as soon as it is folded.
const BATCH: usize = 256;

/// Folds events until their senders are gone. The channel is bounded: a source that is faster
/// than the fold waits, and what it has not read yet stays in the API server's buffers.
pub async fn run(mut writer: Writer, mut events: mpsc::Receiver<Event>) {
    let mut batch = Vec::with_capacity(BATCH);
    while events.recv_many(&mut batch, BATCH).await > 0 {
        for event in batch.drain(..) {
            writer.fold(event);
        }
        writer.announce();
    }
}

/// A cluster in which just these objects exist, fully listed: for tests and one-shot tools.
pub fn load(objects: impl IntoIterator<Item = Object>) -> Arc<Cluster> {
    let cluster = Arc::new(Cluster::new(&Kind::ALL));
    let mut writer = Writer::new(Arc::clone(&cluster));
    for kind in Kind::ALL {
        writer.fold(Event::Begin(kind));
    }
    for object in objects {
        writer.fold(Event::Apply(object));
    }
    for kind in Kind::ALL {
        writer.fold(Event::End(kind));
    }
    writer.announce();
    cluster
}

/// The one that changes a [`Cluster`].
pub struct Writer {
    cluster: Arc<Cluster>,
    interner: Interner,
    namespaces: Known<Namespace>,
    services: Known<Service>,
    slices: Known<Slice>,
    pods: Known<Pod>,
    imports: Known<ServiceImport>,
    pod_names: bool,
    /// Something has happened since the last announcement.
    news: bool,
    /// The addresses that a change takes from an entry and gives to it; kept for their capacity.
    before: Vec<IpAddr>,
    after: Vec<IpAddr>,
}

impl Writer {
    /// The writer of this cluster, of which there must be no other.
    pub fn new(cluster: Arc<Cluster>) -> Self {
        Self {
            cluster,
            interner: Interner::default(),
            namespaces: Known::default(),
            services: Known::default(),
            slices: Known::default(),
            pods: Known::default(),
            imports: Known::default(),
            pod_names: true,
            news: false,
            before: Vec::new(),
            after: Vec::new(),
        }
    }

    /// Whether the names of the pods behind endpoints are kept, as they are unless it is said.
    pub fn keep_pod_names(&mut self, keep: bool) {
        self.pod_names = keep;
    }

    /// Takes one event into the state, where readers see it at once.
    pub fn fold(&mut self, event: Event) {
        let cluster = Arc::clone(&self.cluster);
        let _writing = cluster.writing();
        let kind = match event {
            Event::Begin(kind) => {
                // Says nothing about the data: a list that begins may fail.
                self.listing(kind).begin();
                return;
            }
            Event::Apply(mut object) => {
                let kind = object.kind();
                self.cluster.stats().event(kind);
                if let Object::Slice(slice, _) = &mut object
                    && !self.pod_names
                {
                    slice.endpoints.forget_pods();
                }
                self.interner.share(&mut object, &self.cluster);
                self.apply(object);
                kind
            }
            Event::Delete(kind, key) => {
                self.cluster.stats().event(kind);
                self.delete(kind, &key.namespace, &key.name);
                kind
            }
            Event::Skip(kind, key) => {
                self.cluster.stats().skip(kind);
                self.news = true;
                if let Some(key) = key {
                    self.listing(kind).keep(&key.namespace, &key.name);
                }
                kind
            }
            Event::End(kind) => {
                for key in self.listing(kind).end() {
                    self.delete(kind, &key.namespace, &key.name);
                }
                self.cluster.set_listed(kind);
                self.news = true;
                kind
            }
            Event::LeftOut(kind, parts) => {
                self.cluster.stats().leave_out(kind, parts);
                kind
            }
            Event::Alive(kind) => kind,
        };
        let count = self.listing(kind).len();
        self.cluster.stats().set_objects(kind, count);
        self.cluster.stats().hear(kind);
    }

    /// Wakes those who wait for changes, if there are any.
    pub fn announce(&mut self) {
        self.cluster.release();
        if std::mem::take(&mut self.news) {
            self.cluster.announce();
        }
    }

    fn listing(&mut self, kind: Kind) -> &mut dyn Listing {
        match kind {
            Kind::Namespace => &mut self.namespaces,
            Kind::Service => &mut self.services,
            Kind::Slice => &mut self.slices,
            Kind::Pod => &mut self.pods,
            Kind::Import => &mut self.imports,
        }
    }

    fn apply(&mut self, object: Object) {
        match object {
            Object::Namespace(namespace) => {
                if let Some((_, new)) = self.namespaces.put(namespace) {
                    self.set_namespace(&new.name.clone(), Some(new));
                }
            }
            Object::Service(service) => {
                if let Some((old, new)) = self.services.put(service) {
                    self.set_service(old.as_deref(), Some(new));
                }
            }
            Object::Slice(slice, trigger) => {
                if let Some((old, new)) = self.slices.put(slice) {
                    self.observe(&new, trigger);
                    self.set_slice(old.as_ref(), Some(&new));
                }
            }
            Object::Pod(pod) => {
                if let Some((old, new)) = self.pods.put(pod) {
                    self.set_pod(old.as_deref(), Some(&new));
                }
            }
            Object::Import(import) => {
                if let Some((_, new)) = self.imports.put(import) {
                    self.set_import(&new.clone(), Some(new));
                }
            }
        }
    }

    fn delete(&mut self, kind: Kind, namespace: &str, name: &str) {
        match kind {
            Kind::Namespace => {
                if let Some(old) = self.namespaces.remove(namespace, name) {
                    self.set_namespace(&old.name, None);
                }
            }
            Kind::Service => {
                if let Some(old) = self.services.remove(namespace, name) {
                    self.set_service(Some(&old), None);
                }
            }
            Kind::Slice => {
                if let Some(old) = self.slices.remove(namespace, name) {
                    self.set_slice(Some(&old), None);
                }
            }
            Kind::Pod => {
                if let Some(old) = self.pods.remove(namespace, name) {
                    self.set_pod(Some(&old), None);
                }
            }
            Kind::Import => {
                if let Some(old) = self.imports.remove(namespace, name) {
                    self.set_import(&old, None);
                }
            }
        }
    }

    fn set_namespace(&mut self, name: &str, new: Option<Arc<Namespace>>) {
        self.news = true;
        let hash = self.cluster.hash(name);
        let is = |it: &Tagged<Namespace>| *it.name == *name;
        match new {
            Some(new) => self
                .cluster
                .namespaces
                .put(hash, Tagged::new(hash, new), is),
            None => self.cluster.namespaces.remove(hash, is),
        }
        self.touch_serial();
    }

    fn set_service(&mut self, old: Option<&Service>, new: Option<Arc<Service>>) {
        let Some(any) = new.as_deref().or(old) else {
            return;
        };
        let (namespace, name) = (any.namespace.clone(), any.name.clone());
        self.before
            .extend(old.into_iter().flat_map(service_addresses));
        self.after
            .extend(new.iter().flat_map(|new| service_addresses(new)));
        let cluster = Arc::clone(&self.cluster);
        let renamed = Renamed::service(old, new.as_deref(), || {
            let entry = cluster.entry(&namespace, &name);
            let endpoints = entry.iter().flat_map(|entry| entry.endpoints());
            let ready = endpoints.filter(|endpoint| endpoint.ready);
            ready.map(|endpoint| endpoint.address).collect()
        });
        renamed.before(&cluster, &namespace);
        self.change_entry(&namespace, &name, |entry| entry.service = new);
        renamed.after(&cluster, &namespace);
        self.touch_serial();
    }

    fn set_slice(&mut self, old: Option<&Arc<Slice>>, new: Option<&Arc<Slice>>) {
        let shows = old.zip(new).is_none_or(|(old, new)| !old.answers_like(new));
        self.set_imported(old, new);
        // One without a Service is a ServiceImport's alone.
        let old = old.filter(|old| !old.service.is_empty());
        let new = new.filter(|new| !new.service.is_empty());
        // A slice may change hands: then it leaves one entry and joins another.
        let leaves = old.filter(|old| new.is_none_or(|new| new.service != old.service));
        if let Some(old) = leaves {
            self.before.extend(slice_addresses(old));
            let renamed = self.renamed(Some(old), None);
            self.change_entry(&old.namespace, &old.service, |entry| {
                entry.slices = with_slice(&entry.slices, &old.name, None);
            });
            renamed.after(&self.cluster, &old.namespace);
        }
        if let Some(new) = new {
            if leaves.is_none() {
                self.before
                    .extend(old.into_iter().flat_map(|old| slice_addresses(old)));
            }
            self.after.extend(slice_addresses(new));
            let renamed = self.renamed(old.filter(|_| leaves.is_none()), Some(new));
            renamed.before(&self.cluster, &new.namespace);
            self.change_entry(&new.namespace, &new.service, |entry| {
                entry.slices = with_slice(&entry.slices, &new.name, Some(new));
            });
            renamed.after(&self.cluster, &new.namespace);
        }
        if shows {
            self.touch_serial();
        }
    }

    /// What a change of a slice gives names to and takes them from; its Service is the same.
    fn renamed(&self, old: Option<&Arc<Slice>>, new: Option<&Arc<Slice>>) -> Renamed {
        let entry = new
            .or(old)
            .and_then(|it| self.cluster.entry(&it.namespace, &it.service));
        let service = entry.as_ref().and_then(|entry| entry.service.as_deref());
        Renamed::slice(service, old.map(|it| &**it), new.map(|it| &**it))
    }

    /// The same for the ServiceImport that a slice may belong to. No address leads there.
    fn set_imported(&mut self, old: Option<&Arc<Slice>>, new: Option<&Arc<Slice>>) {
        let of = |slice: &&Arc<Slice>| {
            let import = slice.import.as_ref();
            import.map(|import| Arc::clone(&import.service))
        };
        let (before, after) = (old.as_ref().and_then(of), new.as_ref().and_then(of));
        if let (Some(old), Some(service)) = (old, &before)
            && before != after
        {
            self.change_entry(&old.namespace, service, |entry| {
                entry.imported = with_slice(&entry.imported, &old.name, None);
            });
        }
        if let (Some(new), Some(service)) = (new, &after) {
            self.change_entry(&new.namespace, service, |entry| {
                entry.imported = with_slice(&entry.imported, &new.name, Some(new));
            });
        }
    }

    fn set_import(&mut self, any: &ServiceImport, new: Option<Arc<ServiceImport>>) {
        self.change_entry(&any.namespace, &any.name, |entry| entry.import = new);
        self.touch_serial();
    }

    fn set_pod(&mut self, old: Option<&Pod>, new: Option<&Arc<Pod>>) {
        self.news = true;
        let cluster = &self.cluster;
        let same =
            |it: &Tagged<Pod>, pod: &Pod| it.name == pod.name && it.namespace == pod.namespace;
        if let Some(new) = new {
            for address in new.addresses() {
                let hash = cluster.hash(address);
                let tagged = Tagged::new(hash, Arc::clone(new));
                let tag = tag(hash);
                cluster
                    .pods
                    .put(hash, tagged, |it| it.tag == tag && same(it, new));
            }
        }
        if let Some(old) = old {
            for address in old
                .addresses()
                .filter(|it| new.is_none_or(|new| !new.has(*it)))
            {
                let hash = cluster.hash(address);
                let tag = tag(hash);
                cluster
                    .pods
                    .remove(hash, |it| it.tag == tag && same(it, old));
            }
        }
        // Labels stand in no answer.
        let addresses = |pod: &Pod| (pod.v4, pod.v6);
        if old.map(addresses) != new.map(|new| addresses(new)) {
            self.touch_serial();
        }
    }

    /// Replaces an entry by an edited one; `self.before` and `self.after` hold the addresses that
    /// this part of it had and has.
    fn change_entry(
        &mut self,
        namespace: &Arc<str>,
        name: &Arc<str>,
        edit: impl FnOnce(&mut Entry),
    ) {
        self.news = true;
        let mut entry = match self.cluster.entry(namespace, name) {
            Some(known) => Entry::clone(&known),
            None => Entry::empty(Arc::new(EntryKey {
                namespace: Arc::clone(namespace),
                name: Arc::clone(name),
            })),
        };
        let service = entry.service.as_ref().map(Arc::as_ptr);
        edit(&mut entry);
        // Either the Service is replaced or a slice: the addresses are of the one or the other.
        let of_service = service != entry.service.as_ref().map(Arc::as_ptr);
        let key = Arc::clone(&entry.key);
        let mut before = std::mem::take(&mut self.before);
        let mut after = std::mem::take(&mut self.after);
        before.sort_unstable();
        after.sort_unstable();
        // New addresses lead to the entry before it has them, old ones after it has lost them, so
        // that no reader finds an address without its owner.
        owners::difference(&after, &before, |it| {
            owners::add(&self.cluster, it, of_service, &key);
        });
        let hash = self.cluster.hash((&**namespace, &**name));
        let is = |it: &Tagged<Entry>| it.key == key;
        if entry.is_empty() {
            self.cluster.entries.remove(hash, is);
        } else {
            self.cluster
                .entries
                .put(hash, Tagged::new(hash, Arc::new(entry)), is);
        }
        owners::difference(&before, &after, |it| {
            owners::remove(&self.cluster, it, of_service, &key);
        });
        before.clear();
        after.clear();
        (self.before, self.after) = (before, after);
    }

    /// Measures how long an endpoint change was under way. Lists tell of old changes, whose times
    /// would say nothing.
    fn observe(&self, slice: &Slice, trigger: Option<SystemTime>) {
        let Some(trigger) = trigger.filter(|_| !self.slices.in_list()) else {
            return;
        };
        let entry = self.cluster.entry(&slice.namespace, &slice.service);
        let Some(service) = entry.and_then(|entry| entry.service.clone()) else {
            return;
        };
        if let Ok(delay) = trigger.elapsed() {
            self.cluster
                .stats()
                .programming(service.kind)
                .observe(delay);
        }
    }

    /// To be called once readers see the change.
    fn touch_serial(&self) {
        let now = SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |now| now.as_secs());
        // Serials are 32 bits and wrap (RFC 1982); within this century they do not go back.
        #[allow(clippy::cast_possible_truncation)]
        self.cluster.touch_serial(now as u32);
    }
}

fn service_addresses(service: &Service) -> impl Iterator<Item = IpAddr> {
    let external = service
        .external
        .iter()
        .flat_map(|external| &external.addresses);
    service.cluster_ips.iter().chain(external).copied()
}

fn slice_addresses(slice: &Slice) -> impl Iterator<Item = IpAddr> {
    slice.endpoints.iter().map(|endpoint| endpoint.address)
}

/// The slices with the one of this name replaced, added or taken away; sorted by name.
fn with_slice(slices: &[Arc<Slice>], name: &str, new: Option<&Arc<Slice>>) -> Box<[Arc<Slice>]> {
    let at = slices.partition_point(|slice| *slice.name < *name);
    let known = slices.get(at).is_some_and(|slice| *slice.name == *name);
    let after = &slices[at + usize::from(known)..];
    slices[..at]
        .iter()
        .chain(new)
        .chain(after)
        .cloned()
        .collect()
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
