//! Socket options, and the queue of errors that one of them opens.

use std::{
    io, mem,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd},
};

use super::control::{Control, control};

/// Maximum number of errors taken from a socket's error queue at a time.
const MAX_ERRORS: usize = 1024;

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
pub(super) fn set_option(
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

/// The value of an integer socket option.
pub(super) fn get_option(
    socket: &UdpSocket,
    level: libc::c_int,
    option: libc::c_int,
) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is a C int of that length; both live until the end of the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(value)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Maps errors to `Ok(0)` if the wait was interrupted, or if the socket reports an error of an
/// earlier reply.
pub(super) fn ignore_transient(error: io::Error) -> io::Result<usize> {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR | libc::ECONNREFUSED) => Ok(0),
        _ => Err(error),
    }
}
