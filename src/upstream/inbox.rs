//! Events of an engine that arise on other threads, and the wake-up that goes with them.

use std::{
    io::{self, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use parking_lot::Mutex;

use super::Failure;
use crate::reply::Reply;

/// A query of one engine. The serial distinguishes it from a later query in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) slot: u32,
    pub(super) serial: u32,
}

#[cfg(test)]
impl Key {
    /// A key for tests that have no engine.
    pub(super) fn for_tests(slot: u32) -> Self {
        Self { slot, serial: 0 }
    }
}

/// What another thread reports about a query.
#[derive(Debug)]
pub(super) enum InboxEvent {
    /// An attempt over a stream is over.
    Attempt {
        key: Key,
        attempt: usize,
        result: Result<Box<Reply>, Failure>,
    },
    /// The query that this one follows has got its reply, or has gone without.
    Coalesced { key: Key, reply: Option<Arc<Reply>> },
}

/// The events for one engine. There is at most one per attempt, and queries in flight are bounded.
#[derive(Debug)]
pub(super) struct Inbox {
    events: Mutex<Vec<InboxEvent>>,
    wakeup: Arc<Wakeup>,
}

/// Wakes the thread of an engine: one byte in a socket pair, however often it is woken
/// before it looks.
#[derive(Debug)]
pub(super) struct Wakeup {
    sender: UnixStream,
    receiver: UnixStream,
    is_set: AtomicBool,
}

impl Inbox {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        let (sender, receiver) = UnixStream::pair()?;
        sender.set_nonblocking(true)?;
        receiver.set_nonblocking(true)?;
        let is_set = AtomicBool::new(false);
        Ok(Arc::new(Self {
            events: Mutex::default(),
            wakeup: Arc::new(Wakeup {
                sender,
                receiver,
                is_set,
            }),
        }))
    }

    /// Adds an event and wakes the engine.
    pub(super) fn push(&self, event: InboxEvent) {
        self.events.lock().push(event);
        self.wakeup.set();
    }

    /// Wakes the engine.
    pub(super) fn wake(&self) {
        self.wakeup.set();
    }

    /// A waker for futures that the engine's thread polls.
    pub(super) fn waker(&self) -> Waker {
        Arc::clone(&self.wakeup).into()
    }

    /// What is readable when the engine has been woken.
    pub(super) fn readiness(&self) -> impl AsFd + '_ {
        self.wakeup.receiver.as_fd()
    }

    /// Whether the engine has been woken since the last call; `is_readable` where [`Self::readiness`] is.
    pub(super) fn was_woken(&self, is_readable: bool) -> bool {
        // Read first: this is called at every turn. A byte may come after the flag that it belongs to was
        // seen: then it is all that there is, and is read too, or the engine would find it at every wait.
        if !is_readable && !self.wakeup.is_set.load(Ordering::Relaxed) {
            return false;
        }
        let mut byte = [0; 8];
        let _ = (&self.wakeup.receiver).read(&mut byte);
        // After the read: a wake-up from here on writes another byte.
        self.wakeup.is_set.swap(false, Ordering::AcqRel) || is_readable
    }

    /// The events so far.
    pub(super) fn take(&self) -> Vec<InboxEvent> {
        std::mem::take(&mut *self.events.lock())
    }
}

impl Wakeup {
    fn set(&self) {
        if !self.is_set.swap(true, Ordering::AcqRel) {
            // Where the buffer is full, the thread is awake already.
            let _ = (&self.sender).write(&[1]);
        }
    }
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.set();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_woken_once_however_many_events_there_are() {
        let inbox = Inbox::new().unwrap();
        assert!(!inbox.was_woken(false));
        let key = Key { slot: 1, serial: 2 };
        for _ in 0..3 {
            inbox.push(InboxEvent::Coalesced { key, reply: None });
        }
        inbox.waker().wake();
        assert!(inbox.was_woken(false));
        assert!(!inbox.was_woken(false));
        assert_eq!(inbox.take().len(), 3);
        assert!(is_empty(&inbox));
        inbox.wake();
        assert!(inbox.was_woken(false), "it can be woken again");
    }

    #[test]
    fn a_byte_that_comes_after_its_flag_was_seen_does_not_stay_readable() {
        let inbox = Inbox::new().unwrap();
        // The two steps of a wake-up, and the engine looks in between.
        assert!(!inbox.wakeup.is_set.swap(true, Ordering::AcqRel));
        assert!(inbox.was_woken(false));
        assert_eq!((&inbox.wakeup.sender).write(&[1]).unwrap(), 1);
        assert!(inbox.was_woken(true));
        assert!(
            is_empty(&inbox),
            "the engine's wait would end at once for ever"
        );
    }

    fn is_empty(inbox: &Inbox) -> bool {
        let read = (&inbox.wakeup.receiver).read(&mut [0]);
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}
