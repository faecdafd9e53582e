//! Binds the listen addresses of HTTP pages.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::lookup_host;

use crate::{
    corefile::Listen,
    server::{accept::reserve, bind::is_free, tcp::bound_unsent},
};

/// Returns bound sockets of an address. A port alone or `[::]` means both address families, or IPv4 only on machines
/// without IPv6; `localhost` means both loopback addresses; another name means one of its
/// addresses, IPv4 preferred. If `is_closing`, the port may still be bound by a listener that will be
/// closed, of this process or of the one that it takes over from; the socket does not listen
/// yet then.
pub(super) async fn bind(listen: &Listen, is_closing: bool) -> io::Result<Vec<TcpListener>> {
    let port = listen.port;
    match listen.host.as_str() {
        "" | "::" => Ok(vec![both_families(port, is_closing)?]),
        "localhost" => localhost(port, is_closing),
        host => {
            let address = match host.parse() {
                Ok(address) => SocketAddr::new(address, port),
                Err(_) => resolve(host, port).await?,
            };
            Ok(vec![socket(address, true, is_closing)?])
        }
    }
}

fn both_families(port: u16, is_closing: bool) -> io::Result<TcpListener> {
    use io::ErrorKind::{AddrInUse, PermissionDenied};
    let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match socket(all, false, is_closing) {
        Err(error) if !matches!(error.kind(), AddrInUse | PermissionDenied) => socket(
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            true,
            is_closing,
        ),
        bound => bound,
    }
}

fn localhost(port: u16, is_closing: bool) -> io::Result<Vec<TcpListener>> {
    let first = socket(
        SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        true,
        is_closing,
    )?;
    let port = first.local_addr()?.port();
    match socket(
        SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        true,
        is_closing,
    ) {
        Ok(second) => Ok(vec![first, second]),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(_) => Ok(vec![first]), // no IPv6 on this machine
    }
}

async fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    let found: Vec<_> = lookup_host((host, port)).await?.collect();
    let first = found.iter().find(|address| address.is_ipv4());
    let first = first.or(found.first()).copied();
    first.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}

fn socket(address: SocketAddr, only_v6: bool, is_closing: bool) -> io::Result<TcpListener> {
    if !is_closing && address.port() != 0 {
        is_free(address, Type::STREAM, only_v6)?;
    }
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // Lingering connections of a previous process do not block the port.
    socket.set_reuse_address(true)?;
    // Allows the new socket beside a closing one, so that all fallible steps precede the switch.
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    bound_unsent(&socket);
    socket.bind(&address.into())?;
    let bound = socket.into();
    if !is_closing {
        reserve(&bound)?;
    }
    Ok(bound)
}
