//! The UDP sockets of an engine: a few per upstream, opened when first used and renewed before a forger
//! can learn their ports (see [`crate::upstream::udp`]).
//!
//! All queries of a batch to one upstream go over the same socket, so that one system call sends them.

use std::{
    io,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use super::{
    poller::Poller,
    socket::{AttemptKey, Socket},
};
use crate::{
    datagrams::Connected,
    upstream::{Failure, Packet, Upstream, meter::Proto, udp::SOCKETS},
};

/// How long a socket stays open without a query.
pub(super) const IDLE: Duration = Duration::from_secs(2);

/// The sockets of one engine.
#[derive(Default)]
pub(super) struct Sockets {
    slots: Vec<Option<Socket>>,
    sets: Vec<Set>,
    /// Slots of the sockets that have something to send.
    unsent: Vec<usize>,
}

/// The sockets to one upstream, by their slots.
struct Set {
    upstream: Weak<Upstream>,
    slots: [Option<usize>; SOCKETS],
    /// The one that takes the queries of this batch.
    chosen: Option<usize>,
}

impl Sockets {
    /// Adds an attempt to a socket of the upstream, for the next [`Self::send`]. Returns the socket's slot
    /// and the message id.
    pub(super) fn add(
        &mut self,
        poller: &mut Poller,
        upstream: &Arc<Upstream>,
        attempt: AttemptKey,
        packet: &Packet,
        now: Instant,
    ) -> Result<(usize, u16), Failure> {
        let slot = self.choose(poller, upstream, now)?;
        let socket = self.slots[slot].as_mut().ok_or(Failure::Closed)?;
        if !socket.has_unsent() {
            self.unsent.push(slot);
        }
        Ok((slot, socket.add(attempt, packet, now)))
    }

    /// The slot of the socket for this batch.
    fn choose(
        &mut self,
        poller: &mut Poller,
        upstream: &Arc<Upstream>,
        now: Instant,
    ) -> Result<usize, Failure> {
        let is_its = |set: &Set| std::ptr::eq(set.upstream.as_ptr(), Arc::as_ptr(upstream));
        let at = self.sets.iter().position(is_its).unwrap_or_else(|| {
            self.sets.push(Set {
                upstream: Arc::downgrade(upstream),
                slots: [None; SOCKETS],
                chosen: None,
            });
            self.sets.len() - 1
        });
        let set = &mut self.sets[at];
        let chosen = *set
            .chosen
            .get_or_insert_with(|| rand::random_range(0..SOCKETS));
        if let Some(slot) = set.slots[chosen]
            && let Some(socket) = &mut self.slots[slot]
        {
            if socket.is_usable(now) {
                upstream.meter.hit(Proto::Udp);
                return Ok(slot);
            }
            socket.retire();
        }
        let slot = match self.open(poller, upstream, now) {
            Ok(slot) => slot,
            Err(error) => {
                // The process is out of descriptors or ports: another socket of the set serves too.
                let other = self.other(at, now).ok_or(Failure::from(&error))?;
                upstream.meter.hit(Proto::Udp);
                return Ok(other);
            }
        };
        upstream.meter.miss(Proto::Udp);
        self.sets[at].slots[chosen] = Some(slot);
        Ok(slot)
    }

    /// Any usable socket of a set.
    fn other(&mut self, at: usize, now: Instant) -> Option<usize> {
        let set = &mut self.sets[at];
        let mut open = set.slots.iter().enumerate();
        let (number, slot) = open.find_map(|(number, slot)| {
            let slot = (*slot)?;
            let socket = self.slots[slot].as_ref()?;
            socket.is_usable(now).then_some((number, slot))
        })?;
        set.chosen = Some(number);
        Some(slot)
    }

    fn open(
        &mut self,
        poller: &mut Poller,
        upstream: &Arc<Upstream>,
        now: Instant,
    ) -> io::Result<usize> {
        let slot = self.slots.iter().position(Option::is_none);
        let slot = slot.unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let udp = upstream.udp().ok_or(io::ErrorKind::Unsupported)?;
        let (io, received_at) = udp.open()?;
        poller.add(&io, slot as u64)?;
        self.slots[slot] = Some(Socket::new(io, received_at, upstream, now));
        Ok(slot)
    }

    /// The socket in a slot.
    pub(super) fn get(&self, slot: usize) -> Option<&Socket> {
        self.slots.get(slot)?.as_ref()
    }

    /// The socket in a slot.
    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Socket> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// Whether any is open.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }

    /// Whether messages wait to be sent: those that a full socket did not take.
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends what was added, and ends the batch.
    pub(super) fn send(
        &mut self,
        messages: &mut Connected,
        failed: &mut Vec<(AttemptKey, Failure)>,
    ) {
        if self.unsent.is_empty() {
            return;
        }
        for set in &mut self.sets {
            set.chosen = None;
        }
        let slots = &mut self.slots;
        self.unsent.retain(|slot| {
            let socket = slots[*slot].as_mut();
            socket.is_some_and(|socket| !socket.send(messages, failed))
        });
    }

    /// Closes the sockets that are not needed any more.
    pub(super) fn close_idle(&mut self, poller: &mut Poller, now: Instant) {
        for (token, slot) in self.slots.iter_mut().enumerate() {
            if let Some(socket) = slot.take_if(|socket| socket.can_close(now, IDLE)) {
                poller.remove(socket.io(), token as u64);
            }
        }
        let slots = &self.slots;
        self.sets.retain_mut(|set| {
            for slot in &mut set.slots {
                *slot = slot.filter(|slot| slots[*slot].is_some());
            }
            set.upstream.strong_count() > 0 || set.slots.iter().any(Option::is_some)
        });
    }
}
