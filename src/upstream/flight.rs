//! Identical questions under way are asked once.
//!
//! Whoever asks first begins the work and later ones wait on the same future. Any of them drives
//! it, so it goes on while one of them is left and ends with the last. A question that comes back
//! to us through a loop waits for itself, and so costs one packet and not a storm.

use std::{
    collections::HashMap,
    future::Future,
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
use parking_lot::Mutex;

use crate::reply::Reply;

type Work = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// The reply that several may wait for.
pub type Flight = Shared<Work>;

/// A flight and its number, which tells it from a later one for the same key.
type Known = (u64, WeakShared<Work>);

/// The questions of one forward that are under way.
#[derive(Debug, Default)]
pub struct Flights {
    /// The names are strangers' choice, hence the standard library's keyed hash.
    under_way: Mutex<HashMap<Arc<[u8]>, Known>>,
    next_serial: AtomicU64,
}

impl Flights {
    /// Joins the flight for `key`, or begins it with `work`.
    pub fn join<F>(self: &Arc<Self>, key: Box<[u8]>, work: impl FnOnce() -> F) -> Flight
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let mut under_way = self.under_way.lock();
        let known = under_way.get(&key[..]);
        if let Some(flight) = known.and_then(|(_, flight)| flight.upgrade()) {
            return flight;
        }
        let key: Arc<[u8]> = key.into();
        let serial = self.next_serial.fetch_add(1, Ordering::Relaxed);
        let landing = Landing {
            flights: Arc::clone(self),
            key: Arc::clone(&key),
            serial,
        };
        let work = work();
        let flight = async move {
            let _landing = landing;
            work.await
        };
        let flight = flight.boxed().shared();
        if let Some(weak) = flight.downgrade() {
            under_way.insert(key, (serial, weak));
        }
        flight
    }

    /// How many different questions are under way.
    pub fn count(&self) -> usize {
        self.under_way.lock().len()
    }
}

/// Takes a flight off the list, however it ends.
struct Landing {
    flights: Arc<Flights>,
    key: Arc<[u8]>,
    serial: u64,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut under_way = self.flights.under_way.lock();
        // A later flight may have taken the place between the last asker's leaving and this.
        let is_ours = under_way
            .get(&self.key)
            .is_some_and(|(serial, _)| *serial == self.serial);
        if is_ours {
            under_way.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::{reply::Why, wire::Rcode};

    fn key(text: &str) -> Box<[u8]> {
        text.as_bytes().into()
    }

    fn refused() -> Reply {
        Reply::failure(Rcode::REFUSED, Why::Upstream)
    }

    #[test]
    fn a_hundred_askers_begin_one_flight() {
        let flights = Arc::new(Flights::default());
        let (land, landed) = oneshot::channel::<()>();
        let mut landed = Some(landed);
        let askers: Vec<_> = (0..100)
            .map(|_| {
                flights.join(key("a"), || {
                    let landed = landed.take().expect("begun once");
                    async move {
                        landed.await.unwrap();
                        refused()
                    }
                })
            })
            .collect();
        assert_eq!(flights.count(), 1);
        land.send(()).unwrap();
        for asker in askers {
            assert_eq!(asker.now_or_never().unwrap().rcode, Rcode::REFUSED);
        }
        assert_eq!(flights.count(), 0);
    }

    #[test]
    fn a_flight_goes_on_without_its_beginner_and_ends_with_the_last() {
        let flights = Arc::new(Flights::default());
        let (land, landed) = oneshot::channel::<()>();
        let work = || async move {
            landed.await.ok();
            refused()
        };
        let mut first = flights.join(key("a"), work);
        assert!((&mut first).now_or_never().is_none());
        let mut second = flights.join(key("a"), || async { unreachable!() });
        drop(first);
        assert!((&mut second).now_or_never().is_none());
        drop(second);
        assert_eq!(flights.count(), 0);
        assert!(land.is_closed(), "the work is gone");
        let third = flights.join(key("a"), || async { refused() });
        assert!(third.now_or_never().is_some());
    }
}
