//! Interning of strings and port lists that repeat: namespaces, Service names, zones, ports. A
//! Service's name is shared with its entry; the others are pooled.

use super::event::Object;
use super::object::{PodLabels, Port};
use super::state::Cluster;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// The pools, owned by the writer. Unused values are swept when a pool has doubled.
#[derive(Default)]
pub(super) struct Interner {
    strings: Pool<str>,
    ports: Pool<[Port]>,
    zones: Pool<Box<str>>,
    labels: Pool<PodLabels>,
}

impl Interner {
    /// Replaces the object's strings with interned ones.
    pub(super) fn share(&mut self, object: &mut Object, cluster: &Cluster) {
        match object {
            Object::Namespace(namespace) => self.strings.share(&mut namespace.name),
            Object::Service(service) => {
                self.strings.share(&mut service.namespace);
                share_name(cluster, &service.namespace, &mut service.name);
                self.ports.share(&mut service.ports);
            }
            Object::EndpointSlice(slice, _) => {
                self.strings.share(&mut slice.namespace);
                share_name(cluster, &slice.namespace, &mut slice.service);
                if let Some(import) = &mut slice.import {
                    share_name(cluster, &slice.namespace, &mut import.service);
                    self.strings.share(&mut import.cluster);
                }
                self.ports.share(&mut slice.ports);
                slice.endpoints.each_zone(|zone| self.zones.share(zone));
            }
            Object::Pod(pod) => {
                self.strings.share(&mut pod.namespace);
                if let Some(labels) = &mut pod.labels {
                    self.labels.share(labels);
                }
            }
            Object::ServiceImport(import) => {
                self.strings.share(&mut import.namespace);
                share_name(cluster, &import.namespace, &mut import.name);
                self.ports.share(&mut import.ports);
            }
        }
    }
}

/// Replaces `name` with the entry's copy, if there is an entry.
fn share_name(cluster: &Cluster, namespace: &str, name: &mut Arc<str>) {
    if let Some(entry) = cluster.entry(namespace, name) {
        *name = Arc::clone(&entry.key.name);
    }
}

struct Pool<T: ?Sized> {
    known: HashSet<Arc<T>, foldhash::fast::RandomState>,
    /// Size at which unused values are swept.
    sweep_at: usize,
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self {
            known: HashSet::default(),
            sweep_at: 1024,
        }
    }
}

impl<T: ?Sized + Hash + Eq> Pool<T> {
    fn share(&mut self, value: &mut Arc<T>) {
        if let Some(known) = self.known.get(value) {
            *value = Arc::clone(known);
        } else {
            self.sweep();
            self.known.insert(Arc::clone(value));
        }
    }

    /// Amortized constant: a sweep runs only after the pool has doubled.
    fn sweep(&mut self) {
        if self.known.len() >= self.sweep_at {
            self.known.retain(|value| Arc::strong_count(value) > 1);
            self.known.shrink_to_fit();
            self.sweep_at = (self.known.len() * 2).max(1024);
        }
    }
}
