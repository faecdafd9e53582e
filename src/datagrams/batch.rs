//! Batched datagram I/O: safe wrappers of `recvmmsg` and `sendmmsg`.
//!
//! ```text
//! calls    the system calls
//! control  addresses and control messages
//! options  socket options, and the queue of ICMP errors
//! ```
//!
//! The only unsafe code of the crate. Invariant: pointers are created from the buffers right before
//! each call and are not used after it, so no buffer can move or be freed while it is referenced.

#![allow(unsafe_code)]
// C structures are small, and the types of their lengths differ between C libraries.
#![allow(clippy::cast_possible_truncation, clippy::unnecessary_cast)]

mod calls;
mod control;
mod options;

use std::{
    io,
    iter::Zip,
    mem,
    net::{IpAddr, SocketAddr, UdpSocket},
    ptr, slice,
    time::Instant,
};

pub use self::options::{enable_destination_addresses, report_errors, take_errors};
use self::{
    calls::{Calls, parts},
    control::{Control, address, arrival, destination, segment, send_from},
    options::{ignore_transient, set_option},
};
use super::{
    Datagram, DelayedReply, REPLY_CAPACITY,
    backlog::{Backlog, MAX_AGE},
    segments::{self, Order},
};

/// Maximum number of datagrams per call. Larger batches save little and add latency.
const BATCH: usize = 32;

/// Receive buffer size in bytes, above the advertised payload size of 1232. A longer query is cut,
/// which suffices for a FORMERR. An odd multiple of a cache line, so that the starts of the buffers
/// map to different cache sets.
const PACKET: usize = 1280 + 64;

const NAME_LENGTH: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

/// Datagrams received in one call, and their replies, sent in one call.
///
/// Buffers are allocated once, by the thread that uses them.
pub struct Batch {
    packets: Box<[u8]>,
    names: Box<[libc::sockaddr_storage]>,
    slots: Box<[Slot]>,
    messages: Messages,
    /// The socket's local address.
    bound: SocketAddr,
    backlog: Backlog,
    /// Number of slots in use.
    count: usize,
    received_at: Instant,
    /// Number of datagrams dropped as too old.
    stale: usize,
}

/// Metadata of one datagram, and its reply.
struct Slot {
    /// Length in bytes; `None` if it has no sender or is too old.
    length: Option<usize>,
    client: SocketAddr,
    name_length: libc::socklen_t,
    /// Destination address, if reported by the system.
    local: Option<IpAddr>,
    reply: Vec<u8>,
}

impl Batch {
    /// Buffers for a socket bound to `bound`.
    pub fn new(bound: SocketAddr) -> Self {
        // SAFETY: a plain C structure of integers, for which all-zero is a valid value.
        let name = unsafe { mem::zeroed() };
        let slots = (0..BATCH).map(|_| Slot {
            length: None,
            client: bound,
            name_length: 0,
            local: None,
            reply: Vec::with_capacity(REPLY_CAPACITY),
        });
        Self {
            packets: vec![0; BATCH * PACKET].into(),
            names: vec![name; BATCH].into(),
            slots: slots.collect(),
            messages: Messages::default(),
            bound,
            backlog: Backlog::new(MAX_AGE),
            count: 0,
            received_at: Instant::now(),
            stale: 0,
        }
    }

    /// Receives the queued datagrams; waits for the first one if `waits`. `Ok(0)` if there are none, also with
    /// `waits` at the end of an overload, on timeout, and on interruption.
    pub fn receive(&mut self, socket: &UdpSocket, waits: bool) -> io::Result<usize> {
        self.count = 0;
        let waits = waits && !self.backlog.is_stamped();
        let flags = if waits { 0 } else { libc::MSG_DONTWAIT };
        let mut free = self.messages.free();
        for (packet, name) in self.packets.chunks_exact_mut(PACKET).zip(&mut self.names) {
            let Some((header, control)) = free.next_for([ptr::from_mut(packet)]) else {
                break;
            };
            header.msg_name = ptr::from_mut(name).cast();
            header.msg_namelen = NAME_LENGTH;
            header.msg_control = control.0.as_mut_ptr().cast();
            // The field's type differs with musl.
            header.msg_controllen = control.0.len() as _;
        }
        let moment = self.backlog.begin();
        // SAFETY: each header points to its own name, vector and control buffer with their true
        // lengths, and the vector to its own PACKET bytes. All are in boxes of `self`, which is
        // borrowed for the duration of the call.
        let Messages { headers, calls, .. } = &mut self.messages;
        let count = match unsafe { calls.receive(socket, headers, flags) } {
            Ok(count) => count,
            Err(error) => {
                let none = ignore_transient(error);
                if none.is_ok() {
                    self.note(socket, true);
                }
                return none;
            }
        };
        let received = headers.iter().zip(&self.names).take(count);
        for (slot, (message, name)) in self.slots.iter_mut().zip(received) {
            let header = &message.msg_hdr;
            let client = address(name, header.msg_namelen);
            let stale = moment.is_some_and(|moment| self.backlog.is_stale(moment, arrival(header)));
            self.stale += usize::from(stale);
            let length = (message.msg_len as usize).min(PACKET);
            slot.length = (client.is_some() && !stale).then_some(length);
            slot.client = client.unwrap_or(self.bound);
            slot.name_length = header.msg_namelen;
            slot.local = self
                .bound
                .ip()
                .is_unspecified()
                .then(|| destination(header))
                .flatten();
            slot.reply.clear();
        }
        self.count = count;
        self.note(socket, count < BATCH);
        Ok(count)
    }

    /// When [`Self::receive`] returned.
    pub fn received_at(&self) -> Instant {
        self.received_at
    }

    /// Updates the time and the backlog after a receive call.
    fn note(&mut self, socket: &UdpSocket, emptied: bool) {
        self.received_at = Instant::now();
        if let Some(on) = self.backlog.received(self.received_at, emptied) {
            // On failure, datagrams are only dropped relative to the time the queue was last empty.
            let _ = set_option(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, on);
        }
    }

    /// Whether the last [`Self::receive`] filled all buffers, so that more datagrams may be queued.
    pub fn is_full(&self) -> bool {
        self.count == BATCH
    }

    /// Number of datagrams dropped since the last call.
    pub fn take_stale(&mut self) -> usize {
        mem::take(&mut self.stale)
    }

    /// A received datagram and the buffer for its reply; `None` if it is too old. Oversized
    /// datagrams are cut.
    pub fn datagram(&mut self, index: usize) -> Option<(Datagram<'_>, &mut Vec<u8>)> {
        let slot = self.slots.get_mut(index)?;
        let packet = &self.packets[index * PACKET..];
        let datagram = Datagram {
            bytes: &packet[..slot.length?],
            client: slot.client,
            local: SocketAddr::new(slot.local.unwrap_or(self.bound.ip()), self.bound.port()),
        };
        Some((datagram, &mut slot.reply))
    }

    /// Sends all non-empty replies, each from its query's destination address. Returns the number
    /// of replies that could not be sent.
    pub fn send(&mut self, socket: &UdpSocket) -> usize {
        let Self {
            slots,
            names,
            messages,
            count,
            ..
        } = self;
        let reply = |index: usize| {
            let slot = &slots[index];
            Outgoing {
                bytes: &slot.reply,
                client: slot.client,
                name: ptr::from_ref(&names[index]).cast(),
                name_length: slot.name_length,
                local: slot.local,
            }
        };
        let failed = messages.send_all(socket, 0, *count, reply);
        for slot in &mut slots[..*count] {
            slot.reply.clear();
            slot.reply.shrink_to(REPLY_CAPACITY);
        }
        failed
    }
}

/// Sends replies that complete after their batch.
#[derive(Default)]
pub struct Outbox {
    names: Vec<socket2::SockAddr>,
    messages: Messages,
}

impl Outbox {
    /// Sends all of `replies` without blocking; returns the number that could not be sent.
    pub fn send(&mut self, socket: &UdpSocket, replies: &[DelayedReply]) -> usize {
        let mut failed = 0;
        for some in replies.chunks(BATCH) {
            self.names.clear();
            self.names
                .extend(some.iter().map(|it| socket2::SockAddr::from(it.client)));
            let reply = |index: usize| {
                let (reply, name) = (&some[index], &self.names[index]);
                Outgoing {
                    bytes: &reply.bytes,
                    client: reply.client,
                    name: name.as_ptr().cast(),
                    name_length: name.len(),
                    local: reply.local,
                }
            };
            let flags = libc::MSG_DONTWAIT;
            failed += self.messages.send_all(socket, flags, some.len(), reply);
        }
        failed
    }
}

/// Batched I/O on connected sockets, non-blocking.
#[derive(Default)]
pub struct Connected {
    /// Receive buffer for [`Self::RECEIVED`] messages of maximum size; allocated at first use.
    room: Box<[u8]>,
    messages: Messages,
}

impl Connected {
    /// Bytes of the receive buffer per message: an odd multiple of a cache line, like [`PACKET`].
    const ROOM: usize = (64 << 10) + 64;

    /// Maximum number of messages received per call.
    pub const RECEIVED: usize = 8;

    /// Receives at most [`Self::RECEIVED`] queued messages. An error may belong to an earlier send.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        if self.room.is_empty() {
            self.room = vec![0; Self::RECEIVED * Self::ROOM].into();
        }
        let mut free = self.messages.free();
        for room in self.room.chunks_exact_mut(Self::ROOM) {
            free.next_for([ptr::from_mut(room)]);
        }
        let Messages { headers, calls, .. } = &mut self.messages;
        let headers = &mut headers[..Self::RECEIVED];
        // SAFETY: the buffer is divided into RECEIVED parts. As many headers point to their own
        // vector, which points to a part's ROOM bytes, and have neither a name nor a control
        // buffer. All are in boxes of `self`, which is borrowed for the duration of the call.
        unsafe { calls.receive(socket, headers, libc::MSG_DONTWAIT) }
    }

    /// A received message.
    pub fn message(&self, index: usize) -> &[u8] {
        let header = self.messages.headers.get(index);
        let length = header.map_or(0, |it| it.msg_len as usize);
        let start = index * Self::ROOM;
        self.room.get(start..start + length).unwrap_or_default()
    }

    /// Sends as many of `messages` as possible; returns their number. Those of one length cost least
    /// behind each other.
    pub fn send<'m>(
        &mut self,
        socket: &UdpSocket,
        messages: &(impl Iterator<Item = &'m [u8]> + Clone),
    ) -> io::Result<usize> {
        loop {
            let used = self.messages.fill_connected(socket, messages.clone());
            if used == 0 {
                return Ok(0);
            }
            let Messages { headers, calls, .. } = &mut self.messages;
            let headers = &mut headers[..used];
            // SAFETY: these headers point to their own vectors, each of which points to the bytes
            // of a message, and to a control buffer or none, and have no name. All but the messages
            // are in `self`, which is borrowed for the duration of the call; the messages live for
            // 'm, which outlives it. Sending only reads them, although the pointers are mutable.
            match unsafe { calls.send(socket, headers, libc::MSG_DONTWAIT) } {
                Ok(sent) => return Ok(headers[..sent].iter().map(parts).sum()),
                Err(error) => {
                    if !(parts(&headers[0]) > 1 && calls.refuses_segments(&error)) {
                        return Err(error);
                    }
                }
            }
        }
    }
}

/// A reply to be sent.
#[derive(Clone, Copy)]
struct Outgoing<'r> {
    bytes: &'r [u8],
    client: SocketAddr,
    /// The client's address as the system has it, for 'r.
    name: *const libc::c_void,
    name_length: libc::socklen_t,
    /// Source address; `None` for the socket's own.
    local: Option<IpAddr>,
}

/// Headers, vectors and control buffers for one call, filled right before it, and the system calls.
struct Messages {
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    controls: Box<[Control]>,
    calls: Calls,
    order: Order,
}

// SAFETY: the pointers are created before each call, by the calling thread, and not used after it.
unsafe impl Send for Messages {}

impl Default for Messages {
    fn default() -> Self {
        // SAFETY: plain C structures of integers and raw pointers, for which all-zero is a valid
        // value.
        let (vector, header) = unsafe { (mem::zeroed(), mem::zeroed()) };
        Self {
            vectors: vec![vector; BATCH].into(),
            headers: vec![header; BATCH].into(),
            controls: vec![Control::EMPTY; BATCH].into(),
            calls: Calls::MANY,
            order: Order::default(),
        }
    }
}

impl Messages {
    /// All of them, to be filled from the first on.
    fn free(&mut self) -> Free<'_> {
        Free {
            vectors: &mut self.vectors,
            headers: self.headers.iter_mut().zip(&mut self.controls),
            used: 0,
        }
    }

    /// Sends those of `count` replies, at most [`BATCH`], that are not empty; returns the number that
    /// could not be sent.
    fn send_all<'r>(
        &mut self,
        socket: &UdpSocket,
        flags: libc::c_int,
        count: usize,
        reply: impl Fn(usize) -> Outgoing<'r>,
    ) -> usize {
        let used = self.fill(socket, count, reply);
        // SAFETY: `fill` has filled these headers. Each points to a name and to its own vectors and
        // control buffer with their true lengths, and each vector to a reply's bytes. Names and
        // replies live for 'r, which outlives the call, the rest is in `self`, which is borrowed for
        // its duration. Sending only reads, although the pointers are mutable.
        unsafe {
            self.calls
                .send_all(socket, &mut self.headers[..used], flags)
        }
    }

    /// Fills headers with the replies that are not empty; returns the number of headers.
    fn fill<'r>(
        &mut self,
        socket: &UdpSocket,
        count: usize,
        reply: impl Fn(usize) -> Outgoing<'r>,
    ) -> usize {
        let segments = self.calls.segments(socket);
        let mut order = mem::take(&mut self.order);
        let lengths = (0..count).map(&reply);
        let lengths = lengths.map(|reply| (reply.client, reply.bytes.len()));
        order.arrange(lengths, segments);
        let mut free = self.free();
        let mut at = 0;
        while at < order.count() {
            let first = reply(order.at(at));
            let rest = (at..order.count()).map(|at| reply(order.at(at)));
            let count = if segments {
                let end = (first.client, first.local);
                let same = rest.clone().take_while(|it| (it.client, it.local) == end);
                segments::count(same.map(|it| it.bytes.len()))
            } else {
                1
            };
            let parts = rest.take(count);
            let parts = parts.map(|it| ptr::from_ref(it.bytes).cast_mut());
            let Some((header, control)) = free.next_for(parts) else {
                break;
            };
            header.msg_name = first.name.cast_mut();
            header.msg_namelen = first.name_length;
            send_from(header, control, first.local);
            if count > 1 {
                segment(header, control, first.bytes.len());
            }
            at += count;
        }
        let used = free.used;
        self.order = order;
        used
    }

    /// Fills headers with messages of a connected socket; returns the number of headers.
    fn fill_connected<'m>(
        &mut self,
        socket: &UdpSocket,
        messages: impl Iterator<Item = &'m [u8]> + Clone,
    ) -> usize {
        let segments = self.calls.segments(socket);
        let mut free = self.free();
        let mut rest = messages.take(BATCH);
        while let Some(first) = rest.clone().next() {
            let count = if segments {
                segments::count(rest.clone().map(<[u8]>::len))
            } else {
                1
            };
            let parts = rest.by_ref().take(count);
            let parts = parts.map(|bytes| ptr::from_ref(bytes).cast_mut());
            let Some((header, control)) = free.next_for(parts) else {
                break;
            };
            if count > 1 {
                segment(header, control, first.len());
            }
        }
        free.used
    }
}

/// Headers with a control buffer each, and vectors, that are not in use.
struct Free<'m> {
    vectors: &'m mut [libc::iovec],
    headers: Zip<slice::IterMut<'m, libc::mmsghdr>, slice::IterMut<'m, Control>>,
    /// Number of headers in use.
    used: usize,
}

impl<'m> Free<'m> {
    /// The next header, without address and control data, and with a vector for each of `parts`.
    fn next_for(
        &mut self,
        parts: impl IntoIterator<Item = *mut [u8]>,
    ) -> Option<(&'m mut libc::msghdr, &'m mut Control)> {
        let vectors = mem::take(&mut self.vectors);
        let mut count = 0;
        for (vector, bytes) in vectors.iter_mut().zip(parts) {
            vector.iov_base = bytes.cast();
            vector.iov_len = bytes.len();
            count += 1;
        }
        let (vectors, rest) = vectors.split_at_mut(count);
        self.vectors = rest;
        let (message, control) = self.headers.next()?;
        self.used += 1;
        let header = &mut message.msg_hdr;
        header.msg_name = ptr::null_mut();
        header.msg_namelen = 0;
        header.msg_iov = vectors.as_mut_ptr();
        header.msg_iovlen = count as _;
        header.msg_control = ptr::null_mut();
        header.msg_controllen = 0;
        header.msg_flags = 0;
        Some((header, control))
    }
}

#[cfg(test)]
mod tests;
