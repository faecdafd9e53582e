//! ICMP errors from an upstream's network or host take effect at once.

use std::{
    mem::MaybeUninit,
    net::{SocketAddr, SocketAddrV4, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use lodestone::{
    message::{Writer, read_query},
    query::{Query, Request},
    reply::{Data, Reply, Why},
    wire::{Header, Type},
};
use socket2::{Domain, Protocol, SockAddr, Socket};

use crate::{
    served::Served,
    upstream::{Upstream, answer_of},
};

/// Answers each datagram with an ICMP error of type 3, until it is switched to DNS replies.
struct Unreachable {
    address: SocketAddr,
    answers: Arc<AtomicBool>,
}

impl Unreachable {
    /// None if raw sockets are not permitted.
    fn start(code: u8) -> Option<Self> {
        let raw = Socket::new(Domain::IPV4, socket2::Type::RAW, Some(Protocol::ICMPV4));
        let Ok(raw) = raw.inspect_err(|error| eprintln!("not tested: no raw socket: {error}"))
        else {
            return None;
        };
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let SocketAddr::V4(address) = socket.local_addr().unwrap() else {
            unreachable!("bound to IPv4");
        };
        let answers = Arc::new(AtomicBool::new(false));
        let answering = Arc::clone(&answers);
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, SocketAddr::V4(from))) = socket.recv_from(&mut buffer) {
                if length == 0 {
                    return;
                }
                if answering.load(Ordering::Relaxed) {
                    socket.send_to(&answer(&buffer[..length]), from).unwrap();
                } else {
                    let error = error(code, from, address, length);
                    let to = SockAddr::from(SocketAddrV4::new(*from.ip(), 0));
                    raw.send_to(&error, &to).unwrap();
                }
                // The raw socket receives its own messages too.
                while raw
                    .recv_with_flags(&mut [MaybeUninit::uninit(); 64], libc::MSG_DONTWAIT)
                    .is_ok()
                {}
            }
        });
        let address = address.into();
        Some(Self { address, answers })
    }
}

impl Drop for Unreachable {
    fn drop(&mut self) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"", self.address).unwrap();
    }
}

/// An ICMP message of type 3 about a datagram from the server to the upstream (RFC 792).
fn error(code: u8, from: SocketAddrV4, to: SocketAddrV4, length: usize) -> Vec<u8> {
    let length = u16::try_from(length).unwrap();
    let mut message = vec![3, code, 0, 0, 0, 0, 0, 0];
    message.extend([0x45, 0]);
    message.extend((28 + length).to_be_bytes());
    message.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    message.extend(from.ip().octets());
    message.extend(to.ip().octets());
    message.extend(from.port().to_be_bytes());
    message.extend(to.port().to_be_bytes());
    message.extend((8 + length).to_be_bytes());
    message.extend([0, 0]);
    let words = message.chunks_exact(2);
    let sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let folded = (sum & 0xFFFF) + (sum >> 16);
    let folded = u16::try_from((folded & 0xFFFF) + (folded >> 16)).unwrap();
    message[2..4].copy_from_slice(&(!folded).to_be_bytes());
    message
}

fn answer(message: &[u8]) -> Vec<u8> {
    let header = Header::read(message).unwrap();
    let asked = read_query(message, &header).unwrap();
    let query = Query::new(Request {
        id: header.id,
        ..Request::internal(asked.question)
    });
    let mut reply = Reply::default();
    reply.answer(Type::A, 60, Data::A([192, 0, 2, 1].into()));
    let mut out = Vec::new();
    Writer::default().write(&query, &reply, &mut out);
    out
}

#[tokio::test]
async fn unreachable_network_or_host_fails_at_once() {
    // Network, host, port, and prohibited by a router.
    for code in [0, 1, 3, 13] {
        let Some(dead) = Unreachable::start(code) else {
            return;
        };
        let served = Served::new(&format!(
            "forward . {} {{\n read_timeout 1h\n}}",
            dead.address
        ));
        let begun = Instant::now();
        let reply = served.ask("a.example").await;
        assert_eq!(
            reply.why,
            Why::UpstreamUnreachable,
            "{code}: {:?}",
            reply.cause
        );
        assert!(begun.elapsed() < Duration::from_secs(2), "{code}");

        let second = Upstream::answering(2).await;
        let lines = format!("forward . {} {}", dead.address, second.address);
        let options = "policy sequential\n read_timeout 1h";
        let served = Served::new(&format!("{lines} {{\n {options}\n}}"));
        let begun = Instant::now();
        assert_eq!(answer_of(&served.ask("a.example").await), 2, "{code}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{code}");
    }
}

#[tokio::test]
async fn icmp_errors_do_not_fill_the_socket_buffer() {
    let Some(dead) = Unreachable::start(1) else {
        return;
    };
    let served = Served::new(&format!(
        "forward . {} {{\n max_fails 0\n max_connect_attempts 1\n}}",
        dead.address
    ));
    // More than the default receive buffer holds, on each of four sockets.
    for number in 0..1500 {
        let reply = served.ask(&format!("n{number}.example")).await;
        assert_eq!(
            reply.why,
            Why::UpstreamUnreachable,
            "{number}: {:?}",
            reply.cause
        );
    }
    dead.answers.store(true, Ordering::Relaxed);
    for number in 0..16 {
        assert_eq!(
            answer_of(&served.ask(&format!("m{number}.example")).await),
            1
        );
    }
}
