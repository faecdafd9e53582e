//! Binding sockets of datagrams.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    num::NonZero,
    thread,
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::datagrams::enable_destination_addresses;

/// Receive buffer of each socket (`SO_RCVBUF`) in bytes: a quarter of a second of a thread's work. The kernel
/// grants what `net.core.rmem_max` allows.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The default number of threads for an address: the cores that this process may use, by its cgroup's CPU
/// quota too.
pub(in crate::server) fn default_threads() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Binds `count` sockets to one address, among which the kernel distributes the clients (`SO_REUSEPORT`). With
/// port 0 the system chooses one port for all of them.
pub(in crate::server) fn bind(mut address: SocketAddr, count: usize) -> io::Result<Vec<UdpSocket>> {
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count.max(1) {
        let socket = bind_one(address)?;
        address.set_port(socket.local_addr()?.port());
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Binds one more socket to an address.
pub(in crate::server) fn bind_one(address: SocketAddr) -> io::Result<UdpSocket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    if socket.recv_buffer_size()? < RECEIVE_BUFFER {
        // A smaller buffer will do.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    }
    socket.bind(&address.into())?;
    let socket = UdpSocket::from(socket);
    if address.ip().is_unspecified() {
        enable_destination_addresses(&socket, address)?;
    }
    Ok(socket)
}
