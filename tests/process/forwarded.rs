//! Forwarded UDP queries, from the client's socket to the upstream's and back.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{RData, Record, RecordType},
};

use super::server::{Server, question};

/// An upstream controlled by the test.
struct Upstream(UdpSocket);

impl Upstream {
    fn new() -> Self {
        Self(socket())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    fn next(&self) -> (Message, SocketAddr) {
        let mut buffer = [0; 1500];
        let (length, from) = self.0.recv_from(&mut buffer).expect("a question");
        (Message::from_vec(&buffer[..length]).unwrap(), from)
    }

    /// Answers with the number in the name: `n7.example.` is 192.0.2.7.
    fn answer(&self, (question, from): &(Message, SocketAddr)) {
        let name = question.queries[0].name().clone();
        let text = name.to_string();
        let number = text.trim_start_matches('n').split('.').next().unwrap();
        let number: u8 = number.parse().unwrap();
        let mut answer = question.clone();
        answer.metadata.message_type = MessageType::Response;
        let data = RData::A(Ipv4Addr::new(192, 0, 2, number).into());
        let record = Record::from_rdata(name, 30, data);
        answer.answers.push(record);
        self.0.send_to(&answer.to_vec().unwrap(), from).unwrap();
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let patience = Some(Duration::from_secs(10));
    socket.set_read_timeout(patience).unwrap();
    socket
}

fn server(upstream: &Upstream) -> Server {
    let to = upstream.address();
    Server::start(&format!(".:0 {{\n bind 127.0.0.1\n forward . {to}\n}}\n"))
}

fn ask(client: &UdpSocket, server: &Server, id: u16, name: &str) {
    let message = question(id, name, RecordType::A);
    client.send_to(&message, server.address).unwrap();
}

/// The id of the next reply, and the last byte of its address.
fn reply(client: &UdpSocket) -> (u16, u8) {
    let mut buffer = [0; 1500];
    let length = client.recv(&mut buffer).expect("a reply");
    let message = Message::from_vec(&buffer[..length]).unwrap();
    let Some(RData::A(address)) = message.answers.first().map(|record| &record.data) else {
        panic!("{message}");
    };
    (message.metadata.id, address.0.octets()[3])
}

#[test]
fn each_query_of_a_burst_gets_its_own_answer_in_any_order() {
    let upstream = Upstream::new();
    let server = server(&upstream);
    let client = socket();
    for id in 0..200 {
        ask(&client, &server, id, &format!("n{id}.example."));
    }
    let asked: Vec<_> = (0..200).map(|_| upstream.next()).collect();
    let ports: HashSet<_> = asked.iter().map(|(_, from)| from.port()).collect();
    let ids: HashSet<_> = asked.iter().map(|(it, _)| it.metadata.id).collect();
    assert!(ports.len() <= 16, "few sockets: {ports:?}");
    assert!(ids.len() > 190, "ids of our own choice");
    asked.iter().rev().for_each(|one| upstream.answer(one));
    let replies: HashSet<_> = (0..200).map(|_| reply(&client)).collect();
    assert_eq!(replies.len(), 200);
    for (id, number) in replies {
        assert_eq!(id, u16::from(number));
    }
}

#[test]
fn identical_queries_in_flight_are_coalesced() {
    let upstream = Upstream::new();
    let server = server(&upstream);
    let clients: Vec<_> = (0..20).map(|_| socket()).collect();
    for (id, client) in (0..).zip(&clients) {
        ask(client, &server, id, "n7.example.");
    }
    // All have been read once a later query of each socket has reached the upstream.
    let first = upstream.next();
    for (id, client) in (100..).zip(&clients) {
        ask(client, &server, id, &format!("n{id}.example."));
    }
    for _ in &clients {
        let other = upstream.next();
        let name = other.0.queries[0].name().to_string();
        assert_ne!(name, "n7.example.", "once is enough");
        upstream.answer(&other);
    }
    for (id, client) in (100..).zip(&clients) {
        assert_eq!(reply(client), (id, u8::try_from(id).unwrap()));
    }
    upstream.answer(&first);
    for (id, client) in (0..).zip(&clients) {
        assert_eq!(reply(client), (id, 7));
    }
}

#[test]
fn next_passes_the_query_to_the_next_forward() {
    let (first, second) = (Upstream::new(), Upstream::new());
    let server = Server::start(&format!(
        ".:0 {{\n bind 127.0.0.1\n forward . {} {{\n next NXDOMAIN\n }}\n forward . {}\n}}\n",
        first.address(),
        second.address()
    ));
    let client = socket();
    ask(&client, &server, 1, "n5.example.");
    let (mut question, from) = first.next();
    question.metadata.message_type = MessageType::Response;
    question.metadata.response_code = ResponseCode::NXDomain;
    first.0.send_to(&question.to_vec().unwrap(), from).unwrap();
    second.answer(&second.next());
    assert_eq!(reply(&client), (1, 5));
}

#[test]
fn shutdown_waits_for_a_query_in_flight() {
    let upstream = Upstream::new();
    let mut server = server(&upstream);
    let client = socket();
    ask(&client, &server, 1, "n1.example.");
    let under_way = upstream.next();
    server.signal("TERM");
    // New connections are refused once the listeners are closed.
    while TcpStream::connect(server.address).is_ok() {}
    upstream.answer(&under_way);
    assert_eq!(reply(&client), (1, 1));
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn upstream_down_and_up_are_logged_once_each() {
    let gone = Upstream::new();
    let to = gone.address();
    drop(gone);
    let server = Server::start(&format!(
        ".:0 {{\n bind 127.0.0.1\n forward . {to} {{\n max_fails 1\n health_check 50ms\n }}\n}}\n"
    ));
    server.ask("n1.example", RecordType::A);
    server.line(|line| line.contains(&format!("{to} is down")));
    let back = UdpSocket::bind(to).unwrap();
    let answering = std::thread::spawn(move || {
        let upstream = Upstream(back);
        let (mut check, from) = upstream.next();
        assert_eq!(check.queries[0].query_type(), RecordType::NS);
        check.metadata.message_type = MessageType::Response;
        upstream.0.send_to(&check.to_vec().unwrap(), from).unwrap();
    });
    server.line(|line| line.contains(&format!("{to} is up again")));
    answering.join().unwrap();
}
