//! Coalesces identical queries in flight: one exchange, one reply for all.
//!
//! The first query of a kind becomes the leader and is sent to the upstreams. Later ones follow: their
//! engines get an event with a copy of the leader's reply. If the leader goes without one, because it was
//! evicted, its followers are submitted again and the first of them leads. A query that a forwarding loop
//! brings back follows itself, and so costs one packet and not a storm. No birthday odds are offered to a
//! forger, since there is one outstanding query of a kind (CVE-2023-30464).

use std::{
    hash::RandomState,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hashbrown::HashTable;
use parking_lot::{Mutex, MutexGuard};
use prometheus::IntCounter;

use super::{
    Packet,
    inbox::{Inbox, InboxEvent, Key},
    transport::TransportPolicy,
};
use crate::reply::Reply;

/// Parts of the table with a lock each, so that threads seldom contend.
const SHARDS: usize = 16;

/// The queries of one forward that are in flight.
#[derive(Debug, Default)]
pub struct InFlight {
    shards: [Mutex<HashTable<Entry>>; SHARDS],
    /// Clients choose the names, hence the keyed hash of the standard library.
    hasher: RandomState,
    next_serial: AtomicU64,
    panics: Option<IntCounter>,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    packet: Arc<Packet>,
    transport: TransportPolicy,
    /// Distinguishes the leader's entry from a later one of the same kind.
    serial: u64,
    followers: Vec<Follower>,
}

/// A query that waits for the reply of another one.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) inbox: Arc<Inbox>,
    pub(super) key: Key,
}

/// Held by the leader for as long as its exchange takes.
#[derive(Debug)]
pub(super) struct Lead {
    in_flight: Arc<InFlight>,
    hash: u64,
    serial: u64,
    /// Whether the entry has been removed.
    is_over: bool,
}

impl InFlight {
    /// An empty table; engine panics that lose a query are counted in `panics`.
    pub fn new(panics: IntCounter) -> Self {
        Self {
            panics: Some(panics),
            ..Self::default()
        }
    }

    /// Makes the query the leader of its kind, or where there is one already, a follower of that.
    pub(super) fn join(
        self: &Arc<Self>,
        packet: &Arc<Packet>,
        transport: TransportPolicy,
        follower: impl FnOnce() -> Follower,
    ) -> Option<Lead> {
        let hash = packet.hash(transport, &self.hasher);
        let mut shard = self.shard(hash);
        let is_same = |entry: &Entry| entry.transport == transport && entry.packet.is_same(packet);
        if let Some(entry) = shard.find_mut(hash, is_same) {
            entry.followers.push(follower());
            return None;
        }
        let serial = self.next_serial.fetch_add(1, Ordering::Relaxed);
        let entry = Entry {
            hash,
            packet: Arc::clone(packet),
            transport,
            serial,
            followers: Vec::new(),
        };
        shard.insert_unique(hash, entry, |entry| entry.hash);
        Some(Lead {
            in_flight: Arc::clone(self),
            hash,
            serial,
            is_over: false,
        })
    }

    /// A panic of an engine lost a query.
    pub(super) fn count_panic(&self) {
        self.panics.iter().for_each(IntCounter::inc);
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, HashTable<Entry>> {
        // A byte of the middle: the table uses the first bits and the last.
        let byte = hash.to_be_bytes()[3];
        self.shards[usize::from(byte) % SHARDS].lock()
    }

    /// Number of different queries in flight.
    #[cfg(test)]
    fn len(&self) -> usize {
        let shards = self.shards.iter();
        shards.map(|shard| shard.lock().len()).sum()
    }
}

impl Lead {
    /// Whether other queries wait for the reply.
    pub(super) fn has_followers(&self) -> bool {
        let shard = self.in_flight.shard(self.hash);
        let entry = shard.find(self.hash, |entry| entry.serial == self.serial);
        entry.is_some_and(|entry| !entry.followers.is_empty())
    }

    /// Gives the reply to the followers.
    pub(super) fn publish(mut self, reply: &Reply) {
        let followers = self.remove();
        if followers.is_empty() {
            return;
        }
        // One copy: a follower may have been evicted meanwhile, and others may be there in thousands.
        let reply = Arc::new(reply.clone());
        for follower in followers {
            follower.notify(Some(Arc::clone(&reply)));
        }
    }

    fn remove(&mut self) -> Vec<Follower> {
        if std::mem::replace(&mut self.is_over, true) {
            return Vec::new();
        }
        let mut shard = self.in_flight.shard(self.hash);
        match shard.find_entry(self.hash, |entry| entry.serial == self.serial) {
            Ok(entry) => entry.remove().0.followers,
            Err(_) => Vec::new(),
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        for follower in self.remove() {
            follower.notify(None);
        }
    }
}

impl Follower {
    fn notify(self, reply: Option<Arc<Reply>>) {
        let key = self.key;
        self.inbox.push(InboxEvent::Coalesced { key, reply });
    }
}

#[cfg(test)]
mod tests;
