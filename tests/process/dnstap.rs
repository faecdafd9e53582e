//! `dnstap`, with a frame stream receiver in the test.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    sync::mpsc::{Receiver, channel},
};

use hickory_proto::{op::Message, rr::RecordType};
use lodestone::plugin::dnstap::message::{Dnstap, Kind};
use prost::Message as _;

use super::server::{PATIENCE, Server, exchange};

const CONTENT: &[u8] = b"protobuf:dnstap.Dnstap";

/// Receives messages from `stream`, from the handshake to the end. Returns whether STOP was received.
fn read(mut stream: impl Read + Write, sender: &std::sync::mpsc::Sender<Dnstap>) -> bool {
    let ready = control(&mut stream);
    assert_eq!(ready[..4], 4u32.to_be_bytes(), "READY");
    assert!(ready.ends_with(CONTENT));
    send(&mut stream, 1, true);
    assert_eq!(control(&mut stream)[..4], 2u32.to_be_bytes(), "START");
    let mut length = [0; 4];
    while stream.read_exact(&mut length).is_ok() {
        let length = u32::from_be_bytes(length) as usize;
        let mut frame = vec![0; length];
        if length == 0 {
            // STOP; its escape has just been read.
            send(&mut stream, 5, false);
            return true;
        }
        stream.read_exact(&mut frame).unwrap();
        if sender.send(Dnstap::decode(&frame[..]).unwrap()).is_err() {
            break;
        }
    }
    false
}

fn control(stream: &mut impl Read) -> Vec<u8> {
    let mut head = [0; 8];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[..4], [0; 4]);
    let mut body = vec![0; u32::from_be_bytes(head[4..].try_into().unwrap()) as usize];
    stream.read_exact(&mut body).unwrap();
    body
}

fn send(stream: &mut impl Write, kind: u32, with_content: bool) {
    let mut body = kind.to_be_bytes().to_vec();
    if with_content {
        body.extend([0, 0, 0, 1, 0, 0, 0, 22]);
        body.extend(CONTENT);
    }
    let length = u32::try_from(body.len()).unwrap();
    stream.write_all(&[0; 4]).unwrap();
    stream.write_all(&length.to_be_bytes()).unwrap();
    stream.write_all(&body).unwrap();
}

fn next(messages: &Receiver<Dnstap>) -> Dnstap {
    messages.recv_timeout(PATIENCE).expect("a message")
}

fn corefile(dnstap: &str) -> String {
    format!(
        ".:0 {{
            bind 127.0.0.1
            metadata
            {dnstap}
            hosts {{
                192.0.2.1 name.example
            }}
        }}\n"
    )
}

#[test]
fn query_and_reply_are_sent_in_full_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (sender, messages) = channel();
    let address = listener.local_addr().unwrap();
    let server = Server::start(&corefile(&format!(
        "dnstap tcp://{address} full {{
            identity me
            version 7
            extra \"{{name}} {{rcode}} {{/view/name}}\"
        }}
        view mine"
    )));
    std::thread::spawn(move || read(listener.accept().unwrap().0, &sender));
    let reply = exchange(server.address, "Name.example.", RecordType::A).unwrap();
    let query = next(&messages);
    assert_eq!(query.identity.as_deref(), Some(&b"me"[..]));
    assert_eq!(query.version.as_deref(), Some(&b"7"[..]));
    assert_eq!(query.extra.as_deref(), Some(&b"name.example. - mine"[..]));
    let query = query.message.unwrap();
    assert_eq!(query.kind, Kind::ClientQuery as i32);
    let (family, protocol) = (query.socket_family, query.socket_protocol);
    assert_eq!((family, protocol), (Some(1), Some(1)));
    assert_eq!(query.query_address.as_deref(), Some(&[127, 0, 0, 1][..]));
    assert!(query.response_address.is_none() && query.response_message.is_none());
    let asked = Message::from_vec(&query.query_message.unwrap()).unwrap();
    assert_eq!(asked.metadata.id, 4711);
    assert_eq!(asked.queries[0].name().to_ascii(), "Name.example.");

    let response = next(&messages).message.unwrap();
    assert_eq!(response.kind, Kind::ClientResponse as i32);
    assert_eq!(response.query_port, query.query_port);
    assert!(response.query_message.is_none());
    let received = Message::from_vec(&response.response_message.unwrap()).unwrap();
    assert_eq!(received, reply);
    let asked_at = (response.query_time_sec, response.query_time_nsec);
    assert!(asked_at <= (response.response_time_sec, response.response_time_nsec));
}

#[test]
fn upstream_queries_and_responses_are_sent() {
    let upstream =
        Server::start(".:0 {\n bind 127.0.0.1\n hosts {\n 192.0.2.1 name.example\n }\n}\n");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tap.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (sender, messages) = channel();
    std::thread::spawn(move || read(listener.accept().unwrap().0, &sender));
    let to = upstream.address;
    let server = Server::start(&format!(
        ".:0 {{\n bind 127.0.0.1\n dnstap {}\n forward . {to}\n}}\n",
        path.display()
    ));
    let reply = server.ask("name.example.", RecordType::A);
    assert_eq!(reply, "NoError 192.0.2.1");
    let wanted = [
        Kind::ClientQuery,
        Kind::ForwarderQuery,
        Kind::ForwarderResponse,
        Kind::ClientResponse,
    ];
    let received = wanted.map(|kind| {
        let message = next(&messages).message.unwrap();
        assert_eq!(message.kind, kind as i32);
        message
    });
    for forwarded in &received[1..3] {
        assert_eq!(forwarded.response_port, Some(to.port().into()));
        assert_eq!(forwarded.socket_protocol, Some(1));
        assert!(forwarded.query_message.is_none(), "not in full");
    }
    assert!(received[2].query_port.is_some_and(|port| port > 0));
    assert!(received[1].response_time_sec.is_none() && received[2].response_time_sec.is_some());
}

#[test]
fn lost_connection_is_reestablished_without_delaying_queries() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::start(&corefile(&format!("dnstap tcp://{address}")));
    // This receiver disconnects during the handshake.
    drop(listener.accept().unwrap());
    for _ in 0..20 {
        let reply = server.ask("name.example.", RecordType::A);
        assert_eq!(reply, "NoError 192.0.2.1");
    }
    let (sender, messages) = channel();
    std::thread::spawn(move || read(listener.accept().unwrap().0, &sender));
    for _ in 0..40 {
        next(&messages);
    }
    assert!(messages.try_recv().is_err(), "two a question");
}

#[test]
fn listener_sends_to_every_receiver_and_ends_with_stop() {
    let mut server = Server::start(&corefile("dnstap listen tap.sock"));
    let path = server.directory().join("tap.sock");
    let connect = || loop {
        match UnixStream::connect(&path) {
            Ok(stream) => break stream,
            Err(_) => std::thread::yield_now(),
        }
    };
    let (sender, messages) = channel();
    let readers = [connect(), connect()].map(|stream| {
        let sender = sender.clone();
        std::thread::spawn(move || read(stream, &sender))
    });
    drop(sender);
    // A new receiver gets one of the next queries.
    let mut count = 0;
    while count < 12 {
        server.ask("name.example.", RecordType::A);
        count += messages.try_iter().count();
    }
    server.signal("TERM");
    assert!(server.end().success());
    for reader in readers {
        assert!(reader.join().unwrap(), "a good-bye");
    }
    assert!(!path.exists(), "the socket's file goes with it");
}

/// A connection to the listener, once there is one.
fn connect(port: u16) -> TcpStream {
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return stream,
            Err(_) => std::thread::yield_now(),
        }
    }
}

#[test]
fn listener_over_tcp_accepts_a_receiver() {
    let port = super::server::free_port();
    let server = Server::start(&corefile(&format!(
        "dnstap listen tcp://127.0.0.1:{port} full"
    )));
    let stream = connect(port);
    let (sender, messages) = channel();
    std::thread::spawn(move || read(stream, &sender));
    while messages.try_recv().is_err() {
        server.ask("name.example.", RecordType::A);
    }
}

#[test]
fn silent_connections_do_not_lock_out_a_receiver() {
    let port = super::server::free_port();
    let server = Server::start(&corefile(&format!(
        "dnstap listen tcp://127.0.0.1:{port} full"
    )));
    // As many as there may be.
    let _silent: Vec<_> = (0..64).map(|_| connect(port)).collect();
    let (sender, messages) = channel();
    let stream = connect(port);
    std::thread::spawn(move || read(stream, &sender));
    let begun = std::time::Instant::now();
    while messages.try_recv().is_err() {
        assert!(begun.elapsed() < super::server::PATIENCE, "it gets nothing");
        server.ask("name.example.", RecordType::A);
    }
}
