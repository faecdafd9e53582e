//! Replies that are sent later than the rest of their batch, many in one system call.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
};

use crate::datagrams::{DelayedReply, Outbox, REPLY_CAPACITY};

/// Replies that are sent in one call, at most.
const BATCH: usize = 32;

/// Replies on their way out.
pub(super) struct DelayedReplies {
    socket: Arc<UdpSocket>,
    wildcard: bool,
    outbox: Outbox,
    /// The first `count` are to be sent; the others are buffers for reuse.
    buffers: Vec<DelayedReply>,
    count: usize,
}

impl DelayedReplies {
    /// Replies over `socket`; they name the address that was asked where it is bound to the `wildcard`
    /// address.
    pub(super) fn new(socket: Arc<UdpSocket>, wildcard: bool) -> Self {
        Self {
            socket,
            wildcard,
            outbox: Outbox::default(),
            buffers: Vec::new(),
            count: 0,
        }
    }

    /// A buffer for the next reply, from `local` to `client`. It counts once it is [`push`](Self::push)ed.
    pub(super) fn next(&mut self, local: IpAddr, client: SocketAddr) -> &mut DelayedReply {
        if self.count == BATCH {
            self.send();
        }
        if self.buffers.len() == self.count {
            self.buffers.push(DelayedReply {
                bytes: Vec::with_capacity(REPLY_CAPACITY),
                client,
                local: None,
            });
        }
        let late = &mut self.buffers[self.count];
        late.client = client;
        late.local = self.wildcard.then_some(local);
        late
    }

    /// The reply in the buffer is complete.
    pub(super) fn push(&mut self) {
        self.count += 1;
    }

    /// Adds a reply from `local` to `client`.
    pub(super) fn add(&mut self, bytes: &[u8], local: IpAddr, client: SocketAddr) {
        let late = self.next(local, client);
        late.bytes.clear();
        late.bytes.extend_from_slice(bytes);
        self.push();
    }

    /// Sends what there is.
    pub(super) fn send(&mut self) {
        if self.count > 0 {
            self.outbox.send(&self.socket, &self.buffers[..self.count]);
            for late in &mut self.buffers[..self.count] {
                late.bytes.clear();
                late.bytes.shrink_to(REPLY_CAPACITY);
            }
            self.count = 0;
        }
    }
}
