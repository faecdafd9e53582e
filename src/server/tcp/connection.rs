//! One connection: questions in as they come, replies out as they come to be.
//!
//! A connection that waits for its client holds no buffer. Reading, answering and writing use
//! room that belongs to the thread; only half a question and what the client does not take yet
//! are kept.

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
    gate::Places,
    handle::{Handled, PendingQuery, Scratch},
    limits::StreamSettings,
    transfer::Transfer,
};

/// Octets that are read at once.
const INPUT: usize = 16 * 1024;

/// Octets of replies that are gathered before they are written.
const OUTPUT: usize = 64 * 1024;

/// Bytes of replies after which others get their turn, whatever else a client has asked.
const TURN: usize = 16 * 1024;

/// How long a client may go on sending after it was told that nothing more is read.
const LINGER: Duration = Duration::from_millis(500);

thread_local! {
    /// Room to read, answer and write in, for whichever connection this thread works for.
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

/// A reply that will come, framed (empty where none is to be sent), or a part of a transfer and what
/// comes behind it.
type Pending = Pin<Box<dyn Future<Output = (Vec<u8>, Option<Box<Transfer>>)> + Send>>;

/// One connection.
pub(super) struct Connection<S> {
    stream: S,
    caller: Caller,
    settings: StreamSettings,
    places: Places,
    /// What has come and is not taken in yet.
    received: Vec<u8>,
    /// What the client has not taken yet.
    unsent: Vec<u8>,
    /// Something may still lie in the stream itself, as what TLS has encrypted does.
    unflushed: bool,
    waiting: FuturesUnordered<Pending>,
    /// Questions that may still be asked.
    questions: u64,
    /// When the connection closes, if nothing is asked until then.
    deadline: Instant,
    /// Something was asked.
    asked: bool,
    /// Nothing more is read.
    closing: bool,
}

impl<S: AsyncRead + AsyncWrite + Abort + Unpin> Connection<S> {
    pub(super) fn new(stream: S, caller: Caller, settings: StreamSettings, places: Places) -> Self {
        Self {
            stream,
            caller,
            settings,
            places,
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

    /// Serves the connection to its end, which comes soon once `stop` says so.
    pub(super) async fn serve(mut self, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        // Made once: what is made anew for each question would cost as much as the question.
        let mut timer = pin!(sleep_until(self.deadline));
        let mut stopping = pin!(async { drop(stop.wait_for(|stop| *stop).await) });
        let mut evicted = pin!(self.places.evicted());
        let mut stopped = false;
        while !(self.closing && self.waiting.is_empty()) {
            tokio::select! {
                progress = self.progress() => progress?,
                // Both where it was said and where nobody is left to say it. What has arrived
                // until now is still taken in.
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

    /// Whether nobody has asked anything for too long.
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

    /// Completes when a reply has come to be, or when something was read.
    async fn progress(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_progress(context)).await
    }

    fn poll_progress(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut advanced = false;
        while self.unsent.len() < OUTPUT
            && let Poll::Ready(Some((reply, rest))) = self.waiting.poll_next_unpin(context)
        {
            self.unsent.extend(reply);
            // The next part is made once there is room for it, and others have had their turn.
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

    /// Whether one more question may be taken in. While none may, the client is held up.
    fn reads(&self) -> bool {
        !self.closing && self.waiting.len() < self.settings.in_flight
    }

    /// Takes in what has been kept or, if that is no whole question, what can be read; and writes
    /// the replies that there are, as far as the client takes them at once.
    fn poll_questions(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ROOM.with_borrow_mut(|room| {
            room.output.clear();
            if message(&self.received).is_some() {
                self.take_received(room);
            } else {
                if room.input.is_empty() {
                    // A panic has come between its being taken and being put back.
                    room.input = Room::default().input;
                }
                let mut buffer = ReadBuf::new(&mut room.input);
                let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
                let count = match read {
                    Ok(()) => buffer.filled().len(),
                    // The end of a client that does not say good-bye in TLS.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                    Err(error) => return Poll::Ready(Err(error)),
                };
                if count == 0 {
                    self.closing = true;
                    return Poll::Ready(Ok(()));
                }
                self.take_read(room, count);
            }
            // What was left over earlier may begin within a reply: nothing may overtake it.
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
        // The thread's room is taken apart, so that its input can be read while its output grows.
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

    /// Takes in whole questions from the start of `octets`, as many as may be; how many octets
    /// they were. The replies that there are at once are framed in the room's output.
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
                Handled::Nothing => continue, // which gives the connection no further time
                Handled::Reply => frame(reply, output),
                Handled::Transfer(transfer) => {
                    self.waiting.push(Box::pin(transfer.next()));
                    self.places.busy();
                }
                Handled::Pending(query) => {
                    self.waiting.push(Box::pin(finish(query)));
                    self.places.busy();
                }
            }
            self.asked = true;
            self.deadline = now + self.settings.idle;
            self.questions -= 1;
            self.closing |= self.questions == 0;
        }
        if self.waiting.is_empty() {
            self.places.idle();
        }
        taken
    }

    fn answered(&mut self) {
        self.deadline = Instant::now() + self.settings.idle;
        if self.waiting.is_empty() {
            self.places.idle();
        }
    }

    /// Takes in what has arrived by now, and nothing after it.
    async fn last_questions(&mut self) -> io::Result<()> {
        // A poll that finds nothing to do ends this; what comes later is too late.
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

    /// Writes what is left to write. False where the connection was evicted meanwhile.
    async fn write(&mut self, mut evicted: Pin<&mut impl Future<Output = ()>>) -> io::Result<bool> {
        if self.unsent.is_empty() && !self.unflushed {
            return Ok(true);
        }
        let mut stood_still = false;
        // Part by part: a zone may take longer than a client may stand still.
        for part in self.unsent.chunks(OUTPUT) {
            let mut writing = pin!(timeout(self.settings.write, self.stream.write_all(part)));
            let written = if let Some(written) = writing.as_mut().now_or_never() {
                written
            } else {
                // Whatever is asked besides, it is the client that is waited for.
                self.places.idle();
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
            self.places.busy();
        }
        self.unsent = Vec::new();
        self.unflushed = false;
        Ok(true)
    }

    /// Closes at once, so that another connection can be had in its place.
    fn evict(mut self) {
        if self.unsent.is_empty() {
            // TLS's close_notify is sent if there is room for it.
            let _ = self.stream.shutdown().now_or_never();
        } else {
            // Resets: what the client does not read is dropped.
            self.stream.abort();
        }
    }

    /// Says that nothing more comes. What the client still sends is read and thrown away: a
    /// socket closed with unread data is reset, and replies under way would be lost with it.
    async fn close(self) -> io::Result<()> {
        let Self {
            mut stream,
            places,
            settings,
            ..
        } = self;
        drop(places);
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

/// The first whole message of a stream, its length in front of it (RFC 1035 §4.2.2).
fn message(octets: &[u8]) -> Option<&[u8]> {
    let (length, rest) = octets.split_first_chunk()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

fn frame(reply: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(reply.len()).expect("the writer keeps to 65,535 octets");
    out.extend(length.to_be_bytes());
    out.extend(reply);
}
