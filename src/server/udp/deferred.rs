//! Queries that wait until the queue of the socket is short: those of the clients that fill it.
//!
//! The kernel's queue has one order for all clients. Taking it into the process as a whole, and answering the
//! queries of other clients at once, costs a client that sends little no more than the reading of the queue.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::super::handle::Arrival;
use crate::query::Transport;

/// Maximum number of queries: some 15 ms of a thread's work.
const MAX_QUERIES: usize = 1024;

/// Maximum bytes of their messages.
const MAX_BYTES: usize = 128 << 10;

/// Queries for which memory is kept while there are none.
const KEPT: usize = 64;

/// Maximum time from the receipt of a query to its answer. In the kernel's queue it can have been as long before.
const MAX_AGE: Duration = Duration::from_secs(3);

/// The queries that wait, oldest first.
#[derive(Default)]
pub(super) struct DeferredQueries {
    queries: VecDeque<DeferredQuery>,
    bytes: usize,
}

/// A query that waits.
pub(super) struct DeferredQuery {
    /// The message, without a PROXY header.
    bytes: Box<[u8]>,
    client: SocketAddr,
    local: SocketAddr,
    received: Instant,
    /// Where the reply is sent: the client, or a proxy in front of it.
    pub(super) peer: SocketAddr,
}

impl DeferredQuery {
    /// A query of UDP whose reply goes to `peer`.
    pub(super) fn new(arrival: &Arrival<'_>, peer: SocketAddr) -> Self {
        Self {
            bytes: arrival.bytes.into(),
            client: arrival.client,
            local: arrival.local,
            received: arrival.received,
            peer,
        }
    }

    /// The query as it arrived.
    pub(super) fn arrival(&self) -> Arrival<'_> {
        Arrival {
            bytes: &self.bytes,
            client: self.client,
            local: self.local,
            transport: Transport::Udp,
            received: self.received,
        }
    }

    /// Whether it has waited for longer than [`MAX_AGE`].
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.received) > MAX_AGE
    }
}

impl DeferredQueries {
    /// Whether no query waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    /// Whether a query of `length` bytes can wait too.
    pub(super) fn has_room(&self, length: usize) -> bool {
        self.queries.len() < MAX_QUERIES && self.bytes + length <= MAX_BYTES
    }

    /// Adds the newest query.
    pub(super) fn push(&mut self, query: DeferredQuery) {
        self.bytes += query.bytes.len();
        self.queries.push_back(query);
    }

    /// Takes the oldest query.
    pub(super) fn pop(&mut self) -> Option<DeferredQuery> {
        let query = self.queries.pop_front()?;
        self.bytes -= query.bytes.len();
        if self.queries.is_empty() {
            self.queries.shrink_to(KEPT);
        }
        Some(query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(bytes: &[u8], received: Instant) -> DeferredQuery {
        let address = SocketAddr::from(([10, 0, 0, 1], 5353));
        let arrival = Arrival {
            bytes,
            client: address,
            local: address,
            transport: Transport::Udp,
            received,
        };
        DeferredQuery::new(&arrival, address)
    }

    #[test]
    fn queries_leave_in_the_order_of_their_arrival() {
        let (mut queries, now) = (DeferredQueries::default(), Instant::now());
        for number in 0..3 {
            queries.push(query(&[number], now));
        }
        let left = std::iter::from_fn(|| queries.pop()).map(|query| query.arrival().bytes.to_vec());
        assert_eq!(left.collect::<Vec<_>>(), [[0], [1], [2]]);
        assert!(queries.is_empty() && queries.bytes == 0);
    }

    #[test]
    fn their_number_and_bytes_are_bounded() {
        let (mut queries, now) = (DeferredQueries::default(), Instant::now());
        while queries.has_room(1) {
            queries.push(query(&[0], now));
        }
        assert_eq!(queries.queries.len(), MAX_QUERIES);
        let (mut queries, message) = (DeferredQueries::default(), [0; 1000]);
        while queries.has_room(message.len()) {
            queries.push(query(&message, now));
        }
        assert_eq!(queries.queries.len(), MAX_BYTES / message.len());
        assert!(queries.has_room(MAX_BYTES % message.len()));
    }

    #[test]
    fn memory_is_given_back_and_old_queries_are_stale() {
        let (mut queries, now) = (DeferredQueries::default(), Instant::now());
        while queries.has_room(40) {
            queries.push(query(&[0; 40], now));
        }
        while let Some(query) = queries.pop() {
            assert!(!query.is_stale(now + MAX_AGE));
            assert!(query.is_stale(now + MAX_AGE + Duration::from_millis(1)));
        }
        assert!(queries.queries.capacity() <= 2 * KEPT);
    }
}
