//! Load shedding of one UDP thread that cannot keep up with its socket.
//!
//! The kernel queues datagrams in the order of their arrival and drops the newest when the queue is full, so one
//! client that sends more than the thread can handle delays and loses the queries of all others. The thread
//! therefore keeps the queue short, at the expense of the clients that fill it.
//!
//! While each call that receives a batch finds more queued than fits, clients with more than an eighth of the queries
//! have only [`QUOTA`] queries of a batch answered at once. The others are [deferred](super::deferred) until the queue
//! is short, while there is room. No query of a burst is lost by that.
//!
//! A queue that is not short for [`STANDING`] is an overload. From then on, for [`ALERT`], queries are shed; the longer
//! the run of full batches, the more:
//!
//! | of a run of full batches | shed |
//! |---|---|
//! | from the second on | what cannot be deferred and needs an upstream: SERVFAIL |
//! | from number [`DROPPING`] on | what cannot be deferred: dropped unread, which costs a fraction of a reply |
//! | after [`REFUSING`] queries were answered | every query that needs an upstream, of any client: SERVFAIL |
//!
//! Clients are counted in a sketch of fixed size, and only while batches are full: a thread that keeps up does
//! not pay for it. A client that is alone is neither deferred nor shed: no other would gain.

use std::{
    hash::BuildHasher,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::super::handle::Overloaded;

/// How long the queue must not have been empty before anything is shed.
const STANDING: Duration = Duration::from_millis(50);

/// How long after shedding the next overload is met at once.
const ALERT: Duration = Duration::from_secs(10);

/// Queries of a batch of a client with a large share that are answered at once.
const QUOTA: u8 = 4;

/// A share of more than one in so many is large.
const LARGE: u32 = 8;

/// Full batches in a row from which queries are dropped unread.
const DROPPING: u32 = 8;

/// Queries answered during a run of full batches after which none is forwarded. Batches would be the wrong measure:
/// a queue of deferred or dropped queries is emptied within a millisecond.
const REFUSING: u32 = 512;

/// What may be done for a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Everything.
    Full,
    /// The same, when the queue of the socket is short.
    Deferred,
    /// It is answered if that needs no upstream.
    Local(Overloaded),
    /// Nothing: it is dropped.
    None,
}

/// Decides what a thread sheds.
pub(super) struct LoadShedder {
    clients: ClientSketch,
    /// Full batches in a row, the present one included.
    full: u32,
    /// When the first of them was received.
    since: Instant,
    /// Queries of them that were admitted.
    admitted: u32,
    /// Until when the second full batch is an overload.
    alert: Option<Instant>,
    /// Queries of the present batch by the hash of their client.
    batch: [u8; Self::BATCH],
}

impl LoadShedder {
    const BATCH: usize = 64;

    /// Of a thread that starts now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            clients: ClientSketch::default(),
            full: 0,
            since: now,
            admitted: 0,
            alert: None,
            batch: [0; Self::BATCH],
        }
    }

    /// Begins a batch, received at `now`; `is_full` if more may be queued. Returns whether
    /// [`admit`](Self::admit) must be called for its datagrams: without, all are admitted.
    pub(super) fn begin(&mut self, is_full: bool, now: Instant) -> bool {
        if !is_full {
            self.full = 0;
            return false;
        }
        if self.full == 0 {
            if now.saturating_duration_since(self.since) > ALERT {
                // Counts of an earlier overload say nothing about this one.
                self.clients = ClientSketch::default();
            }
            self.since = now;
            self.admitted = 0;
        }
        self.full = self.full.saturating_add(1);
        let stands = now.saturating_duration_since(self.since) >= STANDING;
        if stands || (self.full > 1 && self.alert.is_some_and(|end| now < end)) {
            self.alert = Some(now + ALERT);
        } else {
            self.alert = self.alert.filter(|end| now < *end);
        }
        self.batch = [0; Self::BATCH];
        true
    }

    /// Counts a query of the present batch, and decides what is done for it. It can be deferred if there
    /// `has_room`.
    pub(super) fn admit(&mut self, client: IpAddr, has_room: bool) -> Admission {
        let admission = self.decide(client, has_room);
        let answered = u32::from(admission == Admission::Full);
        self.admitted = self.admitted.saturating_add(answered);
        admission
    }

    fn decide(&mut self, client: IpAddr, has_room: bool) -> Admission {
        let (hash, is_large) = self.clients.count(client);
        let queries = &mut self.batch[usize::from(hash) % Self::BATCH];
        *queries = queries.saturating_add(1);
        let is_over = is_large && *queries > QUOTA;
        if is_over && has_room {
            return Admission::Deferred;
        }
        if self.full < 2 || self.alert.is_none() {
            Admission::Full
        } else if is_over {
            if self.full >= DROPPING {
                Admission::None
            } else {
                Admission::Local(Overloaded::ClientShare)
            }
        } else if self.admitted >= REFUSING {
            Admission::Local(Overloaded::AllClients)
        } else {
            Admission::Full
        }
    }
}

/// Recent queries by client: a count-min sketch (Cormode and Muthukrishnan, 2005) of two rows, 2 KiB. Its hash
/// has a random key, so clients cannot choose with whom they are counted.
struct ClientSketch {
    key: foldhash::fast::RandomState,
    rows: [[u16; Self::WIDTH]; 2],
    total: u32,
}

impl Default for ClientSketch {
    fn default() -> Self {
        Self {
            key: foldhash::fast::RandomState::default(),
            rows: [[0; Self::WIDTH]; 2],
            total: 0,
        }
    }
}

impl ClientSketch {
    const WIDTH: usize = 512;

    /// Counts above which all are halved, so that old queries weigh less.
    const WINDOW: u32 = 8_192;

    /// Counts below which no share is known.
    const LEAST: u32 = 64;

    /// Counts a query. Returns a hash of the client, and whether the client has a large share of the queries,
    /// and is not the only one.
    fn count(&mut self, client: IpAddr) -> (u8, bool) {
        // Other bits for each row, and for the caller.
        let [own, _, a, b, c, d, ..] = self.key.hash_one(client).to_le_bytes();
        let mut count = u16::MAX;
        for (row, hash) in self.rows.iter_mut().zip([[a, b], [c, d]]) {
            let cell = &mut row[usize::from(u16::from_le_bytes(hash)) % Self::WIDTH];
            *cell = cell.saturating_add(1);
            count = count.min(*cell);
        }
        self.total += 1;
        let count = u32::from(count);
        let is_large =
            self.total >= Self::LEAST && count * LARGE > self.total && count < self.total;
        if self.total >= Self::WINDOW {
            self.halve();
        }
        (own, is_large)
    }

    fn halve(&mut self) {
        for cell in self.rows.as_flattened_mut() {
            *cell /= 2;
        }
        self.total /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOUD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const BATCH: u32 = 32;

    fn quiet(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a01_0000 + number).into()
    }

    /// Whether deferred queries have room.
    const ROOM: bool = true;
    const NO_ROOM: bool = false;

    /// Receives a full batch at `now`: queries of the clients that `client` gives by their index.
    fn full_batch(
        shedder: &mut LoadShedder,
        now: Instant,
        has_room: bool,
        client: impl Fn(u32) -> IpAddr,
    ) -> Vec<(IpAddr, Admission)> {
        assert!(shedder.begin(true, now));
        let clients = (0..BATCH).map(client);
        let admitted = clients.map(|it| (it, shedder.admit(it, has_room)));
        admitted.collect()
    }

    /// A batch with one query of another client.
    fn mixed(index: u32) -> IpAddr {
        if index == 20 { quiet(1) } else { LOUD }
    }

    /// A thread whose queue has not been empty for [`STANDING`], and its time.
    fn overloaded(client: impl Fn(u32) -> IpAddr + Copy) -> (LoadShedder, Instant) {
        let start = Instant::now();
        let mut shedder = LoadShedder::new(start);
        let mut now = start;
        while now < start + STANDING {
            let admitted = full_batch(&mut shedder, now, ROOM, client);
            assert!(admitted.iter().all(|(_, it)| is_answered(*it)));
            now += STANDING / 4;
        }
        // The queue has been emptied since.
        full_batch(&mut shedder, now, ROOM, client);
        assert!(!shedder.begin(false, now));
        (shedder, now)
    }

    /// At once or later.
    fn is_answered(admission: Admission) -> bool {
        matches!(admission, Admission::Full | Admission::Deferred)
    }

    fn count(batch: &[(IpAddr, Admission)], client: IpAddr, admission: Admission) -> usize {
        batch
            .iter()
            .filter(|it| **it == (client, admission))
            .count()
    }

    #[test]
    fn of_a_burst_the_queries_of_others_come_first() {
        let now = Instant::now();
        let mut shedder = LoadShedder::new(now);
        for step in 0..30 {
            let now = now + STANDING * step / 31;
            let batch = full_batch(&mut shedder, now, ROOM, mixed);
            // The share of a client is known after two batches.
            let deferred = if step < 2 { 0..=1 } else { 27..=27 };
            let found = count(&batch, LOUD, Admission::Deferred);
            assert!(deferred.contains(&found), "{step}: {found}");
            assert_eq!(count(&batch, LOUD, Admission::Full), 31 - found, "{step}");
            assert_eq!(count(&batch, quiet(1), Admission::Full), 1, "{step}");
        }
    }

    #[test]
    fn a_known_client_is_deferred_from_the_first_batch_on() {
        let now = Instant::now();
        let mut shedder = LoadShedder::new(now);
        for _ in 0..3 {
            full_batch(&mut shedder, now, ROOM, mixed);
        }
        assert!(!shedder.begin(false, now));
        let batch = full_batch(&mut shedder, now, ROOM, mixed);
        assert_eq!(count(&batch, LOUD, Admission::Deferred), 27);
    }

    #[test]
    fn a_burst_without_room_is_answered_in_order() {
        let now = Instant::now();
        let mut shedder = LoadShedder::new(now);
        for step in 0..30 {
            let batch = full_batch(&mut shedder, now + STANDING * step / 31, NO_ROOM, mixed);
            assert!(batch.iter().all(|(_, it)| *it == Admission::Full), "{step}");
        }
    }

    #[test]
    fn the_client_that_fills_the_queue_is_shed_in_steps_and_others_are_not() {
        let (mut shedder, now) = overloaded(mixed);
        // A batch of all, and then 5 of each.
        let last = 1 + (REFUSING - BATCH) / 5;
        for full in 1..=last {
            let batch = full_batch(&mut shedder, now, NO_ROOM, mixed);
            assert_eq!(count(&batch, quiet(1), Admission::Full), 1, "{full}");
            let (admitted, shed) = match full {
                1 => (31, Admission::None),
                2..DROPPING => (4, Admission::Local(Overloaded::ClientShare)),
                _ => (4, Admission::None),
            };
            assert_eq!(count(&batch, LOUD, Admission::Full), admitted, "{full}");
            assert_eq!(count(&batch, LOUD, shed), 31 - admitted, "{full}");
        }
        let batch = full_batch(&mut shedder, now, NO_ROOM, mixed);
        let refused = Admission::Local(Overloaded::AllClients);
        assert_eq!(count(&batch, quiet(1), refused), 1);
        assert_eq!(count(&batch, LOUD, refused), 4);
    }

    #[test]
    fn without_a_loud_client_queries_for_upstreams_are_shed_last() {
        let (mut shedder, now) = overloaded(quiet);
        for full in 1..=20 {
            let batch = full_batch(&mut shedder, now, NO_ROOM, quiet);
            let expected = if full <= REFUSING / BATCH {
                Admission::Full
            } else {
                Admission::Local(Overloaded::AllClients)
            };
            assert!(batch.iter().all(|(_, it)| *it == expected), "{full}");
        }
    }

    #[test]
    fn a_client_that_is_alone_keeps_its_replies() {
        let (mut shedder, now) = overloaded(|_| LOUD);
        for _ in 0..REFUSING / BATCH {
            let batch = full_batch(&mut shedder, now, NO_ROOM, |_| LOUD);
            assert_eq!(count(&batch, LOUD, Admission::Full), BATCH as usize);
        }
    }

    #[test]
    fn shedding_ends_with_the_queue_and_a_later_burst_is_admitted_again() {
        let (mut shedder, now) = overloaded(mixed);
        for _ in 0..3 {
            full_batch(&mut shedder, now, NO_ROOM, mixed);
        }
        assert!(!shedder.begin(false, now));
        let later = now + ALERT + STANDING;
        for _ in 0..30 {
            let batch = full_batch(&mut shedder, later, ROOM, mixed);
            assert!(batch.iter().all(|(_, it)| is_answered(*it)));
        }
    }

    #[test]
    fn old_queries_weigh_less_than_new_ones() {
        let mut sketch = ClientSketch::default();
        for number in 0..20_000 {
            sketch.count(quiet(number % 100));
        }
        let large = (0..4_000).map(|_| sketch.count(LOUD).1).filter(|it| *it);
        assert!(large.count() > 2_000);
        let is_large = (0..100).any(|number| sketch.count(quiet(number)).1);
        assert!(!is_large && sketch.total <= ClientSketch::WINDOW);
    }
}
