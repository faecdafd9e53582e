//! Shutdown: readiness, lameduck and signals.

use hickory_proto::rr::RecordType;

use std::{
    net::TcpListener,
    process::Stdio,
    time::{Duration, Instant},
};

use super::server::{PATIENCE, Server, free_port, page, program};

const HOSTS: &str = "hosts {\n        192.0.2.1 name.example\n    }";

#[test]
fn sigterm_fails_readiness_and_answers_during_lameduck() {
    let (health, ready) = (free_port(), free_port());
    let mut server = Server::start(&format!(
        ".:0 {{\n    bind 127.0.0.1\n    {HOSTS}\n    health 127.0.0.1:{health} {{\n        lameduck 2s\n    }}\n    ready 127.0.0.1:{ready}\n}}\n"
    ));
    assert_eq!(
        page(health, "/health").unwrap(),
        ("HTTP/1.1 200 OK".into(), "OK".into())
    );
    assert_eq!(
        page(ready, "/ready").unwrap(),
        ("HTTP/1.1 200 OK".into(), "OK".into())
    );
    server.signal("TERM");
    server.line(|line| line.contains("Going into lameduck mode"));
    let (status, body) = page(ready, "/ready").unwrap();
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable", "{body}");
    assert_eq!(page(health, "/health").unwrap().0, "HTTP/1.1 200 OK");
    assert_eq!(
        server.ask("name.example.", RecordType::A),
        "NoError 192.0.2.1"
    );
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn sigterm_ends_a_start_that_waits_for_the_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Corefile");
    for signal in ["TERM", "INT", "QUIT"] {
        // An API server that accepts connections and does not respond. The next process has its own.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let api = silent.local_addr().unwrap();
        let corefile = format!(
            ".:0 {{\n    bind 127.0.0.1\n    kubernetes cluster.local {{\n        endpoint \
             http://{api}\n        startup_timeout 1h\n    }}\n}}\n"
        );
        std::fs::write(&path, corefile).unwrap();
        let mut command = program();
        let command = command.arg("-conf").arg(&path).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        // The process now waits for the response.
        let asked = silent.accept().unwrap();
        let id = child.id().to_string();
        let kill = std::process::Command::new("kill");
        let sent = { kill }.args(["-s", signal, &id]).status().unwrap();
        assert!(sent.success());
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!("{signal} is ignored");
            }
            std::thread::yield_now();
        };
        assert_eq!(status.code(), Some(0), "{signal}");
        drop(asked);
    }
}

#[test]
fn sigint_skips_lameduck_and_sighup_is_ignored() {
    let mut server = Server::start(&format!(
        ".:0 {{\n    bind 127.0.0.1\n    {HOSTS}\n    health 127.0.0.1:{} {{\n        lameduck 1h\n    }}\n}}\n",
        free_port()
    ));
    server.signal("HUP");
    assert_eq!(
        server.ask("name.example.", RecordType::A),
        "NoError 192.0.2.1"
    );
    server.signal("INT");
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn sigint_ends_lameduck() {
    let mut server = Server::start(&format!(
        ".:0 {{\n    bind 127.0.0.1\n    {HOSTS}\n    health 127.0.0.1:{} {{\n        lameduck 1h\n    }}\n}}\n",
        free_port()
    ));
    server.signal("TERM");
    server.line(|line| line.contains("Going into lameduck mode"));
    server.signal("INT");
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn sigterm_aborts_a_waiting_reload() {
    // An API server that accepts connections and does not respond: a start waits for it.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = silent.local_addr().unwrap();
    let health = free_port();
    let corefile = |rest: &str| {
        format!(
            ".:0 {{\n    bind 127.0.0.1\n    {HOSTS}\n    {rest}\n    health 127.0.0.1:{health} {{\n        lameduck 1h\n    }}\n}}\n"
        )
    };
    let mut server = Server::start(&corefile("errors"));
    server.edit(&corefile(&format!(
        "kubernetes cluster.local {{\n        endpoint http://{endpoint}\n    }}"
    )));
    server.signal("USR1");
    server.line(|line| line == "[INFO] Reloading");
    server.signal("TERM");
    server.line(|line| {
        assert_ne!(line, "[INFO] Reloading complete");
        line.contains("Going into lameduck mode")
    });
    // The configuration before the reload is still in force.
    assert_eq!(
        server.ask("name.example.", RecordType::A),
        "NoError 192.0.2.1"
    );
    assert_eq!(page(health, "/health").unwrap().1, "OK");
    server.signal("INT");
    assert_eq!(server.end().code(), Some(0));
}

/// A server with these lines of `health`, after SIGTERM.
fn terminated(lines: &str) -> (Server, u16) {
    let (health, metrics) = (free_port(), free_port());
    let server = Server::start(&format!(
        ".:0 {{\n    bind 127.0.0.1\n    {HOSTS}\n    prometheus 127.0.0.1:{metrics}\n    \
         health 127.0.0.1:{health} {{\n        {lines}\n    }}\n}}\n"
    ));
    server.signal("TERM");
    server.line(|line| line.contains("Going into lameduck mode"));
    (server, metrics)
}

/// Sends queries one after the other for this long, counting them.
fn queries(server: &Server, during: Duration) -> u32 {
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < during {
        let reply = server.ask("name.example.", RecordType::A);
        assert_eq!(reply, "NoError 192.0.2.1");
        count += 1;
    }
    count
}

#[test]
fn queries_after_sigterm_prolong_lameduck_until_it_is_quiet() {
    let (mut server, metrics) = terminated("lameduck 100ms\n        quiet 2s 1h");
    let count = queries(&server, Duration::from_millis(500));
    let text = page(metrics, "/metrics").unwrap().1;
    let counted = format!("lodestone_queries_after_unready_total {count}\n");
    assert!(text.contains(&counted), "{text}");
    let last = Instant::now();
    let line = server.line(|line| line.contains("after SIGTERM"));
    assert!(last.elapsed() >= Duration::from_millis(1800), "{line}");
    assert!(line.contains(&format!(": {count} queries came")), "{line}");
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn without_queries_lameduck_is_not_prolonged() {
    let begun = Instant::now();
    let (mut server, _) = terminated("lameduck 1500ms\n        quiet 1s 1h");
    let line = server.line(|line| line.contains("after SIGTERM"));
    assert!(
        line.contains("Stopping 1.5s after SIGTERM: 0 queries"),
        "{line}"
    );
    assert!(begun.elapsed() >= Duration::from_millis(1500));
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn quiet_is_bounded() {
    let (mut server, _) = terminated("lameduck 100ms\n        quiet 1h 1s");
    // A second SIGTERM has no effect, as before.
    server.signal("TERM");
    queries(&server, Duration::from_millis(300));
    server.line(|line| line.contains("after SIGTERM"));
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn sigint_ends_the_wait_for_quiet() {
    let (mut server, _) = terminated("lameduck 0s\n        quiet 1h 1h");
    assert_eq!(
        server.ask("name.example.", RecordType::A),
        "NoError 192.0.2.1"
    );
    server.signal("INT");
    assert_eq!(server.end().code(), Some(0));
}
