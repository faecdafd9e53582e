//! Questions that wait for more than a thread sees to itself: all of a thread's in one task.
//!
//! A task for each of them would be allocated, queued, woken on whatever worker is idle, and would
//! send its reply by itself. Answers come in bursts: here a burst wakes one task, which writes all
//! the replies and sends them together.

use std::{
    future::poll_fn,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt, stream::FuturesUnordered};
use tokio::{
    runtime::Handle,
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::unconstrained,
};

use super::{Wait, Working};
use crate::datagrams::{DelayedReply, Outbox};

/// Replies that are sent in one go, at most.
const BURST: usize = 32;

/// Replies after which others get a turn of the scheduler's.
const TURN: usize = 256;

/// A question that waits, and to whom its reply goes: whoever asked, or a proxy in front of it.
type Waiting = (Box<Wait>, SocketAddr);

/// Where a thread hands its questions that wait over. The task ends with the last of them once
/// this is dropped.
pub(super) struct Waits {
    /// The questions of one batch.
    batch: Vec<Waiting>,
    /// Not bounded by itself: every question holds a grant, of which there are so many.
    sender: UnboundedSender<Vec<Waiting>>,
}

impl Waits {
    /// Starts the task that waits. The replies go over `socket`, from the address that was asked
    /// where it is bound to all of them.
    pub(super) fn start(
        socket: Arc<UdpSocket>,
        wildcard: bool,
        working: Working,
        runtime: &Handle,
    ) -> Self {
        let (sender, arrivals) = mpsc::unbounded_channel();
        runtime.spawn(async move {
            // It decides for itself when it has worked enough: a question that is told to pause
            // would have to be looked at again.
            unconstrained(drive(arrivals, &socket, wildcard)).await;
            drop(working);
        });
        Self {
            batch: Vec::new(),
            sender,
        }
    }

    /// Takes a question in, for the next hand-over; its reply goes to `peer`.
    pub(super) fn push(&mut self, wait: Box<Wait>, peer: SocketAddr) {
        self.batch.push((wait, peer));
    }

    /// Hands over what was taken in.
    pub(super) fn hand_over(&mut self) {
        if !self.batch.is_empty() {
            // The task ends after its sender only, or with the runtime and everything else.
            let _ = self.sender.send(std::mem::take(&mut self.batch));
        }
    }
}

async fn drive(mut arrivals: UnboundedReceiver<Vec<Waiting>>, socket: &UdpSocket, wildcard: bool) {
    let mut waiting = FuturesUnordered::new();
    let mut out = Out {
        socket,
        outbox: Outbox::default(),
        replies: Vec::with_capacity(BURST),
    };
    poll_fn(|context| {
        let mut is_over = false;
        loop {
            match arrivals.poll_recv(context) {
                Poll::Ready(Some(batch)) => {
                    waiting.extend(batch.into_iter().map(|wait| finish(wait, wildcard)));
                }
                Poll::Ready(None) => {
                    is_over = true;
                    break;
                }
                Poll::Pending => break,
            }
        }
        let all = out.answer(&mut waiting, context);
        if is_over && waiting.is_empty() {
            return Poll::Ready(());
        }
        if !all {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;
}

struct Out<'a> {
    socket: &'a UdpSocket,
    outbox: Outbox,
    replies: Vec<DelayedReply>,
}

impl Out<'_> {
    /// Takes and sends the replies that there are; false where there may be more of them.
    fn answer(
        &mut self,
        waiting: &mut (impl Stream<Item = Option<DelayedReply>> + Unpin),
        context: &mut Context<'_>,
    ) -> bool {
        for _ in 0..TURN {
            let Poll::Ready(Some(reply)) = waiting.poll_next_unpin(context) else {
                self.send();
                return true;
            };
            self.replies.extend(reply);
            if self.replies.len() == BURST {
                self.send();
            }
        }
        self.send();
        false
    }

    fn send(&mut self) {
        if !self.replies.is_empty() {
            self.outbox.send(self.socket, &self.replies);
            self.replies.clear();
        }
    }
}

async fn finish((wait, client): Waiting, wildcard: bool) -> Option<DelayedReply> {
    let local = wait.local();
    let mut octets = Vec::new();
    wait.finish(&mut octets).await.then(|| DelayedReply {
        bytes: octets,
        client,
        local: wildcard.then_some(local.ip()),
    })
}
