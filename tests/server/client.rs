//! Asking as any client would, and saying what came.

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

/// Longer than anything here takes.
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

/// With an OPT record.
pub fn with_edns(mut query: Vec<u8>, payload: u16, version: u8, dnssec_ok: bool) -> Vec<u8> {
    query[11] += 1;
    query.extend([0, 0, 41]);
    query.extend(payload.to_be_bytes());
    query.extend([0, version, u8::from(dnssec_ok) << 7, 0, 0, 0]);
    query
}

/// With another id.
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
    let socket = UdpSocket::bind(any).await.unwrap();
    socket.connect(server).await.unwrap();
    socket
}

/// What comes next, which must come.
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

/// The next message of a stream, or nothing at its end.
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

/// A reply as read.
pub struct Read {
    pub header: Header,
    pub reply: Reply,
}

/// Reads a reply that has a question.
pub fn read(octets: &[u8]) -> Read {
    let mut reply = Reply::default();
    read_reply(octets, &mut reply).unwrap_or_else(|error| panic!("{error} in {octets:?}"));
    Read {
        header: Header::read(octets).unwrap(),
        reply,
    }
}

pub fn rcode(octets: &[u8]) -> Rcode {
    read(octets).reply.rcode
}

/// The data of the first answer.
pub fn first_answer(octets: &[u8]) -> Vec<u8> {
    let Read { reply, .. } = read(octets);
    let answer = reply.section(Section::Answer).first();
    answer
        .map(|record| reply.data(record).to_vec())
        .unwrap_or_default()
}

/// Everything that a reply says, however its names are compressed.
pub fn describe(octets: &[u8]) -> String {
    let header = Header::read(octets).unwrap();
    let mut text = format!(
        "id {} flags {:04x} counts {:?}",
        header.id, header.flags, header.counts
    );
    if header.counts[0] == 0 {
        write!(text, " and {} octets", octets.len()).unwrap();
        return text;
    }
    let mut reply = Reply::default();
    let question = read_reply(octets, &mut reply).unwrap();
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
