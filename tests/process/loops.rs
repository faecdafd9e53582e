//! `loop`: servers that forward to themselves and to each other.

use std::time::Instant;

use hickory_proto::rr::RecordType;

use super::server::{PATIENCE, Server, free_port};

const HOSTS: &str = "hosts {\n        192.0.2.1 name.example\n        fallthrough\n    }";

fn corefile(port: u16, forward: &str) -> String {
    format!(
        ".:{port} {{\n    bind 127.0.0.1\n    loop\n    errors\n    {HOSTS}\n    forward . {forward}\n}}\n"
    )
}

fn is_served(server: &Server) {
    let reply = server.ask("name.example.", RecordType::A);
    assert_eq!(reply, "NoError 192.0.2.1");
}

/// Repeats a query that is forwarded until its reply is as wanted; other names are answered meanwhile.
fn until(server: &Server, wanted: &str) {
    let begun = Instant::now();
    loop {
        let reply = server.ask("outside.example.", RecordType::A);
        is_served(server);
        if reply == wanted {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{reply}");
    }
}

#[test]
fn a_server_that_forwards_to_itself_answers_other_names() {
    let port = free_port();
    let server = Server::start(&corefile(port, &format!("127.0.0.1:{port}")));
    let line = server.line(|line| line.contains("[ERROR] plugin/loop"));
    assert!(line.contains("is an address of this server"), "{line}");
    assert!(line.contains("resolv.conf of the node"), "{line}");
    until(&server, "ServFail");
    let line = server.line(|line| line.contains("plugin/errors"));
    assert!(line.contains("no upstream is left: 127.0.0.1:"), "{line}");
}

#[test]
fn a_loop_of_two_servers_appears_with_a_reload_and_goes_away_with_another() {
    // Answers every name, without records.
    let good = Server::start(".:0 {\n    bind 127.0.0.1\n    whoami\n}\n");
    let good = good.address.to_string();
    let (one_port, other_port) = (free_port(), free_port());
    let one = Server::start(&corefile(one_port, &good));
    let other = Server::start(&corefile(other_port, &one.address.to_string()));
    until(&other, "NoError");
    one.edit(&corefile(one_port, &other.address.to_string()));
    one.signal("USR1");
    one.line(|line| line.ends_with("Reloading complete"));
    // One of them finds the loop, and the other one then gets SERVFAIL from it.
    until(&one, "ServFail");
    until(&other, "ServFail");
    is_served(&one);
    is_served(&other);
    other.edit(&corefile(other_port, &good));
    other.signal("USR1");
    other.line(|line| line.ends_with("Reloading complete"));
    until(&other, "NoError");
    until(&one, "NoError");
}
