//! A DNS client of a lab.

use crate::running::Lab;
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RecordType},
};
use std::{
    io::ErrorKind,
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

/// Queries that are sent, at most, until one has its reply.
const ATTEMPTS: usize = 3;

/// A socket that sends to the lab.
pub struct Client {
    socket: UdpSocket,
}

impl Client {
    /// A client of a lab.
    pub fn of(lab: &Lab) -> Self {
        let dig = lab.dig();
        // dig -p PORT @ADDRESS
        let words: Vec<&str> = dig.split(' ').collect();
        let port: u16 = words[2].parse().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect((&words[3][1..], port)).unwrap();
        let patience = Duration::from_secs(20);
        socket.set_read_timeout(Some(patience)).unwrap();
        Self { socket }
    }

    /// Sends a query and waits for its reply.
    pub fn query(&self, name: &str, rtype: RecordType) {
        let mut query = Message::new(rand::random(), MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), rtype));
        let query = query.to_vec().unwrap();
        for _ in 0..ATTEMPTS {
            self.socket.send(&query).unwrap();
            match self.socket.recv(&mut [0; 4096]) {
                Ok(_) => return,
                Err(error) if error.kind() == ErrorKind::WouldBlock => (),
                Err(error) => panic!("{name}: {error}"),
            }
        }
        panic!("no reply to {name}");
    }

    /// Runs a function while queries for these names are sent, one after another.
    pub fn during<T>(&self, names: &[&str], run: impl FnOnce() -> T) -> T {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            // Also where the function panics.
            let over = Over(&is_over);
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    for name in names {
                        self.query(name, RecordType::A);
                    }
                    thread::sleep(Duration::from_millis(2));
                }
            });
            let result = run();
            drop(over);
            result
        })
    }
}

/// Sets a flag on drop.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
