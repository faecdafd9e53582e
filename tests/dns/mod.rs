//! A DNS server of the tests that sends what a function returns, malformed or not, over UDP and TCP.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "for tests that use parts of it"
)]

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// The replies to a query, which came over TCP or not.
pub type Answer = fn(&[u8], bool) -> Vec<Vec<u8>>;

/// A server on one port of 127.0.0.1, until the test ends.
pub struct Server {
    /// Its address.
    pub address: SocketAddr,
    /// Queries by UDP so far.
    pub received: Arc<AtomicUsize>,
}

impl Server {
    /// Starts a server.
    pub fn start(answer: Answer) -> Self {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let address = tcp.local_addr().unwrap();
        let received = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&received);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error is the ICMP message for a reply whose client has gone.
            loop {
                let Ok((length, from)) = udp.recv_from(&mut buffer) else {
                    continue;
                };
                count.fetch_add(1, Ordering::SeqCst);
                for reply in answer(&buffer[..length], false) {
                    let _ = udp.send_to(&reply, from);
                }
            }
        });
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let stream = stream.unwrap();
                thread::spawn(move || serve(stream, answer));
            }
        });
        Self { address, received }
    }
}

/// Answers the queries of a connection.
fn serve(mut stream: TcpStream, answer: Answer) -> io::Result<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut query = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut query)?;
        let replies = answer(&query, true);
        for reply in &replies {
            let length = u16::try_from(reply.len()).unwrap();
            stream.write_all(&[&length.to_be_bytes()[..], reply].concat())?;
        }
        if replies.is_empty() {
            return Ok(());
        }
    }
}

/// A query of one question.
pub struct Asked<'q> {
    query: &'q [u8],
    question: &'q [u8],
}

impl<'q> Asked<'q> {
    /// Parses the question.
    pub fn new(query: &'q [u8]) -> Self {
        let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        Self {
            query,
            question: &query[12..end],
        }
    }

    /// The first label.
    pub fn label(&self) -> &'q str {
        let length = usize::from(self.question[0]);
        std::str::from_utf8(&self.question[1..=length]).unwrap()
    }

    /// The type.
    pub fn rtype(&self) -> u16 {
        let at = self.question.len() - 4;
        u16::from_be_bytes([self.question[at], self.question[at + 1]])
    }

    /// A message with these header flags, and answer, authority and additional records.
    pub fn reply(&self, flags: u16, sections: [&[Vec<u8>]; 3]) -> Vec<u8> {
        let mut bytes = self.query[..2].to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend([0, 1]);
        for section in sections {
            bytes.extend(u16::try_from(section.len()).unwrap().to_be_bytes());
        }
        bytes.extend(self.question);
        bytes.extend(sections.concat().concat());
        bytes
    }
}

/// A record of class IN in wire format; its owner is the question's name unless `owner` is given.
pub fn record(owner: Option<&[u8]>, rtype: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = owner.unwrap_or(b"\xC0\x0C").to_vec();
    bytes.extend(rtype.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(ttl.to_be_bytes());
    bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(data);
    bytes
}
