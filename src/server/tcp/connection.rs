//! One connection of DNS over TCP or TLS: queries are pipelined, replies written as they are ready.
//!
//! An idle connection holds no buffer. Reading, answering and writing use buffers of the thread; a
//! connection keeps only a partial query and unsent replies.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::Abort;
use crate::server::{
    caller::Caller,
    connection_limit::ConnectionPermits,
    handle::{Handled, PendingQuery, Scratch},
    idle::expired,
    limits::StreamSettings,
    transfer::Transfer,
};

/// Bytes per read.
const INPUT: usize = 16 * 1024;

/// Bytes of replies that are collected before a write.
const OUTPUT: usize = 64 * 1024;

/// Bytes of replies after which the task yields, so that one client cannot occupy the thread.
const TURN: usize = 16 * 1024;

/// How long the client's data is still read and discarded after the connection was shut down for writing.
const LINGER: Duration = Duration::from_millis(500);

thread_local! {
    /// Buffers of this thread, used by each connection in turn.
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers::default());
}

struct Buffers {
    input: Box<[u8]>,
    output: Vec<u8>,
    reply: Vec<u8>,
    scratch: Scratch,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            input: vec![0; INPUT].into(),
            output: Vec::new(),
            reply: Vec::new(),
            scratch: Scratch::default(),
        }
    }
}

/// A pending reply, framed (empty if none is sent), or a part of a transfer and the rest of it.
type FramedReply = Pin<Box<dyn Future<Output = (Vec<u8>, Option<Box<Transfer>>)> + Send>>;

/// One connection.
pub(super) struct Connection<S> {
    stream: S,
    caller: Caller,
    settings: StreamSettings,
    permits: ConnectionPermits,
    /// Received bytes that are not handled yet.
    received: Vec<u8>,
    /// Replies that are not written yet.
    unsent: Vec<u8>,
    /// The stream may hold data of its own to be flushed, as TLS does.
    unflushed: bool,
    pending: FuturesUnordered<FramedReply>,
    /// Remaining queries (`maxtcpqueries`).
    remaining_queries: u64,
    /// When the connection closes if no query is received.
    deadline: Instant,
    /// A query was received.
    has_queried: bool,
    /// Nothing more is read.
    closing: bool,
}

impl<S: AsyncRead + AsyncWrite + Abort + Unpin> Connection<S> {
    pub(super) fn new(
        stream: S,
        caller: Caller,
        settings: StreamSettings,
        permits: ConnectionPermits,
    ) -> Self {
        Self {
            stream,
            caller,
            settings,
            permits,
            received: Vec::new(),
            unsent: Vec::new(),
            unflushed: false,
            pending: FuturesUnordered::new(),
            remaining_queries: settings.queries.unwrap_or(u64::MAX),
            deadline: Instant::now() + settings.first_query,
            has_queried: false,
            closing: false,
        }
    }

    /// Serves the connection to its end; `stop` ends it gracefully.
    pub(super) async fn serve(mut self, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        // Created once: creating them per query would cost as much as the query.
        let mut timer = pin!(sleep_until(self.deadline));
        let mut stopping = pin!(async { drop(stop.wait_for(|stop| *stop).await) });
        let mut evicted = pin!(self.permits.evicted());
        let mut stopped = false;
        while !(self.closing && self.pending.is_empty()) {
            let deadline = self.pending.is_empty().then_some(self.deadline);
            let expired = expired(timer.as_mut(), self.settings.idle, || deadline);
            tokio::select! {
                progress = self.progress() => progress?,
                // Also completes if the sender was dropped. What has been received until now is still
                // handled.
                () = stopping.as_mut(), if !stopped => {
                    stopped = true;
                    // The first query of a new connection is probably in transit.
                    self.deadline = self.deadline.min(Instant::now() + LINGER);
                }
                () = expired => break,
                () = evicted.as_mut() => {
                    self.evict();
                    return Ok(());
                }
            }
            if stopped && self.has_queried && !self.closing {
                self.drain_received().await?;
            }
            if !self.write(evicted.as_mut()).await? {
                self.evict();
                return Ok(());
            }
            if message(&self.received).is_some() {
                tokio::task::yield_now().await;
            }
        }
        self.close().await
    }

    /// Completes when a reply is ready, or when something was read.
    async fn progress(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_progress(context)).await
    }

    fn poll_progress(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut advanced = false;
        while self.unsent.len() < OUTPUT
            && let Poll::Ready(Some((reply, rest))) = self.pending.poll_next_unpin(context)
        {
            self.unsent.extend(reply);
            // The next part is built once this one fits the bound, and after other tasks have run.
            if let Some(transfer) = rest {
                self.pending.push(Box::pin(transfer.next()));
            }
            self.answered();
            advanced = true;
        }
        if self.may_read() {
            match self.poll_queries(context) {
                Poll::Ready(Ok(())) => advanced = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        if advanced {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// Whether another query may be read. While none may, TCP's flow control stops the client.
    fn may_read(&self) -> bool {
        !self.closing && self.pending.len() < self.settings.in_flight
    }

    /// Handles what was received before or, if that is not a complete query, reads more; writes ready
    /// replies as far as possible without blocking.
    fn poll_queries(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        BUFFERS.with_borrow_mut(|buffers| {
            buffers.output.clear();
            if message(&self.received).is_some() {
                self.handle_received(buffers);
            } else {
                if buffers.input.is_empty() {
                    // A panic occurred while the buffer was taken.
                    buffers.input = Buffers::default().input;
                }
                let mut buffer = ReadBuf::new(&mut buffers.input);
                let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
                let count = match read {
                    Ok(()) => buffer.filled().len(),
                    // A client that closes without TLS's close_notify.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                    Err(error) => return Poll::Ready(Err(error)),
                };
                if count == 0 {
                    self.closing = true;
                    return Poll::Ready(Ok(()));
                }
                self.handle_read(buffers, count);
            }
            // `unsent` may start in the middle of a reply, so it is written first.
            let mut sent = 0;
            let mut stream = Pin::new(&mut self.stream);
            if self.unsent.is_empty()
                && !buffers.output.is_empty()
                && let Poll::Ready(result) = stream.as_mut().poll_write(context, &buffers.output)
            {
                sent = result?;
                self.unflushed = match stream.poll_flush(context) {
                    Poll::Ready(result) => result.map(|()| false)?,
                    Poll::Pending => true,
                };
            }
            self.unsent.extend(&buffers.output[sent..]);
            buffers.output.shrink_to(OUTPUT);
            buffers.reply.shrink_to(OUTPUT);
            Poll::Ready(Ok(()))
        })
    }

    fn handle_read(&mut self, buffers: &mut Buffers, count: usize) {
        // Taken, so that the input can be read while the output grows.
        let input = std::mem::take(&mut buffers.input);
        if self.received.is_empty() {
            let taken = self.handle_queries(&input[..count], buffers);
            self.received.extend(&input[taken..count]);
        } else {
            self.received.extend(&input[..count]);
            self.handle_received(buffers);
        }
        buffers.input = input;
    }

    fn handle_received(&mut self, buffers: &mut Buffers) {
        let mut received = std::mem::take(&mut self.received);
        let taken = self.handle_queries(&received, buffers);
        if taken < received.len() {
            received.drain(..taken);
            self.received = received;
        }
    }

    /// Handles complete queries from the start of `bytes`, up to the bounds; returns their length in
    /// bytes. Replies that are ready at once are framed in the output buffer.
    fn handle_queries(&mut self, bytes: &[u8], buffers: &mut Buffers) -> usize {
        let Buffers {
            output,
            reply,
            scratch,
            ..
        } = buffers;
        let routes = self.caller.handler.server().routes();
        let now = Instant::now();
        let (mut taken, mut count) = (0, 0);
        while self.may_read()
            && output.len() < TURN
            && output.len() + self.unsent.len() < OUTPUT
            && let Some(query) = message(&bytes[taken..])
        {
            taken += query.len() + 2;
            count += 1;
            let arrival = self.caller.arrival(query, now.into_std());
            let handler = &self.caller.handler;
            match handler.handle(&routes, scratch, &arrival, reply) {
                Handled::Nothing => continue, // does not extend the deadline
                Handled::Reply => frame(reply, output),
                Handled::Transfer(transfer) => {
                    self.pending.push(Box::pin(transfer.next()));
                    self.permits.busy();
                }
                Handled::Pending(query) => {
                    self.pending.push(Box::pin(finish(query)));
                    self.permits.busy();
                }
            }
            self.has_queried = true;
            self.deadline = now + self.settings.idle;
            self.remaining_queries -= 1;
            self.closing |= self.remaining_queries == 0;
        }
        let metrics = self.caller.handler.server().metrics();
        metrics.after_unready.received(count);
        if self.pending.is_empty() {
            self.permits.idle();
        }
        taken
    }

    fn answered(&mut self) {
        self.deadline = Instant::now() + self.settings.idle;
        if self.pending.is_empty() {
            self.permits.idle();
        }
    }

    /// Handles what has been received by now, then stops reading.
    async fn drain_received(&mut self) -> io::Result<()> {
        // Ends with the first poll without data; later data is not read.
        poll_fn(|context| {
            while self.may_read() {
                match self.poll_queries(context) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => break,
                }
                if self.unsent.len() >= OUTPUT {
                    break;
                }
            }
            Poll::Ready(Ok(()))
        })
        .await?;
        self.closing = true;
        Ok(())
    }

    /// Writes what is unsent. False if the connection was evicted meanwhile.
    async fn write(&mut self, mut evicted: Pin<&mut impl Future<Output = ()>>) -> io::Result<bool> {
        if self.unsent.is_empty() && !self.unflushed {
            return Ok(true);
        }
        let mut blocked = false;
        // The timeout applies to each part: a transfer may take longer in total.
        for part in self.unsent.chunks(OUTPUT) {
            let mut writing = pin!(timeout(self.settings.write, self.stream.write_all(part)));
            let written = if let Some(written) = writing.as_mut().now_or_never() {
                written
            } else {
                // The client does not read, so the connection counts as idle, even with pending queries.
                self.permits.idle();
                blocked = true;
                tokio::select! {
                    written = writing => written,
                    () = evicted.as_mut() => return Ok(false),
                }
            };
            written??;
        }
        tokio::select! {
            flushed = timeout(self.settings.write, self.stream.flush()) => flushed??,
            () = evicted.as_mut() => return Ok(false),
        }
        if blocked && !self.pending.is_empty() {
            self.permits.busy();
        }
        self.unsent = Vec::new();
        self.unflushed = false;
        Ok(true)
    }

    /// Closes at once, for another connection.
    fn evict(mut self) {
        if self.unsent.is_empty() {
            // TLS's close_notify is sent if that does not block.
            let _ = self.stream.shutdown().now_or_never();
        } else {
            // Resets the connection: unsent replies are dropped.
            self.stream.abort();
        }
    }

    /// Shuts the connection down for writing. Further data of the client is read and discarded: a socket
    /// closed with unread data is reset, which would lose replies in transit.
    async fn close(self) -> io::Result<()> {
        let Self {
            mut stream,
            permits,
            settings,
            ..
        } = self;
        drop(permits);
        timeout(settings.write, stream.shutdown()).await??;
        let mut rest = [0; 512];
        let unread = async { while !matches!(stream.read(&mut rest).await, Ok(0) | Err(_)) {} };
        let _ = timeout(LINGER, unread).await;
        Ok(())
    }
}

async fn finish(query: Box<PendingQuery>) -> (Vec<u8>, Option<Box<Transfer>>) {
    let (mut reply, mut framed) = (Vec::with_capacity(512), Vec::new());
    if query.finish(&mut reply).await {
        frame(&reply, &mut framed);
    }
    (framed, None)
}

/// The first complete message, without its length field (RFC 1035 section 4.2.2).
fn message(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

fn frame(reply: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(reply.len()).expect("the writer limits replies to 65,535 bytes");
    out.extend(length.to_be_bytes());
    out.extend(reply);
}
