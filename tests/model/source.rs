//! Events of a source, and the state after them.

use std::collections::{BTreeMap, BTreeSet};

use lodestone::cluster::{self, Event, Kind};

use crate::world::{Key, Thing, World};

/// An event of a source.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    ListStart(Kind),
    Apply(Key, Thing),
    Delete(Kind, Key),
    Skip(Kind, Key),
    ListEnd(Kind),
    Heartbeat(Kind),
}

impl SourceEvent {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Apply(_, thing) => thing.kind(),
            Self::ListStart(kind)
            | Self::Delete(kind, _)
            | Self::Skip(kind, _)
            | Self::ListEnd(kind)
            | Self::Heartbeat(kind) => *kind,
        }
    }

    pub fn event(&self) -> Event {
        let key = |(namespace, name): &Key| cluster::ObjectKey::from((&**namespace, &**name));
        match self {
            Self::ListStart(kind) => Event::ListStart(*kind),
            Self::Apply(key, thing) => Event::Apply(thing.object(key)),
            Self::Delete(kind, it) => Event::Delete(*kind, key(it)),
            Self::Skip(kind, it) => Event::SkippedObject(*kind, Some(key(it))),
            Self::ListEnd(kind) => Event::ListEnd(*kind),
            Self::Heartbeat(kind) => Event::Heartbeat(*kind),
        }
    }
}

/// The state after the events so far.
#[derive(Debug, Default)]
pub struct Received {
    pub world: World,
    /// The objects in the current list of each kind.
    seen: BTreeMap<Kind, BTreeSet<Key>>,
    listed: BTreeSet<Kind>,
}

impl Received {
    pub fn apply(&mut self, event: &SourceEvent) {
        let kind = event.kind();
        match event {
            SourceEvent::ListStart(_) => drop(self.seen.insert(kind, BTreeSet::new())),
            SourceEvent::Apply(key, thing) => {
                self.see(kind, key);
                self.world.put(key.clone(), thing.clone());
            }
            SourceEvent::Skip(_, key) => self.see(kind, key),
            SourceEvent::Delete(_, key) => self.world.remove(kind, key),
            SourceEvent::ListEnd(_) => {
                let seen = self.seen.remove(&kind).expect("a list ends that has begun");
                for (key, _) in self.world.of(kind) {
                    if !seen.contains(&key) {
                        self.world.remove(kind, &key);
                    }
                }
                self.listed.insert(kind);
            }
            SourceEvent::Heartbeat(_) => {}
        }
    }

    fn see(&mut self, kind: Kind, key: &Key) {
        if let Some(seen) = self.seen.get_mut(&kind) {
            seen.insert(key.clone());
        }
    }

    /// Whether each of these kinds has been listed.
    pub fn is_synced(&self, kinds: &[Kind]) -> bool {
        kinds.iter().all(|kind| self.listed.contains(kind))
    }
}
