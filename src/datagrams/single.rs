//! Single-datagram I/O, for systems without batch calls. The system selects the source address of
//! replies: bind to specific addresses on such systems.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, UdpSocket},
};

use super::{Datagram, REPLY_CAPACITY};
use crate::wire::MAX_MESSAGE;

/// A datagram and its reply.
pub struct Single {
    packet: Box<[u8]>,
    length: usize,
    client: SocketAddr,
    reply: Vec<u8>,
    bound: SocketAddr,
}

impl Single {
    /// Buffers for a socket bound to `bound`.
    pub fn new(bound: SocketAddr) -> Self {
        Self {
            packet: vec![0; MAX_MESSAGE].into(),
            length: 0,
            client: bound,
            reply: Vec::with_capacity(REPLY_CAPACITY),
            bound,
        }
    }

    /// Waits for a datagram; `Ok(0)` on timeout.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.reply.clear();
        match socket.recv_from(&mut self.packet) {
            Ok((length, client)) => {
                self.length = length;
                self.client = client;
                Ok(1)
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock
                | ErrorKind::TimedOut
                | ErrorKind::Interrupted
                | ErrorKind::ConnectionRefused
                | ErrorKind::ConnectionReset => Ok(0),
                _ => Err(error),
            },
        }
    }

    /// The received datagram and the buffer for its reply.
    pub fn datagram(&mut self, index: usize) -> Option<(Datagram<'_>, &mut Vec<u8>)> {
        let datagram = Datagram {
            bytes: &self.packet[..self.length],
            client: self.client,
            local: self.bound,
        };
        (index == 0).then_some((datagram, &mut self.reply))
    }

    /// Sends the reply if it is not empty; returns the number of failures.
    pub fn send(&mut self, socket: &UdpSocket) -> usize {
        if self.reply.is_empty() {
            return 0;
        }
        let sent = socket.send_to(&self.reply, self.client);
        self.reply.clear();
        self.reply.shrink_to(REPLY_CAPACITY);
        usize::from(sent.is_err())
    }
}

/// Sends replies that complete later.
#[cfg(not(target_os = "linux"))]
#[derive(Default)]
pub struct Outbox;

#[cfg(not(target_os = "linux"))]
impl Outbox {
    /// Sends all of `replies`; returns the number that could not be sent.
    pub fn send(&mut self, socket: &UdpSocket, replies: &[super::DelayedReply]) -> usize {
        let is_unsent = |it: &&super::DelayedReply| socket.send_to(&it.bytes, it.client).is_err();
        replies.iter().filter(is_unsent).count()
    }
}

/// Not supported: destination addresses are not reported.
#[cfg(not(target_os = "linux"))]
pub fn enable_destination_addresses(_: &UdpSocket, _: SocketAddr) -> io::Result<()> {
    Ok(())
}

/// Not supported: the system's default applies.
#[cfg(not(target_os = "linux"))]
pub fn report_errors(_: &UdpSocket, _: SocketAddr) -> io::Result<()> {
    Ok(())
}

/// Not supported: there is no error queue.
#[cfg(not(target_os = "linux"))]
pub fn take_errors<S>(_: &S) -> Option<io::Error> {
    None
}

/// I/O on connected sockets, non-blocking.
#[cfg(any(test, not(target_os = "linux")))]
#[derive(Default)]
pub struct Connected {
    /// Allocated at first use.
    packet: Vec<u8>,
    length: usize,
}

#[cfg(any(test, not(target_os = "linux")))]
impl Connected {
    /// Maximum number of messages received per call.
    #[cfg(not(target_os = "linux"))]
    pub const RECEIVED: usize = 1;

    /// Receives a queued message. An error may belong to an earlier send.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.packet.resize(MAX_MESSAGE, 0);
        self.length = socket.recv(&mut self.packet)?;
        Ok(1)
    }

    /// The received message.
    pub fn message(&self, index: usize) -> &[u8] {
        let length = if index == 0 { self.length } else { 0 };
        self.packet.get(..length).unwrap_or_default()
    }

    /// Sends the first of `messages`; returns the number of messages sent.
    #[allow(clippy::unused_self)] // as that of `batch`
    pub fn send<'m>(
        &mut self,
        socket: &UdpSocket,
        mut messages: impl Iterator<Item = &'m [u8]>,
    ) -> io::Result<usize> {
        let Some(message) = messages.next() else {
            return Ok(0);
        };
        socket.send(message).map(|_| 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_comes_and_one_goes() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        client.send(b"one").unwrap();
        let mut single = Single::new(server.local_addr().unwrap());
        assert_eq!(single.receive(&server).unwrap(), 1);
        let (datagram, reply) = single.datagram(0).unwrap();
        assert_eq!(datagram.client, client.local_addr().unwrap());
        reply.extend(datagram.bytes);
        assert_eq!(single.send(&server), 0);
        let mut buffer = [0; 16];
        assert_eq!(client.recv(&mut buffer).unwrap(), 3);
    }

    #[test]
    fn a_connected_socket_takes_messages_one_by_one() {
        let (one, other) = (
            UdpSocket::bind("127.0.0.1:0").unwrap(),
            UdpSocket::bind("127.0.0.1:0").unwrap(),
        );
        one.connect(other.local_addr().unwrap()).unwrap();
        other.connect(one.local_addr().unwrap()).unwrap();
        other.set_nonblocking(true).unwrap();
        let mut messages = Connected::default();
        let error = messages.receive(&other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let queued = [&b"one"[..], b"two"];
        assert_eq!(messages.send(&one, queued.into_iter()).unwrap(), 1);
        assert_eq!(messages.receive(&other).unwrap(), Connected::RECEIVED);
        assert_eq!(messages.message(0), b"one");
        assert!(messages.message(1).is_empty());
        assert_eq!(messages.send(&one, [].into_iter()).unwrap(), 0);
    }
}
