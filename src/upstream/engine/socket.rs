//! One connected UDP socket of an engine: the queries in flight on it, and what it has to send.

use std::{
    cmp::Reverse,
    collections::HashMap,
    io,
    net::UdpSocket,
    ops::Range,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use crate::{
    datagrams::{Connected, take_errors},
    reply::UpstreamSource,
    upstream::{
        Failure, Packet, Upstream,
        inbox::Key,
        udp::{LIFETIME, QUERIES},
    },
};

/// An attempt: a query and the number of its attempt.
pub(super) type AttemptKey = (Key, usize);

/// A socket, connected to its upstream. It takes at most twice [`QUERIES`], which bounds its table.
pub(super) struct Socket {
    io: UdpSocket,
    pub(super) received_at: Arc<UpstreamSource>,
    pub(super) upstream: Weak<Upstream>,
    opened: Instant,
    used: Instant,
    queries_left: u32,
    /// By message id. SipHash is not needed: the ids are random and ours.
    in_flight: HashMap<u16, AttemptKey, foldhash::fast::RandomState>,
    unsent: Unsent,
}

/// Messages to send.
#[derive(Default)]
struct Unsent {
    bytes: Vec<u8>,
    /// The id of each, and its place in `bytes`.
    messages: Vec<(u16, Range<usize>)>,
}

impl Socket {
    pub(super) fn new(
        io: UdpSocket,
        received_at: UpstreamSource,
        upstream: &Arc<Upstream>,
        now: Instant,
    ) -> Self {
        Self {
            io,
            received_at: Arc::new(received_at),
            upstream: Arc::downgrade(upstream),
            opened: now,
            used: now,
            queries_left: rand::random_range(QUERIES..=2 * QUERIES),
            in_flight: HashMap::default(),
            unsent: Unsent::default(),
        }
    }

    /// The socket itself.
    pub(super) fn io(&self) -> &UdpSocket {
        &self.io
    }

    /// Whether it takes another query.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        self.queries_left > 0 && now.saturating_duration_since(self.opened) < LIFETIME
    }

    /// Takes no more queries; the socket is closed after its last one.
    pub(super) fn retire(&mut self) {
        self.queries_left = 0;
    }

    /// Whether it can be closed: nothing is in flight, and it is replaced, idle for `idle`, or its upstream
    /// is gone.
    pub(super) fn can_close(&self, now: Instant, idle: Duration) -> bool {
        let is_idle = now.saturating_duration_since(self.used) > idle;
        self.in_flight.is_empty()
            && (is_idle || !self.is_usable(now) || self.upstream.strong_count() == 0)
    }

    /// Adds a query under a random id, which is returned.
    pub(super) fn add(&mut self, attempt: AttemptKey, packet: &Packet, now: Instant) -> u16 {
        self.used = now;
        self.queries_left = self.queries_left.saturating_sub(1);
        let id = loop {
            let id = rand::random();
            if !self.in_flight.contains_key(&id) {
                break id;
            }
        };
        self.unsent.push(id, packet.without_id());
        self.in_flight.insert(id, attempt);
        id
    }

    /// Whether messages wait to be sent.
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.messages.is_empty()
    }

    /// The attempt that waits for a reply under `id`.
    pub(super) fn attempt(&self, id: u16) -> Option<AttemptKey> {
        self.in_flight.get(&id).copied()
    }

    /// Nothing waits for a reply under `id` any more.
    pub(super) fn remove(&mut self, id: u16) {
        self.in_flight.remove(&id);
    }

    /// Sends what is to be sent; false where the socket has no room for all of it now. Attempts that cannot
    /// be sent, and those that an ICMP error is about, are appended to `failed`.
    pub(super) fn send(
        &mut self,
        messages: &mut Connected,
        failed: &mut Vec<(AttemptKey, Failure)>,
    ) -> bool {
        let mut failed_before = false;
        let mut done = 0;
        self.unsent.sort();
        while done < self.unsent.messages.len() {
            let sent = messages.send(&self.io, &self.unsent.from(done));
            match sent {
                Ok(count) => {
                    done += count;
                    failed_before = false;
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => {
                        self.unsent.remove(done);
                        return false;
                    }
                    _ if failed_before => {
                        let (id, _) = self.unsent.messages[done];
                        if let Some(attempt) = self.in_flight.remove(&id) {
                            failed.push((attempt, Failure::from(&error)));
                        }
                        done += 1;
                        failed_before = false;
                    }
                    _ => {
                        failed_before = true;
                        self.unsent.remove(done);
                        done = 0;
                        // It may be an ICMP error about an earlier datagram: then it is reported to what
                        // was sent (RFC 1122 section 4.1.3.3), and this one has not been sent yet.
                        take_errors(&self.io);
                        self.fail_sent(&Failure::reported(&error), failed);
                    }
                },
            }
        }
        self.unsent.remove(done);
        true
    }

    /// Fails what was sent, where the failure is the upstream's; appended to `failed`.
    pub(super) fn fail_sent(&mut self, failure: &Failure, failed: &mut Vec<(AttemptKey, Failure)>) {
        if failure.blames_upstream() {
            let unsent = &self.unsent;
            let was_sent = |id: &u16, _: &mut AttemptKey| !unsent.has(*id);
            let sent = self.in_flight.extract_if(was_sent);
            failed.extend(sent.map(|(_, attempt)| (attempt, failure.clone())));
        }
    }
}

impl Unsent {
    /// Adds a message, under `id` instead of its own.
    fn push(&mut self, id: u16, message: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(message);
        if let Some(bytes) = self.bytes[start..].first_chunk_mut() {
            *bytes = id.to_be_bytes();
        }
        self.messages.push((id, start..self.bytes.len()));
    }

    /// Brings those of one length together, so that they can be sent as one (`datagrams/segments`).
    fn sort(&mut self) {
        self.messages
            .sort_unstable_by_key(|(_, place)| Reverse(place.len()));
    }

    fn has(&self, id: u16) -> bool {
        self.messages.iter().any(|(unsent, _)| *unsent == id)
    }

    /// The messages from number `first` on.
    fn from(&self, first: usize) -> impl Iterator<Item = &[u8]> + Clone {
        let messages = self.messages[first..].iter();
        messages.map(|(_, place)| &self.bytes[place.clone()])
    }

    /// Removes the first `count` messages.
    fn remove(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        self.messages.drain(..count);
        if self.messages.is_empty() {
            self.bytes.clear();
            return;
        }
        let mut left = Self::default();
        for (id, place) in &self.messages {
            left.push(*id, &self.bytes[place.clone()]);
        }
        *self = left;
    }
}
