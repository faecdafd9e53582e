//! A steady rate of queries during reloads, and an upstream whose replies are late.

use std::{
    collections::VecDeque,
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, MessageType},
    rr::{RData, Record},
};

use super::server::{PATIENCE, summary};

/// Duration of a client's round.
const ROUND: Duration = Duration::from_millis(20);

/// Answers the queries for the type of `data` with it after `delay`, and others without a record, until done.
pub fn late_upstream(socket: &UdpSocket, data: &RData, delay: Duration, done: &AtomicBool) {
    let mut due: VecDeque<(Instant, SocketAddr, Vec<u8>)> = VecDeque::new();
    let tick = Some(Duration::from_millis(5));
    socket.set_read_timeout(tick).unwrap();
    let mut buffer = [0; 1500];
    while !done.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut reply = Message::from_vec(&buffer[..length]).unwrap();
            reply.metadata.message_type = MessageType::Response;
            if reply.queries[0].query_type() == data.record_type() {
                let name = reply.queries[0].name().clone();
                reply
                    .answers
                    .push(Record::from_rdata(name, 0, data.clone()));
            }
            due.push_back((Instant::now() + delay, from, reply.to_vec().unwrap()));
        }
        while due.front().is_some_and(|(at, ..)| *at <= Instant::now()) {
            let (_, to, bytes) = due.pop_front().unwrap();
            socket.send_to(&bytes, to).unwrap();
        }
    }
}

pub fn connected(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server).unwrap();
    socket
}

/// The next reply, which must come.
pub fn receive(socket: &UdpSocket) -> String {
    let mut buffer = [0; 1500];
    let length = socket.recv(&mut buffer);
    let length = length.unwrap_or_else(|error| panic!("a query was lost: {error}"));
    summary(&Message::from_vec(&buffer[..length]).unwrap())
}

/// Sends `rate` queries per second from new ports, until done. The queries of a round are made by `query` from
/// their number; each reply is checked with what `begin` returned before the round.
pub fn client<R>(
    server: SocketAddr,
    rate: usize,
    (done, count): (&AtomicBool, &AtomicU64),
    begin: impl Fn() -> R,
    query: impl Fn(u64) -> Vec<u8>,
    check: impl Fn(&R, &str),
) {
    let each = (rate * usize::try_from(ROUND.as_millis()).unwrap() / 1000).max(1);
    let mut sockets: Vec<_> = (0..each).map(|_| connected(server)).collect();
    while !done.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let round = begin();
        sockets[rand::random_range(0..each)] = connected(server);
        for socket in &sockets {
            let number = count.fetch_add(1, Ordering::Relaxed);
            socket.send(&query(number)).unwrap();
        }
        for socket in &sockets {
            check(&round, &receive(socket));
        }
        std::thread::sleep(ROUND.saturating_sub(begun.elapsed()));
    }
}

/// A setting of a test, from the environment.
pub fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// Stops the other threads, also if this one panics.
pub struct AtTheEnd<'a>(pub &'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
