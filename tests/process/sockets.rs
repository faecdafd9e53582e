//! Sockets survive a reload: it changes the configuration of a socket's listener and keeps the
//! socket.
//!
//! `LODESTONE_TEST_RELOADS` and `LODESTONE_TEST_RATE` (queries per second) make the second test
//! longer than the default.

use std::{
    collections::BTreeSet,
    net::UdpSocket,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use hickory_proto::rr::{RData, RecordType, rdata::TXT};

use super::{
    load::{AtTheEnd, client, connected, late_upstream, receive, setting},
    server::{PATIENCE, Server, free_port, question},
};

/// Delay of the upstream: longer than a reload.
const DELAY: Duration = Duration::from_millis(900);

fn reload(server: &Server, corefile: &str) {
    server.edit(corefile);
    server.signal("USR1");
    server.line(|line| line == "[INFO] Reloading complete");
}

/// The inodes of this machine's sockets at a port, which identify them: UDP sockets, or TCP
/// listeners.
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

/// Waits until a port has this many UDP sockets: a retired one stays open until it is drained.
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

/// Writes a certificate and its key to `directory`.
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
fn a_reload_changes_settings_and_keeps_sockets() {
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

#[test]
fn reloads_of_socket_settings_lose_nothing_while_queries_are_pending() {
    let reloads = usize::try_from(setting("LODESTONE_TEST_RELOADS", 8)).unwrap();
    let rate = usize::try_from(setting("LODESTONE_TEST_RATE", 900)).unwrap();
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
        let text = RData::TXT(TXT::new(vec!["slow".to_owned()]));
        let upstream_is_over = &over;
        scope.spawn(move || late_upstream(&slow, &text, DELAY, upstream_is_over));
        let _over = AtTheEnd(&over);
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let query = question(1, "name.example.", RecordType::A);
                    let check = |(): &(), got: &str| assert_eq!(got, "NoError 192.0.2.1");
                    let shared = (&done, &count);
                    client(
                        server.address,
                        rate / 3,
                        shared,
                        || (),
                        |_| query.clone(),
                        check,
                    );
                })
            })
            .collect();
        let end = AtTheEnd(&done);
        let mut pending = Vec::new();
        for number in 0..reloads {
            // Most likely some are pending on each of the sockets.
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
