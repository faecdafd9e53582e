//! A DNS client for questions to a running lab: one query over UDP, and again when a datagram was lost.

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, Record, RecordType},
};
use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

/// Number of queries sent, at equal intervals.
const ATTEMPTS: u32 = 2;
/// Largest reply without EDNS (RFC 1035 section 4.2.1).
const MAX_REPLY: usize = 512;

/// A reply.
#[derive(Debug)]
pub struct Answer {
    /// The rcode.
    pub code: ResponseCode,
    /// The answer section.
    pub records: Vec<Record>,
}

/// Sends a query and waits for its reply, at most `patience`.
pub fn ask(
    server: SocketAddr,
    name: &str,
    rtype: RecordType,
    patience: Duration,
) -> io::Result<Answer> {
    let invalid = |error| io::Error::new(ErrorKind::InvalidInput, error);
    let name = Name::from_ascii(name).map_err(invalid)?;
    let id = rand::random();
    let mut query = Message::new(id, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name, rtype));
    let query = query.to_vec().map_err(invalid)?;
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local)?;
    socket.connect(server)?;
    for _ in 0..ATTEMPTS {
        socket.send(&query)?;
        if let Some(answer) = receive(&socket, id, patience / ATTEMPTS)? {
            return Ok(answer);
        }
    }
    Err(ErrorKind::TimedOut.into())
}

/// The reply with this id; `None` after a timeout.
fn receive(socket: &UdpSocket, id: u16, patience: Duration) -> io::Result<Option<Answer>> {
    let deadline = Instant::now() + patience;
    let mut buffer = [0; MAX_REPLY];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let message = buffer.get(..length).map(Message::from_vec);
        if let Some(Ok(message)) = message
            && message.metadata.id == id
        {
            return Ok(Some(Answer {
                code: message.metadata.response_code,
                records: message.answers,
            }));
        }
    }
}

/// The address of a server for clients on this machine: a server bound to all addresses is queried at the
/// loopback address.
pub fn client_address(server: SocketAddr) -> SocketAddr {
    let ip = match server.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, server.port())
}
