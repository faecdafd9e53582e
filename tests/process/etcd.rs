//! `etcd`, with a store in the test and, if installed, with etcd itself.

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use lodestone::upstream::Rpc;
use prost::Message as _;

use super::{
    rpc::{Answer, Call, RpcServer},
    server::{PATIENCE, Server, exchange, free_port, page},
};

#[derive(Clone, PartialEq, prost::Message)]
struct Range {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    end: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Kept {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
    #[prost(int64, tag = "6")]
    lease: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Found {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<Kept>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Put {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
    #[prost(int64, tag = "3")]
    lease: i64,
}

/// A lease: TTL and id in the grant, id and TTL in the query.
#[derive(Clone, PartialEq, prost::Message)]
struct Numbers {
    #[prost(int64, tag = "1")]
    first: i64,
    #[prost(int64, tag = "2")]
    second: i64,
    #[prost(int64, tag = "3")]
    third: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Credentials {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    password: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Token {
    #[prost(string, tag = "2")]
    token: String,
}

/// Keys of zones `skydns.test` and its reverse: key, value, seconds of a lease.
const KEYS: &[(&str, &str, i64)] = &[
    ("test/skydns/dns/ns/a", r#"{"host":"192.0.2.53"}"#, 0),
    ("test/skydns/dns/apex/a", r#"{"host":"192.0.2.80"}"#, 0),
    (
        "test/skydns/web/x1",
        r#"{"host":"192.0.2.1","port":80,"ttl":60}"#,
        0,
    ),
    (
        "test/skydns/web/x2",
        r#"{"host":"192.0.2.2","port":80,"weight":300}"#,
        0,
    ),
    (
        "test/skydns/web/x3",
        r#"{"host":"2001:db8::3","port":81,"priority":20}"#,
        0,
    ),
    ("test/skydns/alias", r#"{"host":"x1.web.skydns.test"}"#, 0),
    (
        "test/skydns/out",
        r#"{"host":"out.example","port":443,"mail":true}"#,
        0,
    ),
    ("test/skydns/circle", r#"{"host":"circle.skydns.test"}"#, 0),
    (
        "test/skydns/text",
        r#"{"host":"t.example","text":"some words"}"#,
        0,
    ),
    ("test/skydns/leased", r#"{"host":"192.0.2.9"}"#, 500),
    (
        "test/skydns/groups/a",
        r#"{"host":"192.0.2.21","group":"g1"}"#,
        0,
    ),
    (
        "test/skydns/groups/b/x",
        r#"{"host":"192.0.2.22","group":"g2"}"#,
        0,
    ),
    ("test/skydns/broken", "no JSON", 0),
    ("test/skydns/partly/a", r#"{"host":"192.0.2.50"}"#, 0),
    (
        "test/skydns/partly/b",
        r#"{"host":"192.0.2.51","port":"80"}"#,
        0,
    ),
    ("test/skydns/partly/c", "no JSON", 0),
    (
        "test/skydns/partly/d",
        r#"{"host":"192.0.2.52","port":null,"text":null,"group":null}"#,
        0,
    ),
    (
        "test/skydns/to-broken",
        r#"{"host":"broken.skydns.test"}"#,
        0,
    ),
    ("test/skydns/to-none", r#"{"host":"none.skydns.test"}"#, 0),
    ("test/skydns/some/a", r#"{"host":"none.skydns.test"}"#, 0),
    ("test/skydns/some/b", r#"{"host":"192.0.2.41"}"#, 0),
    ("test/skydns/eu/db/a", r#"{"host":"192.0.2.31"}"#, 0),
    ("test/skydns/us/db/a", r#"{"host":"192.0.2.32"}"#, 0),
    (
        "arpa/in-addr/192/0/2/1",
        r#"{"host":"x1.web.skydns.test"}"#,
        0,
    ),
];

/// Query name, type, and the reply: rcode, answers, additional records.
const ROWS: &[(&str, RecordType, &str)] = &[
    (
        "web.skydns.test.",
        RecordType::A,
        "NoError 60 A 192.0.2.1, 300 A 192.0.2.2 |",
    ),
    (
        "web.skydns.test.",
        RecordType::AAAA,
        "NoError 300 AAAA 2001:db8::3 |",
    ),
    (
        "x1.web.skydns.test.",
        RecordType::A,
        "NoError 60 A 192.0.2.1 |",
    ),
    ("x1.web.skydns.test.", RecordType::AAAA, "NoError | SOA"),
    ("x1.web.skydns.test.", RecordType::MX, "NoError | SOA"),
    ("nobody.skydns.test.", RecordType::A, "NXDomain | SOA"),
    ("nobody.skydns.test.", RecordType::SOA, "NXDomain | SOA"),
    (
        "web.skydns.test.",
        RecordType::SRV,
        "NoError 60 SRV 10 25 80 x1.web.skydns.test., 300 SRV 10 75 80 x2.web.skydns.test., 300 SRV 20 100 81 x3.web.skydns.test. | 60 A 192.0.2.1, 300 A 192.0.2.2, 300 AAAA 2001:db8::3",
    ),
    (
        "alias.skydns.test.",
        RecordType::A,
        "NoError 300 CNAME x1.web.skydns.test., 60 A 192.0.2.1 |",
    ),
    (
        "alias.skydns.test.",
        RecordType::CNAME,
        "NoError 300 CNAME x1.web.skydns.test. |",
    ),
    (
        "out.skydns.test.",
        RecordType::A,
        "NoError 300 CNAME out.example., 3600 A 198.51.100.1 |",
    ),
    (
        "out.skydns.test.",
        RecordType::MX,
        "NoError 300 MX 10 out.example. | 3600 A 198.51.100.1",
    ),
    (
        "out.skydns.test.",
        RecordType::SRV,
        "NoError 300 SRV 10 100 443 out.example. | 3600 A 198.51.100.1",
    ),
    ("circle.skydns.test.", RecordType::A, "NoError | SOA"),
    // CNAME chains without data have the rcode of the last name (RFC 6604 section 3).
    (
        "alias.skydns.test.",
        RecordType::AAAA,
        "NoError 300 CNAME x1.web.skydns.test. | SOA",
    ),
    (
        "to-none.skydns.test.",
        RecordType::A,
        "NXDomain 300 CNAME none.skydns.test. | SOA",
    ),
    (
        "to-broken.skydns.test.",
        RecordType::A,
        "ServFail 300 CNAME broken.skydns.test. |",
    ),
    (
        "some.skydns.test.",
        RecordType::A,
        "NoError 300 A 192.0.2.41 |",
    ),
    (
        "text.skydns.test.",
        RecordType::TXT,
        "NoError 300 TXT some words |",
    ),
    (
        "leased.skydns.test.",
        RecordType::A,
        "NoError 500 A 192.0.2.9 |",
    ),
    (
        "groups.skydns.test.",
        RecordType::A,
        "NoError 300 A 192.0.2.21 |",
    ),
    // Nothing is readable: not a denial.
    ("broken.skydns.test.", RecordType::A, "ServFail |"),
    // Unreadable values do not affect others.
    (
        "partly.skydns.test.",
        RecordType::A,
        "NoError 300 A 192.0.2.50, 300 A 192.0.2.52 |",
    ),
    ("*.db.skydns.test.", RecordType::A, "NXDomain | SOA"),
    (
        "db.*.skydns.test.",
        RecordType::A,
        "NoError 300 A 192.0.2.31, 300 A 192.0.2.32 |",
    ),
    ("skydns.test.", RecordType::A, "NoError 300 A 192.0.2.80 |"),
    (
        "skydns.test.",
        RecordType::NS,
        "NoError 300 NS a.ns.dns.skydns.test. | 300 A 192.0.2.53",
    ),
    (
        "skydns.test.",
        RecordType::SOA,
        "NoError 30 SOA ns.dns.skydns.test. |",
    ),
    (
        "1.2.0.192.in-addr.arpa.",
        RecordType::PTR,
        "NoError 300 PTR x1.web.skydns.test. |",
    ),
    ("a\\.b.skydns.test.", RecordType::A, "NXDomain | SOA"),
];

/// A reply in the form of the rows.
fn summary(reply: &Message) -> String {
    let list = |records: &[hickory_proto::rr::Record], complete: bool| {
        let one = |record: &hickory_proto::rr::Record| {
            let data = record.data.to_string();
            let rtype = record.record_type();
            // The other fields of an SOA record change with time.
            let data = if rtype == RecordType::SOA {
                data.split(' ').next().unwrap_or_default()
            } else {
                data.trim_matches('"')
            };
            // Part of the lease may have elapsed.
            let ttl = if (490..500).contains(&record.ttl) {
                500
            } else {
                record.ttl
            };
            if complete {
                format!("{ttl} {rtype} {data}")
            } else {
                rtype.to_string()
            }
        };
        let mut items: Vec<_> = records.iter().map(one).collect();
        if !complete {
            items.dedup();
        }
        items.join(", ")
    };
    let code = reply.metadata.response_code;
    let extra = [
        list(&reply.authorities, false),
        list(&reply.additionals, true),
    ]
    .concat();
    let text = format!("{code:?} {} | {extra}", list(&reply.answers, true));
    // AA is set for the CNAME, whatever its target.
    let is_ours = code != ResponseCode::ServFail || !reply.answers.is_empty();
    assert_eq!(reply.metadata.authoritative, is_ours);
    text.replace("  ", " ").trim_end().to_owned()
}

fn corefile(endpoints: &str, more: &str) -> String {
    format!(
        ".:0 {{
            bind 127.0.0.1
            errors
            etcd skydns.test in-addr.arpa {{
                endpoint {endpoints}
                {more}
            }}
            hosts {{
                198.51.100.1 out.example
                fallthrough
            }}
            whoami
        }}\n"
    )
}

fn check(endpoints: &str) {
    let server = Server::start(&corefile(endpoints, ""));
    for (name, rtype, wanted) in ROWS {
        let reply = exchange(server.address, name, *rtype).unwrap();
        assert_eq!(summary(&reply), *wanted, "{name} {rtype}");
    }
}

/// A server with etcd's API; with a password, authentication is required.
fn store(password: Option<&'static str>, calls: Arc<Mutex<Vec<String>>>) -> RpcServer {
    let kept: BTreeMap<Vec<u8>, (&str, i64)> = KEYS
        .iter()
        .map(|(key, value, lease)| (format!("/skydns/{key}").into_bytes(), (*value, *lease)))
        .collect();
    let tokens = Mutex::new(0);
    RpcServer::start(move |call: Call| -> Answer {
        let method = call.path.rsplit('/').next().unwrap().to_owned();
        calls.lock().unwrap().push(method.clone());
        if method == "Authenticate" {
            let given = Credentials::decode(&call.message[..]).unwrap();
            assert_eq!(given.name, "root");
            if Some(&*given.password) != password {
                return Err(3);
            }
            let mut tokens = tokens.lock().unwrap();
            *tokens += 1;
            let token = format!("token-{tokens}");
            return Ok(Token { token }.encode_to_vec());
        }
        // Every other query gets an expired token.
        let mut current = tokens.lock().unwrap();
        if password.is_some() && call.token != Some(format!("token-{current}")) {
            return Err(16);
        }
        match method.as_str() {
            "Range" => {
                let range = Range::decode(&call.message[..]).unwrap();
                let is_wanted = |key: &[u8]| match &range.end[..] {
                    [] => key == range.key,
                    end => key >= &range.key[..] && key < end,
                };
                let found = kept.iter().filter(|(key, _)| is_wanted(key));
                let kvs = found.map(|(key, (value, lease))| Kept {
                    key: key.clone(),
                    value: (*value).into(),
                    lease: *lease,
                });
                let kvs = kvs.collect();
                if password.is_some() {
                    *current += 1;
                }
                Ok(Found { kvs }.encode_to_vec())
            }
            "LeaseTimeToLive" => {
                let lease = Numbers::decode(&call.message[..]).unwrap().first;
                let numbers = Numbers {
                    second: lease,
                    third: lease,
                    ..Numbers::default()
                };
                Ok(numbers.encode_to_vec())
            }
            _ => Err(12),
        }
    })
}

#[test]
fn names_are_answered_from_keys() {
    let store = store(None, Arc::default());
    check(&format!("http://{}", store.address));
}

#[test]
fn unreadable_values_are_reported_once_with_their_key() {
    let store = store(None, Arc::default());
    let port = free_port();
    let server = Server::start(&corefile(
        &format!("http://{}", store.address),
        &format!("}}\nprometheus 127.0.0.1:{port} {{"),
    ));
    for _ in 0..3 {
        server.ask("partly.skydns.test.", RecordType::A);
    }
    // Logged after the above, so that nothing else comes between.
    assert_eq!(server.ask("broken.skydns.test.", RecordType::A), "ServFail");
    let mut lines = Vec::new();
    server.line(|line| {
        if line.contains("plugin/etcd") {
            lines.push(line.to_owned());
        }
        line.contains("plugin/errors")
    });
    let wanted = [
        "/skydns/test/skydns/partly/b: a field is of another type than documented (line 1, column 32)",
        "/skydns/test/skydns/partly/c: it is not JSON (line 1, column 2)",
        "/skydns/test/skydns/broken: it is not JSON (line 1, column 2)",
    ];
    assert_eq!(lines.len(), wanted.len(), "{lines:#?}");
    for (line, wanted) in lines.iter().zip(wanted) {
        assert!(line.contains(wanted), "{line}");
    }
    let text = page(port, "/metrics").unwrap().1;
    assert!(
        text.contains("\nlodestone_left_out_total{plugin=\"etcd\"} 3\n"),
        "{text}"
    );
}

#[test]
fn top_without_a_key_is_the_whole_zone_unless_no_apex_fallback() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let store = store(None, Arc::clone(&calls));
    let endpoint = format!("http://{}", store.address);
    let start = |options: &str| {
        let zone = corefile(&endpoint, options).replace("etcd skydns.test", "etcd eu.skydns.test");
        Server::start(&zone)
    };
    let top = "eu.skydns.test.";
    let rows = |options: &str, rows: &[(RecordType, &str, usize)]| {
        let server = start(options);
        for (rtype, wanted, ranges) in rows {
            calls.lock().unwrap().clear();
            let reply = exchange(server.address, top, *rtype).unwrap();
            assert_eq!(summary(&reply), *wanted, "{options}: {rtype}");
            assert_eq!(calls.lock().unwrap().len(), *ranges, "{options}: {rtype}");
        }
    };
    rows(
        "",
        &[
            (RecordType::A, "NoError 300 A 192.0.2.31 |", 3),
            (RecordType::CAA, "NoError | SOA", 3),
        ],
    );
    let srv = "NoError 300 SRV 10 100 0 a.db.eu.skydns.test. | 300 A 192.0.2.31";
    rows(
        "no_apex_fallback",
        &[
            (RecordType::A, "NoError | SOA", 2),
            (RecordType::AAAA, "NoError | SOA", 2),
            (RecordType::CAA, "NoError | SOA", 2),
            (RecordType::TXT, "NoError | SOA", 1),
            (RecordType::SRV, srv, 1),
        ],
    );
    // Missing names fall through to whoami, which returns NOERROR.
    let server = start("no_apex_fallback\nfallthrough");
    let reply = exchange(server.address, top, RecordType::A).unwrap();
    assert!(reply.authorities.is_empty() && !reply.additionals.is_empty());
}

#[test]
fn endpoint_failover_lease_bounds_and_fallthrough() {
    let calls = Arc::default();
    let store = store(None, Arc::clone(&calls));
    let endpoints = format!("http://127.0.0.1:{} http://{}", free_port(), store.address);
    let more = "max-lease-ttl 2m\n fallthrough";
    let server = Server::start(&corefile(&endpoints, more));
    let leased = exchange(server.address, "leased.skydns.test.", RecordType::A).unwrap();
    assert_eq!(summary(&leased), "NoError 120 A 192.0.2.9 |");
    let reply = server.ask("nobody.skydns.test.", RecordType::A);
    assert_eq!(reply, "NoError", "whoami is behind etcd");
    assert!(
        calls
            .lock()
            .unwrap()
            .contains(&"LeaseTimeToLive".to_owned())
    );
}

#[test]
fn client_authenticates_and_renews_an_expired_token() {
    let calls = Arc::default();
    let store = store(Some("secret"), Arc::clone(&calls));
    let endpoint = format!("http://{}", store.address);
    let server = Server::start(&corefile(&endpoint, "credentials root secret"));
    for _ in 0..2 {
        let reply = server.ask("x2.web.skydns.test.", RecordType::A);
        assert_eq!(reply, "NoError 192.0.2.2");
    }
    let count = |method: &str| {
        let calls = calls.lock().unwrap();
        calls.iter().filter(|call| **call == *method).count()
    };
    assert!(count("Authenticate") >= 2);
    let server = Server::start(&corefile(&endpoint, "credentials root wrong"));
    assert_eq!(server.ask("x2.web.skydns.test.", RecordType::A), "ServFail");
    let line = server.line(|line| line.contains("x2.web.skydns.test"));
    assert!(line.contains("etcd: status 3"), "{line}");
}

#[test]
fn unreachable_store_is_servfail_with_a_log_line() {
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let server = Server::start(&corefile(&endpoint, "fallthrough"));
    assert_eq!(server.ask("web.skydns.test.", RecordType::A), "ServFail");
    let line = server.line(|line| line.contains("web.skydns.test"));
    assert!(line.contains("connection refused"), "{line}");
}

struct Etcd(Child);

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn real_etcd_gives_the_same_answers() {
    let directory = tempfile::tempdir().unwrap();
    let (client, peer) = (free_port(), free_port());
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let started = Command::new("etcd")
        .args(["--log-level", "error", "--data-dir"])
        .arg(directory.path())
        .args([
            "--listen-client-urls",
            &url(client),
            "--advertise-client-urls",
            &url(client),
        ])
        .args([
            "--listen-peer-urls",
            &url(peer),
            "--initial-advertise-peer-urls",
            &url(peer),
        ])
        .args(["--initial-cluster", &format!("default={}", url(peer))])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(child) = started else {
        println!("skipped: etcd is not on the PATH");
        return;
    };
    let _etcd = Etcd(child);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let handle = tokio::runtime::Handle::current();
        let rpc = Rpc::new("127.0.0.1", client, None, None, handle);
        let begun = std::time::Instant::now();
        for (key, value, ttl) in KEYS {
            let mut lease = 0;
            if *ttl > 0 {
                let wanted = Numbers {
                    first: *ttl,
                    ..Numbers::default()
                };
                let granted = rpc
                    .call("/etcdserverpb.Lease/LeaseGrant", &wanted, None)
                    .await;
                // Header, id, TTL.
                let granted: LeaseGranted = granted.unwrap();
                lease = granted.id;
            }
            let put = Put {
                key: format!("/skydns/{key}").into_bytes(),
                value: value.as_bytes().to_vec(),
                lease,
            };
            loop {
                match rpc
                    .call::<_, Nothing>("/etcdserverpb.KV/Put", &put, None)
                    .await
                {
                    Ok(_) => break,
                    // Retry until etcd has started.
                    Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    });
    check(&url(client));
}

#[derive(Clone, PartialEq, prost::Message)]
struct LeaseGranted {
    #[prost(int64, tag = "2")]
    id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}
