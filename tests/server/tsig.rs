//! TSIG over real sockets, signed and verified by hickory-proto.

use std::net::SocketAddr;

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query as Asked, ResponseCode},
    rr::{
        Name as HickoryName, RecordType, TSigVerifier, TSigner,
        rdata::tsig::{TsigAlgorithm, TsigError},
    },
};
use lodestone::{
    plugin::{
        ZoneList,
        tsig::{Config, Required, Secret, Tsig},
    },
    server::Servers,
    tsig,
    wire::{Name, Type},
};
use tokio::net::TcpStream;

use crate::{
    client::{ask_tcp, ask_udp, next, query_for, receive, send, udp},
    transfer::serve_behind,
};

pub const KEY: &[u8] = b"a secret of some length, as secrets should have";

fn serve(types: Required<Type>, services: u16) -> (Servers, SocketAddr) {
    let key = Name::parse("transfer.example").unwrap();
    let config = Config {
        zones: ZoneList::all(),
        keys: [(key, Secret(KEY.into()))].into(),
        files: Vec::new(),
        types,
        opcodes: Required::default(),
    };
    serve_behind(Tsig::new(config).into(), services)
}

pub fn signer(name: &str, key: &[u8], algorithm: TsigAlgorithm) -> TSigner {
    let name = HickoryName::from_ascii(name).unwrap();
    TSigner::new(key.to_vec(), algorithm, name, 300).unwrap()
}

pub fn right() -> TSigner {
    signer("transfer.example.", KEY, TsigAlgorithm::HmacSha256)
}

/// A query signed at this time.
pub fn signed(name: &str, rtype: RecordType, signer: &TSigner, at: u64) -> (Vec<u8>, TSigVerifier) {
    let mut question = Message::new(7, MessageType::Query, OpCode::Query);
    question.add_query(Asked::query(HickoryName::from_ascii(name).unwrap(), rtype));
    if rtype != RecordType::AXFR {
        question.edns = Some(Edns::new());
    }
    let verifier = question.finalize(signer, at).unwrap().unwrap();
    (question.to_vec().unwrap(), verifier)
}

const NAME: &str = "service-00000.shop.svc.cluster.local.";

#[tokio::test(flavor = "multi_thread")]
async fn signed_query_gets_a_signed_reply() {
    let (_servers, at) = serve(Required::All, 1);
    for algorithm in [
        TsigAlgorithm::HmacSha256,
        TsigAlgorithm::HmacSha384,
        TsigAlgorithm::HmacSha512,
    ] {
        // Key names are case-insensitive.
        for key in ["transfer.example.", "Transfer.EXAMPLE."] {
            let signer = signer(key, KEY, algorithm.clone());
            for (name, rcode) in [
                (NAME, ResponseCode::NoError),
                ("none.cluster.local.", ResponseCode::NXDomain),
            ] {
                let (bytes, mut verifier) = signed(name, RecordType::A, &signer, tsig::now());
                let socket = udp(at).await;
                socket.send(&bytes).await.unwrap();
                let reply = verifier.verify(&receive(&socket).await).unwrap();
                assert_eq!(reply.metadata.response_code, rcode, "{name}");
                assert!(reply.edns.is_some());
            }
        }
    }
    let (bytes, mut verifier) = signed(NAME, RecordType::A, &right(), tsig::now());
    let mut stream = TcpStream::connect(at).await.unwrap();
    send(&mut stream, &bytes).await;
    verifier.verify(&next(&mut stream).await.unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_transfer_are_signed_in_sequence() {
    let (_servers, at) = serve(Required::Only([Type::AXFR].into()), 3000);
    let (bytes, mut verifier) = signed("cluster.local.", RecordType::AXFR, &right(), tsig::now());
    let mut stream = TcpStream::connect(at).await.unwrap();
    send(&mut stream, &bytes).await;
    let (mut ends, mut messages) = (0, 0);
    while ends < 2 {
        let bytes = next(&mut stream).await.expect("the transfer goes on");
        let message = verifier.verify(&bytes).unwrap();
        let records = message.answers.iter();
        ends += records
            .filter(|it| it.record_type() == RecordType::SOA)
            .count();
        messages += 1;
    }
    assert!(messages > 4, "{messages}");
}

/// No plugin here has the zone of the NOTIFY.
#[tokio::test(flavor = "multi_thread")]
async fn notify_is_verified_and_its_reply_signed() {
    let (_servers, at) = serve(Required::All, 1);
    let notify = |signer: &TSigner| {
        let mut message = Message::new(9, MessageType::Query, OpCode::Notify);
        let zone = HickoryName::from_ascii("cluster.local.").unwrap();
        message.add_query(Asked::query(zone, RecordType::SOA));
        let verifier = message.finalize(signer, tsig::now()).unwrap().unwrap();
        (message.to_vec().unwrap(), verifier)
    };
    let (bytes, mut verifier) = notify(&right());
    let reply = verifier.verify(&ask_udp(at, &bytes).await).unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::NotImp);
    let wrong = signer("other.example.", KEY, TsigAlgorithm::HmacSha256);
    let (bytes, _) = notify(&wrong);
    let reply = ask_udp(at, &bytes).await;
    let wanted = (ResponseCode::NotAuth, TsigError::BadKey, false);
    assert_eq!(outcome(&reply), wanted);
    let mut unsigned = query_for("cluster.local", Type::SOA);
    unsigned[2] = 4 << 3;
    assert_eq!(ask_udp(at, &unsigned).await[3] & 0x0F, 5);
}

/// Rcode and TSIG error of a reply, and whether it is signed.
pub fn outcome(bytes: &[u8]) -> (ResponseCode, TsigError, bool) {
    let message = Message::from_vec(bytes).unwrap();
    let record = message.signature().expect("a TSIG record");
    let data = &record.data;
    let error = data.error.unwrap_or_else(|| panic!("{data:?}"));
    (message.metadata.response_code, error, !data.mac.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_signature_gets_a_tsig_error() {
    let (_servers, at) = serve(Required::default(), 1);
    let now = tsig::now();
    let algorithm = TsigAlgorithm::HmacSha256;
    for (signer, time, error, is_signed) in [
        (
            signer("transfer.example.", b"another", algorithm.clone()),
            now,
            TsigError::BadSig,
            false,
        ),
        (
            signer("other.example.", KEY, algorithm),
            now,
            TsigError::BadKey,
            false,
        ),
        (right(), now - 400, TsigError::BadTime, true),
        (right(), now + 400, TsigError::BadTime, true),
    ] {
        let (bytes, mut verifier) = signed(NAME, RecordType::A, &signer, time);
        let reply = ask_udp(at, &bytes).await;
        let wanted = (ResponseCode::NotAuth, error, is_signed);
        assert_eq!(outcome(&reply), wanted);
        let message = Message::from_vec(&reply).unwrap();
        assert!(message.answers.is_empty());
        if is_signed {
            // It carries the client's time, so that the client can verify it, and the server's.
            verifier.verify(&reply).unwrap();
            let other = &message.signature().unwrap().data.other;
            let ours = other
                .iter()
                .fold(0, |time, byte| time << 8 | u64::from(*byte));
            assert!(ours.abs_diff(now) < 60, "{other:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_changed_byte_is_detected() {
    let (_servers, at) = serve(Required::default(), 1);
    let (bytes, _) = signed(NAME, RecordType::A, &right(), tsig::now());
    let socket = udp(at).await;
    // The id is not signed; a response or another opcode is not a query.
    for place in (3..bytes.len()).filter(|at| !(4..12).contains(at)) {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        socket.send(&changed).await.unwrap();
        let reply = receive(&socket).await;
        let rcode = reply[3] & 0x0F;
        // FORMERR, REFUSED for another class, NOTAUTH; or NXDOMAIN if the TSIG record has become
        // another record, which is ignored.
        let is_signed = Message::from_vec(&reply).is_ok_and(|message| {
            message
                .signature()
                .is_some_and(|it| !it.data.mac.is_empty())
        });
        assert!(!is_signed || rcode == 9, "byte {place}: rcode {rcode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unsigned_query_is_refused_if_a_signature_is_required() {
    let (_servers, at) = serve(Required::Only([Type::AXFR, Type::TXT].into()), 1);
    for (rtype, rcode) in [(Type::AXFR, 5), (Type::TXT, 5), (Type::A, 0)] {
        let reply = ask_tcp(at, &query_for(NAME, rtype)).await;
        assert_eq!(reply[3] & 0x0F, rcode, "{rtype}");
        let message = Message::from_vec(&reply).unwrap();
        assert!(
            message.signature().is_none(),
            "an unsigned query gets an unsigned reply"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_tsig_record_is_formerr() {
    let (_servers, at) = serve(Required::default(), 1);
    let (bytes, _) = signed(NAME, RecordType::A, &right(), tsig::now());
    // An OPT record after it.
    let mut behind = bytes.clone();
    behind[11] = 3;
    behind.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    // A MAC that is too short: the last fields take 6 bytes, the MAC the 32 before them.
    let mac_at = bytes.len() - 6 - 32;
    let mut short = bytes[..mac_at].to_vec();
    short.extend(&bytes[bytes.len() - 6..]);
    let length_at = mac_at - 2 - 8 - 13 - 2;
    let length = u16::from_be_bytes([short[length_at], short[length_at + 1]]) - 32;
    short[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    short[mac_at - 2..mac_at].copy_from_slice(&[0, 0]);
    for message in [behind, short] {
        let reply = ask_udp(at, &message).await;
        assert_eq!(reply[3] & 0x0F, 1, "FORMERR");
    }
}

/// A message of another opcode than QUERY, with records in every section.
fn other(opcode: OpCode, with_question: bool, signer: &TSigner) -> (Vec<u8>, TSigVerifier) {
    use hickory_proto::rr::{RData, Record, rdata::A};
    let mut message = Message::new(11, MessageType::Query, opcode);
    let zone = HickoryName::from_ascii("cluster.local.").unwrap();
    if with_question {
        message.add_query(Asked::query(zone.clone(), RecordType::SOA));
        for last in 1..4 {
            let record = || Record::from_rdata(zone.clone(), 60, RData::A(A::new(192, 0, 2, last)));
            message.add_answer(record());
            message.add_authority(record());
            message.add_additional(record());
        }
    }
    let verifier = message.finalize(signer, tsig::now()).unwrap().unwrap();
    (message.to_vec().unwrap(), verifier)
}

#[tokio::test(flavor = "multi_thread")]
async fn notimp_is_signed() {
    let (_servers, at) = serve(Required::default(), 1);
    for opcode in [OpCode::Update, OpCode::Status, OpCode::Unknown(1)] {
        for with_question in [true, false] {
            for over_tcp in [false, true] {
                let (bytes, mut verifier) = other(opcode, with_question, &right());
                let reply = if over_tcp {
                    ask_tcp(at, &bytes).await
                } else {
                    ask_udp(at, &bytes).await
                };
                let reply = verifier.verify(&reply).unwrap();
                assert_eq!(reply.metadata.response_code, ResponseCode::NotImp);
            }
            let wrong = signer("other.example.", KEY, TsigAlgorithm::HmacSha256);
            let (bytes, _) = other(opcode, with_question, &wrong);
            let wanted = (ResponseCode::NotAuth, TsigError::BadKey, false);
            assert_eq!(outcome(&ask_udp(at, &bytes).await), wanted);
        }
    }
    // A zone in a datagram, and an unknown EDNS version.
    let (bytes, mut verifier) = signed("cluster.local.", RecordType::AXFR, &right(), tsig::now());
    let reply = verifier.verify(&ask_udp(at, &bytes).await).unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
}
