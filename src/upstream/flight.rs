//! Identical questions under way are asked once.
//!
//! Whoever asks first begins the work and later ones wait for the same reply, in one of two ways. As
//! a future that all of them hold, any of which drives it: so it goes on while one of them is left and
//! ends with the last. Or led by the first, who has a way of its own to come to a reply and tells the
//! others; should it come to none, one of them begins anew. A question that comes back to us through a
//! loop waits for itself, and so costs one packet and not a storm.

use std::{
    future::Future,
    hash::{BuildHasher, RandomState},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{
    FutureExt,
    future::{Shared, WeakShared},
};
use hashbrown::HashTable;
use parking_lot::{Mutex, MutexGuard};
use prometheus::IntCounter;
use tokio::sync::oneshot;

use crate::{
    reply::{Reply, Why},
    wire::Rcode,
};

type Work = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// The reply that several may wait for.
type Flight = Shared<Work>;

/// Parts of the list, each with a lock of its own: threads seldom meet.
const PARTS: usize = 16;

/// A question under way.
#[derive(Debug)]
struct Known {
    hash: u64,
    key: Arc<[u8]>,
    /// Tells it from a later one of the same key.
    serial: u64,
    by: By,
}

#[derive(Debug)]
enum By {
    /// A future that whoever waits holds.
    All(WeakShared<Work>),
    /// Its leader; these wait for it.
    Leader(Vec<oneshot::Sender<Reply>>),
}

/// Somebody's part in a flight that it does not lead.
#[derive(Debug)]
pub(super) enum Joined {
    /// With all others that hold it.
    All(Flight),
    /// The leader tells, or leaves without.
    Leader(oneshot::Receiver<Reply>),
}

/// The questions of one forward that are under way.
#[derive(Debug, Default)]
pub struct Flights {
    under_way: [Mutex<HashTable<Known>>; PARTS],
    /// The names are strangers' choice, hence the standard library's keyed hash.
    hasher: RandomState,
    next_serial: AtomicU64,
    /// Counts the work that panicked.
    panics: Option<IntCounter>,
}

impl Flights {
    /// No question in flight; work that panics is counted in `panics`.
    pub fn new(panics: IntCounter) -> Self {
        Self {
            panics: Some(panics),
            ..Self::default()
        }
    }

    /// Waits for the reply of the flight for `key`: of the one that is `joined` already, or of one that
    /// is under way, or else it begins one with `work`.
    pub(super) async fn reply<F>(
        self: &Arc<Self>,
        key: Arc<[u8]>,
        mut joined: Option<Joined>,
        work: impl Fn() -> F,
    ) -> Reply
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        loop {
            let flight = joined.take();
            let flight = flight.unwrap_or_else(|| self.join(Arc::clone(&key), &work));
            match flight {
                Joined::All(flight) => return flight.await,
                Joined::Leader(told) => {
                    if let Ok(reply) = told.await {
                        return reply;
                    }
                }
            }
        }
    }

    /// Joins the flight for `key`, or begins it with `work`.
    fn join<F>(self: &Arc<Self>, key: Arc<[u8]>, work: impl FnOnce() -> F) -> Joined
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let hash = self.hasher.hash_one(&key);
        let mut part = self.part(hash);
        if let Some(joined) = board(&mut part, hash, &key) {
            return joined;
        }
        // Before the landing, whose end takes the lock that is held here.
        let work = AssertUnwindSafe(work()).catch_unwind();
        let landing = self.landing(&key, hash);
        let (serial, panics) = (landing.serial, self.panics.clone());
        let flight = async move {
            let _landing = landing;
            // Of the waiters that share a future, only one would see its panic; the others would wait for ever.
            work.await.unwrap_or_else(|_| {
                panics.iter().for_each(IntCounter::inc);
                tracing::error!("a query to upstreams made the server panic");
                Reply::failure(Rcode::SERVFAIL, Why::Internal)
            })
        };
        let flight = flight.boxed().shared();
        if let Some(weak) = flight.downgrade() {
            put(
                &mut part,
                Known {
                    hash,
                    key,
                    serial,
                    by: By::All(weak),
                },
            );
        }
        Joined::All(flight)
    }

    /// Begins the flight for `key`, to be led by the caller; joins it where there is one already.
    pub(super) fn lead(self: &Arc<Self>, key: Arc<[u8]>) -> Result<Lead, Joined> {
        let hash = self.hasher.hash_one(&key);
        let mut part = self.part(hash);
        if let Some(joined) = board(&mut part, hash, &key) {
            return Err(joined);
        }
        let landing = self.landing(&key, hash);
        let serial = landing.serial;
        put(
            &mut part,
            Known {
                hash,
                key,
                serial,
                by: By::Leader(Vec::new()),
            },
        );
        Ok(Lead(landing))
    }

    fn part(&self, hash: u64) -> MutexGuard<'_, HashTable<Known>> {
        // An octet of the middle: the table goes by the first bits and the last.
        let octet = hash.to_be_bytes()[3];
        self.under_way[usize::from(octet) % PARTS].lock()
    }

    fn landing(self: &Arc<Self>, key: &Arc<[u8]>, hash: u64) -> Landing {
        Landing {
            flights: Arc::clone(self),
            key: Arc::clone(key),
            hash,
            serial: self.next_serial.fetch_add(1, Ordering::Relaxed),
            landed: false,
        }
    }

    /// How many different questions are under way.
    #[cfg(test)]
    fn count(&self) -> usize {
        let parts = self.under_way.iter();
        parts.map(|part| part.lock().len()).sum()
    }
}

/// Joins the flight for `key`, if there is one.
fn board(part: &mut HashTable<Known>, hash: u64, key: &Arc<[u8]>) -> Option<Joined> {
    let known = part.find_mut(hash, |known| known.key == *key)?;
    match &mut known.by {
        By::All(flight) => flight.upgrade().map(Joined::All),
        By::Leader(others) => {
            let (tell, told) = oneshot::channel();
            others.push(tell);
            Some(Joined::Leader(told))
        }
    }
}

/// Puts a question in the place of an earlier one of the same key, if there is any left.
fn put(part: &mut HashTable<Known>, known: Known) {
    if let Ok(old) = part.find_entry(known.hash, |old| old.key == known.key) {
        old.remove();
    }
    part.insert_unique(known.hash, known, |known| known.hash);
}

/// The lead of a flight. It ends with this, whether others were told or not.
#[derive(Debug)]
pub(super) struct Lead(Landing);

impl Lead {
    /// Tells the others what was replied.
    pub(super) fn land(mut self, reply: &Reply) {
        if let Some(By::Leader(others)) = self.0.take_off() {
            for other in others {
                // It may have left.
                let _ = other.send(reply.clone());
            }
        }
    }
}

/// Takes a flight off the list, however it ends.
#[derive(Debug)]
struct Landing {
    flights: Arc<Flights>,
    key: Arc<[u8]>,
    hash: u64,
    serial: u64,
    landed: bool,
}

impl Landing {
    fn take_off(&mut self) -> Option<By> {
        if std::mem::replace(&mut self.landed, true) {
            return None;
        }
        let mut part = self.flights.part(self.hash);
        // A later flight may have taken the place between the last asker's leaving and this.
        let is_ours = |known: &Known| known.serial == self.serial && known.key == self.key;
        let (known, _) = part.find_entry(self.hash, is_ours).ok()?.remove();
        Some(known.by)
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.take_off();
    }
}

#[cfg(test)]
mod tests;
