//! One connection of DNS over TCP or TLS: queries are pipelined, replies written as they are ready.
//!
//! An idle connection holds no buffer. Reading, answering and writing use buffers of the thread; a
//! connection keeps only a partial query and what its client does not read yet.

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
    time::{Instant, Sleep, sleep_until, timeout},
};

use super::Abort;
use crate::server::{
    caller::Caller,
    connection_limit::ConnectionPermits,
    handle::{Handled, PendingQuery, Scratch},
    limits::StreamSettings,
    transfer::Transfer,
};

/// Bytes that are read at once.
const INPUT: usize = 16 * 1024;

/// Bytes of replies that are gathered before they are written.
const OUTPUT: usize = 64 * 1024;

/// Bytes of replies after which the task yields, however many queries its client has sent.
const TURN: usize = 16 * 1024;

/// How long a client may go on sending after the connection was shut down for writing.
const LINGER: Duration = Duration::from_millis(500);

thread_local! {
    /// Buffers of this thread, used by each connection in turn.
    static ROOM: RefCell<Room> = RefCell::new(Room::default());
}

struct Room {
    input: Box<[u8]>,
    output: Vec<u8>,
    reply: Vec<u8>,
    scratch: Scratch,
}

impl Default for Room {
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
type Pending = Pin<Box<dyn Future<Output = (Vec<u8>, Option<Box<Transfer>>)> + Send>>;

/// One connection.
pub(super) struct Connection<S> {
    stream: S,
    caller: Caller,
    settings: StreamSettings,
    permits: ConnectionPermits,
    /// Bytes that were read and not handled yet.
    received: Vec<u8>,
    /// Bytes that the client has not read yet.
    unsent: Vec<u8>,
    /// The stream may hold data of its own to be flushed, as TLS does.
    unflushed: bool,
    waiting: FuturesUnordered<Pending>,
    /// Queries that the client may still send (`maxtcpqueries`).
    questions: u64,
    /// When the connection closes, if no query comes until then.
    deadline: Instant,
    /// A query has come.
    asked: bool,
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
            waiting: FuturesUnordered::new(),
            questions: settings.queries.unwrap_or(u64::MAX),
            deadline: Instant::now() + settings.first_query,
            asked: false,
            closing: false,
        }
    }

    /// Serves the connection to its end; `stop` ends it gracefully.
    pub(super) async fn serve(mut self, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        // Made once: making them for each query would cost as much as the query.
        let mut timer = pin!(sleep_until(self.deadline));
        let mut stopping = pin!(async { drop(stop.wait_for(|stop| *stop).await) });
        let mut evicted = pin!(self.permits.evicted());
        let mut stopped = false;
        while !(self.closing && self.waiting.is_empty()) {
            tokio::select! {
                progress = self.progress() => progress?,
                // Also once the sender is gone. What has arrived until now is still handled.
                () = stopping.as_mut(), if !stopped => {
                    stopped = true;
                    // The first query of a new connection is most likely on its way.
                    self.deadline = self.deadline.min(Instant::now() + LINGER);
                }
                () = timer.as_mut() => {
                    if self.is_over() {
                        break;
                    }
                    self.rewind(timer.as_mut());
                }
                () = evicted.as_mut() => {
                    self.evict();
                    return Ok(());
                }
            }
            if stopped && self.asked && !self.closing {
                self.last_questions().await?;
            }
            if !self.write(evicted.as_mut()).await? {
                self.evict();
                return Ok(());
            }
            if self.deadline < timer.deadline() {
                self.rewind(timer.as_mut());
            }
            if message(&self.received).is_some() {
                tokio::task::yield_now().await;
            }
        }
        self.close().await
    }

    /// Whether the connection has been idle for too long.
    fn is_over(&self) -> bool {
        self.waiting.is_empty() && Instant::now() >= self.deadline
    }

    fn rewind(&self, timer: Pin<&mut Sleep>) {
        let soonest = if self.waiting.is_empty() {
            self.deadline
        } else {
            Instant::now() + self.settings.idle
        };
        timer.reset(soonest);
    }

    /// Completes when a reply is ready, or when something was read.
    async fn progress(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_progress(context)).await
    }

    fn poll_progress(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut advanced = false;
        while self.unsent.len() < OUTPUT
            && let Poll::Ready(Some((reply, rest))) = self.waiting.poll_next_unpin(context)
        {
            self.unsent.extend(reply);
            // The next part is made once there is room for it, and other tasks have run.
            if let Some(transfer) = rest {
                self.waiting.push(Box::pin(transfer.next()));
            }
            self.answered();
            advanced = true;
        }
        if self.reads() {
            match self.poll_questions(context) {
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

    /// Whether one more query may be read. While none may, TCP's flow control holds the client up.
    fn reads(&self) -> bool {
        !self.closing && self.waiting.len() < self.settings.in_flight
    }

    /// Handles what was read before or, if that is no complete query, reads more; and writes the replies
    /// that are ready, as far as that does not block.
    fn poll_questions(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ROOM.with_borrow_mut(|room| {
            room.output.clear();
            if message(&self.received).is_some() {
                self.take_received(room);
            } else {
                if room.input.is_empty() {
                    // A panic came between its being taken and being put back.
                    room.input = Room::default().input;
                }
                let mut buffer = ReadBuf::new(&mut room.input);
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
                self.take_read(room, count);
            }
            // What is unsent may begin within a reply: nothing may overtake it.
            let mut sent = 0;
            let mut stream = Pin::new(&mut self.stream);
            if self.unsent.is_empty()
                && !room.output.is_empty()
                && let Poll::Ready(result) = stream.as_mut().poll_write(context, &room.output)
            {
                sent = result?;
                self.unflushed = match stream.poll_flush(context) {
                    Poll::Ready(result) => result.map(|()| false)?,
                    Poll::Pending => true,
                };
            }
            self.unsent.extend(&room.output[sent..]);
            room.output.shrink_to(OUTPUT);
            room.reply.shrink_to(OUTPUT);
            Poll::Ready(Ok(()))
        })
    }

    fn take_read(&mut self, room: &mut Room, count: usize) {
        // Taken, so that the input can be read while the output grows.
        let input = std::mem::take(&mut room.input);
        if self.received.is_empty() {
            let taken = self.take(&input[..count], room);
            self.received.extend(&input[taken..count]);
        } else {
            self.received.extend(&input[..count]);
            self.take_received(room);
        }
        room.input = input;
    }

    fn take_received(&mut self, room: &mut Room) {
        let mut received = std::mem::take(&mut self.received);
        let taken = self.take(&received, room);
        if taken < received.len() {
            received.drain(..taken);
            self.received = received;
        }
    }

    /// Handles complete queries from the start of `octets`, as many as may be; returns how many bytes they
    /// were. Replies that are ready at once are framed in the room's output.
    fn take(&mut self, octets: &[u8], room: &mut Room) -> usize {
        let Room {
            output,
            reply,
            scratch,
            ..
        } = room;
        let routes = self.caller.entrance.server().routes();
        let now = Instant::now();
        let mut taken = 0;
        while self.reads()
            && output.len() < TURN
            && output.len() + self.unsent.len() < OUTPUT
            && let Some(question) = message(&octets[taken..])
        {
            taken += question.len() + 2;
            let arrival = self.caller.arrival(question, now.into_std());
            let entrance = &self.caller.entrance;
            match entrance.handle(&routes, scratch, &arrival, reply) {
                Handled::Nothing => continue, // does not extend the deadline
                Handled::Reply => frame(reply, output),
                Handled::Transfer(transfer) => {
                    self.waiting.push(Box::pin(transfer.next()));
                    self.permits.busy();
                }
                Handled::Pending(query) => {
                    self.waiting.push(Box::pin(finish(query)));
                    self.permits.busy();
                }
            }
            self.asked = true;
            self.deadline = now + self.settings.idle;
            self.questions -= 1;
            self.closing |= self.questions == 0;
        }
        if self.waiting.is_empty() {
            self.permits.idle();
        }
        taken
    }

    fn answered(&mut self) {
        self.deadline = Instant::now() + self.settings.idle;
        if self.waiting.is_empty() {
            self.permits.idle();
        }
    }

    /// Handles what has arrived by now, and nothing after it.
    async fn last_questions(&mut self) -> io::Result<()> {
        // A poll that finds nothing ends this; what comes later is too late.
        poll_fn(|context| {
            while self.reads() {
                match self.poll_questions(context) {
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
        let mut stood_still = false;
        // The timeout is for each part: a transfer may take longer.
        for part in self.unsent.chunks(OUTPUT) {
            let mut writing = pin!(timeout(self.settings.write, self.stream.write_all(part)));
            let written = if let Some(written) = writing.as_mut().now_or_never() {
                written
            } else {
                // Whatever is pending, the server waits for the client now.
                self.permits.idle();
                stood_still = true;
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
        if stood_still && !self.waiting.is_empty() {
            self.permits.busy();
        }
        self.unsent = Vec::new();
        self.unflushed = false;
        Ok(true)
    }

    /// Closes at once, for another connection.
    fn evict(mut self) {
        if self.unsent.is_empty() {
            // TLS's close_notify is sent if there is room for it.
            let _ = self.stream.shutdown().now_or_never();
        } else {
            // Resets: what the client does not read is dropped.
            self.stream.abort();
        }
    }

    /// Shuts the connection down for writing. What the client still sends is read and discarded: a socket
    /// closed with unread data is reset, and replies in flight would be lost with it.
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

/// The first whole message of a stream, behind its length (RFC 1035 section 4.2.2).
fn message(octets: &[u8]) -> Option<&[u8]> {
    let (length, rest) = octets.split_first_chunk()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

fn frame(reply: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(reply.len()).expect("the writer keeps to 65,535 octets");
    out.extend(length.to_be_bytes());
    out.extend(reply);
}
