//! Single-datagram I/O with upstreams, for systems without batch calls.

#![cfg_attr(
    target_os = "linux",
    allow(dead_code, reason = "tested there and used elsewhere")
)]
#![allow(
    clippy::unnecessary_wraps,
    clippy::unused_self,
    reason = "the signatures are those of `batch`"
)]

use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

use crate::wire::MAX_MESSAGE;

/// I/O on connected, non-blocking sockets.
#[derive(Default)]
pub struct Connected {
    /// Receive buffer for a message of maximum size; allocated at first use.
    room: Box<[u8]>,
    length: usize,
}

impl Connected {
    /// Maximum number of messages received in one call.
    pub const RECEIVED: usize = 1;

    /// Receives a queued message. An error may belong to an earlier send.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        if self.room.is_empty() {
            self.room = vec![0; MAX_MESSAGE].into();
        }
        self.length = 0;
        self.length = socket.recv(&mut self.room)?;
        Ok(1)
    }

    /// The received message; empty if there is none.
    pub fn message(&self, index: usize) -> &[u8] {
        let is_there = index == 0;
        let message = is_there.then(|| self.room.get(..self.length)).flatten();
        message.unwrap_or_default()
    }

    /// Sends messages until the socket's buffer is full; returns the number sent.
    pub fn send<'m>(
        &mut self,
        socket: &UdpSocket,
        messages: &(impl Iterator<Item = &'m [u8]> + Clone),
    ) -> io::Result<usize> {
        let mut count = 0;
        for message in messages.clone() {
            match socket.send(message) {
                Ok(_) => count += 1,
                Err(error) if count == 0 => return Err(error),
                // It is reported again, when the rest is sent.
                Err(_) => break,
            }
        }
        Ok(count)
    }
}

/// Not supported: destination addresses are not reported.
pub fn enable_destination_addresses(_: &UdpSocket, _: SocketAddr) -> io::Result<()> {
    Ok(())
}

/// Not supported: the system's default applies.
pub fn report_errors(_: &UdpSocket, _: SocketAddr) -> io::Result<()> {
    Ok(())
}

/// Not supported: there is no error queue.
pub fn take_errors<S>(_: &S) -> Option<io::Error> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_sent_together_and_received_one_by_one() {
        let [one, other] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        one.connect(other.local_addr().unwrap()).unwrap();
        other.connect(one.local_addr().unwrap()).unwrap();
        let mut connected = Connected::default();
        let messages = [&b"one"[..], b"two"];
        let sent = connected.send(&one, &messages.into_iter());
        assert_eq!(sent.unwrap(), 2);
        for message in messages {
            assert_eq!(connected.receive(&other).unwrap(), 1);
            assert_eq!(connected.message(0), message);
            assert_eq!(connected.message(1), b"");
        }
        other.set_nonblocking(true).unwrap();
        let error = connected.receive(&other).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(connected.message(0), b"");
    }
}
