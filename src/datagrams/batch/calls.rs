//! The system calls that receive and send several datagrams.

use std::{
    io,
    net::UdpSocket,
    os::fd::{AsRawFd, RawFd},
    ptr, slice,
};

use super::{control::join, options::get_option};

/// The system calls, as function values: if the kernel or a sandbox lacks one, it is replaced by a
/// variant for a single datagram; tests inject their own.
#[derive(Clone, Copy)]
pub(super) struct Calls {
    pub(super) receive: Call,
    pub(super) send: Call,
    /// Whether the system cuts a message into segments; `None` until it has been asked.
    pub(super) segments: Option<bool>,
}

/// Takes a socket, headers and their number, and flags. Returns the number of processed headers, or
/// -1 with `errno` set.
///
/// # Safety
/// `headers` points to that many headers. For the duration of the call, each points to a name,
/// vectors and a control buffer with their true lengths, or has none of them, and the vectors point
/// to readable (for receiving: writable) memory.
pub(super) type Call = unsafe fn(RawFd, *mut libc::mmsghdr, usize, libc::c_int) -> libc::c_int;

impl Calls {
    /// Available since Linux 3.0.
    pub(super) const MANY: Self = Self {
        receive: receive_many,
        send: send_many,
        segments: None,
    };

    /// Whether messages of several datagrams can be sent.
    pub(super) fn segments(&mut self, socket: &UdpSocket) -> bool {
        let knows = || get_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT).is_ok();
        *self.segments.get_or_insert_with(knows)
    }

    /// Whether a message could not be sent because it was one of several datagrams: the route's device
    /// does not take such messages (EIO), or packets of that size. None is made from now on.
    pub(super) fn refuses_segments(&mut self, error: &io::Error) -> bool {
        let error = error.raw_os_error();
        let refuses = matches!(error, Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE));
        if refuses {
            self.segments = Some(false);
        }
        refuses
    }

    /// Receives into the first of `headers`; returns their number.
    ///
    /// # Safety
    /// See [`Call`].
    pub(super) unsafe fn receive(
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
    pub(super) unsafe fn send(
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
    pub(super) unsafe fn send_all(
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
            let message = &headers[done];
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                // An error of an earlier datagram; the current one was not tried.
                Some(libc::ECONNREFUSED) if !refused => refused = true,
                _ if parts(message) > 1 && self.refuses_segments(&error) => {
                    // SAFETY: guaranteed by the caller.
                    failed += unsafe { self.send_apart(socket, *message, flags) };
                    done += 1;
                }
                _ => {
                    let count = parts(message);
                    tracing::debug!(%error, count, "replies could not be sent");
                    done += 1;
                    failed += count;
                    refused = false;
                }
            }
        }
        failed
    }

    /// Sends the parts of a message one by one; returns the number of failures.
    ///
    /// # Safety
    /// See [`Call`].
    unsafe fn send_apart(
        &mut self,
        socket: &UdpSocket,
        message: libc::mmsghdr,
        flags: libc::c_int,
    ) -> usize {
        let mut single = message;
        join(&mut single.msg_hdr);
        single.msg_hdr.msg_iovlen = 1;
        let mut failed = 0;
        for part in 0..parts(&message) {
            // SAFETY: the message has that many vectors; the rest is guaranteed by the caller.
            failed += unsafe {
                single.msg_hdr.msg_iov = message.msg_hdr.msg_iov.add(part);
                self.send_all(socket, slice::from_mut(&mut single), flags)
            };
        }
        failed
    }
}

/// Number of datagrams that a message becomes: each vector is one.
pub(super) fn parts(message: &libc::mmsghdr) -> usize {
    message.msg_hdr.msg_iovlen as usize
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
pub(super) unsafe fn send_many(
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
pub(super) unsafe fn receive_one(
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
pub(super) unsafe fn send_one(
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
