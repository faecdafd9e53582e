//! A client that uses EDNS, and what it reads of a reply.

use std::net::{SocketAddr, UdpSocket};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{
        DNSClass, Name, RData, RecordType,
        rdata::opt::{EdnsCode, EdnsOption},
    },
};

use super::server::PATIENCE;

/// What a client learns.
#[derive(Debug, PartialEq, Eq)]
pub struct Learnt {
    /// The response code, in capital letters.
    pub rcode: String,
    /// The extended DNS error: INFO-CODE and EXTRA-TEXT.
    pub error: Option<(u16, String)>,
    /// The data of the answer section.
    pub answers: Vec<String>,
    /// Whether TC is set.
    pub truncated: bool,
}

/// Sends a query over UDP. `payload` is the size in the OPT record; without one there is none.
pub fn ask(server: SocketAddr, name: &str, rtype: RecordType, payload: Option<u16>) -> Learnt {
    ask_in(server, name, rtype, DNSClass::IN, payload)
}

/// Like [`ask`], in a class.
pub fn ask_in(
    server: SocketAddr,
    name: &str,
    rtype: RecordType,
    class: DNSClass,
    payload: Option<u16>,
) -> Learnt {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    // hickory-proto takes `\DDD` for octal digits.
    let labels = lodestone::wire::Name::parse(name).unwrap();
    let name = Name::from_labels(labels.as_ref().labels()).unwrap();
    let mut query = Query::query(name, rtype);
    query.set_query_class(class);
    message.add_query(query);
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server).unwrap();
    socket.send(&message.to_vec().unwrap()).unwrap();
    let mut bytes = vec![0; 65_535];
    let length = socket.recv(&mut bytes).expect("a reply");
    read(&Message::from_vec(&bytes[..length]).expect("a message"))
}

fn read(reply: &Message) -> Learnt {
    let error = reply.edns.as_ref().and_then(|edns| {
        let option = edns.option(EdnsCode::Unknown(15))?;
        let EdnsOption::Unknown(15, data) = option else {
            return None;
        };
        let (code, text) = data.split_first_chunk::<2>()?;
        let text = String::from_utf8(text.to_vec()).unwrap();
        Some((u16::from_be_bytes(*code), text))
    });
    let answers = reply.answers.iter().map(|record| match &record.data {
        RData::TXT(txt) => {
            let parts = txt.txt_data.iter();
            parts.map(|part| String::from_utf8_lossy(part)).collect()
        }
        data => data.to_string(),
    });
    Learnt {
        rcode: format!("{:?}", reply.metadata.response_code).to_uppercase(),
        error,
        answers: answers.collect(),
        truncated: reply.metadata.truncation,
    }
}
