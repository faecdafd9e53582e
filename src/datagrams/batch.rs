//! Many datagrams a system call: `recvmmsg` and `sendmmsg`, behind types that are safe to use.
//!
//! This is the only unsafe code there is. Its one idea: pointers are made from the buffers right
//! before each call and are never used after it, so that nothing can move or be freed under them.
//!
//! Segmentation offload is of no use here: it joins datagrams of one flow, and replies go to many.

#![allow(unsafe_code)]
// Lengths of C structures are small, and their types differ from one C library to the other.
#![allow(clippy::cast_possible_truncation, clippy::unnecessary_cast)]

use std::{
    io,
    mem::{self, MaybeUninit},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    os::fd::{AsFd, AsRawFd, RawFd},
    ptr,
    time::{Duration, Instant, SystemTime},
};

use super::{
    Datagram, Late, REPLY_ROOM,
    backlog::{Backlog, PATIENCE},
};

/// Datagrams of one call. More of them would save less and less, and wait longer for each other.
const BATCH: usize = 32;

/// Bytes of a query that are taken, beyond the 1,232 that we announce: of a longer one the beginning
/// alone, which is enough for a FORMERR. It is an odd multiple of a cache line, so that the
/// beginnings of the buffers do not compete for the same lines.
const PACKET: usize = 1280 + 64;

/// Errors that are taken from a socket's queue in one go, at most.
const MOST_ERRORS: usize = 1024;

/// Room for one control message with the larger of the two kinds of packet information, and one with
/// a time of arrival.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 96]);

impl Control {
    const EMPTY: Self = Self([0; 96]);
}

/// The system's calls, as values: one that a kernel or a sandbox does not have is exchanged for one
/// that does the same for a single datagram, and a test puts its own in place.
#[derive(Clone, Copy)]
struct Calls {
    receive: Call,
    send: Call,
}

/// Takes a socket, headers and their number, and flags; gives the number of headers that are done,
/// or -1 with an error.
///
/// # Safety
/// There are so many headers. For the length of the call, each points to a name, vectors and a control
/// buffer with their true lengths, or says that there are none, and the vectors to octets that may be
/// read, and for a call that receives, written.
type Call = unsafe fn(RawFd, *mut libc::mmsghdr, usize, libc::c_int) -> libc::c_int;

const NAME_LENGTH: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

/// Datagrams received together, and the replies to them that are sent together.
///
/// Everything is allocated once. It is made in the thread that uses it and stays there.
pub struct Batch {
    packets: Box<[u8]>,
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control]>,
    slots: Box<[Slot]>,
    messages: Messages,
    /// The address that the socket is bound to.
    bound: SocketAddr,
    backlog: Backlog,
    /// How many datagrams were dropped for having waited too long.
    stale: usize,
}

/// What is known of one datagram, and the reply to it.
struct Slot {
    /// Its length in bytes; nothing where it has no sender, or has waited for too long.
    length: Option<usize>,
    client: SocketAddr,
    name_length: libc::socklen_t,
    /// Where it was sent to, if the system said so.
    local: Option<IpAddr>,
    reply: Vec<u8>,
}

impl Batch {
    /// Buffers for a socket bound to `bound`.
    pub fn new(bound: SocketAddr) -> Self {
        // SAFETY: a plain C structure of numbers, for which zero octets are a value.
        let name = unsafe { mem::zeroed() };
        let slots = (0..BATCH).map(|_| Slot {
            length: None,
            client: bound,
            name_length: 0,
            local: None,
            reply: Vec::with_capacity(REPLY_ROOM),
        });
        Self {
            packets: vec![0; BATCH * PACKET].into(),
            names: vec![name; BATCH].into(),
            controls: vec![Control::EMPTY; BATCH].into(),
            slots: slots.collect(),
            messages: Messages::default(),
            bound,
            backlog: Backlog::new(PATIENCE),
            stale: 0,
        }
    }

    /// Takes as many datagrams as there are; waits for the first where it `waits`. None where there is
    /// none, the socket's timeout passed or the wait was interrupted.
    pub fn receive(&mut self, socket: &UdpSocket, waits: bool) -> io::Result<usize> {
        let flags = if waits { 0 } else { libc::MSG_DONTWAIT };
        let buffers = self.packets.chunks_exact_mut(PACKET).zip(&mut self.names);
        let meta = self.controls.iter_mut().zip(self.messages.iter_mut());
        for ((packet, name), (control, (vector, message))) in buffers.zip(meta) {
            let header = bare(message, vector, packet);
            header.msg_name = ptr::from_mut(name).cast();
            header.msg_namelen = NAME_LENGTH;
            header.msg_control = control.0.as_mut_ptr().cast();
            // The type of this length is another one with musl.
            header.msg_controllen = control.0.len() as _;
        }
        let moment = self.backlog.begin();
        // SAFETY: each header was just pointed to a name, a vector and a control buffer of its own,
        // with their true lengths, and the vector to its own PACKET octets. All of them live in boxes
        // of `self`, which is borrowed for the length of the call.
        let Messages { headers, calls, .. } = &mut self.messages;
        let count = match unsafe { calls.receive(socket, headers, flags) } {
            Ok(count) => count,
            Err(error) => {
                let none = none_or(error);
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
        self.note(socket, count < BATCH);
        Ok(count)
    }

    /// Datagrams were received; those that were there, where the queue was `emptied`.
    fn note(&mut self, socket: &UdpSocket, emptied: bool) {
        if let Some(on) = self.backlog.received(Instant::now(), emptied) {
            // Without times of arrival nothing is dropped before it has waited long since now.
            let _ = set_option(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, on);
        }
    }

    /// How many datagrams were dropped since this was last called.
    pub fn take_stale(&mut self) -> usize {
        mem::take(&mut self.stale)
    }

    /// One of the datagrams received last, and where its reply is to be written; nothing where it
    /// has waited for too long. One that was longer than any query is cut.
    pub fn datagram(&mut self, index: usize) -> Option<(Datagram<'_>, &mut Vec<u8>)> {
        let slot = self.slots.get_mut(index)?;
        let packet = &self.packets[index * PACKET..];
        let datagram = Datagram {
            octets: &packet[..slot.length?],
            client: slot.client,
            local: SocketAddr::new(slot.local.unwrap_or(self.bound.ip()), self.bound.port()),
        };
        Some((datagram, &mut slot.reply))
    }

    /// Sends every reply that is not empty, each from the address that was asked. Those that
    /// cannot be sent are left out and counted; the others are sent all the same.
    pub fn send(&mut self, socket: &UdpSocket) -> usize {
        let count = self.address_replies();
        // SAFETY: `address_replies` has just filled these headers. Each points to a name, a vector
        // and a control buffer of its own, with their true lengths, and the vector to a reply's
        // initialized octets. All of them live in boxes and vectors of `self`, which is borrowed for
        // the length of the call.
        let Messages { headers, calls, .. } = &mut self.messages;
        let failed = unsafe { calls.send_all(socket, &mut headers[..count], 0) };
        for slot in &mut self.slots {
            slot.reply.clear();
            slot.reply.shrink_to(REPLY_ROOM);
        }
        failed
    }

    /// Points the first headers to the replies that there are, and says how many.
    fn address_replies(&mut self) -> usize {
        let mut free = self.messages.iter_mut();
        let mut count = 0;
        let slots = self.slots.iter_mut().zip(&mut self.names);
        for ((slot, name), control) in slots.zip(&mut self.controls) {
            if slot.reply.is_empty() {
                continue;
            }
            let Some((vector, message)) = free.next() else {
                break;
            };
            let header = bare(message, vector, slot.reply.as_mut_slice());
            header.msg_name = ptr::from_mut(name).cast();
            header.msg_namelen = slot.name_length;
            send_from(header, control, slot.local);
            count += 1;
        }
        count
    }
}

/// Sends replies that come later than the rest of their batch, as many at once as there are.
pub struct Outbox {
    names: Vec<socket2::SockAddr>,
    controls: Box<[Control]>,
    messages: Messages,
}

impl Default for Outbox {
    /// An outbox for any socket.
    fn default() -> Self {
        Self {
            names: Vec::with_capacity(BATCH),
            controls: vec![Control::EMPTY; BATCH].into(),
            messages: Messages::default(),
        }
    }
}

impl Outbox {
    /// Sends all of `replies`, without waiting for room in the socket; how many could not be sent.
    pub fn send(&mut self, socket: &UdpSocket, replies: &[Late]) -> usize {
        let mut failed = 0;
        for some in replies.chunks(BATCH) {
            self.names.clear();
            self.names
                .extend(some.iter().map(|it| socket2::SockAddr::from(it.client)));
            let meta = self.controls.iter_mut().zip(self.messages.iter_mut());
            for ((reply, name), (control, (vector, message))) in
                some.iter().zip(&self.names).zip(meta)
            {
                let octets = ptr::from_ref(reply.octets.as_slice()).cast_mut();
                let header = bare(message, vector, octets);
                header.msg_name = name.as_ptr().cast_mut().cast();
                header.msg_namelen = name.len();
                send_from(header, control, reply.local);
            }
            let Messages { headers, calls, .. } = &mut self.messages;
            let headers = &mut headers[..some.len()];
            // SAFETY: a chunk is no longer than the headers. Each of them was just pointed to a
            // name, a vector and a control buffer of its own, with their true lengths, and the
            // vector to a reply's octets. All of them live in `self` and in `replies`, which are
            // borrowed for the length of the call. Sending only reads them, although the
            // structure's pointers are mutable.
            failed += unsafe { calls.send_all(socket, headers, libc::MSG_DONTWAIT) };
        }
        failed
    }
}

/// Messages of sockets that are connected, received together and sent together. It never waits.
#[derive(Default)]
pub struct Connected {
    /// Room for the largest message each; made when first used.
    room: Box<[u8]>,
    messages: Messages,
}

impl Connected {
    /// Octets of the room for one message: an odd multiple of a cache line, like [`PACKET`].
    const ROOM: usize = (64 << 10) + 64;

    /// Messages that are received in one call, at most.
    pub const RECEIVED: usize = 8;

    /// Takes messages that are there, at most [`Self::RECEIVED`] of them. An error may be the answer to
    /// what was sent.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        if self.room.is_empty() {
            self.room = vec![0; Self::RECEIVED * Self::ROOM].into();
        }
        let rooms = self.room.chunks_exact_mut(Self::ROOM);
        for (room, (vector, message)) in rooms.zip(self.messages.iter_mut()) {
            bare(message, vector, room);
        }
        let Messages { headers, calls, .. } = &mut self.messages;
        let headers = &mut headers[..Self::RECEIVED];
        // SAFETY: the room was divided into RECEIVED parts. So many headers were just pointed to a
        // vector of their own each, which points to a part's ROOM octets, and say that there is
        // neither a name nor a control buffer. All of them live in boxes of `self`, which is borrowed
        // for the length of the call.
        unsafe { calls.receive(socket, headers, libc::MSG_DONTWAIT) }
    }

    /// One of the messages received last.
    pub fn message(&self, index: usize) -> &[u8] {
        let header = self.messages.headers.get(index);
        let length = header.map_or(0, |it| it.msg_len as usize);
        let start = index * Self::ROOM;
        self.room.get(start..start + length).unwrap_or_default()
    }

    /// Sends the first of `messages`, as many as go at a time; how many of them are gone.
    pub fn send<'m>(
        &mut self,
        socket: &UdpSocket,
        messages: impl Iterator<Item = &'m [u8]>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for (octets, (vector, message)) in messages.zip(self.messages.iter_mut()) {
            bare(message, vector, ptr::from_ref(octets).cast_mut());
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        let Messages { headers, calls, .. } = &mut self.messages;
        let headers = &mut headers[..count];
        // SAFETY: these headers were just pointed to a vector of their own each, which points to the
        // octets of a message, and say that there is neither a name nor a control buffer. The vectors
        // live in `self`, which is borrowed for the length of the call, and the messages for 'm, which
        // outlives it. Sending only reads, although the pointers are mutable.
        unsafe { calls.send(socket, headers, libc::MSG_DONTWAIT) }
    }
}

/// The structures for the messages of one call, which are filled in before it, and the calls.
struct Messages {
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    calls: Calls,
}

// SAFETY: the pointers in it are made anew before each call and are never used after it; whichever
// thread makes them makes the call.
unsafe impl Send for Messages {}

impl Default for Messages {
    fn default() -> Self {
        // SAFETY: these are plain C structures of numbers and raw pointers, for which zero octets are
        // a value.
        let (vector, header) = unsafe { (mem::zeroed(), mem::zeroed()) };
        Self {
            vectors: vec![vector; BATCH].into(),
            headers: vec![header; BATCH].into(),
            calls: Calls::MANY,
        }
    }
}

impl Messages {
    /// Each with its vector.
    fn iter_mut(&mut self) -> impl Iterator<Item = (&mut libc::iovec, &mut libc::mmsghdr)> {
        self.vectors.iter_mut().zip(&mut self.headers)
    }
}

/// Makes `message` one of `octets`, without address and control data, and gives the header that both
/// can be added to.
fn bare<'m>(
    message: &'m mut libc::mmsghdr,
    vector: &mut libc::iovec,
    octets: *mut [u8],
) -> &'m mut libc::msghdr {
    vector.iov_base = octets.cast();
    vector.iov_len = octets.len();
    let header = &mut message.msg_hdr;
    header.msg_name = ptr::null_mut();
    header.msg_namelen = 0;
    header.msg_iov = vector;
    header.msg_iovlen = 1;
    header.msg_control = ptr::null_mut();
    header.msg_controllen = 0;
    header.msg_flags = 0;
    header
}

impl Calls {
    /// What every Linux since 3.0 has.
    const MANY: Self = Self {
        receive: receive_many,
        send: send_many,
    };

    /// Receives into the first of `headers`; how many.
    ///
    /// # Safety
    /// See [`Call`].
    unsafe fn receive(
        &mut self,
        socket: &UdpSocket,
        headers: &mut [libc::mmsghdr],
        flags: libc::c_int,
    ) -> io::Result<usize> {
        // SAFETY: the caller's promise is the call's.
        unsafe { call(&mut self.receive, receive_one, socket, headers, flags) }
    }

    /// Sends the first of `headers`, without a signal where that is not possible; how many.
    ///
    /// # Safety
    /// See [`Call`].
    unsafe fn send(
        &mut self,
        socket: &UdpSocket,
        headers: &mut [libc::mmsghdr],
        flags: libc::c_int,
    ) -> io::Result<usize> {
        let flags = flags | libc::MSG_NOSIGNAL;
        // SAFETY: the caller's promise is the call's.
        unsafe { call(&mut self.send, send_one, socket, headers, flags) }
    }

    /// Sends messages, all that can be sent; says how many could not.
    ///
    /// # Safety
    /// See [`Call`].
    unsafe fn send_all(
        &mut self,
        socket: &UdpSocket,
        headers: &mut [libc::mmsghdr],
        flags: libc::c_int,
    ) -> usize {
        let (mut done, mut failed, mut refused) = (0, 0, false);
        while done < headers.len() {
            // SAFETY: the caller's promise is the call's.
            let error = match unsafe { self.send(socket, &mut headers[done..], flags) } {
                Ok(sent) => {
                    // It may have sent fewer: then the first of the rest tells why, or goes.
                    done += sent;
                    continue;
                }
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                // What some earlier datagram met; this one has not been tried.
                Some(libc::ECONNREFUSED) if !refused => refused = true,
                _ => {
                    tracing::debug!(%error, "a reply could not be sent");
                    done += 1;
                    failed += 1;
                    refused = false;
                }
            }
        }
        failed
    }
}

/// Makes `one` of the system's calls, and puts `single` in its place where the system does not have it.
/// Gives how many of `headers` are done, which is at least one.
///
/// # Safety
/// See [`Call`].
unsafe fn call(
    one: &mut Call,
    single: Call,
    socket: &UdpSocket,
    headers: &mut [libc::mmsghdr],
    flags: libc::c_int,
) -> io::Result<usize> {
    loop {
        let (socket, count) = (socket.as_raw_fd(), headers.len());
        // SAFETY: `headers` are that many, and of the rest the caller has made sure.
        let done = unsafe { one(socket, headers.as_mut_ptr(), count, flags) };
        if let Ok(done @ 1..) = usize::try_from(done) {
            return Ok(done);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ENOSYS) || ptr::fn_addr_eq(*one, single) {
            return Err(error);
        }
        *one = single;
    }
}

/// # Safety
/// See [`Call`].
unsafe fn receive_many(
    socket: RawFd,
    headers: *mut libc::mmsghdr,
    count: usize,
    flags: libc::c_int,
) -> libc::c_int {
    let flags = flags | libc::MSG_WAITFORONE as libc::c_int;
    // SAFETY: the caller's promise is the call's.
    unsafe { libc::recvmmsg(socket, headers, count as _, flags as _, ptr::null_mut()) }
}

/// # Safety
/// See [`Call`].
unsafe fn send_many(
    socket: RawFd,
    headers: *mut libc::mmsghdr,
    count: usize,
    flags: libc::c_int,
) -> libc::c_int {
    // SAFETY: the caller's promise is the call's.
    unsafe { libc::sendmmsg(socket, headers, count as _, flags as _) }
}

/// # Safety
/// See [`Call`]; there is at least one header.
unsafe fn receive_one(
    socket: RawFd,
    headers: *mut libc::mmsghdr,
    _count: usize,
    flags: libc::c_int,
) -> libc::c_int {
    // SAFETY: the caller's promise, for the first header.
    unsafe {
        let length = libc::recvmsg(socket, &raw mut (*headers).msg_hdr, flags);
        (*headers).msg_len = libc::c_uint::try_from(length).unwrap_or(0);
        if length < 0 { -1 } else { 1 }
    }
}

/// # Safety
/// See [`Call`]; there is at least one header.
unsafe fn send_one(
    socket: RawFd,
    headers: *mut libc::mmsghdr,
    _count: usize,
    flags: libc::c_int,
) -> libc::c_int {
    // SAFETY: the caller's promise, for the first header.
    unsafe {
        let length = libc::sendmsg(socket, &raw const (*headers).msg_hdr, flags);
        if length < 0 { -1 } else { 1 }
    }
}

/// Asks the system to say with each datagram where it was sent to.
pub fn ask_for_destinations(socket: &UdpSocket, bound: SocketAddr) -> io::Result<()> {
    match bound {
        SocketAddr::V4(_) => set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, true),
        SocketAddr::V6(_) => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, true),
    }
}

/// Has a connected socket report every ICMP error about what it sent to `peer`; without this, the system
/// reports some of them only (not that a network or host is unreachable, type 3 codes 0 and 1). The system
/// keeps each in a queue besides, which [`take_errors`] must empty: it counts against the receive buffer.
pub fn report_errors(socket: &UdpSocket, peer: SocketAddr) -> io::Result<()> {
    match peer {
        SocketAddr::V4(_) => set_option(socket, libc::IPPROTO_IP, libc::IP_RECVERR, true),
        SocketAddr::V6(_) => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, true),
    }
}

/// Empties the socket's queue of ICMP errors and returns the last one.
///
/// The queue is the truth about such errors, not `SO_ERROR`: taking an entry also clears the pending
/// `SO_ERROR`, which the kernel sets only after it has queued the entry. A reader that looks at `SO_ERROR`
/// first and empties the queue then loses an error that arrives in between.
pub fn take_errors(socket: &impl AsFd) -> Option<io::Error> {
    let socket = socket.as_fd().as_raw_fd();
    let mut last = None;
    for _ in 0..MOST_ERRORS {
        let mut control = Control::EMPTY;
        // SAFETY: a plain C structure of numbers and raw pointers, for which zero bytes are a value.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_control = (&raw mut control).cast();
        header.msg_controllen = size_of::<Control>() as _;
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: the header says that there is neither a name nor a vector, and points to a control
        // buffer of that length, which lives to the end of the turn.
        if unsafe { libc::recvmsg(socket, &raw mut header, flags) } < 0 {
            break;
        }
        last = icmp_error(&header).or(last);
    }
    last
}

/// The ICMP error that an entry of the error queue describes. Entries of other origins are errors that
/// the failing call has returned itself.
fn icmp_error(header: &libc::msghdr) -> Option<io::Error> {
    // SAFETY: each kind has the data of this type.
    let error: libc::sock_extended_err = unsafe {
        control(header, libc::IPPROTO_IP, libc::IP_RECVERR)
            .or_else(|| control(header, libc::IPPROTO_IPV6, libc::IPV6_RECVERR))
    }?;
    let is_icmp = matches!(
        error.ee_origin,
        libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6
    );
    is_icmp.then(|| io::Error::from_raw_os_error(error.ee_errno.cast_signed()))
}

/// Switches an option of a socket on or off.
fn set_option(
    socket: &UdpSocket,
    level: libc::c_int,
    option: libc::c_int,
    on: bool,
) -> io::Result<()> {
    let on = libc::c_int::from(on);
    // SAFETY: the option's value is a C int, which lives to the end of the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Nothing received is no error where only the wait was cut short, or where the socket reports
/// what happened to an earlier reply.
fn none_or(error: io::Error) -> io::Result<usize> {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR | libc::ECONNREFUSED) => Ok(0),
        _ => Err(error),
    }
}

fn address(name: &libc::sockaddr_storage, length: libc::socklen_t) -> Option<SocketAddr> {
    let (name, length) = (ptr::from_ref(name), length as usize);
    // SAFETY: `name` points to a whole, initialized and aligned `sockaddr_storage`, which is large
    // enough for every kind of address and begins with the family in each; of the others, only
    // numbers are read, for which any octets are a value.
    unsafe {
        match i32::from((*name).ss_family) {
            libc::AF_INET if length >= size_of::<libc::sockaddr_in>() => {
                let v4 = &*name.cast::<libc::sockaddr_in>();
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 if length >= size_of::<libc::sockaddr_in6>() => {
                let v6 = &*name.cast::<libc::sockaddr_in6>();
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

/// Where a datagram was sent to, from the control messages that came with it.
fn destination(header: &libc::msghdr) -> Option<IpAddr> {
    let v4 = |info: libc::in_pktinfo| {
        // The local address, which for a broadcast is not the one in the packet.
        Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes())
    };
    let v6 = |info: libc::in6_pktinfo| Ipv6Addr::from(info.ipi6_addr.s6_addr);
    // SAFETY: each kind has the data of its type.
    unsafe {
        let info = control(header, libc::IPPROTO_IP, libc::IP_PKTINFO);
        let or = || control(header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO);
        info.map(v4)
            .map(IpAddr::from)
            .or_else(|| or().map(v6).map(IpAddr::from))
    }
}

/// When a datagram arrived, from the control messages that came with it.
fn arrival(header: &libc::msghdr) -> Option<SystemTime> {
    // SAFETY: this kind has the data of this type.
    let time: libc::timespec = unsafe { control(header, libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) }?;
    let seconds = Duration::from_secs(u64::try_from(time.tv_sec).ok()?);
    let fraction = Duration::from_nanos(u64::try_from(time.tv_nsec).ok()?);
    SystemTime::UNIX_EPOCH.checked_add(seconds + fraction)
}

/// The data of the first control message of a kind that came with a datagram.
///
/// # Safety
/// The data of this kind are a `T`, a plain C structure of numbers.
unsafe fn control<T>(header: &libc::msghdr, level: libc::c_int, kind: libc::c_int) -> Option<T> {
    // SAFETY: the system has just filled `header`: its control pointer and length describe
    // initialized octets of a `Control`, aligned for a control header, that hold whole control
    // messages. The macros stay within them, and what is behind a message is read only where its
    // length says that it is there.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(control) = message.as_ref() {
            let length = libc::CMSG_LEN(size_of::<T>() as _) as usize;
            if (control.cmsg_level, control.cmsg_type) == (level, kind)
                && control.cmsg_len as usize >= length
            {
                return Some(libc::CMSG_DATA(control).cast::<T>().read_unaligned());
            }
            message = libc::CMSG_NXTHDR(header, control);
        }
    }
    None
}

/// Makes the system send from `local`, out of whichever interface leads to the client.
fn send_from(header: &mut libc::msghdr, control: &mut Control, local: Option<IpAddr>) {
    header.msg_control = ptr::null_mut();
    header.msg_controllen = 0;
    match local {
        None => {}
        Some(IpAddr::V4(ip)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(ip.octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            attach(header, control, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        Some(IpAddr::V6(ip)) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: ip.octets(),
                },
                ipi6_ifindex: 0,
            };
            attach(
                header,
                control,
                libc::IPPROTO_IPV6,
                libc::IPV6_PKTINFO,
                info,
            );
        }
    }
}

/// Makes `info` the one control message of `header`.
fn attach<T: Copy>(
    header: &mut libc::msghdr,
    control: &mut Control,
    level: libc::c_int,
    kind: libc::c_int,
    info: T,
) {
    let mut message = MaybeUninit::<libc::cmsghdr>::zeroed();
    // SAFETY: a plain C structure of numbers, for which zero octets are a value. The two macros
    // only compute.
    let (message, length, space) = unsafe {
        let message = message.assume_init_mut();
        let size = size_of::<T>() as libc::c_uint;
        (message, libc::CMSG_LEN(size), libc::CMSG_SPACE(size))
    };
    assert!(
        space as usize <= control.0.len(),
        "a control buffer holds either kind of packet information"
    );
    message.cmsg_level = level;
    message.cmsg_type = kind;
    message.cmsg_len = length as _;
    let first = ptr::from_mut(control).cast::<libc::cmsghdr>();
    // SAFETY: the control buffer is aligned for a control header and, as was just asserted, has
    // room for one, the padding behind it, and `info`; `CMSG_DATA` only computes where that is.
    unsafe {
        first.write(*message);
        let data = libc::CMSG_DATA(first);
        data.cast::<T>().write_unaligned(info);
    }
    header.msg_control = first.cast();
    header.msg_controllen = space as _;
}

#[cfg(test)]
mod tests;
