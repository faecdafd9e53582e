//! Binding a listener's sockets, all or none, before they are served.

pub(super) mod datagrams;

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
};

use socket2::{Domain, Socket, Type};

use super::{Listener, ListenerConfig, Scheme, tcp};

/// Why a listener cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {listener}")]
pub struct BindError {
    listener: Listener,
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// The bound sockets of a listener.
#[derive(Default)]
pub(super) struct BoundSockets {
    /// For each address, a socket for each thread.
    pub(super) udp: Vec<Vec<UdpSocket>>,
    pub(super) tcp: Vec<TcpListener>,
    /// The addresses that they are bound to.
    pub(super) addresses: Vec<SocketAddr>,
}

/// How often another port is tried because the one that the system chose for UDP is taken for TCP.
const ATTEMPTS: usize = 32;

impl BindError {
    pub(super) fn new(listener: Listener, address: SocketAddr, source: io::Error) -> Self {
        Self {
            listener,
            address,
            source,
        }
    }
}

impl BoundSockets {
    /// Binds the sockets of `wanted`. Where `shares` holds for a port, sockets that are bound already do not make an
    /// address unavailable: those of this process, or of the one that it takes over from.
    pub(super) fn bind(
        wanted: &ListenerConfig,
        shares: impl Fn(u16) -> bool,
    ) -> Result<Self, BindError> {
        let listener = wanted.listener;
        let failed = |(address, source)| BindError::new(listener, address, source);
        let port = listener.address.port();
        let shares = port != 0 && shares(port);
        if port != 0 && !shares {
            for address in addresses(listener.address) {
                are_free(address, listener.scheme).map_err(|source| failed((address, source)))?;
            }
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            match Self::bind_all(wanted, shares) {
                Err((_, error))
                    if port == 0 && error.kind() == ErrorKind::AddrInUse && attempts < ATTEMPTS => {
                }
                result => return result.map_err(failed),
            }
        }
    }

    fn bind_all(wanted: &ListenerConfig, shares: bool) -> Result<Self, (SocketAddr, io::Error)> {
        let mut sockets = Self::default();
        let mut port = wanted.listener.address.port();
        let wanted_addresses = addresses(wanted.listener.address);
        let many = wanted_addresses.len() > 1;
        for mut address in wanted_addresses {
            address.set_port(port);
            let bound = sockets.bind_one(wanted, address, shares);
            match bound {
                Ok(bound) => {
                    port = bound.port();
                    sockets.addresses.push(bound);
                }
                Err(error) if many && address.is_ipv6() && lacks_ipv6(&error) => {
                    let why = crate::error_text::io(&error);
                    tracing::info!("this machine has no IPv6; only IPv4 is listened on: {why}");
                }
                Err(error) => return Err((address, error)),
            }
        }
        Ok(sockets)
    }

    fn bind_one(
        &mut self,
        wanted: &ListenerConfig,
        mut address: SocketAddr,
        shares: bool,
    ) -> io::Result<SocketAddr> {
        let (scheme, threads) = (wanted.listener.scheme, wanted.udp_threads());
        if scheme == Scheme::Dns || scheme.is_quic() {
            // All packets of a QUIC connection must reach the endpoint that has its state.
            let count = if scheme.is_quic() { 1 } else { threads };
            let sockets = datagrams::bind(address, count)?;
            address = sockets[0].local_addr()?;
            self.udp.push(sockets);
        }
        if scheme.is_quic() {
            return Ok(address);
        }
        let listener = tcp::bind(address, shares)?;
        address = listener.local_addr()?;
        self.tcp.push(listener);
        Ok(address)
    }
}

/// The addresses to bind for a configured one: `[::]` stands for every address of both families, each with
/// sockets of its own, so that IPv4 clients do not appear with IPv4-mapped addresses.
fn addresses(address: SocketAddr) -> Vec<SocketAddr> {
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        vec![(Ipv4Addr::UNSPECIFIED, address.port()).into(), address]
    } else {
        vec![address]
    }
}

/// Whether the address is free for what a scheme needs.
fn are_free(address: SocketAddr, scheme: Scheme) -> io::Result<()> {
    let datagrams = scheme == Scheme::Dns || scheme.is_quic();
    if !scheme.is_quic() {
        is_free(address, Type::STREAM, true)?;
    }
    if datagrams {
        is_free(address, Type::DGRAM, true)?;
    }
    Ok(())
}

/// Whether no other process listens there. Sockets of this server share their address (`SO_REUSEPORT`), which
/// would let a second server take a part of the queries unnoticed. An IPv6 address stands for IPv4 too unless it
/// is `only_v6`.
pub(crate) fn is_free(address: SocketAddr, kind: Type, only_v6: bool) -> io::Result<()> {
    let probe = || {
        let socket = Socket::new(Domain::for_address(address), kind, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(only_v6)?;
        }
        if kind == Type::STREAM {
            // Connections in TIME_WAIT of a server before this one do not listen.
            socket.set_reuse_address(true)?;
        }
        socket.bind(&address.into())
    };
    match probe() {
        Err(error) if error.kind() == ErrorKind::AddrInUse => Err(error),
        // Other errors are reported by the bind that follows.
        _ => Ok(()),
    }
}

/// Whether an address cannot be bound because the machine has no IPv6.
fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::AddrNotAvailable | ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}
