//! `-hickory`: plain DNS by hickory-server's loops.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RecordType},
};

use super::server::{PATIENCE, Server, program};

const OBJECTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.7, ports: [{name: http, port: 80}]}
";

fn question(name: &str, rtype: RecordType) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), rtype));
    message.to_vec().unwrap()
}

fn by_udp(at: SocketAddr, query: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(query, at).unwrap();
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).expect("a reply comes");
    buffer[..length].to_vec()
}

fn by_tcp(at: SocketAddr, query: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = u16::try_from(query.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length, query].concat()).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("a reply comes");
    let mut reply = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut reply).unwrap();
    reply
}

#[test]
fn cluster_names_and_forwarded_ones_are_answered_alike() {
    let upstream = Server::start(
        ".:0 {\n    bind 127.0.0.1\n    hosts {\n        192.0.2.9 outside.example\n    }\n}\n",
    );
    let manifests = tempfile::tempdir().unwrap();
    std::fs::write(manifests.path().join("all.yaml"), OBJECTS).unwrap();
    let corefile = format!(
        ".:0 {{\n    bind 127.0.0.1\n    kubernetes cluster.local {{\n        manifests {}\n    }}\n    \
         forward . {}\n}}\n",
        manifests.path().display(),
        upstream.address
    );
    let own = Server::start(&corefile);
    let hickory = Server::start_with(&["-hickory"], &corefile);
    for (name, rtype) in [
        ("web.shop.svc.cluster.local.", RecordType::A),
        ("_http._tcp.web.shop.svc.cluster.local.", RecordType::SRV),
        ("outside.example.", RecordType::A),
        ("nowhere.example.", RecordType::A),
    ] {
        let query = question(name, rtype);
        let expected = by_udp(own.address, &query);
        assert_eq!(by_udp(hickory.address, &query), expected, "{name} {rtype}");
        let [own, hickory] = [&own, &hickory].map(|server| by_tcp(server.address, &query));
        let [read, expected] = [&hickory, &own].map(|reply| Message::from_vec(reply).unwrap());
        assert_eq!(read, expected, "{name} {rtype} by TCP");
        // hickory-server writes the first record's owner in full.
        let has_answer = !expected.answers.is_empty();
        assert_eq!(hickory.len() > own.len(), has_answer, "{name} {rtype}");
    }
}

#[test]
fn unsupported_settings_are_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Corefile");
    for (word, lines) in [
        ("proxyproto", "proxyproto"),
        ("timeouts", "timeouts {\n        read 7s\n    }"),
        ("transfer", "transfer {\n        to *\n    }"),
        (
            "tsig",
            "tsig {\n        secret key.example. aGVsbG8gd29ybGQsIGhlbGxvIHdvcmxk\n    }",
        ),
    ] {
        let corefile = format!(".:0 {{\n    bind 127.0.0.1\n    {lines}\n    whoami\n}}\n");
        std::fs::write(&path, corefile).unwrap();
        let output = program().arg("-hickory").arg("-conf").arg(&path).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1), "{word}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            error.contains(&format!("{word}: hickory-server")),
            "{error}"
        );
    }
}
