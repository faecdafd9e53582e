//! CNAME chains without data of the queried type, from the upstream's socket to the client's.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, CNAME, SOA},
    },
};

use super::server::{Server, exchange};

/// An upstream, and the queries that it received.
struct Upstream {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn alias(owner: &Name, target: &str) -> Record {
    Record::from_rdata(owner.clone(), 600, RData::CNAME(CNAME(name(target))))
}

fn address(owner: &str) -> Record {
    Record::from_rdata(name(owner), 600, RData::A(A::new(192, 0, 2, 4)))
}

/// An SOA record with a negative TTL of 5 seconds.
fn soa() -> Record {
    let zone = name("example.net.");
    let soa = SOA::new(zone.clone(), zone.clone(), 1, 2, 3, 4, 5);
    Record::from_rdata(zone, 900, RData::SOA(soa))
}

impl Upstream {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let query = Message::from_vec(&buffer[..length]).unwrap();
                let question = query.queries[0].clone();
                let text = format!("{} {}", question.name(), question.query_type());
                let times = {
                    let mut log = log.lock().unwrap();
                    log.push(text.to_lowercase());
                    log.iter()
                        .filter(|one| **one == text.to_lowercase())
                        .count()
                };
                let answer = reply(&query, times);
                socket.send_to(&answer.to_vec().unwrap(), from).unwrap();
            }
        });
        Self { address, asked }
    }

    fn count(&self, question: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|one| *one == question).count()
    }
}

/// Its reply to a query that it received `times` times.
fn reply(query: &Message, times: usize) -> Message {
    let mut reply = query.clone();
    reply.metadata.message_type = MessageType::Response;
    let question = &query.queries[0];
    let (owner, is_six) = (question.name(), question.query_type() == RecordType::AAAA);
    match owner.to_lowercase().to_string().as_str() {
        "fail.example.net." => reply.metadata.response_code = ResponseCode::ServFail,
        "gone.example.net." => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            reply.authorities.push(soa());
        }
        "four.example.net." if is_six => reply.authorities.push(soa()),
        "four.example.net." => reply.answers.push(address("four.example.net.")),
        "www.example.net." => {
            reply.answers.push(alias(owner, "four.example.net."));
            if is_six {
                reply.authorities.push(soa());
            } else {
                reply.answers.push(address("four.example.net."));
            }
        }
        "late.example.net." => {
            reply.answers.push(alias(owner, "four.example.net."));
            if times > 1 {
                reply.answers.push(address("four.example.net."));
            }
        }
        other => panic!("no query is for {other}"),
    }
    reply
}

/// The rcode, and the record types in the answer and authority sections.
fn shape(server: &Server, name: &str, rtype: RecordType) -> String {
    let reply = exchange(server.address, name, rtype).unwrap();
    let types = |records: &[Record]| {
        let types = records
            .iter()
            .map(|record| record.record_type().to_string());
        types.collect::<Vec<_>>().join(" ")
    };
    let (answer, authority) = (types(&reply.answers), types(&reply.authorities));
    let code = reply.metadata.response_code;
    format!("{code:?} {answer} | {authority}")
        .trim_end()
        .to_owned()
}

#[test]
fn cname_without_data_is_nodata_with_soa_and_uncached_without() {
    let upstream = Upstream::start();
    let server = Server::start(&format!(
        ".:0 {{
            bind 127.0.0.1
            cache {{
                success 9984 300
                denial 9984 5
            }}
            forward . {}
        }}\n",
        upstream.address
    ));
    for _ in 0..2 {
        let reply = exchange(server.address, "www.example.net.", RecordType::AAAA).unwrap();
        assert_eq!(reply.answers.len(), 1);
        let ttl = reply.answers[0].ttl;
        assert!(ttl <= 5, "kept as the SOA record says, not for {ttl} s");
    }
    assert_eq!(upstream.count("www.example.net. aaaa"), 1);
    assert_eq!(
        shape(&server, "www.example.net.", RecordType::A),
        "NoError CNAME A |"
    );
    assert_eq!(
        shape(&server, "late.example.net.", RecordType::A),
        "NoError CNAME |"
    );
    for _ in 0..2 {
        assert_eq!(
            shape(&server, "late.example.net.", RecordType::A),
            "NoError CNAME A |"
        );
    }
    assert_eq!(upstream.count("late.example.net. a"), 2);
}

#[test]
fn cname_with_nodata_triggers_next_on_nodata() {
    let (first, second) = (Upstream::start(), Upstream::start());
    let server = Server::start(&format!(
        ".:0 {{
            bind 127.0.0.1
            forward . {} {{
                next_on_nodata
            }}
            forward . {}
        }}\n",
        first.address, second.address
    ));
    shape(&server, "www.example.net.", RecordType::A);
    assert_eq!(second.count("www.example.net. a"), 0);
    shape(&server, "www.example.net.", RecordType::AAAA);
    assert_eq!(second.count("www.example.net. aaaa"), 1);
    // Without an SOA record the reply does not deny the type.
    shape(&server, "late.example.net.", RecordType::A);
    assert_eq!(second.count("late.example.net. a"), 0);
}

const SERVICES: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
";

#[test]
fn external_name_has_the_rcode_of_its_target() {
    let manifests = tempfile::tempdir().unwrap();
    let service = |name: &str, target: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{type: ExternalName, externalName: {target}}}\n"
        )
    };
    let plain = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n\
                 spec: {clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9]}\n";
    let services = [
        service("fail", "fail.example.net"),
        service("gone", "gone.example.net"),
        service("four", "four.example.net"),
        service("within", "web.shop.svc.cluster.local"),
        service("dangling", "none.shop.svc.cluster.local"),
        service("unknown", "host.example.org"),
    ];
    let text = format!("{SERVICES}{plain}{}", services.concat());
    std::fs::write(manifests.path().join("all.yaml"), text).unwrap();
    let upstream = Upstream::start();
    let server = Server::start(&format!(
        ".:0 {{
            bind 127.0.0.1
            kubernetes cluster.local {{
                manifests {}
            }}
            forward example.net {}
        }}\n",
        manifests.path().display(),
        upstream.address
    ));
    for (service, rtype, wanted) in [
        ("four", RecordType::A, "NoError CNAME A |"),
        ("four", RecordType::AAAA, "NoError CNAME | SOA"),
        ("four", RecordType::CNAME, "NoError CNAME |"),
        ("fail", RecordType::A, "ServFail CNAME |"),
        ("gone", RecordType::A, "NXDomain CNAME | SOA"),
        ("within", RecordType::A, "NoError CNAME A |"),
        ("within", RecordType::AAAA, "NoError CNAME | SOA"),
        ("dangling", RecordType::A, "NXDomain CNAME | SOA"),
        // No zone of this server has the target.
        ("unknown", RecordType::A, "NoError CNAME |"),
    ] {
        let name = format!("{service}.shop.svc.cluster.local.");
        assert_eq!(shape(&server, &name, rtype), wanted, "{service} {rtype}");
    }
}
