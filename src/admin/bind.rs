//! An address of the Corefile -> sockets that listen.

use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, lookup_host};

use crate::{
    corefile::Listen,
    server::{bind::is_free, tcp::bound_unsent},
};

/// Connections that may wait to be accepted. A connection for which there is no room here is tried
/// again a second later, which is all the time that a probe has.
const BACKLOG: i32 = 4096;

/// Listens, beside listeners of this process that go where its port is one of `going`. A bare port, and `[::]`, means both families, IPv4 alone where there is no IPv6;
/// `localhost` both loopback addresses; any other name one of its addresses, IPv4 preferred.
pub(super) async fn bind(listen: &Listen, going: &BTreeSet<u16>) -> io::Result<Vec<TcpListener>> {
    let port = listen.port;
    let is_ours = going.contains(&port);
    match listen.host.as_str() {
        "" | "::" => Ok(vec![both_families(port, is_ours)?]),
        "localhost" => localhost(port, is_ours),
        host => {
            let address = match host.parse() {
                Ok(address) => SocketAddr::new(address, port),
                Err(_) => resolve(host, port).await?,
            };
            Ok(vec![socket(address, true, is_ours)?])
        }
    }
}

fn both_families(port: u16, is_ours: bool) -> io::Result<TcpListener> {
    use io::ErrorKind::{AddrInUse, PermissionDenied};
    let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match socket(all, false, is_ours) {
        Err(error) if !matches!(error.kind(), AddrInUse | PermissionDenied) => socket(
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            true,
            is_ours,
        ),
        bound => bound,
    }
}

fn localhost(port: u16, is_ours: bool) -> io::Result<Vec<TcpListener>> {
    let first = socket(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), true, is_ours)?;
    let port = first.local_addr()?.port();
    match socket(SocketAddr::from((Ipv6Addr::LOCALHOST, port)), true, is_ours) {
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

fn socket(address: SocketAddr, only_v6: bool, is_ours: bool) -> io::Result<TcpListener> {
    if !is_ours && address.port() != 0 {
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
    // Connections of a process before us that linger do not keep the port.
    socket.set_reuse_address(true)?;
    // A new one can stand beside one of ours that goes, so that all that can fail fails before that.
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    bound_unsent(&socket);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
