//! Upstream servers of the tests.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{Name, RData, Record, rdata::SOA},
};

/// An upstream that denies all names but those that begin with `n`, which have an address.
pub fn denying() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let Ok(query) = Message::from_vec(&buffer[..length]) else {
                continue;
            };
            let mut reply = query.clone();
            reply.metadata.message_type = MessageType::Response;
            reply.edns = None;
            let name = query.queries[0].name().clone();
            if name.to_string().starts_with('n') {
                let data = RData::A(Ipv4Addr::new(192, 0, 2, 7).into());
                reply.answers.push(Record::from_rdata(name, 1, data));
            } else {
                reply.metadata.response_code = ResponseCode::NXDomain;
                let soa = SOA::new(Name::root(), Name::root(), 1, 2, 3, 4, 5);
                let record = Record::from_rdata(Name::root(), 5, RData::SOA(soa));
                reply.authorities.push(record);
            }
            let _ = socket.send_to(&reply.to_vec().unwrap(), from);
        }
    });
    address
}

/// A bound socket that is never read: an upstream without replies.
pub fn silent() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

/// An address at which nothing listens.
pub fn closed() -> SocketAddr {
    silent().local_addr().unwrap()
}
