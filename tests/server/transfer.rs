//! Zone transfers over TCP and TLS.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query as Asked, ResponseCode},
    rr::{Name as HickoryName, RecordType},
};
use lodestone::{
    cluster::{Cluster, Namespace, Object, Port, Protocol, Service, ServiceKind, load},
    metrics::Metrics,
    plugin::{
        Block, Chain, Plugin,
        kubernetes::Kubernetes,
        transfer::{Allowed, Config, Rule, Transfers},
    },
    server::{
        Listener, ListenerConfig, Scheme, Servers,
        limits::{Limits, StreamSettings},
        route::{Route, Routes},
    },
    tls::Identity,
    wire::{Name, Rcode, Type},
    zone::{AnswerRules, ClusterView, Zones},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    runtime::Handle,
};

use crate::{
    client::{ask_tcp, ask_udp, next, query_for, rcode, send},
    identity::{Certificate, connect},
};

/// A cluster with this many Services, each with one named port.
fn cluster(services: u16) -> Arc<Cluster> {
    let service = |number: u16| {
        let [high, low] = number.to_be_bytes();
        Object::Service(Service {
            namespace: "shop".into(),
            name: format!("service-{number:05}").into(),
            kind: ServiceKind::ClusterIp,
            cluster_ips: [[10, 96, high, low].into()].into(),
            external_name: None,
            ports: [Port {
                name: "http".into(),
                number: Some(80),
                protocol: Protocol::Tcp,
            }]
            .into(),
            external: None,
            revision: lodestone::cluster::ObjectRevision::default(),
        })
    };
    let namespace = Object::Namespace(Namespace {
        name: "shop".into(),
    });
    load((0..services).map(service).chain([namespace]))
}

fn routes(front: Option<Plugin>, cluster: Arc<Cluster>, local: &[&str], to: &str) -> Routes {
    let name = Name::parse("cluster.local").unwrap();
    let view = Arc::new(ClusterView::new(
        cluster,
        Zones::new(&[name]).unwrap(),
        AnswerRules::default(),
        local.iter().map(|text| text.parse().unwrap()).collect(),
    ));
    let config = Config {
        rules: vec![Rule {
            zones: [name].into_iter().collect(),
            to: vec![match to {
                "*" => Allowed::Anyone,
                network => Allowed::From(network.parse().unwrap()),
            }],
            ..Rule::default()
        }],
    };
    let behind: [Plugin; 2] = [
        Transfers::new(config, vec![Arc::clone(&view) as _]).into(),
        Kubernetes::new(view, Box::default(), Duration::ZERO).into(),
    ];
    let plugins = front.into_iter().chain(behind).collect();
    Routes::new([Route::from(Arc::new(Block {
        zone: Name::ROOT,
        server: "dns://:0".into(),
        zone_label: ".".into(),
        view: "".into(),
        chain: Arc::new(Chain::new(plugins)),
        counters: Arc::default(),
        feed: Arc::default(),
    }))])
}

fn serve(services: u16, local: &[&str], to: &str) -> (Servers, SocketAddr) {
    serve_over(None, None, services, local, to)
}

/// A server that transfers its zone to every client that `front` passes.
pub fn serve_behind(front: Plugin, services: u16) -> (Servers, SocketAddr) {
    serve_over(Some(front), None, services, &["10.1.0.1"], "*")
}

fn serve_over(
    front: Option<Plugin>,
    tls: Option<Arc<Identity>>,
    services: u16,
    local: &[&str],
    to: &str,
) -> (Servers, SocketAddr) {
    let listener = Listener {
        scheme: if tls.is_some() {
            Scheme::Tls
        } else {
            Scheme::Dns
        },
        address: "127.0.0.1:0".parse().unwrap(),
    };
    let mut servers = Servers::new(Handle::current(), Limits::default(), Metrics::new());
    servers
        .apply(vec![ListenerConfig {
            listener,
            label: "dns://:0".into(),
            routes: routes(front, cluster(services), local, to),
            streams: StreamSettings::default(),
            udp_threads: Some(1),
            tls,
            proxy: None,
        }])
        .unwrap();
    let at = servers.bound(listener)[0];
    (servers, at)
}

/// All messages of a transfer, with query and replies encoded by hickory-proto.
async fn transfer(at: SocketAddr) -> Vec<Message> {
    transfer_over(TcpStream::connect(at).await.unwrap()).await
}

async fn transfer_over(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Vec<Message> {
    let mut question = Message::new(7, MessageType::Query, OpCode::Query);
    let zone = HickoryName::from_ascii("cluster.local.").unwrap();
    question.add_query(Asked::query(zone, RecordType::AXFR));
    send(&mut stream, &question.to_vec().unwrap()).await;
    let mut messages = Vec::new();
    let mut ends = 0;
    while ends < 2 {
        let bytes = next(&mut stream).await.expect("the transfer goes on");
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(message.metadata.response_code, ResponseCode::NoError);
        assert!(message.metadata.authoritative && !message.metadata.truncation);
        assert_eq!(message.queries, question.queries);
        let is_soa = |it: &&hickory_proto::rr::Record| it.record_type() == RecordType::SOA;
        ends += message.answers.iter().filter(is_soa).count();
        messages.push(message);
    }
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn zone_larger_than_a_message_is_transferred() {
    let (_servers, at) = serve(3000, &["10.1.0.1", "10.1.0.2"], "127.0.0.0/8");
    let messages = transfer(at).await;
    assert!(messages.len() > 4, "{} messages", messages.len());
    let records: Vec<_> = messages.iter().flat_map(|it| &it.answers).collect();
    assert_eq!(records.len(), 2 + 1 + 2 + 3 * 3000);
    for (record, rtype) in [
        (records[0], RecordType::SOA),
        (records[1], RecordType::NS),
        (records[2], RecordType::A),
        (records[records.len() - 1], RecordType::SOA),
    ] {
        assert_eq!(record.record_type(), rtype);
    }
    let first = HickoryName::from_ascii("service-00000.shop.svc.cluster.local.").unwrap();
    assert_eq!(records[5].name, first);
    let bytes: usize = messages.iter().map(|it| it.to_vec().unwrap().len()).sum();
    assert!(bytes > 65_535, "{bytes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn transfer_over_tls_has_no_time_limit() {
    let certificate = Certificate::new();
    let identity = Some(certificate.identity());
    let (_servers, at) = serve_over(None, identity, 8000, &["10.1.0.1"], "*");
    let stream = connect(at, certificate.client(&["dot"])).await;
    let messages = transfer_over(stream).await;
    assert!(messages.len() > 64, "{} messages", messages.len());
    let records = messages.iter().map(|it| it.answers.len()).sum::<usize>();
    assert_eq!(records, 2 + 1 + 1 + 3 * 8000);
}

#[tokio::test(flavor = "multi_thread")]
async fn server_without_addresses_transfers_its_zones() {
    let (_servers, at) = serve(2, &[], "*");
    let messages = transfer(at).await;
    let records: Vec<_> = messages.iter().flat_map(|it| &it.answers).collect();
    assert_eq!(records.len(), 2 + 1 + 3 * 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn transfer_and_queries_share_a_connection() {
    let (_servers, at) = serve(3000, &[], "*");
    let mut stream = TcpStream::connect(at).await.unwrap();
    send(&mut stream, &query_for("cluster.local", Type::AXFR)).await;
    send(&mut stream, &query_for("cluster.local", Type::AXFR)).await;
    send(&mut stream, &query_for("cluster.local", Type::SOA)).await;
    let mut ends = 0;
    while ends < 5 {
        let bytes = next(&mut stream).await.unwrap();
        let message = Message::from_vec(&bytes).unwrap();
        let answers = message.answers.iter();
        ends += answers
            .filter(|it| it.record_type() == RecordType::SOA)
            .count();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_without_permission_is_refused() {
    let (_servers, at) = serve(2, &[], "192.0.2.1/32");
    let axfr = |name| query_for(name, Type::AXFR);
    assert_eq!(
        rcode(&ask_tcp(at, &axfr("cluster.local")).await),
        Rcode::REFUSED
    );
    let (_servers, at) = serve(2, &[], "*");
    assert_eq!(
        rcode(&ask_udp(at, &axfr("cluster.local")).await),
        Rcode::REFUSED
    );
    assert_eq!(
        rcode(&ask_tcp(at, &axfr("foo.cluster.local")).await),
        Rcode::REFUSED
    );
    let ixfr = query_for("cluster.local", Type::IXFR);
    assert_eq!(rcode(&ask_tcp(at, &ixfr).await), Rcode::FORMERR);
}

#[tokio::test(flavor = "multi_thread")]
async fn query_during_a_transfer_is_not_delayed() {
    let (_servers, at) = serve(8000, &[], "*");
    let mut stream = TcpStream::connect(at).await.unwrap();
    let framed = [Type::AXFR, Type::SOA].map(|rtype| {
        let question = query_for("cluster.local", rtype);
        let length = u16::try_from(question.len()).unwrap().to_be_bytes();
        [&length[..], &question].concat()
    });
    stream.write_all(&framed.concat()).await.unwrap();
    let (mut soas, mut asked) = (0, Vec::new());
    while soas < 3 {
        let bytes = next(&mut stream).await.unwrap();
        let message = Message::from_vec(&bytes).unwrap();
        asked.push(message.queries[0].query_type());
        let answers = message.answers.iter();
        soas += answers
            .filter(|it| it.record_type() == RecordType::SOA)
            .count();
    }
    assert!(asked.len() > 64, "{} messages", asked.len());
    // It is answered during the transfer, if not before.
    assert_eq!(asked.last(), Some(&RecordType::AXFR));
    assert!(asked.contains(&RecordType::SOA));
}

/// An IXFR query with the client's serial.
/// Of all tests here, no other begins as many.
#[tokio::test(flavor = "multi_thread")]
async fn sixteen_transfers_are_written_at_a_time_and_others_wait() {
    let (_servers, at) = serve(60_000, &["10.1.0.1"], "*");
    let request = query_for("cluster.local", Type::AXFR);
    let begin = async || {
        let mut stream = TcpStream::connect(at).await.unwrap();
        send(&mut stream, &request).await;
        stream
    };
    let mut unread = Vec::new();
    for _ in 0..16 {
        let mut stream = begin().await;
        // More follows than buffers take.
        next(&mut stream).await.unwrap();
        unread.push(stream);
    }
    let mut late = begin().await;
    let waits = tokio::time::timeout(Duration::from_millis(300), late.readable()).await;
    assert!(waits.is_err(), "it has begun");
    // Queries of the same connection do not wait.
    send(
        &mut late,
        &query_for("service-00001.shop.svc.cluster.local", Type::A),
    )
    .await;
    assert_eq!(rcode(&next(&mut late).await.unwrap()), Rcode::NOERROR);
    unread.pop();
    assert_eq!(rcode(&next(&mut late).await.unwrap()), Rcode::NOERROR);
}

fn ixfr(zone: &str, serial: u32) -> Vec<u8> {
    let mut message = query_for(zone, Type::IXFR);
    message[9] = 1;
    // The SOA record: the zone's name, two root names and five numbers.
    message.extend([0xC0, 12, 0, 6, 0, 1, 0, 0, 0, 0, 0, 22, 0, 0]);
    message.extend(serial.to_be_bytes());
    message.extend([0; 16]);
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn ixfr_over_udp_returns_the_soa_record_only() {
    let (_servers, at) = serve(100, &[], "127.0.0.0/8");
    let reply = ask_udp(at, &query_for("cluster.local", Type::SOA)).await;
    let ours = Message::from_vec(&reply).unwrap();
    let serial = |message: &Message| match &message.answers[0].data {
        hickory_proto::rr::RData::SOA(soa) => soa.serial,
        other => panic!("{other}"),
    };
    for held in [1, serial(&ours).wrapping_sub(1), serial(&ours)] {
        let reply = ask_udp(at, &ixfr("cluster.local", held)).await;
        let reply = Message::from_vec(&reply).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert!(reply.metadata.authoritative && !reply.metadata.truncation);
        assert_eq!(reply.answers.len(), 1);
        assert_eq!(serial(&reply), serial(&ours));
    }
    for zone in ["foo.cluster.local", "elsewhere.test"] {
        let reply = ask_udp(at, &ixfr(zone, 1)).await;
        assert_eq!(rcode(&reply), Rcode::REFUSED, "{zone}");
    }
    let (_servers, at) = serve(2, &[], "192.0.2.1/32");
    let reply = ask_udp(at, &ixfr("cluster.local", 1)).await;
    assert_eq!(rcode(&reply), Rcode::REFUSED);
}
