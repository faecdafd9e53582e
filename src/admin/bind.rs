//! An address of the Corefile -> sockets that listen.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, lookup_host};

use crate::corefile::Listen;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Listens. A bare port, and `[::]`, means both families, IPv4 alone where there is no IPv6;
/// `localhost` both loopback addresses; any other name one of its addresses, IPv4 preferred.
pub(super) async fn bind(listen: &Listen) -> io::Result<Vec<TcpListener>> {
    let port = listen.port;
    match listen.host.as_str() {
        "" | "::" => Ok(vec![both_families(port)?]),
        "localhost" => localhost(port),
        host => {
            let address = match host.parse() {
                Ok(address) => SocketAddr::new(address, port),
                Err(_) => resolve(host, port).await?,
            };
            Ok(vec![socket(address, true)?])
        }
    }
}

fn both_families(port: u16) -> io::Result<TcpListener> {
    use io::ErrorKind::{AddrInUse, PermissionDenied};
    let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match socket(all, false) {
        Err(error) if !matches!(error.kind(), AddrInUse | PermissionDenied) => {
            socket(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), true)
        }
        bound => bound,
    }
}

fn localhost(port: u16) -> io::Result<Vec<TcpListener>> {
    let first = socket(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), true)?;
    let port = first.local_addr()?.port();
    match socket(SocketAddr::from((Ipv6Addr::LOCALHOST, port)), true) {
        Ok(second) => Ok(vec![first, second]),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(_) => Ok(vec![first]), // a machine without IPv6
    }
}

async fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    let found: Vec<_> = lookup_host((host, port)).await?.collect();
    let first = found.iter().find(|address| address.is_ipv4());
    let first = first.or(found.first()).copied();
    first.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}

fn socket(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // Connections of a process before us that linger do not keep the port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
