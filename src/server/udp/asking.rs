//! Questions that a thread asks upstreams itself: the usual case of a forwarded question, which never
//! meets a scheduler.

use std::{
    net::{SocketAddr, UdpSocket},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{Handled, Scratch, Wait, Waits};
use crate::{
    datagrams::{DelayedReply, Outbox, REPLY_CAPACITY},
    metrics::Metrics,
    upstream::{Ask, Asker},
};

/// Replies that are sent in one go, at most.
const BURST: usize = 32;

/// What a thread asks, and the replies that come of it.
pub(super) struct Asking {
    /// Nothing where the system has no way to wait for several sockets.
    asker: Option<Asker<Asked>>,
    out: Out,
    metrics: Arc<Metrics>,
}

/// Who waits.
struct Asked {
    wait: Box<Wait>,
    /// To whom the reply goes: whoever asked, or a proxy in front of it.
    peer: SocketAddr,
}

/// Replies on their way out.
struct Out {
    socket: Arc<UdpSocket>,
    wildcard: bool,
    outbox: Outbox,
    /// The first `count` are to be sent; the others are room.
    replies: Vec<DelayedReply>,
    count: usize,
}

impl Asking {
    /// For the thread at `socket`; replies name the address that was asked where it is bound to all
    /// of them.
    pub(super) fn new(socket: &Arc<UdpSocket>, wildcard: bool, metrics: &Arc<Metrics>) -> Self {
        let asker = Asker::new(socket).inspect_err(|error| {
            tracing::warn!(
                "cannot wait for several sockets: {}",
                crate::plain::io(error)
            );
        });
        Self {
            asker: asker.ok(),
            out: Out {
                socket: Arc::clone(socket),
                wildcard,
                outbox: Outbox::default(),
                replies: Vec::new(),
                count: 0,
            },
            metrics: Arc::clone(metrics),
        }
    }

    /// Whether no answer is waited for.
    pub(super) fn is_idle(&self) -> bool {
        self.asker.as_ref().is_none_or(Asker::is_idle)
    }

    /// Takes a question in, for the next flush, or gives it back; its reply goes to `peer`.
    pub(super) fn push(
        &mut self,
        mut wait: Box<Wait>,
        peer: SocketAddr,
        now: Instant,
    ) -> Option<Box<Wait>> {
        let Some(asker) = &mut self.asker else {
            return Some(wait);
        };
        let Some(ask) = wait.take_ask() else {
            return Some(wait);
        };
        let (ask, asked) = asker.ask(ask, Asked { wait, peer }, now).err()?;
        Some(asked.given_back(ask))
    }

    /// Sends the questions that were taken in.
    pub(super) fn flush(&mut self, waits: &mut Waits) {
        if let Some(asker) = &mut self.asker {
            asker.flush();
            hand_over(asker, waits);
        }
    }

    /// Waits for answers and for clients, and answers those whose answer is there; whether clients
    /// have come.
    pub(super) fn turn(&mut self, scratch: &mut Scratch, waits: &mut Waits) -> bool {
        let Some(asker) = &mut self.asker else {
            return true;
        };
        let clients = asker.wait().unwrap_or_else(|error| {
            // The system is out of something. It is not to be asked in a tight loop.
            tracing::warn!("cannot wait for answers: {}", crate::plain::io(&error));
            thread::sleep(Duration::from_millis(100));
            true
        });
        let Scratch { reply, writer, .. } = scratch;
        let (out, mut again) = (&mut self.out, Vec::new());
        let read = AssertUnwindSafe(|| {
            asker.read(reply, |reply, Asked { wait, peer }| {
                let late = out.next(&wait, peer);
                match wait.heard(reply, writer, &mut late.bytes) {
                    Handled::Reply => out.push(),
                    Handled::Nothing | Handled::Transfer(_) => {}
                    Handled::Wait(wait) => again.push((wait, peer)),
                }
            });
        });
        if catch_unwind(read).is_err() {
            // An upstream's message is a stranger's too: the thread must outlive it. Whatever else has
            // come is found at the next wait.
            self.metrics.panics_total.inc();
            tracing::error!("an upstream's message made the server panic; it was thrown away");
            *scratch = Scratch::default();
        }
        self.out.send();
        let now = Instant::now();
        for (wait, peer) in again {
            if let Some(wait) = self.push(wait, peer, now) {
                waits.push(wait, peer);
            }
        }
        if let Some(asker) = &mut self.asker {
            // What could not be sent before, too.
            asker.flush();
            asker.sweep(now);
            hand_over(asker, waits);
        }
        clients
    }

    /// Looks for what is not needed any more, where nothing is waited for.
    pub(super) fn sweep(&mut self, waits: &mut Waits) {
        if let Some(asker) = self.asker.as_mut().filter(|asker| asker.is_open()) {
            asker.sweep(Instant::now());
            hand_over(asker, waits);
        }
    }

    /// Does not wait for clients any more.
    pub(super) fn close(&mut self) {
        if let Some(asker) = &mut self.asker {
            asker.close(&self.out.socket);
        }
    }
}

/// Hands over what is to be gone on with in another way.
fn hand_over(asker: &mut Asker<Asked>, waits: &mut Waits) {
    for (ask, asked) in asker.returned() {
        let peer = asked.peer;
        waits.push(asked.given_back(ask), peer);
    }
    waits.hand_over();
}

impl Asked {
    fn given_back(self, ask: Box<Ask>) -> Box<Wait> {
        let mut wait = self.wait;
        wait.put_ask(ask);
        wait
    }
}

impl Out {
    /// Room for the reply to whoever waits.
    fn next(&mut self, wait: &Wait, peer: SocketAddr) -> &mut DelayedReply {
        if self.count == BURST {
            self.send();
        }
        if self.replies.len() == self.count {
            self.replies.push(DelayedReply {
                bytes: Vec::with_capacity(REPLY_CAPACITY),
                client: peer,
                local: None,
            });
        }
        let late = &mut self.replies[self.count];
        late.client = peer;
        late.local = self.wildcard.then_some(wait.local().ip());
        late
    }

    /// The reply in that room is to be sent.
    fn push(&mut self) {
        self.count += 1;
    }

    fn send(&mut self) {
        if self.count > 0 {
            self.outbox.send(&self.socket, &self.replies[..self.count]);
            for late in &mut self.replies[..self.count] {
                late.bytes.clear();
                late.bytes.shrink_to(REPLY_CAPACITY);
            }
            self.count = 0;
        }
    }
}
