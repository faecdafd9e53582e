use super::*;
use crate::cli::lab::ask::{Answer, ask};
use hickory_server::proto::rr::RecordType;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::time::Instant;

const PATIENCE: Duration = Duration::from_secs(20);

fn text(answer: &Answer) -> String {
    let mut text = format!("{:?}", answer.code);
    for record in &answer.records {
        let _ = write!(text, " {} {}", record.record_type(), record.data);
    }
    text
}

#[test]
fn zones_are_answered_by_their_servers() {
    let outside = Outside::start(Ports::Any).unwrap();
    let Addresses {
        internet, company, ..
    } = outside.addresses();
    for (server, name, rtype, expected) in [
        (
            internet,
            "example.com.",
            RecordType::A,
            "NoError A 192.0.2.10",
        ),
        (
            internet,
            "WWW.Example.com.",
            RecordType::A,
            "NoError CNAME example.com. A 192.0.2.10",
        ),
        (
            internet,
            "any.example.net.",
            RecordType::A,
            "NoError A 192.0.2.30",
        ),
        (internet, "any.example.net.", RecordType::AAAA, "NoError"),
        (
            internet,
            "example.com.",
            RecordType::MX,
            "NoError MX 10 mail.example.com.",
        ),
        (internet, "com.", RecordType::A, "NoError"),
        (internet, "git.corp.test.", RecordType::A, "NXDomain"),
        (internet, "nothing.example.com.", RecordType::A, "NXDomain"),
        (
            company,
            "git.corp.test.",
            RecordType::A,
            "NoError A 198.51.100.7",
        ),
        (
            company,
            "wiki.corp.test.",
            RecordType::A,
            "NoError CNAME git.corp.test. A 198.51.100.7",
        ),
        (company, "nothing.corp.test.", RecordType::A, "NXDomain"),
        (company, "example.com.", RecordType::A, "Refused"),
    ] {
        let answer = ask(server, name, rtype, PATIENCE).unwrap();
        assert_eq!(text(&answer), expected, "{name} {rtype}");
    }
}

#[test]
fn the_slow_server_answers_late() {
    let outside = Outside::start(Ports::Any).unwrap();
    let start = Instant::now();
    let slow = outside.addresses().slow;
    let answer = ask(slow, "example.com.", RecordType::A, PATIENCE).unwrap();
    assert_eq!(text(&answer), "NoError A 192.0.2.10");
    assert!(start.elapsed() >= DELAY, "{:?}", start.elapsed());
}

#[test]
fn the_dead_server_accepts_and_never_answers() {
    let outside = Outside::start(Ports::Any).unwrap();
    let dead = outside.addresses().dead;
    let wait = Duration::from_millis(200);
    let error = ask(dead, "example.com.", RecordType::A, wait).unwrap_err();
    // Not ConnectionRefused, which a closed port would cause.
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    let mut stream = TcpStream::connect(dead).unwrap();
    stream.write_all(b"\x00\x01?").unwrap();
    stream.set_read_timeout(Some(wait)).unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
}

#[test]
fn ports_are_free_after_the_end() {
    let outside = Outside::start(Ports::Any).unwrap();
    let Addresses {
        internet,
        company,
        slow,
        dead,
    } = outside.addresses();
    drop(outside);
    for address in [internet, company, slow, dead] {
        assert!(address.ip().is_loopback());
        UdpSocket::bind(address).unwrap();
    }
}

#[test]
fn ports_in_use_are_skipped() {
    let one = Outside::start(Ports::Default).unwrap();
    let other = Outside::start(Ports::Default).unwrap();
    let (one, other) = (one.addresses(), other.addresses());
    assert!(one.dead.port() < other.internet.port() || other.dead.port() < one.internet.port());
    assert!(other.internet.port() >= PORT);
}
