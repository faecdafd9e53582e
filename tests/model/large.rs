//! Headless Services with thousands of endpoints, and an address of a thousand Services, queried over UDP and,
//! after truncation, over TCP.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
};

use hickory_proto::rr::RecordType;
use lodestone::{
    message::read_reply,
    reply::{Reply, Section},
    wire::Name,
};

use crate::process::{self, Server};

const NAME: &str = "big.shop.svc.cluster.local.";

/// Manifests of a headless Service with this many slices of this many endpoints.
fn manifests(slices: u8, each: u8) -> String {
    let mut text = String::from(
        "apiVersion: v1\nkind: Service\nmetadata: {name: big, namespace: shop}\n\
         spec: {clusterIP: None, ports: [{name: http, port: 80}]}\n",
    );
    for slice in 0..slices {
        let endpoint = |last: u8| format!("{{addresses: [10.1.{slice}.{last}]}}");
        let endpoints: Vec<_> = (0..each).map(endpoint).collect();
        write!(
            text,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: big-{slice}, namespace: shop, labels: {{kubernetes.io/service-name: big}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: 80, protocol: TCP}}]\n\
             endpoints: [{}]\n",
            endpoints.join(", ")
        )
        .unwrap();
    }
    text
}

/// A server with that Service, and the directory of its manifests.
fn serve(slices: u8, each: u8) -> (Server, tempfile::TempDir) {
    serve_with(&manifests(slices, each), "")
}

/// A server with these manifests and more directives, and the directory of the manifests.
fn serve_with(manifests: &str, more: &str) -> (Server, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("big.yaml");
    std::fs::write(path, manifests).unwrap();
    let server = Server::start(&format!(
        ".:0 {{\n bind 127.0.0.1\n {more}\n \
         kubernetes cluster.local 10.in-addr.arpa {{\n manifests {}\n startup_timeout 1m\n }}\n}}\n",
        directory.path().display()
    ));
    (server, directory)
}

/// The query with this UDP payload size.
fn with_payload(mut query: Vec<u8>, payload: u16) -> Vec<u8> {
    query[11] = 1;
    query.extend([0, 0, 41]);
    query.extend(payload.to_be_bytes());
    query.extend([0; 6]);
    query
}

/// The data of a section's records.
fn data(reply: &Reply, section: Section) -> Vec<&[u8]> {
    let records = reply.section(section).iter();
    records.map(|record| reply.data(record)).collect()
}

/// The reply over UDP.
fn ask_udp(server: &Server, query: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(process::PATIENCE)).unwrap();
    socket.connect(server.address).unwrap();
    socket.send(query).unwrap();
    let mut bytes = vec![0; 65_535];
    let length = socket.recv(&mut bytes).unwrap();
    bytes.truncate(length);
    bytes
}

/// The reply over TCP.
fn ask_tcp(server: &Server, query: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(process::PATIENCE)).unwrap();
    let length = u16::try_from(query.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], query].concat()).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn read(bytes: &[u8]) -> Reply {
    let mut reply = Reply::default();
    read_reply(bytes, &mut reply).unwrap();
    reply
}

#[test]
fn five_thousand_endpoints_are_truncated_to_the_size_limit() {
    let (server, _directory) = serve(50, 100);
    let query = process::question(7, NAME, RecordType::A);
    let bytes = ask_udp(&server, &query);
    let cut = read(&bytes);
    assert!(cut.truncated && bytes.len() <= 512);
    // The header and the question take 44 bytes, each record 16.
    assert_eq!(cut.section(Section::Answer).len(), (512 - 44) / 16);

    let whole = read(&ask_tcp(&server, &query));
    // A message has at most 65,535 bytes: the records that fit, with TC.
    let answers = whole.section(Section::Answer);
    assert!(whole.truncated);
    assert_eq!(answers.len(), (65_535 - 44) / 16);
    let addresses: BTreeSet<_> = answers.iter().map(|record| whole.data(record)).collect();
    assert_eq!(addresses.len(), answers.len(), "each once");
}

#[test]
fn no_reply_is_fragmented_unless_bufsize_permits_it() {
    let (server, _directory) = serve(50, 100);
    let (wide, _other) = serve_with(&manifests(50, 100), "bufsize 4096");
    for (rtype, least) in [(RecordType::A, 16), (RecordType::SRV, 64)] {
        let query = process::question(7, NAME, rtype);
        for (server, payload, room) in [
            (&server, 1232, 1232),
            (&server, 4096, 1232),
            (&server, 65_535, 1232),
            (&wide, 1232, 1232),
            (&wide, 65_535, 4096),
        ] {
            let bytes = ask_udp(server, &with_payload(query.clone(), payload));
            let cut = read(&bytes);
            assert!(cut.truncated, "{rtype} {payload}");
            let filled = bytes.len() <= room && bytes.len() > room - 2 * least;
            assert!(filled, "{rtype} {payload}: {} of {room}", bytes.len());
            let answers = data(&cut, Section::Answer);
            let once: BTreeSet<_> = answers.iter().collect();
            assert_eq!(once.len(), answers.len(), "each once");
            assert_eq!(cut.section(Section::Additional).len(), 0);
        }
    }
}

#[test]
fn every_endpoint_occurs_in_truncated_replies() {
    for more in ["", "loadbalance"] {
        let (server, _directory) = serve_with(&manifests(5, 100), more);
        for rtype in [RecordType::A, RecordType::SRV] {
            let query = with_payload(process::question(7, NAME, rtype), 1232);
            let mut seen = BTreeSet::new();
            // An A reply has 73 of 500, an SRV reply some 17: after this many replies, the probability that
            // a given endpoint was never included is one in a billion.
            for _ in 0..800 {
                let cut = read(&ask_udp(&server, &query));
                let some = data(&cut, Section::Answer).into_iter().map(<[u8]>::to_vec);
                seen.extend(some);
                if seen.len() == 500 {
                    break;
                }
            }
            assert_eq!(seen.len(), 500, "{rtype} {more}");
        }
    }
}

#[test]
fn preferred_address_is_chosen_among_all() {
    let (server, _directory) = serve_with(
        &manifests(50, 100),
        "loadbalance {\n prefer 10.1.33.77/32\n }",
    );
    let query = process::question(7, NAME, RecordType::A);
    for _ in 0..20 {
        let cut = read(&ask_udp(&server, &query));
        assert!(cut.truncated);
        assert_eq!(data(&cut, Section::Answer)[0], [10, 1, 33, 77]);
    }
}

#[test]
fn complete_answer_over_tcp_has_no_tc() {
    let (server, _directory) = serve(10, 100);
    let query = process::question(7, NAME, RecordType::SRV);
    let bytes = ask_tcp(&server, &query);
    let whole = read(&bytes);
    assert_eq!(whole.section(Section::Answer).len(), 1000);
    // Additional addresses that do not fit are optional (RFC 2181 section 9).
    let glue = whole.section(Section::Additional).len();
    assert!(!whole.truncated && (1..1000).contains(&glue), "{glue}");
    assert!(bytes.len() > 65_535 - 64);

    // Here the answer section alone exceeds a message.
    let (server, _directory) = serve(50, 100);
    let cut = read(&ask_tcp(&server, &query));
    assert!(cut.truncated && cut.section(Section::Answer).len() > 900);
    assert_eq!(cut.section(Section::Additional).len(), 0);
}

#[test]
fn ptr_of_a_thousand_services_is_truncated_to_the_size_limit() {
    let mut text = String::new();
    for number in 0..1000 {
        write!(
            text,
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: s{number}, namespace: shop}}, \
             spec: {{clusterIP: None, ports: [{{port: 80}}]}}}}\n\
             ---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, \
             metadata: {{name: s{number}-x, namespace: shop, \
             labels: {{kubernetes.io/service-name: s{number}}}}}, addressType: IPv4, \
             endpoints: [{{addresses: [10.1.0.1], hostname: a}}]}}\n",
        )
        .unwrap();
    }
    // A Service's own cluster address takes precedence.
    text += "---\n{apiVersion: v1, kind: Service, metadata: {name: front, namespace: shop}, \
             spec: {clusterIP: 10.1.0.2, ports: [{port: 80}]}}\n";
    let (server, _directory) = serve_with(&text, "");
    let query = process::question(7, "1.0.1.10.in-addr.arpa.", RecordType::PTR);
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let bytes = ask_udp(&server, &query);
        let cut = read(&bytes);
        assert!(cut.truncated && bytes.len() > 512 - 64 && bytes.len() <= 512);
        let answers = data(&cut, Section::Answer);
        assert_eq!(answers.iter().collect::<BTreeSet<_>>().len(), answers.len());
        seen.extend(answers.into_iter().map(<[u8]>::to_vec));
    }
    assert!(seen.len() > 40, "others each time: {}", seen.len());
    let whole = read(&ask_tcp(&server, &query));
    let answers = data(&whole, Section::Answer);
    assert!(!whole.truncated);
    assert_eq!(answers.iter().collect::<BTreeSet<_>>().len(), 1000);
    let query = process::question(7, "2.0.1.10.in-addr.arpa.", RecordType::PTR);
    let one = read(&ask_udp(&server, &query));
    assert!(!one.truncated);
    let front = Name::parse("front.shop.svc.cluster.local").unwrap();
    assert_eq!(data(&one, Section::Answer), [front.as_wire()]);
}

#[test]
fn srv_target_addresses_are_left_out_if_they_do_not_fit() {
    let (server, _directory) = serve(1, 7);
    let query = process::question(7, NAME, RecordType::SRV);
    let cut = read(&ask_udp(&server, &query));
    assert_eq!(cut.section(Section::Answer).len(), 7);
    let glue = cut.section(Section::Additional).len();
    // They are optional: nothing that was queried is missing (RFC 2181 section 9).
    assert!(!cut.truncated && (4..7).contains(&glue), "{glue} of 7");

    let bytes = ask_tcp(&server, &query);
    let whole = read(&bytes);
    assert!(!whole.truncated);
    assert_eq!(whole.section(Section::Additional).len(), 7);
    for last in 0..7 {
        let target = Name::parse(&format!("10-1-0-{last}.{NAME}")).unwrap();
        let written_out = bytes.windows(target.as_wire().len());
        let times = written_out.filter(|it| *it == target.as_wire()).count();
        assert_eq!(times, 1, "once in the SRV record; the owner points there");
    }
}
