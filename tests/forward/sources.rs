//! Upstreams from resolv.conf files, and across reloads.

use std::{sync::Arc, time::Duration};

use lodestone::{
    interfaces::HostAddress,
    plugin::SharedResources,
    upstream::{ResolvConf, read_nameservers},
};

use crate::{
    served::Served,
    upstream::{Upstream, answer_of, loopback},
};

#[tokio::test]
async fn every_kind_of_file_change_is_detected() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("resolv.conf");
    std::fs::write(&path, "nameserver 127.0.0.2\n").unwrap();
    let file = ResolvConf::open(&path, &tokio::runtime::Handle::current()).unwrap();
    let mut servers = file.servers();
    let loopback = |last| HostAddress::from(loopback(last));
    assert_eq!(*servers.borrow_and_update(), [loopback(2)]);
    let changed = async |servers: &mut tokio::sync::watch::Receiver<Vec<HostAddress>>| {
        let wait = tokio::time::timeout(Duration::from_secs(10), servers.changed());
        wait.await.unwrap().unwrap();
        servers.borrow_and_update().clone()
    };
    // Rewritten in place.
    std::fs::write(&path, "nameserver 127.0.0.3\noptions odd-word\n").unwrap();
    assert_eq!(changed(&mut servers).await, [loopback(3)]);
    // Replaced, as editors and the kubelet do.
    let other = directory.path().join("other");
    std::fs::write(&other, "nameserver 127.0.0.4\nnameserver 127.0.0.5\n").unwrap();
    std::fs::rename(&other, &path).unwrap();
    assert_eq!(changed(&mut servers).await, [loopback(4), loopback(5)]);
    // Emptied: the last servers stay. The next change proves that this one was skipped.
    std::fs::write(&path, "").unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    std::fs::write(&path, "nameserver 127.0.0.6\n").unwrap();
    assert_eq!(changed(&mut servers).await, [loopback(6)]);
    // The same if it is removed or becomes unreadable.
    std::fs::remove_file(&path).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(*servers.borrow(), [loopback(6)]);
    std::fs::create_dir(&path).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, "nameserver 127.0.0.7\n").unwrap();
    assert_eq!(changed(&mut servers).await, [loopback(7)]);
    std::fs::write(&path, "nameserver 127.0.0.6\n").unwrap();
    assert_eq!(changed(&mut servers).await, [loopback(6)]);
    assert_eq!(read_nameservers(&path).unwrap(), [loopback(6)]);
}

#[tokio::test]
async fn forward_follows_its_file_and_keeps_unchanged_upstreams() {
    use lodestone::{
        plugin::{
            Build, Offers,
            forward::{Config, Forward},
        },
        upstream::Destination,
        wire::Name,
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("resolv.conf");
    std::fs::write(&path, "nameserver 127.0.0.2\nnameserver 127.0.0.3\n").unwrap();
    let config = Config::new(
        Name::ROOT,
        vec![
            Destination::File(path.clone()),
            "127.0.0.9".parse().unwrap(),
        ],
    );
    let metrics = lodestone::metrics::Metrics::new();
    let (resources, server) = (SharedResources::default(), Arc::from("dns://:53"));
    let mut build = Build {
        runtime: &tokio::runtime::Handle::current(),
        resources: &resources,
        metrics: &metrics,
        zones: &[Name::ROOT],
        addresses: &[],
        server: &server,
        view: "",
        offers: Offers::default(),
    };
    let forward: Arc<Forward> = config.open(&mut build).unwrap();
    let labels = || -> Vec<String> {
        let members = forward.group().members();
        members
            .iter()
            .map(|one| one.upstream.label().to_string())
            .collect()
    };
    assert_eq!(labels(), ["127.0.0.2:53", "127.0.0.3:53", "127.0.0.9:53"]);
    let stays = Arc::clone(&forward.group().members()[1].upstream);
    std::fs::write(&path, "nameserver 127.0.0.3\nnameserver 127.0.0.4\n").unwrap();
    let wait = async {
        while labels()[0] != "127.0.0.3:53" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .unwrap();
    assert_eq!(labels(), ["127.0.0.3:53", "127.0.0.4:53", "127.0.0.9:53"]);
    assert!(Arc::ptr_eq(&stays, &forward.group().members()[0].upstream));
}

#[tokio::test]
async fn missing_or_empty_file_is_an_error_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("resolv.conf");
    let lines = format!("forward . {}", path.display());
    let build = || {
        Served::build(&lines, SharedResources::default(), &[])
            .err()
            .unwrap()
    };
    let missing = format!("{:#}", anyhow::Error::from(build()));
    assert!(missing.contains("not an IP address or file") && missing.contains("resolv.conf"));
    std::fs::write(&path, "search example\n").unwrap();
    let empty = format!("{:#}", anyhow::Error::from(build()));
    assert!(empty.contains("no nameservers found"), "{empty}");
    let many: Vec<_> = (1..=16)
        .map(|last| format!("nameserver 127.0.1.{last}"))
        .collect();
    std::fs::write(&path, many.join("\n")).unwrap();
    let many = format!("{:#}", anyhow::Error::from(build()));
    assert!(many.contains("more than 15 TOs configured: 16"), "{many}");
}

#[tokio::test]
async fn sockets_and_health_survive_a_reload_of_the_same_settings() {
    let upstream = Upstream::answering(1).await;
    let lines = format!("forward . {} {{\n force_tcp\n}}", upstream.address);
    let first = Served::new(&lines);
    answer_of(&first.ask("a.example").await);
    let second = first.reload(&lines);
    drop(first);
    answer_of(&second.ask("b.example").await);
    let other = second.reload(&lines.replace("force_tcp", "force_tcp\n expire 5s"));
    answer_of(&other.ask("c.example").await);
    let connections: Vec<_> = upstream.asked().iter().map(|one| one.connection).collect();
    assert_eq!(connections, [1, 1, 2]);
}

#[tokio::test]
async fn dropped_configuration_closes_sockets_and_tasks() {
    let upstream = Upstream::answering(1).await;
    let before = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    let lines = format!(
        "loop\nforward . {0} {{\n prefer_udp\n}}\nforward . {0} {{\n force_tcp\n}}",
        upstream.address
    );
    let served = Served::new(&lines);
    answer_of(&served.ask("a.example").await);
    drop(served);
    let ended = async {
        // The upstream's end of the connection closes with ours.
        while tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
            > before
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended)
        .await
        .unwrap();
}

#[tokio::test]
async fn file_without_servers_is_skipped_if_another_upstream_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("override.conf");
    std::fs::write(&path, "# nameserver 10.0.0.1\n; none here\n").unwrap();
    let first = Upstream::answering(1).await;
    for words in [
        format!("{} {}", path.display(), first.address),
        format!("{} {}", first.address, path.display()),
    ] {
        let served = Served::new(&format!("forward . {words}"));
        assert_eq!(answer_of(&served.ask("a.example").await), 1, "{words}");
    }
    // Two empty files leave no upstream.
    let other = directory.path().join("other.conf");
    std::fs::write(&other, "").unwrap();
    let lines = format!("forward . {} {}", path.display(), other.display());
    let refused = Served::build(&lines, SharedResources::default(), &[])
        .err()
        .unwrap();
    let refused = format!("{:#}", anyhow::Error::from(refused));
    assert!(refused.contains("no nameservers found"), "{refused}");
    assert!(refused.contains("override.conf") && refused.contains("other.conf"));
}

#[tokio::test]
async fn link_local_server_is_queried_on_its_interface() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("resolv.conf");
    std::fs::write(&path, "nameserver fe80::1%lo\n").unwrap();
    let config = lodestone::plugin::forward::Config::new(
        lodestone::wire::Name::ROOT,
        vec![lodestone::upstream::Destination::File(path)],
    );
    let metrics = lodestone::metrics::Metrics::new();
    let (resources, server) = (SharedResources::default(), Arc::from("dns://:53"));
    let mut build = lodestone::plugin::Build {
        runtime: &tokio::runtime::Handle::current(),
        resources: &resources,
        metrics: &metrics,
        zones: &[lodestone::wire::Name::ROOT],
        addresses: &[],
        server: &server,
        view: "",
        offers: lodestone::plugin::Offers::default(),
    };
    let forward = config.open(&mut build).unwrap();
    let members = forward.group().members();
    let std::net::SocketAddr::V6(address) = members[0].upstream.target().address else {
        panic!("an IPv4 address");
    };
    assert!(address.scope_id() > 0, "{address}");
}
