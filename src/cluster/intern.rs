//! One copy of every string and port list that repeats: namespaces, service names, zones, ports.
//! A Service's name is in its entry, where slices find it; the others are in pools.

use super::event::Object;
use super::object::{PodLabels, Port};
use super::state::Cluster;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// What has been seen. Belongs to the writer; what nobody else uses is dropped now and then.
#[derive(Default)]
pub(super) struct Interner {
    strings: Pool<str>,
    ports: Pool<[Port]>,
    zones: Pool<Box<str>>,
    labels: Pool<PodLabels>,
}

impl Interner {
    /// Puts shared strings in place of the object's own.
    pub(super) fn share(&mut self, object: &mut Object, cluster: &Cluster) {
        match object {
            Object::Namespace(namespace) => self.strings.share(&mut namespace.name),
            Object::Service(service) => {
                self.strings.share(&mut service.namespace);
                share_name(cluster, &service.namespace, &mut service.name);
                self.ports.share(&mut service.ports);
            }
            Object::Slice(slice, _) => {
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
            Object::Import(import) => {
                self.strings.share(&mut import.namespace);
                share_name(cluster, &import.namespace, &mut import.name);
                self.ports.share(&mut import.ports);
            }
        }
    }
}

/// Puts the name that the entry has in the place of another copy.
fn share_name(cluster: &Cluster, namespace: &str, name: &mut Arc<str>) {
    if let Some(entry) = cluster.entry(namespace, name) {
        *name = Arc::clone(&entry.key.name);
    }
}

struct Pool<T: ?Sized> {
    known: HashSet<Arc<T>, foldhash::fast::RandomState>,
    /// At this size those that are no longer used are looked for.
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

    /// Costs nothing on average: a sweep comes after the pool has doubled.
    fn sweep(&mut self) {
        if self.known.len() >= self.sweep_at {
            self.known.retain(|value| Arc::strong_count(value) > 1);
            self.known.shrink_to_fit();
            self.sweep_at = (self.known.len() * 2).max(1024);
        }
    }
}
