//! What a source says, and what is known after it: the meaning of events, event by event.

use std::collections::{BTreeMap, BTreeSet};

use lodestone::cluster::{self, Event, Kind};

use crate::world::{Key, Thing, World};

/// Something that a source says.
#[derive(Clone, Debug)]
pub enum Say {
    Begin(Kind),
    Apply(Key, Thing),
    Delete(Kind, Key),
    Skip(Kind, Key),
    End(Kind),
    Alive(Kind),
}

impl Say {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Apply(_, thing) => thing.kind(),
            Self::Begin(kind)
            | Self::Delete(kind, _)
            | Self::Skip(kind, _)
            | Self::End(kind)
            | Self::Alive(kind) => *kind,
        }
    }

    pub fn event(&self) -> Event {
        let key = |(namespace, name): &Key| cluster::ObjectKey::from((&**namespace, &**name));
        match self {
            Self::Begin(kind) => Event::ListStart(*kind),
            Self::Apply(key, thing) => Event::Apply(thing.object(key)),
            Self::Delete(kind, it) => Event::Delete(*kind, key(it)),
            Self::Skip(kind, it) => Event::SkippedObject(*kind, Some(key(it))),
            Self::End(kind) => Event::ListEnd(*kind),
            Self::Alive(kind) => Event::Heartbeat(*kind),
        }
    }
}

/// What is known, told so far.
#[derive(Debug, Default)]
pub struct Told {
    pub world: World,
    /// What the list that is under way has told of.
    seen: BTreeMap<Kind, BTreeSet<Key>>,
    listed: BTreeSet<Kind>,
}

impl Told {
    pub fn hear(&mut self, say: &Say) {
        let kind = say.kind();
        match say {
            Say::Begin(_) => drop(self.seen.insert(kind, BTreeSet::new())),
            Say::Apply(key, thing) => {
                self.see(kind, key);
                self.world.put(key.clone(), thing.clone());
            }
            Say::Skip(_, key) => self.see(kind, key),
            Say::Delete(_, key) => self.world.remove(kind, key),
            Say::End(_) => {
                let seen = self.seen.remove(&kind).expect("a list ends that has begun");
                for (key, _) in self.world.of(kind) {
                    if !seen.contains(&key) {
                        self.world.remove(kind, &key);
                    }
                }
                self.listed.insert(kind);
            }
            Say::Alive(_) => {}
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
