//! Addresses and control messages of a datagram: its destination, its arrival time, its source address.

use std::{
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    ptr,
    time::{Duration, SystemTime},
};

/// Space for one control message with the larger kind of packet information, and one with a
/// timestamp.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control(pub(super) [u8; 96]);

impl Control {
    pub(super) const EMPTY: Self = Self([0; 96]);
}

pub(super) fn address(
    name: &libc::sockaddr_storage,
    length: libc::socklen_t,
) -> Option<SocketAddr> {
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
pub(super) fn destination(header: &libc::msghdr) -> Option<IpAddr> {
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
pub(super) fn arrival(header: &libc::msghdr) -> Option<SystemTime> {
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
pub(super) unsafe fn control<T>(
    header: &libc::msghdr,
    level: libc::c_int,
    kind: libc::c_int,
) -> Option<T> {
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
pub(super) fn send_from(header: &mut libc::msghdr, control: &mut Control, local: Option<IpAddr>) {
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

/// Makes the system cut the message into datagrams of `length` bytes, the last of which may be
/// shorter. The last control message to be added.
pub(super) fn segment(header: &mut libc::msghdr, control: &mut Control, length: usize) {
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    attach(header, control, libc::SOL_UDP, libc::UDP_SEGMENT, length);
}

/// Takes back the control message of [`segment`].
pub(super) fn join(header: &mut libc::msghdr) {
    // SAFETY: the macro only computes a size.
    let space = unsafe { libc::CMSG_SPACE(size_of::<u16>() as _) };
    header.msg_controllen = (header.msg_controllen as usize).saturating_sub(space as usize) as _;
    if header.msg_controllen == 0 {
        header.msg_control = ptr::null_mut();
    }
}

/// Adds `info` to the control messages of `header`, which are at the beginning of `control`.
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
    let used = header.msg_controllen as usize;
    let room = control.0.get_mut(used..used + space as usize);
    let room = room.expect("a control buffer holds packet information and a segment's length");
    message.cmsg_level = level;
    message.cmsg_type = kind;
    message.cmsg_len = length as _;
    #[allow(clippy::cast_ptr_alignment)] // see below
    let next = room.as_mut_ptr().cast::<libc::cmsghdr>();
    // SAFETY: `room` has space for a header with padding and `info`. It is aligned for control
    // headers, since the buffer is and the space of each message is a multiple of that alignment.
    // `CMSG_DATA` only computes an address.
    unsafe {
        next.write(*message);
        let data = libc::CMSG_DATA(next);
        data.cast::<T>().write_unaligned(info);
    }
    header.msg_control = ptr::from_mut(control).cast();
    header.msg_controllen = (used + space as usize) as _;
}
