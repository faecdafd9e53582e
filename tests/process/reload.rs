//! Reload of the Corefile.

use std::{
    net::UdpSocket,
    sync::atomic::{AtomicBool, AtomicU16, Ordering},
};

use hickory_proto::rr::RecordType;

use super::server::{PATIENCE, Server, free_port, page, question};

fn corefile(address: &str, rest: &str) -> String {
    format!(
        ".:0 {{\n    bind 127.0.0.1\n    hosts {{\n        {address} name.example\n    }}\n    {rest}\n}}\n"
    )
}

#[test]
fn saved_corefile_is_applied() {
    let server = Server::start(&corefile("192.0.2.1", "reload"));
    assert_eq!(
        server.ask("name.example.", RecordType::A),
        "NoError 192.0.2.1"
    );
    server.edit(&corefile("192.0.2.2", "reload"));
    server.line(|line| line == "[INFO] Reloading complete");
    assert_eq!(
        server.ask("name.example.", RecordType::A),
        "NoError 192.0.2.2"
    );
}

#[test]
fn without_reload_only_sigusr1_applies_the_file() {
    let server = Server::start(&corefile("192.0.2.1", "errors"));
    server.edit(&corefile("192.0.2.2", "errors"));
    assert_eq!(
        server.ask("name.example.", RecordType::A),
        "NoError 192.0.2.1"
    );
    server.signal("USR1");
    server.line(|line| line == "[INFO] Reloading complete");
    assert_eq!(
        server.ask("name.example.", RecordType::A),
        "NoError 192.0.2.2"
    );
}

#[test]
fn change_in_an_imported_directory_is_applied() {
    let server = Server::start(&corefile(
        "192.0.2.1",
        "reload\n    import custom/*.override",
    ));
    let custom = server.directory().join("custom");
    std::fs::create_dir(&custom).unwrap();
    std::fs::write(custom.join("log.override"), "log\n").unwrap();
    server.signal("USR1");
    server.line(|line| line == "[INFO] Reloading complete");
    server.ask("name.example.", RecordType::A);
    server.line(|line| line.contains("\"A IN name.example. udp"));
    std::fs::write(custom.join("log.override"), "log . \"changed {name}\"\n").unwrap();
    server.line(|line| line == "[INFO] Reloading complete");
    server.ask("name.example.", RecordType::A);
    server.line(|line| line == "[INFO] changed name.example.");
}

#[test]
fn invalid_corefile_is_rejected_with_its_position() {
    let port = free_port();
    let rest = format!("reload\n    prometheus 127.0.0.1:{port}");
    let server = Server::start(&corefile("192.0.2.1", &rest));
    let hash = |metrics: &str| {
        let line = metrics
            .lines()
            .find(|line| line.starts_with("coredns_reload_version_info"));
        line.unwrap().to_owned()
    };
    let before = hash(&page(port, "/metrics").unwrap().1);
    server.edit(&corefile("192.0.2.2", &rest).replace("hosts", "hots"));
    server.line(|line| line.contains("Corefile changed but reload failed"));
    server.line(|line| line.contains("Corefile:3:5"));
    assert_eq!(
        server.ask("name.example.", RecordType::A),
        "NoError 192.0.2.1"
    );
    let metrics = page(port, "/metrics").unwrap().1;
    assert!(
        metrics.contains("\ncoredns_reload_failed_total 1\n"),
        "{metrics}"
    );
    assert_eq!(hash(&metrics), before, "the hash is that of what is served");
}

#[test]
fn failed_bind_rejects_the_reload() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let metrics = free_port();
    let rest = format!("reload\n    prometheus 127.0.0.1:{metrics}");
    let server = Server::start(&corefile("192.0.2.1", &rest));
    server.edit(&corefile(
        "192.0.2.2",
        &format!("{rest}\n    whoami\n    health 127.0.0.1:{port}"),
    ));
    server.line(|line| line.contains("reload failed") && line.contains(&port.to_string()));
    assert_eq!(
        server.ask("name.example.", RecordType::A),
        "NoError 192.0.2.1"
    );
    let text = page(metrics, "/metrics").unwrap().1;
    let enabled = |name: &str| text.contains(&format!("coredns_plugin_enabled{{name=\"{name}\""));
    assert!(enabled("hosts") && !enabled("whoami"), "{text}");
}

/// Queries are sent continuously while the file is edited; each must be answered.
#[test]
fn reload_loses_no_query() {
    let server = Server::start(&corefile("192.0.2.1", "reload"));
    let done = AtomicBool::new(false);
    let asked = AtomicU16::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(server.address).unwrap();
            let mut bytes = [0; 512];
            while !done.load(Ordering::Relaxed) {
                let id = asked.fetch_add(1, Ordering::Relaxed);
                socket
                    .send(&question(id, "name.example.", RecordType::A))
                    .unwrap();
                let length = socket.recv(&mut bytes).expect("every question is answered");
                assert_eq!(bytes[..2], id.to_be_bytes());
                assert_eq!(bytes[3] & 0x0F, 0, "NOERROR");
                assert!(length > 12);
            }
        });
        for last in 2..8 {
            server.edit(&corefile(&format!("192.0.2.{last}"), "reload"));
            server.line(|line| line == "[INFO] Reloading complete");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(asked.load(Ordering::Relaxed) > 6);
}

#[test]
fn corefile_without_a_server_block_is_rejected() {
    let server = Server::start(&corefile("192.0.2.1", "reload"));
    let good = |last: u8| {
        server.edit(&corefile(&format!("192.0.2.{last}"), "reload"));
        server.line(|line| line == "[INFO] Reloading complete");
    };
    let goes_on = |last: u8| {
        let wanted = format!("NoError 192.0.2.{last}");
        assert_eq!(server.ask("name.example.", RecordType::A), wanted);
    };
    let whole = corefile("192.0.2.9", "reload");
    let cut = &whole[..whole.len() / 2];
    let mut last = 1;
    for (bad, expected) in [
        ("", "has no server block"),
        ("# nothing\n\n   # but comments\n", "has no server block"),
        ("(snippet) {\n    errors\n}\n", "has no server block"),
        (cut, "Corefile:"),
        (".:10", "ends within its last server block"),
        (
            ".:10 {\n    hosts {\n        192.0.2.9 name.example\n    }\n",
            "ends within its last server block",
        ),
        ("\0\0\0\0", "NUL"),
    ] {
        server.edit(bad);
        server.line(|line| line.contains("Corefile changed but reload failed"));
        if !expected.starts_with("Corefile") {
            // SIGUSR1 logs the error again.
            server.signal("USR1");
            server.line(|line| line.contains("reload failed") && line.contains(expected));
        }
        goes_on(last);
        last += 1;
        good(last);
        goes_on(last);
    }
    let path = server.directory().join("Corefile");
    std::fs::remove_file(&path).unwrap();
    server.line(|line| line.contains("reload failed"));
    goes_on(last);
    std::fs::create_dir(&path).unwrap();
    server.line(|line| line.contains("reload failed") && line.contains("no regular file"));
    goes_on(last);
    std::fs::remove_dir(&path).unwrap();
    good(last + 1);
    goes_on(last + 1);
}

#[test]
fn rejected_corefile_is_logged_once_and_retried() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let server = Server::start(&corefile("192.0.2.1", "reload 2s 1s"));
    server.edit(&corefile(
        "192.0.2.2",
        &format!("reload 2s 1s\n    health 127.0.0.1:{port}"),
    ));
    server.line(|line| line == "[INFO] Reloading");
    server.line(|line| line.contains("reload failed") && line.contains(&port.to_string()));
    // The log file may be in the watched directory.
    let log = server.directory().join("log");
    for number in 0..8 {
        std::fs::write(&log, format!("{number}")).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
    assert_eq!(
        server.ask("name.example.", RecordType::A),
        "NoError 192.0.2.1"
    );
    drop(taken);
    server.line(|line| {
        let again = line == "[INFO] Reloading" || line.contains("reload failed");
        assert!(!again, "{line}");
        line == "[INFO] Reloading complete"
    });
    assert_eq!(
        server.ask("name.example.", RecordType::A),
        "NoError 192.0.2.2"
    );
    assert_eq!(page(port, "/health").unwrap().1, "OK");
}

#[test]
fn health_page_that_changes_its_address_answers_every_probe() {
    let port = free_port();
    let health = |on: &str| corefile("192.0.2.1", &format!("reload\n    health {on}:{port}"));
    let server = Server::start(&health("127.0.0.1"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let begun = std::time::Instant::now();
            while !done.load(Ordering::Relaxed) && begun.elapsed() < 2 * PATIENCE {
                let (status, _) = page(port, "/health").unwrap();
                assert_eq!(status, "HTTP/1.1 200 OK");
            }
        });
        for on in ["", "127.0.0.1", "localhost", "0.0.0.0", "127.0.0.1"] {
            server.edit(&health(on));
            server.line(|line| line == "[INFO] Reloading complete");
        }
        done.store(true, Ordering::Relaxed);
    });
}
