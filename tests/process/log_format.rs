//! `-log-format`: text lines, or JSON with one object per line.

use std::process::Output;

use hickory_proto::rr::RecordType;
use serde_json::Value;

use super::server::{Server, exchange, program};

fn run(arguments: &[&str], corefile: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("Corefile"), corefile).unwrap();
    let mut program = program();
    program.args(arguments).current_dir(directory.path());
    program.output().unwrap()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// The record whose message starts with `message`.
fn record(server: &Server, message: &str) -> Value {
    let read = |line: &str| serde_json::from_str::<Value>(line).expect(line);
    let begins = |line: &str| read(line)["msg"].as_str().unwrap().starts_with(message);
    read(&server.line(begins))
}

#[test]
fn unknown_format_is_an_error_before_anything_else() {
    for word in ["JSON", "logfmt", ""] {
        let flag = format!("-log-format={word}");
        for arguments in [&[flag.as_str()][..], &[&flag, "-version"]] {
            let output = run(arguments, "");
            assert_eq!(output.status.code(), Some(1), "{arguments:?}");
            assert!(output.stdout.is_empty(), "{arguments:?}");
            let error = text(output.stderr);
            assert_eq!(error.lines().count(), 1, "{error}");
            assert!(error.contains("text or json"), "{error}");
        }
    }
    for word in ["text", "json"] {
        let output = run(&["-log-format", word, "-version"], "");
        assert!(output.status.success());
        assert!(text(output.stdout).starts_with("Lodestone-"));
    }
}

#[test]
fn failed_start_is_one_record_on_stderr() {
    for corefile in [
        ".:0 {\n    cahce 30\n}\n",
        ".:0 {\n    bind 192.0.2.1\n    whoami\n}\n",
    ] {
        let output = run(&["-log-format", "json"], corefile);
        assert_eq!(output.status.code(), Some(1));
        let error = text(output.stderr);
        assert_eq!(error.lines().count(), 1, "{error}");
        let record: Value = serde_json::from_str(&error).expect(&error);
        assert_eq!(record["level"], "FATAL", "{error}");
        for line in text(output.stdout).lines() {
            assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
        }
    }
}

#[test]
fn every_line_is_json_and_queries_have_typed_fields() {
    let corefile = |number: u8| {
        format!(
            ".:0 {{
                bind 127.0.0.1
                metadata
                errors
                reload 2s
                log . \"{number} {{common}} {{/log/class}} {{/log/type}}\"
                acl {{
                    drop type TXT
                }}
                cache 30s
                template IN A a.example {{
                    answer \"{{{{ .Name }}}} 60 IN A 192.0.2.1\"
                }}
                template IN MX a.example {{
                    rcode NXDOMAIN
                }}
                forward . 127.0.0.1:1
            }}"
        )
    };
    let server = Server::start_with(&["-log-format=json"], &corefile(1));
    let version = record(&server, "Lodestone-");
    assert!(version["msg"].as_str().unwrap().contains('\n'), "{version}");
    assert_eq!(version["level"], "INFO");
    assert!(version.get("plugin").is_none());

    server.ask("A.example.", RecordType::A);
    let line = record(&server, "1 ");
    let message = line["msg"].as_str().unwrap();
    assert!(message.ends_with("s success NOERROR"), "{message}");
    for (key, wanted) in [
        ("level", Value::from("INFO")),
        ("plugin", "log".into()),
        ("client_ip", "127.0.0.1".into()),
        ("qname", "a.example.".into()),
        ("qtype", "A".into()),
        ("qclass", "IN".into()),
        ("protocol", "udp".into()),
        ("id", 4711.into()),
        ("opcode", 0.into()),
        ("request_size", 27.into()),
        ("dnssec_ok", false.into()),
        ("bufsize", 512.into()),
        ("rcode", "NOERROR".into()),
    ] {
        assert_eq!(line[key], wanted, "{key} of {line}");
    }
    assert!(
        line["client_port"].is_u64() && line["response_size"].is_u64(),
        "{line}"
    );
    assert!(line["duration_seconds"].is_number(), "{line}");
    let order = [
        "time",
        "level",
        "msg",
        "plugin",
        "client_ip",
        "client_port",
        "qname",
    ];
    let raw = serde_json::to_string(&line).unwrap();
    assert!(order.iter().all(|key| raw.contains(&format!("\"{key}\":"))));

    server.ask("a.example.", RecordType::MX);
    let line = record(&server, "1 ");
    assert!(
        line["msg"].as_str().unwrap().ends_with("denial NXDOMAIN"),
        "{line}"
    );

    server.ask("b.example.", RecordType::A);
    let failed = record(&server, "2 b.example. A: ");
    assert_eq!(
        (&failed["level"], &failed["plugin"]),
        (&"ERROR".into(), &"errors".into())
    );
    assert_eq!(record(&server, "1 ")["rcode"], "SERVFAIL");

    // A dropped query is logged too.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let question = super::server::question(7, "a.example.", RecordType::TXT);
    socket.send_to(&question, server.address).unwrap();
    let line = record(&server, "1 ");
    assert!(line["rcode"].is_null(), "{line}");
    assert_eq!(line["response_size"], 0);
    assert!(
        line["msg"]
            .as_str()
            .unwrap()
            .ends_with("s error OTHERERROR"),
        "{line}"
    );

    // A reload keeps the format, also for its warnings.
    server.edit(&corefile(2));
    let warned = record(&server, "'30s' is read");
    assert_eq!(warned["level"], "WARN");
    record(&server, "Reloading complete");
    let reply = exchange(server.address, "a.example.", RecordType::A);
    assert_eq!(reply.unwrap().answers.len(), 1);
    assert_eq!(record(&server, "2 ")["plugin"], "log");
}
