//! dnstap messages: the fields of `dnstap.proto` that a forwarding server sets.

use std::{
    net::{IpAddr, SocketAddr},
    time::{SystemTime, UNIX_EPOCH},
};

use prost::Message as _;

use crate::query::Transport;

/// The only kind of payload.
const MESSAGE: i32 = 1;

/// The outermost message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Dnstap {
    /// The identity of this server.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub identity: Option<Vec<u8>>,
    /// The version of this server.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub version: Option<Vec<u8>>,
    /// Free text.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub extra: Option<Vec<u8>>,
    /// The query or reply.
    #[prost(message, optional, tag = "14")]
    pub message: Option<Message>,
    /// Always `MESSAGE`.
    #[prost(int32, required, tag = "15")]
    pub kind: i32,
}

/// One query or reply.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    /// A [`Kind`].
    #[prost(int32, required, tag = "1")]
    pub kind: i32,
    /// 1 for IPv4, 2 for IPv6.
    #[prost(int32, optional, tag = "2")]
    pub socket_family: Option<i32>,
    /// 1 for UDP, 2 for TCP, 3 for DNS over TLS, 4 for HTTPS, 7 for QUIC.
    #[prost(int32, optional, tag = "3")]
    pub socket_protocol: Option<i32>,
    /// Address of the client.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub query_address: Option<Vec<u8>>,
    /// Address of the server.
    #[prost(bytes = "vec", optional, tag = "5")]
    pub response_address: Option<Vec<u8>>,
    /// Port of the client.
    #[prost(uint32, optional, tag = "6")]
    pub query_port: Option<u32>,
    /// Port of the server.
    #[prost(uint32, optional, tag = "7")]
    pub response_port: Option<u32>,
    /// Time of the query in seconds since the epoch.
    #[prost(uint64, optional, tag = "8")]
    pub query_time_sec: Option<u64>,
    /// Nanoseconds of that time.
    #[prost(fixed32, optional, tag = "9")]
    pub query_time_nsec: Option<u32>,
    /// The query.
    #[prost(bytes = "vec", optional, tag = "10")]
    pub query_message: Option<Vec<u8>>,
    /// Time of the reply in seconds since the epoch.
    #[prost(uint64, optional, tag = "12")]
    pub response_time_sec: Option<u64>,
    /// Nanoseconds of that time.
    #[prost(fixed32, optional, tag = "13")]
    pub response_time_nsec: Option<u32>,
    /// The reply.
    #[prost(bytes = "vec", optional, tag = "14")]
    pub response_message: Option<Vec<u8>>,
}

/// The type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A client's query, as received.
    ClientQuery = 5,
    /// The reply to it.
    ClientResponse = 6,
    /// A query to an upstream.
    ForwarderQuery = 7,
    /// The upstream's reply.
    ForwarderResponse = 8,
}

impl Message {
    /// An empty message of this kind.
    pub fn of(kind: Kind) -> Self {
        Self {
            kind: kind as i32,
            ..Self::default()
        }
    }

    /// Sets the address of the client, and the transport.
    pub fn set_client(&mut self, address: SocketAddr, transport: Transport) {
        self.query_address = Some(self.set_transport(address, transport));
        self.query_port = Some(address.port().into());
    }

    /// Sets the address of the server, and the transport.
    pub fn set_server(&mut self, address: SocketAddr, transport: Transport) {
        self.response_address = Some(self.set_transport(address, transport));
        self.response_port = Some(address.port().into());
    }

    fn set_transport(&mut self, address: SocketAddr, transport: Transport) -> Vec<u8> {
        self.socket_protocol = Some(protocol(transport));
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => {
                self.socket_family = Some(1);
                ip.octets().to_vec()
            }
            IpAddr::V6(ip) => {
                self.socket_family = Some(2);
                ip.octets().to_vec()
            }
        }
    }

    /// Sets the time of the query.
    pub fn set_query_time(&mut self, time: SystemTime) {
        let (seconds, nanoseconds) = parts(time);
        self.query_time_sec = Some(seconds);
        self.query_time_nsec = Some(nanoseconds);
    }

    /// Sets the time of the reply.
    pub fn set_response_time(&mut self, time: SystemTime) {
        let (seconds, nanoseconds) = parts(time);
        self.response_time_sec = Some(seconds);
        self.response_time_nsec = Some(nanoseconds);
    }

    /// Encodes it within the outermost message.
    pub fn encode(self, identity: &[u8], version: &[u8], extra: Option<Vec<u8>>) -> Vec<u8> {
        let outer = Dnstap {
            identity: Some(identity.to_vec()),
            version: Some(version.to_vec()),
            extra,
            message: Some(self),
            kind: MESSAGE,
        };
        outer.encode_to_vec()
    }
}

/// A number of `SocketProtocol`. There is none for gRPC, which is reported as TCP.
fn protocol(transport: Transport) -> i32 {
    match transport {
        Transport::Udp => 1,
        Transport::Tcp | Transport::Grpc => 2,
        Transport::Tls => 3,
        Transport::Https | Transport::Https3 => 4,
        Transport::Quic => 7,
    }
}

fn parts(time: SystemTime) -> (u64, u32) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs(), since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_have_the_numbers_of_dnstap_proto() {
        for (transport, number) in [
            (Transport::Udp, 1),
            (Transport::Tcp, 2),
            (Transport::Tls, 3),
            (Transport::Https, 4),
            (Transport::Https3, 4),
            (Transport::Quic, 7),
        ] {
            let mut message = Message::of(Kind::ClientQuery);
            message.set_client(([127, 0, 0, 1], 53).into(), transport);
            assert_eq!(message.socket_protocol, Some(number), "{transport:?}");
        }
    }
}
