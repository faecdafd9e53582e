//! Sockets outlive settings: a reload changes what is behind a socket and keeps the socket.
//!
//! `LODESTONE_TEST_RELOADS` and `LODESTONE_TEST_RATE` (queries a second) make the second test longer than the
//! default.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, UdpSocket},
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, MessageType},
    rr::{Record, RecordType, rdata::TXT},
};

use super::server::{PATIENCE, Server, free_port, question, summary};

/// How long the upstream takes for each query: longer than a reload.
const DELAY: Duration = Duration::from_millis(900);

/// How long one of the rounds lasts in which a client asks.
const ROUND: Duration = Duration::from_millis(20);

fn reload(server: &Server, corefile: &str) {
    server.edit(corefile);
    server.signal("USR1");
    server.line(|line| line == "[INFO] Reloading complete");
}

/// The inodes of this machine's sockets at a port, which identify them: of UDP, or those that listen for TCP
/// connections.
fn inodes(protocol: &str, port: u16) -> BTreeSet<u64> {
    const LISTEN: &str = "0A";
    let table = std::fs::read_to_string(format!("/proc/net/{protocol}")).unwrap();
    let rows = table.lines().skip(1).map(str::split_whitespace);
    rows.filter_map(|row| {
        let columns: Vec<_> = row.collect();
        let (_, at) = columns[1].split_once(':')?;
        let listens = protocol == "udp" || columns[3] == LISTEN;
        (listens && u16::from_str_radix(at, 16) == Ok(port)).then(|| columns[9].parse().unwrap())
    })
    .collect()
}

/// Waits for a port to have so many sockets of UDP: one that is retired is open until it is drained.
fn sockets(port: u16, count: usize) -> BTreeSet<u64> {
    let begun = Instant::now();
    loop {
        let found = inodes("udp", port);
        if found.len() == count {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{found:?}, not {count}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Writes a certificate and its key below `directory`.
fn certificate(directory: &Path, name: &str) {
    let made = rcgen::generate_simple_self_signed(["dns.test".to_owned()]).unwrap();
    let files = [
        ("crt", made.cert.pem()),
        ("key", made.signing_key.serialize_pem()),
    ];
    for (extension, text) in files {
        std::fs::write(directory.join(format!("{name}.{extension}")), text).unwrap();
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs /proc/net")]
fn settings_change_behind_sockets_that_stay() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        certificate(directory.path(), name);
    }
    let (tls_port, quic_port) = (free_port(), free_port());
    let corefile = |plain: &str, within: &str, certificate: &str| {
        let path = directory.path().display();
        let tls = format!("tls {path}/{certificate}.crt {path}/{certificate}.key");
        let hosts = "hosts {\n 192.0.2.1 name.example\n }";
        format!(
            ".:0 {{\n bind 127.0.0.1\n {plain}\n {hosts}\n}}\n\
             tls://.:{tls_port} {{\n bind 127.0.0.1\n {tls}\n {within}\n {hosts}\n}}\n\
             quic://.:{quic_port} {{\n bind 127.0.0.1\n {tls}\n {hosts}\n}}\n"
        )
    };
    let server = Server::start(&corefile("multisocket 2", "", "one"));
    let port = server.address.port();
    let tcp = || [port, tls_port].map(|port| inodes("tcp", port));
    let first = sockets(port, 2);
    let (listening, quic) = (tcp(), sockets(quic_port, 1));
    assert!(listening.iter().all(|one| one.len() == 1), "{listening:?}");
    for (plain, within, certificate, count) in [
        ("multisocket 2\n proxyproto", "", "one", 2),
        (
            "multisocket 2\n timeouts {\n idle 7s\n }",
            "proxyproto",
            "two",
            2,
        ),
        ("multisocket 4", "timeouts {\n read 1s\n }", "two", 4),
        ("multisocket 2", "", "one", 2),
    ] {
        reload(&server, &corefile(plain, within, certificate));
        let now = sockets(port, count);
        assert!(now.is_superset(&first), "{plain}: {now:?}, not {first:?}");
        assert_eq!(tcp(), listening, "{plain}");
        assert_eq!(sockets(quic_port, 1), quic, "{plain}");
        let answer = server.ask("name.example.", RecordType::A);
        assert_eq!(answer, "NoError 192.0.2.1", "{plain}");
    }
}

/// Answers everything with the same text, a while after it was asked.
fn upstream(socket: &UdpSocket, done: &AtomicBool) {
    let mut due = std::collections::VecDeque::new();
    let tick = Some(Duration::from_millis(5));
    socket.set_read_timeout(tick).unwrap();
    let mut buffer = [0; 1500];
    while !done.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut reply = Message::from_vec(&buffer[..length]).unwrap();
            reply.metadata.message_type = MessageType::Response;
            if reply.queries[0].query_type() == RecordType::TXT {
                let data = hickory_proto::rr::RData::TXT(TXT::new(vec!["slow".to_owned()]));
                let name = reply.queries[0].name().clone();
                reply.answers.push(Record::from_rdata(name, 0, data));
            }
            due.push_back((Instant::now() + DELAY, from, reply.to_vec().unwrap()));
        }
        while due.front().is_some_and(|(at, ..)| *at <= Instant::now()) {
            let (_, to, message) = due.pop_front().unwrap();
            socket.send_to(&message, to).unwrap();
        }
    }
}

fn connected(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> String {
    let mut buffer = [0; 1500];
    let length = socket.recv(&mut buffer);
    let length = length.unwrap_or_else(|error| panic!("a query was lost: {error}"));
    summary(&Message::from_vec(&buffer[..length]).unwrap())
}

/// Asks `rate` times a second from ever new ports, until done.
fn client(server: SocketAddr, rate: usize, done: &AtomicBool, count: &AtomicU64) {
    let each = (rate * usize::try_from(ROUND.as_millis()).unwrap() / 1000).max(1);
    let query = question(1, "name.example.", RecordType::A);
    let mut sockets: Vec<_> = (0..each).map(|_| connected(server)).collect();
    while !done.load(Ordering::Relaxed) {
        let begun = Instant::now();
        sockets[rand::random_range(0..each)] = connected(server);
        for socket in &sockets {
            socket.send(&query).unwrap();
        }
        for socket in &sockets {
            assert_eq!(receive(socket), "NoError 192.0.2.1");
            count.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(ROUND.saturating_sub(begun.elapsed()));
    }
}

/// A setting of the test, from the environment.
fn setting(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn reloads_of_socket_settings_lose_nothing_while_queries_are_pending() {
    let reloads = setting("LODESTONE_TEST_RELOADS", 8);
    let rate = setting("LODESTONE_TEST_RATE", 900);
    let slow = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = slow.local_addr().unwrap();
    let corefile = |words: &str| {
        format!(
            ".:0 {{\n bind 127.0.0.1\n errors\n {words}\n hosts {{\n 192.0.2.1 name.example\n fallthrough\n }}\n \
             forward . {to}\n}}\n"
        )
    };
    let server = Server::start(&corefile("multisocket 2"));
    let (done, over, count) = (
        AtomicBool::new(false),
        AtomicBool::new(false),
        AtomicU64::new(0),
    );
    std::thread::scope(|scope| {
        scope.spawn(|| upstream(&slow, &over));
        let _over = AtTheEnd(&over);
        let clients: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| client(server.address, rate / 3, &done, &count)))
            .collect();
        let end = AtTheEnd(&done);
        let mut pending = Vec::new();
        for number in 0..reloads {
            // Most likely some at each of the sockets.
            for socket in 0..8 {
                let name = format!("n{number}-{socket}.elsewhere.");
                let asked = connected(server.address);
                asked.send(&question(1, &name, RecordType::TXT)).unwrap();
                pending.push(asked);
            }
            let words = [
                "multisocket 4",
                "multisocket 1",
                "multisocket 1\n proxyproto",
                "multisocket 3\n proxyproto {\n udp_session_tracking 30s\n }",
                "multisocket 2\n timeouts {\n idle 3s\n }",
            ];
            reload(&server, &corefile(words[number % words.len()]));
            std::thread::sleep(Duration::from_millis(90));
        }
        drop(end);
        for client in clients {
            client.join().unwrap();
        }
        for socket in &pending {
            assert_eq!(receive(socket), "NoError slow");
        }
    });
    println!("{} queries", count.load(Ordering::Relaxed));
}

/// Lets the other threads end, also where this one fails.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
