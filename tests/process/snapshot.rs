//! A restart without an API server: the last known objects are served from a snapshot.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use lodestone::cluster::Kind;
use serde_json::{Value, json};

use super::{
    apiserver::ApiServer,
    server::{PATIENCE, Server, free_port, page, question},
};

fn service(name: &str, address: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "ns"}, "spec": {"clusterIP": address}})
}

fn corefile(url: &str, directory: &Path, pages: [u16; 2], more: &str) -> String {
    let [ready, metrics] = pages;
    let directory = directory.display();
    format!(
        ".:0 {{\n bind 127.0.0.1\n ready 127.0.0.1:{ready}\n prometheus 127.0.0.1:{metrics}\n \
         kubernetes cluster.local {{\n  endpoint {url}\n  snapshot {directory} 1s {more}\n  ttl 60\n  \
         fallthrough\n }}\n forward . 127.0.0.1:9\n}}\n"
    )
}

async fn start(corefile: String) -> Server {
    let server = tokio::task::spawn_blocking(move || Server::start(&corefile));
    server.await.unwrap()
}

/// Calls `is` until it holds.
async fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The reply to a query with EDNS, and its extended error: code and text.
fn ask(server: SocketAddr, name: &str) -> (Message, Option<(u16, String)>) {
    let mut query = question(4711, name, RecordType::A);
    query[11] = 1; // an additional record: OPT, payload 1232
    query.extend([0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(&query, server).unwrap();
    let mut bytes = [0; 1232];
    let length = socket.recv(&mut bytes).unwrap();
    let message = Message::from_vec(&bytes[..length]).unwrap();
    let options = message.edns.as_ref().unwrap();
    let code = hickory_proto::rr::rdata::opt::EdnsCode::Unknown(15);
    let error = options.option(code).map(|option| {
        let bytes: Vec<u8> = option.try_into().unwrap();
        let (code, text) = bytes.split_first_chunk::<2>().unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        (u16::from_be_bytes(*code), text)
    });
    (message, error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_without_an_api_server_serves_the_last_known_state() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    let address: SocketAddr = api.url().strip_prefix("http://").unwrap().parse().unwrap();
    api.apply(Kind::Namespace, &json!({"metadata": {"name": "ns"}}));
    api.apply(Kind::Service, &service("a", "10.0.0.1"));
    let pages = [free_port(), free_port()];
    let text = corefile(&api.url(), directory.path(), pages, "");
    let first = start(text.clone()).await;
    let written = |count: &str| {
        let metrics = page(pages[1], "/metrics").unwrap().1;
        metrics.contains(&format!("lodestone_snapshot_writes_total {count}\n"))
    };
    wait_until("the first snapshot", || written("1")).await;
    api.apply(Kind::Service, &service("b", "10.0.0.2"));
    wait_until("a snapshot of the change", || written("2")).await;
    // From live data: the configured TTL, and no extended error.
    let (reply, error) = ask(first.address, "b.ns.svc.cluster.local.");
    assert_eq!((reply.answers[0].ttl, error), (60, None));
    drop(first);
    drop(api);

    let second = start(text.clone()).await;
    let (reply, error) = ask(second.address, "b.ns.svc.cluster.local.");
    assert_eq!(reply.answers[0].data.to_string(), "10.0.0.2");
    assert_eq!(reply.answers[0].ttl, 5);
    let (code, text_of_error) = error.unwrap();
    assert_eq!(code, 3);
    assert!(
        text_of_error.starts_with("from a snapshot of the cluster, "),
        "{text_of_error}"
    );
    // Neither denied nor forwarded: it may be new.
    for unknown in ["c.ns.svc.cluster.local.", "a.other.svc.cluster.local."] {
        let (reply, error) = ask(second.address, unknown);
        assert_eq!(reply.metadata.response_code.to_string(), "Server Failure");
        assert_eq!(error.unwrap().0, 14, "{unknown}");
    }
    assert!(page(pages[0], "/ready").unwrap().0.contains("200"));
    let metrics = page(pages[1], "/metrics").unwrap().1;
    assert!(
        !metrics.contains("lodestone_snapshot_age_seconds 0\n"),
        "{metrics}"
    );

    let api = ApiServer::bind(address).await;
    api.apply(Kind::Namespace, &json!({"metadata": {"name": "ns"}}));
    api.apply(Kind::Service, &service("a", "10.0.0.1"));
    api.apply(Kind::Service, &service("c", "10.0.0.3"));
    wait_until("the list of the API server", || {
        // Never a gap: it is in the snapshot and in the list.
        let (reply, _) = ask(second.address, "a.ns.svc.cluster.local.");
        assert_eq!(reply.answers.len(), 1);
        let (reply, _) = ask(second.address, "c.ns.svc.cluster.local.");
        reply.answers.len() == 1
    })
    .await;
    wait_until("a complete list", || {
        let (reply, error) = ask(second.address, "a.ns.svc.cluster.local.");
        (reply.answers[0].ttl, error) == (60, None)
    })
    .await;
    // Not in the list any more. It falls through, to an upstream that is dead.
    let (reply, error) = ask(second.address, "b.ns.svc.cluster.local.");
    assert!(reply.answers.is_empty());
    assert_ne!(error.unwrap().0, 14);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_with_deny_denies_what_it_lacks_and_is_not_passed_on() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    api.apply(Kind::Namespace, &json!({"metadata": {"name": "ns"}}));
    api.apply(Kind::Service, &service("a", "10.0.0.1"));
    let pages = [free_port(), free_port()];
    let of = |max_age: &str| {
        let text = corefile(
            &api.url(),
            directory.path(),
            pages,
            &format!("{max_age} deny"),
        );
        // A zone whose names fall through, and one whose names do not.
        text.replace("cluster.local {", "cluster.local other.local {")
            .replace("  fallthrough\n", "  fallthrough other.local\n")
    };
    let (young, old) = (of("1h"), of("1ms"));
    let first = start(young.clone()).await;
    wait_until("the first snapshot", || {
        let metrics = page(pages[1], "/metrics").unwrap().1;
        metrics.contains("lodestone_snapshot_writes_total 1\n")
    })
    .await;
    drop(first);
    drop(api);

    let second = start(young).await;
    let (reply, _) = ask(second.address, "a.ns.svc.cluster.local.");
    assert_eq!(reply.answers[0].data.to_string(), "10.0.0.1");
    for absent in [
        "c.ns.svc.cluster.local.",
        "www.example.ns.svc.cluster.local.",
    ] {
        let (reply, error) = ask(second.address, absent);
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(reply.authorities[0].ttl, 5);
        assert_eq!(error.unwrap().0, 19, "{absent}");
    }
    let (reply, error) = ask(second.address, "c.ns.svc.other.local.");
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(error.unwrap().0, 14, "another plugin may know it");
    drop(second);

    let third = start(old).await;
    let (reply, error) = ask(third.address, "c.ns.svc.cluster.local.");
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(error.unwrap().0, 14, "the snapshot is too old");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_snapshot_is_served_and_is_not_ready() {
    let directory = tempfile::tempdir().unwrap();
    let api = ApiServer::start().await;
    api.apply(Kind::Namespace, &json!({"metadata": {"name": "ns"}}));
    api.apply(Kind::Service, &service("a", "10.0.0.1"));
    let pages = [free_port(), free_port()];
    let text = corefile(&api.url(), directory.path(), pages, "0s");
    let text = text.replace("  ttl 60\n", "  ttl 60\n  startup_timeout 10ms\n");
    let first = start(text.clone()).await;
    wait_until("the first snapshot", || {
        std::fs::read_dir(directory.path()).unwrap().any(|entry| {
            let name = entry.unwrap().file_name();
            name.to_string_lossy().ends_with(".snapshot")
        })
    })
    .await;
    drop(first);
    drop(api);
    let second = start(text).await;
    assert_eq!(
        second.ask("a.ns.svc.cluster.local.", RecordType::A),
        "NoError 10.0.0.1"
    );
    assert!(page(pages[0], "/ready").unwrap().0.contains("503"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_cannot_be_written_or_read_costs_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "no directory").unwrap();
    let api = ApiServer::start().await;
    api.apply(Kind::Namespace, &json!({"metadata": {"name": "ns"}}));
    api.apply(Kind::Service, &service("a", "10.0.0.1"));
    let pages = [free_port(), free_port()];
    let server = start(corefile(&api.url(), &file, pages, "")).await;
    server.line(|line| line.contains("cannot write the snapshot"));
    assert_eq!(
        server.ask("a.ns.svc.cluster.local.", RecordType::A),
        "NoError 10.0.0.1"
    );
    let metrics = page(pages[1], "/metrics").unwrap().1;
    assert!(
        !metrics.contains("lodestone_snapshot_failures_total 0\n"),
        "{metrics}"
    );
}
