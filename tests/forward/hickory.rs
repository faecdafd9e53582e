//! hickory-server as the upstream, over UDP, TCP and TLS.
//!
//! An independent implementation: a fault in shared code cannot hide here.

use std::{net::SocketAddr, time::Duration};

use hickory_proto::{
    op::{Header, HeaderCounts, Metadata},
    rr::{RData, Record, rdata::A},
};
use hickory_server::{
    Server,
    net::runtime::Time,
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use lodestone::{
    query::Transport,
    reply::Section,
    wire::{Rcode, Type},
};
use tokio::net::{TcpListener, UdpSocket};

use crate::{
    authority::Authority,
    served::{Served, query},
};

const NAME: &str = "dns.example";

/// Number of addresses of names that start with `many`: more than fit in a datagram.
const MANY: u8 = 200;

/// Answers every name.
struct Names;

#[async_trait::async_trait]
impl RequestHandler for Names {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let name = request.queries.queries()[0].original().name().clone();
        let many = name.to_string().starts_with("many");
        let records: Vec<Record> = (1..=if many { MANY } else { 1 })
            .map(|last| Record::from_rdata(name.clone(), 60, RData::A(A::new(192, 0, 2, last))))
            .collect();
        let metadata = Metadata::response_from_request(&request.metadata);
        let builder = MessageResponseBuilder::from_message_request(request);
        let built = builder.build(metadata, &records, [], [], []);
        let sent = response.send_response(built).await;
        sent.unwrap_or_else(|_| {
            let counts = HeaderCounts::default();
            Header { metadata, counts }.into()
        })
    }
}

/// The server, its UDP and TCP address, and its TLS address.
async fn start(authority: &Authority) -> (Server<Names>, SocketAddr, SocketAddr) {
    let mut server = Server::new(Names);
    let patience = Duration::from_secs(5);
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = tcp.local_addr().unwrap();
    server.register_socket(UdpSocket::bind(plain).await.unwrap());
    server.register_listener(tcp, patience, 16);
    let tls = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let encrypted = tls.local_addr().unwrap();
    let config = authority.speaking(NAME, b"dot");
    server
        .register_tls_listener_with_tls_config(tls, patience, config)
        .unwrap();
    (server, plain, encrypted)
}

#[tokio::test]
async fn answers_of_hickory_server_are_returned() {
    let authority = Authority::new();
    let (_server, plain, encrypted) = start(&authority).await;
    let (ip, port, ca) = (encrypted.ip(), encrypted.port(), authority.path("ca.pem"));
    for to in [
        format!("forward . {plain}"),
        format!("forward . {plain} {{\nforce_tcp\n}}"),
        format!("forward . tls://{ip}%{NAME}:{port} {{\ntls {ca}\n}}"),
    ] {
        let served = Served::new(&to);
        for (name, count) in [("one.example", 1), ("many.example", usize::from(MANY))] {
            let mut query = query(name, Type::A);
            query.transport = Transport::Tcp;
            let reply = served.query(query).await;
            let answers = reply.section(Section::Answer);
            assert_eq!(
                (reply.rcode, answers.len()),
                (Rcode::NOERROR, count),
                "{to}"
            );
        }
    }
    // A truncated datagram is returned with TC.
    let served = Served::new(&format!("forward . {plain}"));
    let reply = served.ask("many.example").await;
    assert!(reply.truncated);
}
