//! Sends a query and waits for its reply, with blocking sockets: one query at a time.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    error_text,
    wire::{Header, MAX_MESSAGE},
};

/// A reply as received.
#[derive(Clone, Debug)]
pub struct Received {
    /// The message.
    pub message: Vec<u8>,
    /// From sending to reception.
    pub took: Duration,
    /// IDs of replies to other queries, which were ignored.
    pub other_ids: Vec<u16>,
}

/// How a query is sent.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// The server.
    pub server: SocketAddr,
    /// Own address and port, if not any.
    pub source: Option<(IpAddr, u16)>,
    /// Bound on the time for a reply.
    pub timeout: Duration,
}

/// Why there is no reply.
#[derive(Debug)]
pub enum Failed {
    /// No connection.
    Connect(io::Error),
    /// No reply on a socket.
    Reply {
        /// Cause.
        error: io::Error,
        /// IDs of replies to other queries, which were ignored.
        other_ids: Vec<u16>,
    },
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        let other_ids = Vec::new();
        Self::Reply { error, other_ids }
    }
}

/// The cause in BIND's words, which scripts match.
pub fn cause(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "timed out".to_owned(),
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::UnexpectedEof => "end of file".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        _ => error_text::io(error),
    }
}

/// Sends a query by UDP. Replies with another ID are ignored, as a late reply to an earlier attempt is
/// possible.
pub fn by_udp(path: &Path, query: &[u8]) -> Result<Received, Failed> {
    let socket = UdpSocket::bind(path.own_address())?;
    socket.connect(path.server)?;
    let sent = Instant::now();
    socket.send(query)?;
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut other_ids = Vec::new();
    loop {
        let left = path.timeout.saturating_sub(sent.elapsed());
        let received = if left.is_zero() {
            Err(io::ErrorKind::TimedOut.into())
        } else {
            socket.set_read_timeout(Some(left))?;
            socket.recv(&mut buffer)
        };
        let took = sent.elapsed();
        match received {
            Err(error) => return Err(Failed::Reply { error, other_ids }),
            Ok(length) if buffer[..length.min(2)] == query[..2] => {
                buffer.truncate(length);
                return Ok(Received {
                    message: buffer,
                    took,
                    other_ids,
                });
            }
            // The first ones are of interest; a flood must not fill the memory.
            Ok(length) if length >= 2 && other_ids.len() < 16 => {
                other_ids.push(u16::from_be_bytes([buffer[0], buffer[1]]));
            }
            Ok(_) => {}
        }
    }
}

/// A connection that one query is sent by.
pub struct Stream {
    socket: TcpStream,
    sent: Instant,
    timeout: Duration,
    id: [u8; 2],
}

impl Stream {
    /// Connects and sends a query.
    pub fn open(path: &Path, query: &[u8]) -> Result<Self, Failed> {
        let stream = path.connect().map_err(Failed::Connect)?;
        let length = u16::try_from(query.len()).map_err(io::Error::other)?;
        let sent = Instant::now();
        stream.set_write_timeout(Some(path.timeout))?;
        let framed = [&length.to_be_bytes()[..], query].concat();
        (&stream).write_all(&framed)?;
        Ok(Self {
            socket: stream,
            sent,
            timeout: path.timeout,
            id: [query[0], query[1]],
        })
    }

    /// The next reply. The time for it is counted from the end of the last one.
    pub fn next(&mut self) -> Result<Received, Failed> {
        let deadline = Instant::now() + self.timeout;
        let mut other_ids = Vec::new();
        loop {
            let mut length = [0; 2];
            self.read(&mut length, deadline)?;
            let mut message = vec![0; u16::from_be_bytes(length).into()];
            self.read(&mut message, deadline)?;
            let took = self.sent.elapsed();
            if message.get(..2) == Some(&self.id) {
                return Ok(Received {
                    message,
                    took,
                    other_ids,
                });
            }
            if let ([high, low, ..], true) = (&message[..], other_ids.len() < 16) {
                other_ids.push(u16::from_be_bytes([*high, *low]));
            }
        }
    }

    /// Fills the buffer, however slowly the bytes come, until the deadline.
    fn read(&mut self, buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.read(&mut buffer[filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Path {
    fn own_address(&self) -> SocketAddr {
        let any = || match self.server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        self.source.map_or_else(any, SocketAddr::from)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let domain = Domain::for_address(self.server);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        if self.source.is_some() {
            socket.set_reuse_address(true)?;
            socket.bind(&self.own_address().into())?;
        }
        socket.connect_timeout(&self.server.into(), self.timeout)?;
        Ok(socket.into())
    }
}

/// Whether a reply was truncated (RFC 1035 section 4.1.1).
pub fn is_truncated(message: &[u8]) -> bool {
    Header::read(message).is_some_and(|header| header.has(Header::TRUNCATED))
}
