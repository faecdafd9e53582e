//! DNS clients for the tests, and readable replies.

use std::{fmt::Write, net::SocketAddr, time::Duration};

use lodestone::{
    message::read_reply,
    reply::{Owner, Reply, Section},
    wire::{Header, Name, Rcode, Type},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// Timeout: longer than any operation takes.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A query for an A record with RD, as `dig` without EDNS sends it.
pub fn query(name: &str) -> Vec<u8> {
    query_for(name, Type::A)
}

pub fn query_for(name: &str, rtype: Type) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(Name::parse(name).unwrap().as_wire());
    message.extend(rtype.0.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// Adds an OPT record.
pub fn with_edns(mut query: Vec<u8>, payload: u16, version: u8, dnssec_ok: bool) -> Vec<u8> {
    query[11] += 1;
    query.extend([0, 0, 41]);
    query.extend(payload.to_be_bytes());
    query.extend([0, version, u8::from(dnssec_ok) << 7, 0, 0, 0]);
    query
}

/// Sets the id.
pub fn with_id(mut query: Vec<u8>, id: u16) -> Vec<u8> {
    query[..2].copy_from_slice(&id.to_be_bytes());
    query
}

/// A UDP client of one server.
pub async fn udp(server: SocketAddr) -> UdpSocket {
    let any = if server.is_ipv4() {
        "127.0.0.1:0"
    } else {
        "[::1]:0"
    };
    let socket = std::net::UdpSocket::bind(any).unwrap();
    socket.connect(server).unwrap();
    socket.set_nonblocking(true).unwrap();
    // Between the two calls it received from everywhere: late replies to another test that had its port.
    while socket.recv(&mut [0; 1]).is_ok() {}
    UdpSocket::from_std(socket).unwrap()
}

/// The next datagram; panics after the timeout.
pub async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_535];
    let received = timeout(PATIENCE, socket.recv(&mut buffer)).await;
    let length = received.expect("a datagram comes").unwrap();
    buffer.truncate(length);
    buffer
}

pub async fn ask_udp(server: SocketAddr, query: &[u8]) -> Vec<u8> {
    let socket = udp(server).await;
    socket.send(query).await.unwrap();
    receive(&socket).await
}

pub async fn ask_tcp(server: SocketAddr, query: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).await.unwrap();
    send(&mut stream, query).await;
    next(&mut stream).await.expect("a reply comes")
}

pub async fn send(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) {
    stream.write_all(&framed(message)).await.unwrap();
}

pub fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    framed.extend(message);
    framed
}

/// The next message of a stream; None at its end.
pub async fn next(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let read = async {
        let length = match stream.read_u16().await {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return None,
            Err(error) => panic!("the stream broke: {error}"),
        };
        let mut message = vec![0; length.into()];
        stream.read_exact(&mut message).await.unwrap();
        Some(message)
    };
    timeout(PATIENCE, read)
        .await
        .expect("the stream goes on or ends")
}

/// A parsed reply.
pub struct Read {
    pub header: Header,
    pub reply: Reply,
}

/// Parses a reply with a question.
pub fn read(bytes: &[u8]) -> Read {
    let mut reply = Reply::default();
    read_reply(bytes, &mut reply).unwrap_or_else(|error| panic!("{error} in {bytes:?}"));
    Read {
        header: Header::read(bytes).unwrap(),
        reply,
    }
}

pub fn rcode(bytes: &[u8]) -> Rcode {
    read(bytes).reply.rcode
}

/// The data of the first answer.
pub fn first_answer(bytes: &[u8]) -> Vec<u8> {
    let Read { reply, .. } = read(bytes);
    let answer = reply.section(Section::Answer).first();
    answer
        .map(|record| reply.data(record).to_vec())
        .unwrap_or_default()
}

/// The complete reply as text, independent of name compression.
pub fn describe(bytes: &[u8]) -> String {
    let header = Header::read(bytes).unwrap();
    let mut text = format!(
        "id {} flags {:04x} counts {:?}",
        header.id, header.flags, header.counts
    );
    if header.counts[0] == 0 {
        write!(text, " and {} bytes", bytes.len()).unwrap();
        return text;
    }
    let mut reply = Reply::default();
    let question = read_reply(bytes, &mut reply).unwrap();
    write!(
        text,
        "\n{} {} {}",
        question.name, question.class, question.rtype
    )
    .unwrap();
    write!(text, "\n{}", reply.rcode).unwrap();
    for section in Section::ALL {
        for record in reply.section(section) {
            let owner = match reply.owner(record) {
                Owner::Question => question.name,
                Owner::Name(name) => name.to_name(),
            };
            let data = reply.data(record);
            write!(text, "\n{owner} {} {} {data:?}", record.ttl, record.rtype).unwrap();
        }
    }
    text
}
