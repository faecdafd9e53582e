//! The cluster as a zone handler of hickory-server: `examples/hickory_zone.rs`, queried over
//! sockets.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "apiserver/mod.rs"]
mod apiserver;
#[allow(dead_code)] // its main
#[path = "../examples/hickory_zone.rs"]
mod example;

use std::{fmt::Write, net::SocketAddr, time::Duration};

use apiserver::ApiServer;
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RecordType},
};
use hickory_server::{Server, zone_handler::Catalog};
use lodestone::cluster::Kind;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// Timeout; never reached when the test passes.
const PATIENCE: Duration = Duration::from_secs(20);

const OBJECTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.7, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere, namespace: shop}
spec: {type: ExternalName, externalName: www.example.org}
";

async fn serve(origin: &str) -> (Server<Catalog>, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    timeout(PATIENCE, example::serve(origin, address))
        .await
        .expect("all is listed")
        .unwrap()
}

fn question(name: &str, rtype: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), rtype));
    message
}

async fn by_udp(at: SocketAddr, name: &str, rtype: RecordType) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let query = question(name, rtype).to_vec().unwrap();
    socket.send_to(&query, at).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let length = timeout(PATIENCE, socket.recv(&mut buffer));
    let length = length.await.expect("a reply comes").unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

async fn by_tcp(at: SocketAddr, name: &str, rtype: RecordType) -> Message {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let query = question(name, rtype).to_vec().unwrap();
    stream
        .write_u16(u16::try_from(query.len()).unwrap())
        .await
        .unwrap();
    stream.write_all(&query).await.unwrap();
    let length = timeout(PATIENCE, stream.read_u16());
    let length = length.await.expect("a reply comes").unwrap();
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await.unwrap();
    Message::from_vec(&reply).unwrap()
}

/// Code, AA, and the records of all sections, one per line.
fn summary(message: &Message) -> String {
    let metadata = &message.metadata;
    let mut text = format!("{:?}", metadata.response_code);
    if metadata.authoritative {
        text += " AA";
    }
    let sections = [&message.answers, &message.authorities, &message.additionals];
    for (section, records) in ["", "authority: ", "additional: "].iter().zip(sections) {
        for record in records {
            let (owner, rtype) = (&record.name, record.record_type());
            write!(text, "\n{section}{owner} {rtype}").unwrap();
            if record.record_type() != RecordType::SOA {
                write!(text, " {}", record.data).unwrap();
            }
        }
    }
    text
}

#[tokio::test]
async fn a_directory_of_manifests_is_served() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("all.yaml"), OBJECTS).unwrap();
    let (_server, at) = serve(directory.path().to_str().unwrap()).await;
    let table = [
        (
            "Web.shop.svc.cluster.local.",
            RecordType::A,
            "NoError AA\nWeb.shop.svc.cluster.local. A 10.96.0.7",
        ),
        (
            "_http._tcp.web.shop.svc.cluster.local.",
            RecordType::SRV,
            "NoError AA\n_http._tcp.web.shop.svc.cluster.local. SRV 0 100 80 \
             web.shop.svc.cluster.local.\nadditional: web.shop.svc.cluster.local. A 10.96.0.7",
        ),
        (
            "web.shop.svc.cluster.local.",
            RecordType::AAAA,
            "NoError AA\nauthority: cluster.local. SOA",
        ),
        (
            "nothing.shop.svc.cluster.local.",
            RecordType::A,
            "NXDomain AA\nauthority: cluster.local. SOA",
        ),
        (
            "elsewhere.shop.svc.cluster.local.",
            RecordType::A,
            "NoError AA\nelsewhere.shop.svc.cluster.local. CNAME www.example.org.",
        ),
        (
            "7.0.96.10.in-addr.arpa.",
            RecordType::PTR,
            "NoError AA\n7.0.96.10.in-addr.arpa. PTR web.shop.svc.cluster.local.",
        ),
        ("www.example.org.", RecordType::A, "Refused"),
        ("cluster.local.", RecordType::AXFR, "Refused"),
    ];
    for (name, rtype, expected) in table {
        assert_eq!(summary(&by_udp(at, name, rtype).await), expected);
        assert_eq!(summary(&by_tcp(at, name, rtype).await), expected);
    }
}

#[tokio::test]
async fn a_live_cluster_is_served_as_it_changes() {
    let api = ApiServer::start().await;
    let service = |address: &str| {
        let metadata = json!({"name": "web", "namespace": "shop"});
        json!({"metadata": metadata, "spec": {"clusterIP": address}})
    };
    api.apply(Kind::Namespace, &json!({"metadata": {"name": "shop"}}));
    api.apply(Kind::Service, &service("10.96.0.7"));
    let (_server, at) = serve(&api.url()).await;
    let name = "web.shop.svc.cluster.local.";
    let found = |address: &str| format!("NoError AA\n{name} A {address}");
    let reply = by_udp(at, name, RecordType::A).await;
    assert_eq!(summary(&reply), found("10.96.0.7"));

    api.apply(Kind::Service, &service("10.96.0.8"));
    let changed = async {
        while summary(&by_udp(at, name, RecordType::A).await) != found("10.96.0.8") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, changed)
        .await
        .expect("the change is seen");

    api.delete(Kind::Service, "shop", "web");
    let gone = async {
        while !summary(&by_tcp(at, name, RecordType::A).await).starts_with("NXDomain AA") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the end is seen");
}
