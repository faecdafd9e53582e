//! The store: objects and their changes.

use lodestone::cluster::{Kind, Selector};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Objects of all kinds, with a common resource version.
#[derive(Default)]
pub struct Store {
    pub version: u64,
    objects: [BTreeMap<(String, String), Arc<Stored>>; Kind::ALL.len()],
    changes: [Vec<Change>; Kind::ALL.len()],
    /// Versions before this one are compacted.
    pub oldest: u64,
}

/// An object: its text, and the fields used by selectors.
pub struct Stored {
    pub text: String,
    labels: HashMap<String, String>,
    phase: String,
}

/// A change of one object.
#[derive(Clone)]
pub struct Change {
    pub version: u64,
    old: Option<Arc<Stored>>,
    new: Option<Arc<Stored>>,
    /// For a deletion, the object with the version of the deletion.
    last: Option<Arc<Stored>>,
}

/// The selectors of a request.
#[derive(Clone)]
pub struct Filter {
    labels: Selector,
    /// Excluded phases; the only supported field selector.
    not_phases: Vec<String>,
}

impl Store {
    pub fn apply(&mut self, kind: Kind, object: &Value) {
        self.version += 1;
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let (version, name) = named(kind);
        object["apiVersion"] = json!(version);
        object["kind"] = json!(name);
        let meta = &object["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = (text(&meta["namespace"]), text(&meta["name"]));
        let labels = meta["labels"].as_object().into_iter().flatten();
        let stored = Arc::new(Stored {
            labels: labels
                .map(|(name, value)| (name.clone(), text(value)))
                .collect(),
            phase: text(&object["status"]["phase"]),
            text: object.to_string(),
        });
        let old = self.objects[kind as usize].insert(key, Arc::clone(&stored));
        let change = Change {
            version: self.version,
            old,
            new: Some(stored),
            last: None,
        };
        self.changes[kind as usize].push(change);
    }

    pub fn delete(&mut self, kind: Kind, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let Some(old) = self.objects[kind as usize].remove(&key) else {
            return;
        };
        self.version += 1;
        let mut object: Value = serde_json::from_str(&old.text).unwrap();
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let last = Arc::new(Stored {
            text: object.to_string(),
            labels: old.labels.clone(),
            phase: old.phase.clone(),
        });
        let change = Change {
            version: self.version,
            old: Some(old),
            new: None,
            last: Some(last),
        };
        self.changes[kind as usize].push(change);
    }

    /// Changes objects without an event for watches.
    pub fn lose_events(&mut self, change: impl FnOnce(&mut Self)) {
        let kept = [0, 1, 2, 3, 4].map(|kind: usize| self.changes[kind].len());
        change(self);
        for (changes, kept) in self.changes.iter_mut().zip(kept) {
            changes.truncate(kept);
        }
    }

    pub fn compact(&mut self) {
        // Ensures that the compacted version is followed by a later one.
        self.version += 1;
        self.oldest = self.version;
        self.changes.iter_mut().for_each(Vec::clear);
    }

    /// The matching objects, sorted by name.
    pub fn list(&self, kind: Kind, filter: &Filter) -> Vec<Arc<Stored>> {
        let all = self.objects[kind as usize].values();
        all.filter(|it| filter.passes(it)).cloned().collect()
    }

    /// The changes after a version.
    pub fn since(&self, kind: Kind, version: u64) -> &[Change] {
        let changes = &self.changes[kind as usize];
        &changes[changes.partition_point(|change| change.version <= version)..]
    }
}

impl Stored {
    /// The object without `spec` and `status`.
    pub fn metadata(&self) -> String {
        let object: Value = serde_json::from_str(&self.text).unwrap();
        json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": object["metadata"],
        })
        .to_string()
    }
}

impl Change {
    /// The event for a watch with this filter.
    pub fn event(&self, filter: &Filter) -> Option<String> {
        let passes =
            |object: &Option<Arc<Stored>>| object.as_ref().is_some_and(|it| filter.passes(it));
        let (kind, object) = match (passes(&self.old), passes(&self.new)) {
            (false, false) => return None,
            (false, true) => ("ADDED", &self.new),
            (true, true) => ("MODIFIED", &self.new),
            (true, false) => (
                "DELETED",
                if self.new.is_some() {
                    &self.new
                } else {
                    &self.last
                },
            ),
        };
        Some(event(kind, &object.as_ref()?.text))
    }
}

impl Filter {
    pub fn new(query: &HashMap<String, String>) -> Self {
        let part = |name: &str| query.get(name).map_or("", String::as_str);
        let fields = part("fieldSelector").split(',').filter(|it| !it.is_empty());
        let not_phase = |field: &str| field.strip_prefix("status.phase!=").unwrap().to_owned();
        Self {
            labels: part("labelSelector").parse().unwrap(),
            not_phases: fields.map(not_phase).collect(),
        }
    }

    fn passes(&self, object: &Stored) -> bool {
        self.labels
            .matches(|name| object.labels.get(name).map(String::as_str))
            && !self.not_phases.contains(&object.phase)
    }
}

/// A line of a watch.
pub fn event(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

/// API version and resource name of a kind.
pub fn named(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Namespace => ("v1", "Namespace"),
        Kind::Service => ("v1", "Service"),
        Kind::EndpointSlice => ("discovery.k8s.io/v1", "EndpointSlice"),
        Kind::Pod => ("v1", "Pod"),
        Kind::ServiceImport => ("multicluster.x-k8s.io/v1alpha1", "ServiceImport"),
    }
}
