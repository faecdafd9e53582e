//! Many connections and few file descriptors: the kubelet's probes are still answered.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use hickory_proto::rr::RecordType;
use socket2::{Domain, Socket, Type};

use super::server::{PATIENCE, Server, free_port, page};

const HOSTS: &str = "hosts {\n        192.0.2.1 name.example\n    }";

/// A connection from a loopback address that sends nothing, or half a request.
fn idle(number: usize, port: u16) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Its port must not conflict with a listener of another test.
    socket.set_reuse_address(true).unwrap();
    let last = 2 + u8::try_from(number % 4).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, last], 0)).into())
        .unwrap();
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    socket.connect_timeout(&to.into(), PATIENCE).unwrap();
    if number.is_multiple_of(3) {
        // It may have been evicted already.
        let _ = (&socket).write(b"GET /health HTTP/1.1\r\nHost:");
    }
    socket
}

fn probe(port: u16, path: &str) -> Duration {
    let begun = Instant::now();
    let (status, body) = page(port, path).unwrap();
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", "OK"));
    begun.elapsed()
}

#[test]
fn probes_are_answered_despite_thousands_of_idle_connections() {
    let (health, ready) = (free_port(), free_port());
    let server = Server::start(&format!(
        ".:0 {{\n    bind 127.0.0.1\n    {HOSTS}\n    health 127.0.0.1:{health}\n    ready 127.0.0.1:{ready}\n}}\n"
    ));
    let each = std::env::var("LODESTONE_TEST_IDLE").map_or(512, |it| it.parse().unwrap());
    let mut held = Vec::new();
    let mut slowest = Duration::ZERO;
    let mut probes = 0;
    for number in 0..each {
        held.push(idle(number, health));
        held.push(idle(number, ready));
        held.push(idle(number, server.address.port()));
        if number % 64 == 63 {
            slowest = slowest.max(probe(health, "/health"));
            slowest = slowest.max(probe(ready, "/ready"));
            probes += 2;
        }
    }
    println!(
        "{probes} probes beside {each} idle connections on each page, the slowest {slowest:?}"
    );
    assert_eq!(
        server.ask("name.example.", RecordType::A),
        "NoError 192.0.2.1"
    );
}

/// CPU time of a process, in hundredths of a second.
fn processor_time(id: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let behind_name = text.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn pages_answer_without_free_file_descriptors_and_without_busy_loops() {
    let (health, metrics) = (free_port(), free_port());
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_lodestone");
    command.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\"", program]);
    let server = Server::start_by(
        command,
        &format!(
            ".:0 {{\n    bind 127.0.0.1\n    {HOSTS}\n    health 127.0.0.1:{health}\n    prometheus 127.0.0.1:{metrics}\n}}\n"
        ),
    );
    let mut held: Vec<_> = (0..96).map(|number| idle(number, metrics)).collect();
    held.extend((0..96).map(|number| idle(number, server.address.port())));
    let line = server.line(|line| line.contains("cannot accept connections"));
    assert!(line.starts_with("[WARN"), "{line}");
    let (begun, before) = (Instant::now(), processor_time(server.id()));
    for _ in 0..10 {
        probe(health, "/health");
        std::thread::sleep(Duration::from_millis(100));
    }
    let took = processor_time(server.id()) - before;
    let passed = begun.elapsed().as_millis() / 10;
    assert!(
        u128::from(took) < passed / 2,
        "{took} of {passed} hundredths"
    );
    assert_eq!(
        server.ask("name.example.", RecordType::A),
        "NoError 192.0.2.1"
    );
    drop(held);
    let (status, _) = page(metrics, "/metrics").unwrap();
    assert_eq!(status, "HTTP/1.1 200 OK");
    TcpStream::connect(server.address).unwrap();
}
