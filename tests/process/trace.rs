//! `trace`, with a collector in the test.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener},
    sync::mpsc::{Receiver, channel},
};

use hickory_proto::rr::RecordType;
use serde_json::Value;

use super::server::{PATIENCE, Server, free_port};

/// Accepts POST requests, rejects the first ones, and returns path and spans of the others.
fn collector(mut refused: usize) -> (SocketAddr, Receiver<(String, Vec<Value>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, posts) = channel();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut reader = BufReader::new(stream);
            let (mut first, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let line = line.trim_end().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.parse().unwrap();
                } else if line.is_empty() {
                    break;
                } else if first.is_empty() {
                    first = line;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let status = if refused > 0 {
                "500 Sorry"
            } else {
                "202 Accepted"
            };
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            reader.get_mut().write_all(head.as_bytes()).unwrap();
            if refused > 0 {
                refused -= 1;
                continue;
            }
            if sender
                .send((first, serde_json::from_slice(&body).unwrap()))
                .is_err()
            {
                return;
            }
        }
    });
    (address, posts)
}

fn spans(posts: &Receiver<(String, Vec<Value>)>, count: usize) -> Vec<Value> {
    let mut all = Vec::new();
    while all.len() < count {
        let (first, spans) = posts.recv_timeout(PATIENCE).expect("a post");
        assert_eq!(first, "post /api/v2/spans http/1.1");
        all.extend(spans);
    }
    assert_eq!(all.len(), count);
    all
}

#[test]
fn query_has_a_span_and_its_upstream_attempt_a_child_span() {
    let upstream =
        Server::start(".:0 {\n bind 127.0.0.1\n hosts {\n 192.0.2.1 name.example\n }\n}\n");
    let (address, posts) = collector(1);
    let server = Server::start(&format!(
        ".:0 {{
            bind 127.0.0.1
            metadata
            log . \"{{name}} {{/trace/traceid}}\"
            trace {address} {{
                service dns
                zipkin_max_batch_interval 50ms
            }}
            forward . {}
        }}\n",
        upstream.address
    ));
    assert_eq!(
        server.ask("Name.example.", RecordType::A),
        "NoError 192.0.2.1"
    );
    let spans = spans(&posts, 2);
    let named = |name: &str| spans.iter().find(|span| span["name"] == name).unwrap();
    let (whole, try_) = (named("servedns"), named("connect"));
    assert_eq!(whole["kind"], "SERVER");
    assert_eq!(whole["localEndpoint"]["serviceName"], "dns");
    let tags = &whole["tags"];
    assert_eq!(tags["coredns.io/name"], "name.example.");
    assert_eq!(tags["coredns.io/type"], "A");
    assert_eq!(tags["coredns.io/rcode"], "NOERROR");
    assert_eq!(tags["coredns.io/proto"], "udp");
    assert_eq!(tags["coredns.io/remote"], "127.0.0.1");
    assert_eq!(try_["traceId"], whole["traceId"]);
    assert_eq!(try_["parentId"], whole["id"]);
    assert_eq!(try_["tags"]["peer.address"], upstream.address.to_string());
    assert!(try_["timestamp"].as_u64() >= whole["timestamp"].as_u64());
    assert!(try_["duration"].as_u64() <= whole["duration"].as_u64());
    let id = whole["traceId"].as_str().unwrap();
    server.line(|line| line.contains(&format!("name.example. {id}")));
}

#[test]
fn datadog_agent_gets_its_own_format() {
    let (address, posts) = collector(0);
    let server = Server::start(&format!(
        ".:0 {{
            bind 127.0.0.1
            trace datadog {address} {{
                service dns
                datadog_analytics_rate 1
                zipkin_max_batch_interval 50ms
            }}
            forward . 127.0.0.1:{}
        }}\n",
        free_port()
    ));
    assert_eq!(server.ask("a.example.", RecordType::A), "ServFail");
    let mut spans = Vec::new();
    while !spans.iter().any(|span: &Value| span["name"] == "servedns") {
        let (first, traces) = posts.recv_timeout(PATIENCE).expect("a post");
        assert_eq!(first, "put /v0.3/traces http/1.1");
        let traces = traces.iter().map(|trace| trace.as_array().unwrap());
        spans.extend(traces.flatten().cloned());
    }
    let whole = spans.iter().find(|span| span["name"] == "servedns");
    let whole = whole.unwrap();
    assert_eq!(whole["service"], "dns");
    assert_eq!(whole["resource"], "a.example.");
    assert_eq!(whole["parent_id"], 0);
    assert_eq!(whole["trace_id"], whole["span_id"]);
    assert_eq!(whole["error"], 1);
    assert!(whole["meta"]["error.msg"].is_string(), "{whole}");
    assert_eq!(whole["meta"]["coredns.io/rcode"], "SERVFAIL");
    assert_eq!(whole["metrics"]["_dd1.sr.eausr"], 1.0);
    assert!(whole["duration"].as_i64() > Some(0));
    let mut tries = spans.iter().filter(|span| span["name"] == "connect");
    assert!(tries.all(|span| span["parent_id"] == whole["span_id"]));
}

#[test]
fn every_traces_a_share_and_shutdown_sends_the_last_spans() {
    let (address, posts) = collector(0);
    let mut server = Server::start(&format!(
        ".:0 {{
            bind 127.0.0.1
            trace {address} {{
                every 3
                zipkin_max_batch_interval 1h
                zipkin_max_batch_size 2
            }}
            whoami
        }}\n"
    ));
    let ask = |numbers: std::ops::Range<u8>| {
        for number in numbers {
            server.ask(&format!("{number}.example."), RecordType::A);
        }
    };
    ask(0..6);
    let names = |spans: Vec<Value>| {
        let names = spans
            .iter()
            .map(|span| span["tags"]["coredns.io/name"].clone());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(spans(&posts, 2)), ["2.example.", "5.example."]);
    ask(6..9);
    server.signal("TERM");
    assert!(server.end().success());
    assert_eq!(names(spans(&posts, 1)), ["8.example."]);
}

#[test]
fn unreachable_collector_does_not_affect_answers() {
    let port = free_port();
    let server = Server::start(&format!(
        ".:0 {{\n bind 127.0.0.1\n trace 127.0.0.1:{port} {{\n zipkin_max_batch_interval 10ms\n zipkin_max_backlog_size 2\n }}\n whoami\n}}\n"
    ));
    for _ in 0..10 {
        assert_eq!(server.ask("a.example.", RecordType::A), "NoError");
    }
    server.line(|line| line.contains("Cannot post spans"));
}

#[test]
fn cancel_answers_servfail_after_its_timeout() {
    // An upstream that does not answer.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = Server::start(&format!(
        ".:0 {{\n bind 127.0.0.1\n errors\n cancel 100ms\n forward . {}\n}}\n",
        silent.local_addr().unwrap()
    ));
    let begun = std::time::Instant::now();
    assert_eq!(server.ask("a.example.", RecordType::A), "ServFail");
    assert!(begun.elapsed() < std::time::Duration::from_millis(700));
    server.line(|line| line.contains("context deadline exceeded"));
}
