//! Batched datagram I/O: safe wrappers of `recvmmsg` and `sendmmsg`.
//!
//! The only unsafe code of the crate. Invariant: pointers are created from the buffers right before
//! each call and are not used after it, so no buffer can move or be freed while it is referenced.
//!
//! Segmentation offload does not help: it joins datagrams of one flow, and replies go to many
//! clients.

#![allow(unsafe_code)]
// C structures are small, and the types of their lengths differ between C libraries.
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
    Datagram, DelayedReply, REPLY_CAPACITY,
    backlog::{Backlog, MAX_AGE},
};

/// Maximum number of datagrams per call. Larger batches save little and add latency.
const BATCH: usize = 32;

/// Receive buffer size in bytes, above the advertised payload size of 1232. A longer query is cut,
/// which suffices for a FORMERR. An odd multiple of a cache line, so that the starts of the buffers
/// map to different cache sets.
const PACKET: usize = 1280 + 64;

/// Maximum number of errors taken from a socket's error queue at a time.
const MAX_ERRORS: usize = 1024;

/// Space for one control message with the larger kind of packet information, and one with a
/// timestamp.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 96]);

impl Control {
    const EMPTY: Self = Self([0; 96]);
}

/// The system calls, as function values: if the kernel or a sandbox lacks one, it is replaced by a
/// variant for a single datagram; tests inject their own.
#[derive(Clone, Copy)]
struct Calls {
    receive: Call,
    send: Call,
}

/// Takes a socket, headers and their number, and flags. Returns the number of processed headers, or
/// -1 with `errno` set.
///
/// # Safety
/// `headers` points to that many headers. For the duration of the call, each points to a name,
/// vectors and a control buffer with their true lengths, or has none of them, and the vectors point
/// to readable (for receiving: writable) memory.
type Call = unsafe fn(RawFd, *mut libc::mmsghdr, usize, libc::c_int) -> libc::c_int;

const NAME_LENGTH: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

/// Datagrams received in one call, and their replies, sent in one call.
///
/// Buffers are allocated once, by the thread that uses them.
pub struct Batch {
    packets: Box<[u8]>,
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control]>,
    slots: Box<[Slot]>,
    messages: Messages,
    /// The socket's local address.
    bound: SocketAddr,
    backlog: Backlog,
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
            controls: vec![Control::EMPTY; BATCH].into(),
            slots: slots.collect(),
            messages: Messages::default(),
            bound,
            backlog: Backlog::new(MAX_AGE),
            stale: 0,
        }
    }

    /// Receives the queued datagrams; waits for the first one if `waits`. `Ok(0)` if there are
    /// none, on timeout, and on interruption.
    pub fn receive(&mut self, socket: &UdpSocket, waits: bool) -> io::Result<usize> {
        let flags = if waits { 0 } else { libc::MSG_DONTWAIT };
        let buffers = self.packets.chunks_exact_mut(PACKET).zip(&mut self.names);
        let meta = self.controls.iter_mut().zip(self.messages.iter_mut());
        for ((packet, name), (control, (vector, message))) in buffers.zip(meta) {
            let header = plain_header(message, vector, packet);
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
        self.note(socket, count < BATCH);
        Ok(count)
    }

    /// Updates the backlog after a receive call.
    fn note(&mut self, socket: &UdpSocket, emptied: bool) {
        if let Some(on) = self.backlog.received(Instant::now(), emptied) {
            // On failure, datagrams are only dropped relative to the time the queue was last empty.
            let _ = set_option(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, on);
        }
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
        let count = self.address_replies();
        // SAFETY: `address_replies` has filled these headers. Each points to its own name, vector
        // and control buffer with their true lengths, and the vector to a reply's initialized
        // bytes. All are in boxes and vectors of `self`, which is borrowed for the duration of the
        // call.
        let Messages { headers, calls, .. } = &mut self.messages;
        let failed = unsafe { calls.send_all(socket, &mut headers[..count], 0) };
        for slot in &mut self.slots {
            slot.reply.clear();
            slot.reply.shrink_to(REPLY_CAPACITY);
        }
        failed
    }

    /// Fills the first headers with the replies; returns their number.
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
            let header = plain_header(message, vector, slot.reply.as_mut_slice());
            header.msg_name = ptr::from_mut(name).cast();
            header.msg_namelen = slot.name_length;
            send_from(header, control, slot.local);
            count += 1;
        }
        count
    }
}

/// Sends replies that complete after their batch.
pub struct Outbox {
    names: Vec<socket2::SockAddr>,
    controls: Box<[Control]>,
    messages: Messages,
}

impl Default for Outbox {
    /// Usable for any socket.
    fn default() -> Self {
        Self {
            names: Vec::with_capacity(BATCH),
            controls: vec![Control::EMPTY; BATCH].into(),
            messages: Messages::default(),
        }
    }
}

impl Outbox {
    /// Sends all of `replies` without blocking; returns the number that could not be sent.
    pub fn send(&mut self, socket: &UdpSocket, replies: &[DelayedReply]) -> usize {
        let mut failed = 0;
        for some in replies.chunks(BATCH) {
            self.names.clear();
            self.names
                .extend(some.iter().map(|it| socket2::SockAddr::from(it.client)));
            let meta = self.controls.iter_mut().zip(self.messages.iter_mut());
            for ((reply, name), (control, (vector, message))) in
                some.iter().zip(&self.names).zip(meta)
            {
                let bytes = ptr::from_ref(reply.bytes.as_slice()).cast_mut();
                let header = plain_header(message, vector, bytes);
                header.msg_name = name.as_ptr().cast_mut().cast();
                header.msg_namelen = name.len();
                send_from(header, control, reply.local);
            }
            let Messages { headers, calls, .. } = &mut self.messages;
            let headers = &mut headers[..some.len()];
            // SAFETY: a chunk is no longer than the headers. Each header points to its own name,
            // vector and control buffer with their true lengths, and the vector to a reply's bytes.
            // All are in `self` and `replies`, which are borrowed for the duration of the call.
            // Sending only reads them, although the structure's pointers are mutable.
            failed += unsafe { calls.send_all(socket, headers, libc::MSG_DONTWAIT) };
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
        let rooms = self.room.chunks_exact_mut(Self::ROOM);
        for (room, (vector, message)) in rooms.zip(self.messages.iter_mut()) {
            plain_header(message, vector, room);
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

    /// Sends as many of `messages` as possible; returns their number.
    pub fn send<'m>(
        &mut self,
        socket: &UdpSocket,
        messages: impl Iterator<Item = &'m [u8]>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for (bytes, (vector, message)) in messages.zip(self.messages.iter_mut()) {
            plain_header(message, vector, ptr::from_ref(bytes).cast_mut());
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        let Messages { headers, calls, .. } = &mut self.messages;
        let headers = &mut headers[..count];
        // SAFETY: these headers point to their own vector, which points to the bytes of a message,
        // and have neither a name nor a control buffer. The vectors are in `self`, which is
        // borrowed for the duration of the call; the messages live for 'm, which outlives it.
        // Sending only reads, although the pointers are mutable.
        unsafe { calls.send(socket, headers, libc::MSG_DONTWAIT) }
    }
}

/// Headers and vectors for one call, filled right before it, and the system calls.
struct Messages {
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    calls: Calls,
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
            calls: Calls::MANY,
        }
    }
}

impl Messages {
    /// Each header with its vector.
    fn iter_mut(&mut self) -> impl Iterator<Item = (&mut libc::iovec, &mut libc::mmsghdr)> {
        self.vectors.iter_mut().zip(&mut self.headers)
    }
}

/// Fills a header and vector for `bytes`, without address and control data, and returns the header.
fn plain_header<'m>(
    message: &'m mut libc::mmsghdr,
    vector: &mut libc::iovec,
    bytes: *mut [u8],
) -> &'m mut libc::msghdr {
    vector.iov_base = bytes.cast();
    vector.iov_len = bytes.len();
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
    /// Available since Linux 3.0.
    const MANY: Self = Self {
        receive: receive_many,
        send: send_many,
    };

    /// Receives into the first of `headers`; returns their number.
    ///
    /// # Safety
    /// See [`Call`].
    unsafe fn receive(
        &mut self,
        socket: &UdpSocket,
        headers: &mut [libc::mmsghdr],
        flags: libc::c_int,
    ) -> io::Result<usize> {
        // SAFETY: guaranteed by the caller.
        unsafe { call(&mut self.receive, receive_one, socket, headers, flags) }
    }

    /// Sends the first of `headers`, without SIGPIPE where possible; returns their number.
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
        // SAFETY: guaranteed by the caller.
        unsafe { call(&mut self.send, send_one, socket, headers, flags) }
    }

    /// Sends all messages that can be sent; returns the number of failures.
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
            // SAFETY: guaranteed by the caller.
            let error = match unsafe { self.send(socket, &mut headers[done..], flags) } {
                Ok(sent) => {
                    // After a short count, retrying the next message sends it or returns its error.
                    done += sent;
                    continue;
                }
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                // An error of an earlier datagram; the current one was not tried.
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

/// Makes the system call `one`; if the system lacks it, replaces it by `single`. Returns the number
/// of processed headers, at least one.
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
        // SAFETY: `headers` has `count` elements; the rest is guaranteed by the caller.
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
    // SAFETY: guaranteed by the caller.
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
    // SAFETY: guaranteed by the caller.
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
    // SAFETY: guaranteed by the caller for the first header.
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
    // SAFETY: guaranteed by the caller for the first header.
    unsafe {
        let length = libc::sendmsg(socket, &raw const (*headers).msg_hdr, flags);
        if length < 0 { -1 } else { 1 }
    }
}

/// Makes the system report each datagram's destination address.
pub fn enable_destination_addresses(socket: &UdpSocket, bound: SocketAddr) -> io::Result<()> {
    match bound {
        SocketAddr::V4(_) => set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, true),
        SocketAddr::V6(_) => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, true),
    }
}

/// Makes a connected socket report all ICMP errors about datagrams to `peer`. By default the system
/// omits some (network and host unreachable, type 3 codes 0 and 1). Errors are also queued, counted
/// against the receive buffer, and must be removed by [`take_errors`].
pub fn report_errors(socket: &UdpSocket, peer: SocketAddr) -> io::Result<()> {
    match peer {
        SocketAddr::V4(_) => set_option(socket, libc::IPPROTO_IP, libc::IP_RECVERR, true),
        SocketAddr::V6(_) => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, true),
    }
}

/// Empties the socket's queue of ICMP errors and returns the last one.
///
/// The queue, not `SO_ERROR`, is authoritative: taking an entry also clears the pending `SO_ERROR`,
/// which the kernel sets only after it has queued the entry. Reading `SO_ERROR` first and then emptying
/// the queue would lose an error that arrives in between.
pub fn take_errors(socket: &impl AsFd) -> Option<io::Error> {
    let socket = socket.as_fd().as_raw_fd();
    let mut last = None;
    for _ in 0..MAX_ERRORS {
        let mut control = Control::EMPTY;
        // SAFETY: a plain C structure of integers and raw pointers, for which all-zero is valid.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_control = (&raw mut control).cast();
        header.msg_controllen = size_of::<Control>() as _;
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: the header has neither a name nor a vector, and points to a control buffer of that
        // length, which lives to the end of the iteration.
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

/// Switches a boolean socket option.
fn set_option(
    socket: &UdpSocket,
    level: libc::c_int,
    option: libc::c_int,
    on: bool,
) -> io::Result<()> {
    let on = libc::c_int::from(on);
    // SAFETY: the option's value is a C int that lives until the end of the call.
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

/// Maps errors to `Ok(0)` if the wait was interrupted, or if the socket reports an error of an
/// earlier reply.
fn ignore_transient(error: io::Error) -> io::Result<usize> {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR | libc::ECONNREFUSED) => Ok(0),
        _ => Err(error),
    }
}

fn address(name: &libc::sockaddr_storage, length: libc::socklen_t) -> Option<SocketAddr> {
    let (name, length) = (ptr::from_ref(name), length as usize);
    // SAFETY: `name` points to an initialized and aligned `sockaddr_storage`, which is large enough
    // for every address family and begins with the family in each; only integers are read, for
    // which all bit patterns are valid.
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

/// A datagram's destination address, from its control messages.
fn destination(header: &libc::msghdr) -> Option<IpAddr> {
    let v4 = |info: libc::in_pktinfo| {
        // The local address; for broadcasts it differs from the destination in the packet.
        Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes())
    };
    let v6 = |info: libc::in6_pktinfo| Ipv6Addr::from(info.ipi6_addr.s6_addr);
    // SAFETY: each kind of control message has data of its type.
    unsafe {
        let info = control(header, libc::IPPROTO_IP, libc::IP_PKTINFO);
        let or = || control(header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO);
        info.map(v4)
            .map(IpAddr::from)
            .or_else(|| or().map(v6).map(IpAddr::from))
    }
}

/// A datagram's arrival time, from its control messages.
fn arrival(header: &libc::msghdr) -> Option<SystemTime> {
    // SAFETY: this kind of control message has data of this type.
    let time: libc::timespec = unsafe { control(header, libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) }?;
    let seconds = Duration::from_secs(u64::try_from(time.tv_sec).ok()?);
    let fraction = Duration::from_nanos(u64::try_from(time.tv_nsec).ok()?);
    SystemTime::UNIX_EPOCH.checked_add(seconds + fraction)
}

/// Data of a datagram's first control message of a kind.
///
/// # Safety
/// Control messages of this kind have a `T` as data, a plain C structure of integers.
unsafe fn control<T>(header: &libc::msghdr, level: libc::c_int, kind: libc::c_int) -> Option<T> {
    // SAFETY: the system has filled `header`: its control pointer and length describe initialized
    // bytes of a `Control`, aligned for control headers, with complete control messages. The macros
    // stay within them, and data is read only if the message's length includes it.
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

/// Sets the source address to `local`; the system selects the interface.
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

/// Sets `info` as the only control message of `header`.
fn attach<T: Copy>(
    header: &mut libc::msghdr,
    control: &mut Control,
    level: libc::c_int,
    kind: libc::c_int,
    info: T,
) {
    let mut message = MaybeUninit::<libc::cmsghdr>::zeroed();
    // SAFETY: a plain C structure of integers, for which all-zero is a valid value. The macros only
    // compute sizes.
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
    // SAFETY: the control buffer is aligned for control headers and, as asserted above, has space
    // for a header with padding and `info`; `CMSG_DATA` only computes an address.
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
