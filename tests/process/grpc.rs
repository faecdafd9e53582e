//! `grpc`, with a server in the test.

use std::sync::{Arc, Mutex};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{RData, Record, RecordType},
};
use lodestone::plugin::grpc::DnsPacket;
use prost::Message as _;

use super::{
    rpc::{Call, RpcServer},
    server::{Server, free_port, page},
};

/// Answers 192.0.2.7; by prefix of the name, NXDOMAIN as a DNS reply or as a gRPC status, or no reply.
fn answering(ids: Arc<Mutex<Vec<u16>>>) -> RpcServer {
    RpcServer::start(move |call: Call| {
        assert_eq!(call.path, "/coredns.dns.DnsService/Query");
        let packet = DnsPacket::decode(&call.message[..]).unwrap();
        let mut message = Message::from_vec(&packet.msg).unwrap();
        ids.lock().unwrap().push(message.metadata.id);
        message.metadata.message_type = MessageType::Response;
        let name = message.queries[0].name().clone();
        let text = name.to_ascii();
        match text.split('.').next().unwrap() {
            "none" => message.metadata.response_code = ResponseCode::NXDomain,
            "lost" => return Err(5),
            "sick" => return Err(14),
            "junk" => return Ok(vec![1, 2, 3]),
            _ => {
                let data = RData::A("192.0.2.7".parse().unwrap());
                message.add_answer(Record::from_rdata(name, 60, data));
            }
        }
        let msg = message.to_vec().unwrap();
        Ok(DnsPacket { msg }.encode_to_vec())
    })
}

#[test]
fn queries_are_forwarded_and_answers_and_denials_returned() {
    let ids = Arc::default();
    let upstream = answering(Arc::clone(&ids));
    let port = free_port();
    let to = upstream.address;
    let server = Server::start(&format!(
        ".:0 {{
            bind 127.0.0.1
            prometheus 127.0.0.1:{port}
            grpc . {to} {{
                except here.example
            }}
            whoami
        }}\n"
    ));
    let ask = |name: &str| server.ask(name, RecordType::A);
    assert_eq!(ask("a.example."), "NoError 192.0.2.7");
    assert_eq!(*ids.lock().unwrap(), [4711]);
    assert_eq!(ask("none.example."), "NXDomain");
    assert_eq!(ask("lost.example."), "NXDomain");
    assert_eq!(ask("sick.example."), "ServFail");
    assert_eq!(ask("junk.example."), "ServFail");
    assert_eq!(ask("a.here.example."), "NoError", "whoami");
    let (_, text) = page(port, "/metrics").unwrap();
    for line in [
        format!("coredns_grpc_requests_total{{to=\"{to}\"}} 2"),
        format!("coredns_grpc_responses_total{{rcode=\"NOERROR\",to=\"{to}\"}} 1"),
        format!("coredns_grpc_responses_total{{rcode=\"NXDOMAIN\",to=\"{to}\"}} 1"),
        format!("coredns_grpc_request_duration_seconds_count{{to=\"{to}\"}} 2"),
    ] {
        assert!(text.contains(&line), "{line} in\n{text}");
    }
}

#[test]
fn failover_to_the_next_server_then_fallthrough() {
    let upstream = answering(Arc::default());
    let dead = free_port();
    let server = Server::start(&format!(
        ".:0 {{
            bind 127.0.0.1
            grpc . 127.0.0.1:{dead} {} {{
                policy sequential
                fallthrough example
            }}
            whoami
        }}\n",
        upstream.address
    ));
    let ask = |name: &str| server.ask(name, RecordType::A);
    assert_eq!(ask("a.example."), "NoError 192.0.2.7");
    assert_eq!(ask("none.example."), "NoError", "whoami");
    assert_eq!(ask("sick.example."), "NoError", "whoami");
    assert_eq!(ask("none.test."), "NXDomain");
    assert_eq!(ask("sick.test."), "ServFail");
}
