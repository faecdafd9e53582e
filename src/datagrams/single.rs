//! One datagram a system call, for systems without the calls that take many. A reply leaves from
//! whatever address the system chooses: on such a system, bind addresses rather than all of them.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, UdpSocket},
};

use super::{Datagram, REPLY_ROOM};
use crate::wire::MAX_MESSAGE;

/// A datagram and the reply to it.
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
            reply: Vec::with_capacity(REPLY_ROOM),
            bound,
        }
    }

    /// Waits for a datagram; none where the socket's timeout passed.
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

    /// The datagram received last, and where its reply is to be written.
    pub fn datagram(&mut self, index: usize) -> Option<(Datagram<'_>, &mut Vec<u8>)> {
        let datagram = Datagram {
            octets: &self.packet[..self.length],
            client: self.client,
            local: self.bound,
        };
        (index == 0).then_some((datagram, &mut self.reply))
    }

    /// Sends the reply, if it is not empty, and says how many could not be sent.
    pub fn send(&mut self, socket: &UdpSocket) -> usize {
        if self.reply.is_empty() {
            return 0;
        }
        let sent = socket.send_to(&self.reply, self.client);
        self.reply.clear();
        self.reply.shrink_to(REPLY_ROOM);
        usize::from(sent.is_err())
    }
}

/// Sends replies that come later than the rest.
#[cfg(not(target_os = "linux"))]
#[derive(Default)]
pub struct Outbox;

#[cfg(not(target_os = "linux"))]
impl Outbox {
    /// Sends all of `replies`; how many could not be sent.
    pub fn send(&mut self, socket: &UdpSocket, replies: &[super::Late]) -> usize {
        let is_unsent = |it: &&super::Late| socket.send_to(&it.octets, it.client).is_err();
        replies.iter().filter(is_unsent).count()
    }
}

/// The system cannot be asked where a datagram was sent to.
#[cfg(not(target_os = "linux"))]
pub fn ask_for_destinations(_: &UdpSocket, _: SocketAddr) -> io::Result<()> {
    Ok(())
}

/// The system reports what it reports.
#[cfg(not(target_os = "linux"))]
pub fn report_errors(_: &UdpSocket, _: SocketAddr) -> io::Result<()> {
    Ok(())
}

/// There is no queue of them.
#[cfg(not(target_os = "linux"))]
pub fn take_errors<S>(_: &S) -> usize {
    0
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
        reply.extend(datagram.octets);
        assert_eq!(single.send(&server), 0);
        let mut buffer = [0; 16];
        assert_eq!(client.recv(&mut buffer).unwrap(), 3);
    }
}
