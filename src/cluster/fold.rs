//! Folds events into the published state. There is one writer; the cost of an event is proportional
//! to what it changes.

mod address_changes;
mod inherit;
mod owners;

use super::event::{Event, Kind, Object};
use super::intern::Interner;
use super::object::{EndpointSlice, Namespace, Pod, Service, ServiceImport};
use super::shards::{Tagged, tag};
use super::state::{Cluster, ServiceEntry, ServiceKey};
use super::store::{ObjectStore, Relist};
use address_changes::AddressChanges;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::mpsc;

/// Events folded between two notifications of waiting tasks. Readers see each event as soon as it
/// is folded.
const BATCH: usize = 256;

/// Folds events until all senders are dropped. The channel is bounded: a source that is faster than
/// the fold waits, and unread data stays in the API server's send buffers.
pub async fn run(mut writer: StateWriter, mut events: mpsc::Receiver<Event>) {
    let mut batch = Vec::with_capacity(BATCH);
    while events.recv_many(&mut batch, BATCH).await > 0 {
        for event in batch.drain(..) {
            writer.fold(event);
        }
        writer.notify();
    }
}

/// A synced cluster with exactly these objects, for tests and one-shot tools.
pub fn load(objects: impl IntoIterator<Item = Object>) -> Arc<Cluster> {
    let cluster = Arc::new(Cluster::new(&Kind::ALL));
    let mut writer = StateWriter::new(Arc::clone(&cluster));
    for kind in Kind::ALL {
        writer.fold(Event::ListStart(kind));
    }
    for object in objects {
        writer.fold(Event::Apply(object));
    }
    for kind in Kind::ALL {
        writer.fold(Event::ListEnd(kind));
    }
    writer.notify();
    cluster
}

/// The only writer of a [`Cluster`].
pub struct StateWriter {
    cluster: Arc<Cluster>,
    interner: Interner,
    namespaces: ObjectStore<Namespace>,
    services: ObjectStore<Service>,
    slices: ObjectStore<EndpointSlice>,
    pods: ObjectStore<Pod>,
    imports: ObjectStore<ServiceImport>,
    pod_names: bool,
    /// Whether anything changed since the last notification.
    changed: bool,
    /// The addresses of an entry before and after a change; kept for their capacity.
    before: Vec<IpAddr>,
    after: Vec<IpAddr>,
}

impl StateWriter {
    /// The writer of `cluster`; there must be only one.
    pub fn new(cluster: Arc<Cluster>) -> Self {
        Self {
            cluster,
            interner: Interner::default(),
            namespaces: ObjectStore::default(),
            services: ObjectStore::default(),
            slices: ObjectStore::default(),
            pods: ObjectStore::default(),
            imports: ObjectStore::default(),
            pod_names: true,
            changed: false,
            before: Vec::new(),
            after: Vec::new(),
        }
    }

    /// Sets whether the pod names of endpoints are kept. Default: yes.
    pub fn keep_pod_names(&mut self, keep: bool) {
        self.pod_names = keep;
    }

    /// Applies one event; readers see it immediately.
    pub fn fold(&mut self, event: Event) {
        let cluster = Arc::clone(&self.cluster);
        let _writing = cluster.writing();
        let kind = match event {
            Event::ListStart(kind) => {
                // No contact is recorded: a list that starts may still fail.
                self.store(kind).begin();
                return;
            }
            Event::Apply(mut object) => {
                let kind = object.kind();
                self.cluster.stats().event(kind);
                if let Object::EndpointSlice(slice, _) = &mut object
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
            Event::SkippedObject(kind, key) => {
                self.cluster.stats().skip_object(kind);
                self.changed = true;
                if let Some(key) = key {
                    self.store(kind).keep(&key.namespace, &key.name);
                }
                kind
            }
            Event::ListEnd(kind) => {
                for key in self.store(kind).end() {
                    self.delete(kind, &key.namespace, &key.name);
                }
                self.cluster.set_listed(kind);
                self.changed = true;
                kind
            }
            Event::SkippedFields(kind, fields) => {
                self.cluster.stats().skip_fields(kind, fields);
                kind
            }
            Event::Heartbeat(kind) => kind,
        };
        let count = self.store(kind).len();
        self.cluster.stats().set_objects(kind, count);
        self.cluster.stats().touch(kind);
    }

    /// Adds an object of a snapshot to an empty state. Not an event: nothing was heard of it.
    pub(super) fn restore(&mut self, mut object: Object) {
        let cluster = Arc::clone(&self.cluster);
        let _writing = cluster.writing();
        let kind = object.kind();
        self.interner.share(&mut object, &self.cluster);
        self.apply(object);
        let count = self.store(kind).len();
        self.cluster.stats().set_objects(kind, count);
    }

    /// Called after the last [`restore`](Self::restore), with the serials of the snapshot.
    pub(super) fn restored(&mut self, serial: u32, published: u32, is_complete: bool) {
        self.cluster.restore_serials(serial, published, is_complete);
        self.changed = false;
    }

    /// Frees retired memory, and wakes waiting tasks if anything changed.
    pub fn notify(&mut self) {
        self.cluster.release();
        if std::mem::take(&mut self.changed) {
            self.cluster.notify();
        }
    }

    fn store(&mut self, kind: Kind) -> &mut dyn Relist {
        match kind {
            Kind::Namespace => &mut self.namespaces,
            Kind::Service => &mut self.services,
            Kind::EndpointSlice => &mut self.slices,
            Kind::Pod => &mut self.pods,
            Kind::ServiceImport => &mut self.imports,
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
            Object::EndpointSlice(slice, trigger) => {
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
            Object::ServiceImport(import) => {
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
            Kind::EndpointSlice => {
                if let Some(old) = self.slices.remove(namespace, name) {
                    self.set_slice(Some(&old), None);
                }
            }
            Kind::Pod => {
                if let Some(old) = self.pods.remove(namespace, name) {
                    self.set_pod(Some(&old), None);
                }
            }
            Kind::ServiceImport => {
                if let Some(old) = self.imports.remove(namespace, name) {
                    self.set_import(&old, None);
                }
            }
        }
    }

    fn set_namespace(&mut self, name: &str, new: Option<Arc<Namespace>>) {
        self.changed = true;
        let hash = self.cluster.hash(name);
        let is = |it: &Tagged<Namespace>| *it.name == *name;
        match new {
            Some(new) => self
                .cluster
                .namespaces
                .put(hash, Tagged::new(hash, new), is),
            None => self.cluster.namespaces.remove(hash, is),
        }
        self.bump_serial();
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
        let changes = AddressChanges::service(old, new.as_deref(), || {
            let entry = cluster.entry(&namespace, &name);
            let endpoints = entry.iter().flat_map(|entry| entry.endpoints());
            let ready = endpoints.filter(|endpoint| endpoint.ready);
            ready.map(|endpoint| endpoint.address).collect()
        });
        changes.before(&cluster, &namespace);
        self.change_entry(&namespace, &name, |entry| entry.service = new);
        changes.after(&cluster, &namespace);
        self.bump_serial();
    }

    fn set_slice(&mut self, old: Option<&Arc<EndpointSlice>>, new: Option<&Arc<EndpointSlice>>) {
        let is_visible = old.zip(new).is_none_or(|(old, new)| !old.answers_like(new));
        self.set_import_slice(old, new);
        // A slice without a Service belongs to a ServiceImport only.
        let old = old.filter(|old| !old.service.is_empty());
        let new = new.filter(|new| !new.service.is_empty());
        // If the slice's Service changed, it leaves one entry and joins another.
        let leaves = old.filter(|old| new.is_none_or(|new| new.service != old.service));
        if let Some(old) = leaves {
            self.before.extend(slice_addresses(old));
            let changes = self.changes(Some(old), None);
            self.change_entry(&old.namespace, &old.service, |entry| {
                entry.slices = with_slice(&entry.slices, &old.name, None);
            });
            changes.after(&self.cluster, &old.namespace);
        }
        if let Some(new) = new {
            if leaves.is_none() {
                self.before
                    .extend(old.into_iter().flat_map(|old| slice_addresses(old)));
            }
            self.after.extend(slice_addresses(new));
            let changes = self.changes(old.filter(|_| leaves.is_none()), Some(new));
            changes.before(&self.cluster, &new.namespace);
            self.change_entry(&new.namespace, &new.service, |entry| {
                entry.slices = with_slice(&entry.slices, &new.name, Some(new));
            });
            changes.after(&self.cluster, &new.namespace);
        }
        if is_visible {
            self.bump_serial();
        }
    }

    /// The address changes of a slice whose Service stays the same.
    fn changes(
        &self,
        old: Option<&Arc<EndpointSlice>>,
        new: Option<&Arc<EndpointSlice>>,
    ) -> AddressChanges {
        let entry = new
            .or(old)
            .and_then(|it| self.cluster.entry(&it.namespace, &it.service));
        let service = entry.as_ref().and_then(|entry| entry.service.as_deref());
        AddressChanges::slice(service, old.map(|it| &**it), new.map(|it| &**it))
    }

    /// Updates the entry of the ServiceImport that owns the slice. Its addresses are not indexed.
    fn set_import_slice(
        &mut self,
        old: Option<&Arc<EndpointSlice>>,
        new: Option<&Arc<EndpointSlice>>,
    ) {
        let of = |slice: &&Arc<EndpointSlice>| {
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
        self.bump_serial();
    }

    fn set_pod(&mut self, old: Option<&Pod>, new: Option<&Arc<Pod>>) {
        self.changed = true;
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
        // Labels are not part of answers.
        let addresses = |pod: &Pod| (pod.v4, pod.v6);
        if old.map(addresses) != new.map(|new| addresses(new)) {
            self.bump_serial();
        }
    }

    /// Replaces an entry with an edited copy; `self.before` and `self.after` hold the addresses of
    /// the changed part before and after.
    fn change_entry(
        &mut self,
        namespace: &Arc<str>,
        name: &Arc<str>,
        edit: impl FnOnce(&mut ServiceEntry),
    ) {
        self.changed = true;
        let mut entry = match self.cluster.entry(namespace, name) {
            Some(known) => ServiceEntry::clone(&known),
            None => ServiceEntry::empty(Arc::new(ServiceKey {
                namespace: Arc::clone(namespace),
                name: Arc::clone(name),
            })),
        };
        let service = entry.service.as_ref().map(Arc::as_ptr);
        edit(&mut entry);
        // An edit replaces either the Service or a slice, so all addresses are of the same type.
        let of_service = service != entry.service.as_ref().map(Arc::as_ptr);
        let key = Arc::clone(&entry.key);
        let mut before = std::mem::take(&mut self.before);
        let mut after = std::mem::take(&mut self.after);
        before.sort_unstable();
        after.sort_unstable();
        // Index entries are added before the entry changes and removed after, so that no reader
        // misses the owner of an address.
        owners::difference(&after, &before, |it| {
            owners::add(&self.cluster, it, of_service, &key);
        });
        let hash = self.cluster.hash((&**namespace, &**name));
        let is = |it: &Tagged<ServiceEntry>| it.key == key;
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

    /// Records the delay of an endpoint change. Items of lists are skipped: they report old
    /// changes.
    fn observe(&self, slice: &EndpointSlice, trigger: Option<SystemTime>) {
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

    /// Called once the change is visible to readers.
    fn bump_serial(&self) {
        let now = SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |now| now.as_secs());
        // Serials have 32 bits and wrap (RFC 1982); Unix time exceeds them in 2106.
        #[allow(clippy::cast_possible_truncation)]
        self.cluster.bump_serial(now as u32);
    }
}

fn service_addresses(service: &Service) -> impl Iterator<Item = IpAddr> {
    let external = service
        .external
        .iter()
        .flat_map(|external| &external.addresses);
    service.cluster_ips.iter().chain(external).copied()
}

fn slice_addresses(slice: &EndpointSlice) -> impl Iterator<Item = IpAddr> {
    slice.endpoints.iter().map(|endpoint| endpoint.address)
}

/// The slices with the one of this name replaced, added or removed; sorted by name.
fn with_slice(
    slices: &[Arc<EndpointSlice>],
    name: &str,
    new: Option<&Arc<EndpointSlice>>,
) -> Box<[Arc<EndpointSlice>]> {
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
