//! Directives that configure a block and do not handle queries.

use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use hickory_proto::rr::RecordType;

use super::server::{PATIENCE, Server, free_port, page};

const HOSTS: &str = "hosts {\n        192.0.2.1 name.example\n    }";

#[test]
fn interface_in_bind_is_its_addresses() {
    // The loopback interface is called lo on Linux.
    let server = Server::start(&format!(
        ".:0 {{\n    bind lo {{\n        except ::1\n    }}\n    {HOSTS}\n}}\n"
    ));
    let reply = server.ask("name.example.", RecordType::A);
    assert_eq!(reply, "NoError 192.0.2.1");
}

#[test]
fn pprof_serves_profiles_of_the_process() {
    let port = free_port();
    let server = Server::start(&format!(
        ".:0 {{\n    bind 127.0.0.1\n    multisocket 3\n    pprof 127.0.0.1:{port}\n    {HOSTS}\n}}\n"
    ));
    assert_eq!(
        server.ask("name.example.", RecordType::A),
        "NoError 192.0.2.1"
    );
    let body = |path: &str| {
        let (status, body) = page(port, path).unwrap();
        (status.ends_with("200 OK"), body)
    };
    let (found, index) = body("/debug/pprof/");
    assert!(found && index.contains("profile?seconds=N"), "{index}");
    let begun = Instant::now();
    loop {
        let (found, threads) = body("/debug/pprof/threads");
        let udp = threads.lines().filter(|line| line.contains("udp-")).count();
        if found && udp == 3 {
            break;
        }
        // A thread gets its name when it first runs.
        let waits = udp < 3 && begun.elapsed() < PATIENCE;
        assert!(found && waits, "one for each socket:\n{threads}");
    }
    let (found, words) = body("/debug/pprof/cmdline");
    assert!(found && words.contains("\0-conf\0"), "{words:?}");
    for (path, known) in [
        ("/debug/pprof/profile?seconds=0", false),
        ("/debug/pprof/profile?seconds=x", false),
        ("/debug/pprof/goroutine", false),
        ("/debug/pprof", true),
    ] {
        assert_eq!(body(path).0, known, "{path}");
    }
}

#[test]
fn debug_logs_lines_of_level_debug() {
    let corefile =
        |word: &str| format!(".:0 {{\n    bind 127.0.0.1\n    {word}\n    {HOSTS}\n}}\n");
    let server = Server::start(&corefile("debug"));
    // A connection reset in the middle of a message.
    let cut_short = || {
        let stream = TcpStream::connect(server.address).unwrap();
        socket2::SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        (&stream).write_all(&[0, 200, 1]).unwrap();
    };
    cut_short();
    let line = server.line(|line| line.contains("a connection ended"));
    assert!(line.starts_with("[DEBUG]"), "{line}");
    server.edit(&corefile("errors"));
    server.signal("USR1");
    server.line(|line| line.contains("Reloading complete"));
    cut_short();
    let reply = server.ask("name.example.", RecordType::A);
    assert_eq!(reply, "NoError 192.0.2.1");
    server.edit(&corefile("no_such_word"));
    server.signal("USR1");
    server.line(|line| {
        assert!(!line.contains("a connection ended"), "{line}");
        line.contains("no_such_word")
    });
}
