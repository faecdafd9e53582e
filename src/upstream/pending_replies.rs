//! The queries in flight on one stream connection: a bounded table from message id to query.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use super::{
    failure::Failure,
    packet::{MessageMatch, Packet},
};
use crate::{
    reply::{Reply, UpstreamSource},
    wire::Header,
};

/// Bound on the queries in flight on one connection.
pub(super) const MAX_IN_FLIGHT: usize = 4096;

/// The queries in flight on one connection.
#[derive(Debug, Default)]
pub(super) struct PendingReplies {
    table: Mutex<Table>,
    received_at: OnceLock<Arc<UpstreamSource>>,
}

#[derive(Debug, Default)]
struct Table {
    /// SipHash is not needed: keys are our own random ids.
    slots: HashMap<u16, Slot, foldhash::fast::RandomState>,
    next_serial: u64,
    closed: bool,
    /// A query was abandoned since the last reply: the connection may be dead.
    abandoned: bool,
    /// Last progress: a reply, or a query added to an empty table.
    progress: Option<Instant>,
}

#[derive(Debug)]
struct Slot {
    serial: u64,
    packet: Arc<Packet>,
    reply: oneshot::Sender<Result<Reply, Failure>>,
}

/// What a message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The reply to a query in flight.
    Matched,
    /// No reply to a query in flight, or one that cannot be parsed.
    Wrong,
}

/// The state of a table, for choosing among connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) in_flight: usize,
    pub(super) closed: bool,
    pub(super) abandoned: bool,
    pub(super) progress: Option<Instant>,
}

impl PendingReplies {
    /// Labels the replies with where they come from, once the connection is open.
    pub(super) fn connected(&self, received_at: UpstreamSource) {
        let _ = self.received_at.set(Arc::new(received_at));
    }

    /// Adds a query under a random id. A full or closed table takes none.
    pub(super) fn add(self: &Arc<Self>, packet: &Arc<Packet>) -> Result<PendingReply, Failure> {
        let (sender, receiver) = oneshot::channel();
        let mut table = self.table.lock();
        if table.closed {
            return Err(Failure::Closed);
        }
        if table.slots.len() >= MAX_IN_FLIGHT {
            return Err(Failure::Busy);
        }
        let id = loop {
            let id = rand::random();
            if !table.slots.contains_key(&id) {
                break id;
            }
        };
        if table.slots.is_empty() {
            table.progress = Some(Instant::now());
        }
        let serial = table.next_serial;
        table.next_serial += 1;
        table.slots.insert(
            id,
            Slot {
                serial,
                packet: Arc::clone(packet),
                reply: sender,
            },
        );
        drop(table);
        Ok(PendingReply {
            replies: Arc::clone(self),
            id,
            serial,
            receiver,
        })
    }

    /// Hands a message to the query that it answers; one that cannot be parsed fails the query. A message
    /// that answers another question changes nothing: the right one may still come.
    pub(super) fn deliver(&self, message: &[u8]) -> Delivery {
        let Some(header) = Header::read(message) else {
            return Delivery::Wrong;
        };
        let mut table = self.table.lock();
        let Some(slot) = table.slots.get(&header.id) else {
            return Delivery::Wrong;
        };
        let mut reply = Reply::default();
        let (result, delivery) = match slot.packet.judge(message, &header, false, &mut reply) {
            MessageMatch::Reply => {
                reply.source = self.received_at.get().cloned();
                (Ok(reply), Delivery::Matched)
            }
            MessageMatch::Unreadable => (Err(Failure::Malformed), Delivery::Wrong),
            MessageMatch::OtherQuestion => return Delivery::Wrong,
        };
        let slot = table.slots.remove(&header.id);
        table.abandoned = false;
        table.progress = Some(Instant::now());
        drop(table);
        if let Some(slot) = slot {
            // The receiver may just have gone.
            let _ = slot.reply.send(result);
        }
        delivery
    }

    /// Fails every query in flight and takes no more.
    pub(super) fn close(&self, failure: &Failure) {
        let failed: Vec<Slot> = {
            let mut table = self.table.lock();
            table.closed = true;
            table.slots.drain().map(|(_, slot)| slot).collect()
        };
        for slot in failed {
            let _ = slot.reply.send(Err(failure.clone()));
        }
    }

    /// Closes if no query is in flight; whether it is closed now.
    pub(super) fn close_if_empty(&self) -> bool {
        let mut table = self.table.lock();
        table.closed |= table.slots.is_empty();
        table.closed
    }

    /// Its state.
    pub(super) fn load(&self) -> Load {
        let table = self.table.lock();
        Load {
            in_flight: table.slots.len(),
            closed: table.closed,
            abandoned: table.abandoned,
            progress: table.progress,
        }
    }
}

/// A query in flight, as a future of its reply. Dropping it takes the query out of the table.
#[derive(Debug)]
pub(super) struct PendingReply {
    replies: Arc<PendingReplies>,
    id: u16,
    serial: u64,
    receiver: oneshot::Receiver<Result<Reply, Failure>>,
}

impl PendingReply {
    /// The message id of the query.
    pub(super) fn id(&self) -> u16 {
        self.id
    }
}

impl Future for PendingReply {
    type Output = Result<Reply, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver)
            .poll(context)
            .map(|received| received.unwrap_or(Err(Failure::Closed)))
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        let mut table = self.replies.table.lock();
        let is_ours = table
            .slots
            .get(&self.id)
            .is_some_and(|slot| slot.serial == self.serial);
        if is_ours {
            table.slots.remove(&self.id);
            table.abandoned = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::{
        query::Question,
        wire::{Class, Name, Type},
    };

    fn packet() -> Arc<Packet> {
        let question = Question::new(Name::ROOT, Type::NS, Class::IN);
        Arc::new(Packet::probe(&question, true))
    }

    fn answer(packet: &Packet, id: u16) -> Vec<u8> {
        let mut message = packet
            .under(id, &mut [0; super::super::packet::MAX_QUERY])
            .to_vec();
        message[2] |= 0x80;
        message
    }

    #[test]
    fn a_message_that_does_not_match_leaves_the_query_in_flight() {
        let (replies, packet) = (Arc::new(PendingReplies::default()), packet());
        let mut pending = replies.add(&packet).unwrap();
        let right = answer(&packet, pending.id());
        let wrong_id = answer(&packet, pending.id().wrapping_add(1));
        let mut wrong_question = right.clone();
        wrong_question[14] = 1;
        for wrong in [&wrong_id[..], &wrong_question, &right[..11], b""] {
            assert_eq!(replies.deliver(wrong), Delivery::Wrong);
        }
        assert!((&mut pending).now_or_never().is_none());
        assert_eq!(replies.deliver(&right), Delivery::Matched);
        assert!(pending.now_or_never().unwrap().is_ok());
        assert_eq!(replies.deliver(&right), Delivery::Wrong, "only once");
    }

    #[test]
    fn the_table_is_bounded_and_dropped_queries_leave_it() {
        let (replies, packet) = (Arc::new(PendingReplies::default()), packet());
        let pendings: Vec<_> = (0..MAX_IN_FLIGHT)
            .map(|_| replies.add(&packet).unwrap())
            .collect();
        assert_eq!(replies.add(&packet).unwrap_err(), Failure::Busy);
        drop(pendings);
        assert_eq!(replies.load().in_flight, 0);
        assert!(replies.load().abandoned);
        assert!(replies.close_if_empty());
        assert_eq!(replies.add(&packet).unwrap_err(), Failure::Closed);
    }

    #[test]
    fn closing_fails_every_query_in_flight() {
        let (replies, packet) = (Arc::new(PendingReplies::default()), packet());
        let pending = replies.add(&packet).unwrap();
        assert!(!replies.close_if_empty());
        replies.close(&Failure::Closed);
        assert_eq!(
            pending.now_or_never().unwrap().unwrap_err(),
            Failure::Closed
        );
    }
}
