//! Who waits for what on one socket or stream: a bounded table from message id to question.

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
    packet::{Judged, Packet},
};
use crate::{
    query::Transport,
    reply::{Reply, UpstreamSource},
    wire::Header,
};

/// Questions under way on one socket at most. Ids are drawn from the 65,536 less these, so a
/// stranger's guess stays as hard as one in sixty thousand, times the port.
pub(super) const MAX_WAITING: usize = 4096;

/// The questions under way on one socket.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    table: Mutex<Table>,
    heard: OnceLock<Arc<UpstreamSource>>,
}

#[derive(Debug, Default)]
struct Table {
    /// SipHash is not needed: keys are our own random ids.
    slots: HashMap<u16, Slot, foldhash::fast::RandomState>,
    next_serial: u64,
    closed: bool,
    /// A question was given up since the last answer: the stream may be dead.
    abandoned: bool,
    /// When the table was last found to move: an answer, or a question into an empty table.
    moved: Option<Instant>,
}

#[derive(Debug)]
struct Slot {
    serial: u64,
    packet: Arc<Packet>,
    answer: oneshot::Sender<Result<Reply, Failure>>,
}

/// What a message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// An answer that was waited for.
    Taken,
    /// No answer to anything that was asked, or one that cannot be read.
    Wrong,
}

/// How a table stands, for those who choose among streams.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) waiting: usize,
    pub(super) closed: bool,
    pub(super) abandoned: bool,
    pub(super) moved: Option<Instant>,
}

impl Waiters {
    /// The socket is open: what is heard on it is heard from there.
    pub(super) fn hears(&self, heard: UpstreamSource) {
        let _ = self.heard.set(Arc::new(heard));
    }

    /// Takes a place under a random id. Full or closed tables give none.
    pub(super) fn enter(self: &Arc<Self>, packet: &Arc<Packet>) -> Result<Ticket, Failure> {
        let (answer, receiver) = oneshot::channel();
        let mut table = self.table.lock();
        if table.closed {
            return Err(Failure::Closed);
        }
        if table.slots.len() >= MAX_WAITING {
            return Err(Failure::Busy);
        }
        let id = loop {
            let id = rand::random();
            if !table.slots.contains_key(&id) {
                break id;
            }
        };
        if table.slots.is_empty() {
            table.moved = Some(Instant::now());
        }
        let serial = table.next_serial;
        table.next_serial += 1;
        table.slots.insert(
            id,
            Slot {
                serial,
                packet: Arc::clone(packet),
                answer,
            },
        );
        drop(table);
        Ok(Ticket {
            waiters: Arc::clone(self),
            id,
            serial,
            receiver,
        })
    }

    /// Hands a message to the question that waits for it; one that cannot be read ends the wait. One to
    /// another question changes nothing: the wait for the right one goes on.
    pub(super) fn deliver(&self, message: &[u8]) -> Delivery {
        let Some(header) = Header::read(message) else {
            return Delivery::Wrong;
        };
        let mut table = self.table.lock();
        let Some(slot) = table.slots.get(&header.id) else {
            return Delivery::Wrong;
        };
        let heard = self.heard.get();
        let by_datagram = heard.is_some_and(|heard| heard.over == Transport::Udp);
        let mut reply = Reply::default();
        let (answer, delivery) = match slot.packet.judge(message, &header, by_datagram, &mut reply)
        {
            Judged::Answer => {
                reply.source = heard.cloned();
                (Ok(reply), Delivery::Taken)
            }
            Judged::Unreadable => (Err(Failure::Malformed), Delivery::Wrong),
            Judged::Other => return Delivery::Wrong,
        };
        let slot = table.slots.remove(&header.id);
        table.abandoned = false;
        table.moved = Some(Instant::now());
        drop(table);
        if let Some(slot) = slot {
            // The other side may just have given up.
            let _ = slot.answer.send(answer);
        }
        delivery
    }

    /// Ends every wait but that of `except`.
    pub(super) fn fail(&self, failure: &Failure, except: Option<u64>) {
        let failed: Vec<Slot> = {
            let mut table = self.table.lock();
            let gone = |_: &u16, slot: &mut Slot| Some(slot.serial) != except;
            table.slots.extract_if(gone).map(|(_, slot)| slot).collect()
        };
        for slot in failed {
            let _ = slot.answer.send(Err(failure.clone()));
        }
    }

    /// Ends every wait and takes nobody in from now on.
    pub(super) fn close(&self, failure: &Failure) {
        self.table.lock().closed = true;
        self.fail(failure, None);
    }

    /// Closes if nobody waits; says whether it is closed now.
    pub(super) fn close_if_empty(&self) -> bool {
        let mut table = self.table.lock();
        table.closed |= table.slots.is_empty();
        table.closed
    }

    /// How it stands.
    pub(super) fn load(&self) -> Load {
        let table = self.table.lock();
        Load {
            waiting: table.slots.len(),
            closed: table.closed,
            abandoned: table.abandoned,
            moved: table.moved,
        }
    }
}

/// A place in the table, and the wait for what comes to it. Dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Ticket {
    waiters: Arc<Waiters>,
    id: u16,
    serial: u64,
    receiver: oneshot::Receiver<Result<Reply, Failure>>,
}

impl Ticket {
    /// The id to ask under.
    pub(super) fn id(&self) -> u16 {
        self.id
    }

    /// Tells this place from a later one of the same id.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }
}

impl Future for Ticket {
    type Output = Result<Reply, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver)
            .poll(context)
            .map(|received| received.unwrap_or(Err(Failure::Closed)))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut table = self.waiters.table.lock();
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
    fn a_wrong_message_leaves_the_wait_and_the_right_one_ends_it() {
        let (waiters, packet) = (Arc::new(Waiters::default()), packet());
        let mut ticket = waiters.enter(&packet).unwrap();
        let right = answer(&packet, ticket.id());
        let wrong_id = answer(&packet, ticket.id().wrapping_add(1));
        let mut wrong_question = right.clone();
        wrong_question[14] = 1;
        for wrong in [&wrong_id[..], &wrong_question, &right[..11], b""] {
            assert_eq!(waiters.deliver(wrong), Delivery::Wrong);
        }
        assert!((&mut ticket).now_or_never().is_none());
        assert_eq!(waiters.deliver(&right), Delivery::Taken);
        assert!(ticket.now_or_never().unwrap().is_ok());
        assert_eq!(waiters.deliver(&right), Delivery::Wrong, "only once");
    }

    #[test]
    fn the_table_is_bounded_and_places_come_back() {
        let (waiters, packet) = (Arc::new(Waiters::default()), packet());
        let tickets: Vec<_> = (0..MAX_WAITING)
            .map(|_| waiters.enter(&packet).unwrap())
            .collect();
        assert_eq!(waiters.enter(&packet).unwrap_err(), Failure::Busy);
        drop(tickets);
        assert_eq!(waiters.load().waiting, 0);
        assert!(waiters.load().abandoned);
        assert!(waiters.close_if_empty());
        assert_eq!(waiters.enter(&packet).unwrap_err(), Failure::Closed);
    }

    #[test]
    fn a_refusal_ends_every_wait_but_the_askers_own() {
        let (waiters, packet) = (Arc::new(Waiters::default()), packet());
        let (mine, other) = (
            waiters.enter(&packet).unwrap(),
            waiters.enter(&packet).unwrap(),
        );
        waiters.fail(&Failure::Refused, Some(mine.serial()));
        assert_eq!(other.now_or_never().unwrap().unwrap_err(), Failure::Refused);
        assert!(mine.now_or_never().is_none());
    }
}
