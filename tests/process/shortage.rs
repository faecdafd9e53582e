//! Exhausted resources: pending queries, file descriptors, time.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{RData, Record, RecordType},
};

use lodestone::cluster::Kind;
use serde_json::json;

use super::{
    apiserver::ApiServer,
    server::{PATIENCE, Server, free_port, page, program, question},
    stock,
};

/// An upstream on UDP and TCP that answers names starting with `n` after a pause, and no others.
struct Upstream {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Upstream {
    fn start(pause: Duration) -> Self {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                if let Some(answer) = answer(&buffer[..length]) {
                    counted.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(pause);
                    udp.send_to(&answer, from).unwrap();
                }
            }
        });
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut length = [0; 2];
                    while stream.read_exact(&mut length).is_ok() {
                        let mut message = vec![0; u16::from_be_bytes(length).into()];
                        stream.read_exact(&mut message).unwrap();
                        if let Some(answer) = answer(&message) {
                            let length = u16::try_from(answer.len()).unwrap();
                            let framed = [&length.to_be_bytes()[..], &answer].concat();
                            let _ = stream.write_all(&framed);
                        }
                    }
                });
            }
        });
        Self { address, asked }
    }
}

fn answer(message: &[u8]) -> Option<Vec<u8>> {
    let mut answer = Message::from_vec(message).unwrap();
    let name = answer.queries[0].name().clone();
    if !name.to_string().starts_with('n') && !name.is_root() {
        return None;
    }
    answer.metadata.message_type = MessageType::Response;
    let data = RData::A(Ipv4Addr::new(192, 0, 2, 1).into());
    answer.answers.push(Record::from_rdata(name, 30, data));
    Some(answer.to_vec().unwrap())
}

/// A client with its own address.
fn client(last: u8, server: &Server) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, last), 0)).unwrap();
    socket.connect(server.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The rcode; the query is repeated if a datagram is lost.
fn ask(client: &UdpSocket, id: u16, name: &str) -> ResponseCode {
    let pause = Some(Duration::from_secs(6));
    client.set_read_timeout(pause).unwrap();
    for _ in 0..3 {
        client.send(&question(id, name, RecordType::A)).unwrap();
        let mut buffer = [0; 1500];
        while let Ok(length) = client.recv(&mut buffer) {
            let message = Message::from_vec(&buffer[..length]).unwrap();
            if message.metadata.id == id {
                return message.metadata.response_code;
            }
        }
    }
    panic!("no reply for {name}");
}

/// Sends some thousand queries per second that stay unanswered, until dropped.
struct Flood(Arc<AtomicBool>);

impl Flood {
    fn start(client: UdpSocket, zone: &'static str, most: u32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        std::thread::spawn(move || {
            client.set_nonblocking(true).unwrap();
            for number in 0..most {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let name = format!("slow{number}.{zone}.");
                let _ = client.send(&question(1, &name, RecordType::A));
                while client.recv(&mut [0; 1500]).is_ok() {}
                if number % 50 == 0 {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        Self(over)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn shed(port: u16, limit: &str) -> u64 {
    let series = format!("lodestone_queries_shed_total{{limit=\"{limit}\"}}");
    metric(port, &series)
}

/// The value of the first series that begins with this name and these labels; 0 if there is none.
fn metric(port: u16, series: &str) -> u64 {
    let (_, text) = page(port, "/metrics").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with(series));
    let value = lines.next().and_then(|line| line.rsplit(' ').next());
    value.map_or(0, |value| value.parse().unwrap())
}

fn wait_until_shed(port: u16, limit: &str) {
    let begun = Instant::now();
    while shed(port, limit) == 0 {
        assert!(begun.elapsed() < PATIENCE, "nothing is shed");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A server with a memory limit that permits 4,096 pending queries.
fn start_small(corefile: &str) -> Server {
    let mut command = program();
    command.env("GOMEMLIMIT", "96MiB");
    Server::start_by(command, corefile)
}

/// Sends queries from two clients for names that are answered, some of them not from the cache.
fn assert_answered(server: &Server, name: impl Fn(u8, u16) -> String) {
    for last in [3, 2] {
        let client = client(last, server);
        for id in 0..100 {
            let name = name(last, id);
            let begun = Instant::now();
            let code = ask(&client, id, &name);
            assert_eq!(code, ResponseCode::NoError, "127.0.0.{last} {name}");
            assert!(begun.elapsed() < Duration::from_secs(3), "{name}: late");
        }
    }
}

#[test]
fn flood_for_a_dead_zone_does_not_affect_other_clients_and_names() {
    let (dead, alive) = (
        Upstream::start(Duration::ZERO),
        Upstream::start(Duration::ZERO),
    );
    // The zone without answers may use half of the process's limit, or all of its own limit if it
    // has one.
    for (limit, max_concurrent) in [("forward", ""), ("server", "max_concurrent 100000")] {
        let port = free_port();
        let server = start_small(&format!(
            ".:0 {{\n bind 127.0.0.1\n prometheus 127.0.0.1:{port}\n \
             forward dead.example {} {{\n health_check 1h\n read_timeout 5s\n {max_concurrent}\n }}\n \
             forward . {}\n}}\n",
            dead.address, alive.address
        ));
        let _flood = Flood::start(client(2, &server), "dead.example", 60_000);
        wait_until_shed(port, limit);
        assert_answered(&server, |last, id| format!("n{id}.c{last}.example."));
        let others = ["forward", "server"].into_iter().filter(|it| *it != limit);
        for other in others {
            assert_eq!(shed(port, other), 0, "{other}, not {limit}");
        }
        let pending = metric(port, "lodestone_pending_queries");
        assert!(pending >= 2000, "{pending}");
        assert_eq!(metric(port, "lodestone_pending_queries_limit"), 4096);
    }
}

#[test]
fn dead_stub_domain_does_not_affect_the_stock_corefile() {
    let (dead, alive) = (
        Upstream::start(Duration::ZERO),
        Upstream::start(Duration::ZERO),
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let api = runtime.block_on(ApiServer::start());
    api.apply(Kind::Namespace, &json!({"metadata": {"name": "ns"}}));
    let service =
        json!({"metadata": {"name": "nweb", "namespace": "ns"}, "spec": {"clusterIP": "10.0.0.1"}});
    api.apply(Kind::Service, &service);
    let ports @ [_, _, metrics] = [free_port(), free_port(), free_port()];
    // A typical stub-domain configuration: a second block with the directives of the stock one.
    let stub = format!(
        "dead.example:0 {{\n bind 127.0.0.1\n errors\n cache 30\n forward . {} {{\n \
         max_concurrent 1000\n }}\n prometheus 127.0.0.1:{metrics}\n}}\n",
        dead.address
    );
    let stock = stock::corefile(ports, &api.url(), &alive.address.to_string());
    let server = start_small(&format!("{stock}{stub}"));
    let _flood = Flood::start(client(2, &server), "dead.example", 60_000);
    wait_until_shed(metrics, "forward");
    assert_answered(&server, |last, id| format!("n{id}.c{last}.elsewhere."));
    assert_answered(&server, |_, _| "nweb.ns.svc.cluster.local.".to_owned());
    assert_eq!(shed(metrics, "server"), 0);
}

#[test]
fn max_concurrent_is_shared_by_clients_and_evictions_are_logged() {
    let upstream = Upstream::start(Duration::ZERO);
    let port = free_port();
    let server = Server::start(&format!(
        ".:0 {{\n bind 127.0.0.1\n prometheus 127.0.0.1:{port}\n errors\n log . {{\n class denial error\n }}\n \
         forward . {} {{\n max_concurrent 200\n }}\n}}\n",
        upstream.address
    ));
    {
        let _flood = Flood::start(client(2, &server), "example", 20_000);
        wait_until_shed(port, "forward");
        let line = server.line(|line| line.contains("concurrent queries exceeded maximum 200"));
        assert!(line.contains("plugin/errors"), "{line}");
        server.line(|line| line.contains("slow") && line.contains("REFUSED"));
        let client = client(3, &server);
        for id in 0..100 {
            let code = ask(&client, id, &format!("n{id}.example."));
            assert_eq!(code, ResponseCode::NoError, "{id}");
        }
    }
    // Each shed query is counted once, with a response, and nothing else was refused.
    let begun = Instant::now();
    loop {
        // Replies are counted after rejections, and read before them: queries are still in the socket's queue.
        let refused = metric(
            port,
            "coredns_dns_responses_total{plugin=\"forward\",rcode=\"REFUSED\"",
        );
        let rejects = metric(port, "coredns_forward_max_concurrent_rejects_total");
        assert!(rejects > 0 && refused <= rejects);
        if refused == rejects && shed(port, "forward") == rejects {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{refused} of {rejects}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn pending_queries_limit_follows_the_memory_limit() {
    let server = start_small(
        ".:0 {\n bind 127.0.0.1\n forward . 127.0.0.1:9 {\n max_concurrent 20000\n }\n}\n",
    );
    server.line(|line| line.contains("At most 4096 pending queries"));
}

fn allow_descriptors(server: &Server, limit: &str) {
    let id = format!("--pid={}", server.id());
    let limit = format!("--nofile={limit}:");
    let status = Command::new("prlimit").args([&id, &limit]).status();
    assert!(status.unwrap().success());
}

#[test]
fn exhausted_file_descriptors_do_not_mark_upstreams_down() {
    if Command::new("prlimit").arg("--version").output().is_err() {
        eprintln!("not tested: no prlimit");
        return;
    }
    let upstream = Upstream::start(Duration::ZERO);
    // One connection per query and per check.
    let options = "force_tcp\n expire 0s\n max_fails 1\n health_check 20ms\n \
                   failfast_all_unhealthy_upstreams";
    let server = Server::start(&format!(
        ".:0 {{\n bind 127.0.0.1\n errors\n cache\n forward . {} {{\n {options}\n }}\n}}\n",
        upstream.address
    ));
    let client = client(1, &server);
    assert_eq!(ask(&client, 1, "n1.example."), ResponseCode::NoError);
    allow_descriptors(&server, "3");
    // The last connection may still be open.
    let is_answered = |id| ask(&client, id, &format!("n{id}.example.")) == ResponseCode::NoError;
    let first = (2..100).find(|id| !is_answered(*id)).unwrap();
    for id in first + 1..first + 11 {
        assert!(!is_answered(id));
        let line = server.line(|line| line.contains("plugin/errors"));
        assert!(line.contains("too many open files"), "{line}");
        // Health checks are attempted meanwhile, also without a descriptor.
        std::thread::sleep(Duration::from_millis(30));
    }
    allow_descriptors(&server, "1024");
    for id in 200..204 {
        assert!(is_answered(id), "{id}");
    }
    assert!(is_answered(first), "its failure is not kept by the cache");
}

#[test]
fn answer_after_cancel_is_cached() {
    let upstream = Upstream::start(Duration::from_millis(600));
    let server = Server::start(&format!(
        ".:0 {{\n bind 127.0.0.1\n cancel 150ms\n cache\n forward . {} {{\n \
         max_connect_attempts 1\n max_fails 0\n }}\n}}\n",
        upstream.address
    ));
    let client = client(1, &server);
    assert_eq!(ask(&client, 1, "n1.example."), ResponseCode::ServFail);
    let mut id = 2;
    while ask(&client, id, "n1.example.") != ResponseCode::NoError {
        assert!(id < 100, "never answered");
        id += 1;
    }
    assert_eq!(
        upstream.asked.load(Ordering::Relaxed),
        1,
        "one question was enough"
    );
}
