//! List and watch against the tests' API server, with and without faults.
//!
//! With `KUBECONFIG` set, `real_api_server_is_watched` watches that cluster too. With kind:
//!
//! ```text
//! kind create cluster --name lodestone --kubeconfig /tmp/lodestone.kubeconfig
//! KUBECONFIG=/tmp/lodestone.kubeconfig cargo test --test watch
//! kind delete cluster --name lodestone
//! ```

#![allow(clippy::unwrap_used)] // in the tests' helpers

mod apiserver;

use apiserver::{ApiServer, Fault, On, StreamedLists};
use lodestone::cluster::{Backend, Cluster, ClusterSource, Kind, Settings, Timing};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// Timeout of a test; never reached when it passes.
const DEADLINE: Duration = Duration::from_secs(20);

fn settings(api: &ApiServer) -> Settings {
    let mut settings = Settings::new(Backend::Endpoint {
        url: api.url(),
        tls: None,
    });
    settings.timing = Timing {
        response: Duration::from_secs(2),
        initial: Duration::from_millis(300),
        idle: Duration::from_mins(1),
        settle: Duration::from_mins(1),
        watch: Duration::from_mins(1),
        backoff: Duration::from_millis(5),
        max_backoff: Duration::from_millis(50),
        max_connect_backoff: Duration::from_millis(50),
    };
    settings
}

/// A synced source that watches this server.
async fn watch(api: &ApiServer) -> ClusterSource {
    let source = ClusterSource::start(settings(api), &Handle::current()).unwrap();
    timeout(DEADLINE, source.cluster().wait_synced())
        .await
        .expect("never synced");
    source
}

/// Waits until `is` holds for the cluster.
async fn until(source: &ClusterSource, what: &str, is: impl Fn(&Cluster) -> bool) {
    let wait = source.cluster().wait_for(is);
    assert!(
        timeout(DEADLINE, wait).await.is_ok(),
        "it never came about that {what}"
    );
}

/// Waits until this many Services have been skipped.
async fn skipped(source: &ClusterSource, count: u64) {
    let is = |it: &Cluster| it.stats().skipped_objects(Kind::Service) == count;
    until(source, &format!("{count} are skipped"), is).await;
}

/// Adds Service `c` and waits until the source has it.
async fn follows(api: &ApiServer, source: &ClusterSource) {
    api.apply(Kind::Service, &service("c", "10.0.0.3"));
    until(source, "c comes", |it| has(it, "c")).await;
}

fn namespace(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

fn service(name: &str, address: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "ns", "labels": {"app": name}},
        "spec": {"clusterIP": address, "ports": [{"port": 80, "protocol": "TCP"}]},
    })
}

fn slice(name: &str, service: &str, addresses: &[&str]) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "ns", "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": addresses, "conditions": {"ready": true}}],
        "ports": [{"port": 8080, "protocol": "TCP"}],
    })
}

fn pod(name: &str, address: &str, phase: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "ns"},
        "status": {"podIP": address, "phase": phase},
    })
}

/// An API server with a namespace, two Services and a slice.
async fn server() -> ApiServer {
    let api = ApiServer::start().await;
    api.apply(Kind::Namespace, &namespace("ns"));
    api.apply(Kind::Service, &service("a", "10.0.0.1"));
    api.apply(Kind::Service, &service("b", "10.0.0.2"));
    api.apply(
        Kind::EndpointSlice,
        &slice("a-1", "a", &["10.1.0.1", "10.1.0.2"]),
    );
    api
}

fn has(cluster: &Cluster, name: &str) -> bool {
    cluster
        .entry("ns", name)
        .is_some_and(|entry| entry.service.is_some())
}

fn endpoints(cluster: &Cluster, name: &str) -> usize {
    cluster
        .entry("ns", name)
        .map_or(0, |entry| entry.endpoints().count())
}

/// Number of requests whose path and query contain `part`.
fn count(api: &ApiServer, part: &str) -> usize {
    api.requests().iter().filter(|it| it.contains(part)).count()
}

#[tokio::test]
async fn line_end_of_the_token_file_is_ignored() {
    let api = server().await;
    let directory = tempfile::tempdir().unwrap();
    let (token, kubeconfig) = (
        directory.path().join("token"),
        directory.path().join("config"),
    );
    std::fs::write(&token, "abc.def\n").unwrap();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": api.url()}}],
        "users": [{"name": "u", "user": {"tokenFile": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let mut settings = settings(&api);
    settings.backend = Backend::Kubeconfig {
        file: kubeconfig,
        context: None,
    };
    let source = ClusterSource::start(settings, &Handle::current()).unwrap();
    timeout(DEADLINE, source.cluster().wait_synced())
        .await
        .expect("never synced");
    assert_eq!(api.authorization().as_deref(), Some("Bearer abc.def"));
}

const LISTS: &str = "services?limit=";

#[tokio::test]
async fn objects_are_listed_and_watched() {
    let api = server().await;
    let source = watch(&api).await;
    let cluster = source.cluster();
    assert!(cluster.namespace("ns"));
    assert!(has(cluster, "a") && has(cluster, "b"));
    assert_eq!(endpoints(cluster, "a"), 2);
    assert_eq!(cluster.entries_at("10.1.0.2".parse().unwrap()).count(), 1);

    api.apply(Kind::EndpointSlice, &slice("a-1", "a", &["10.1.0.3"]));
    until(&source, "the slice changes", |it| endpoints(it, "a") == 1).await;
    api.delete(Kind::Service, "ns", "b");
    until(&source, "b is gone", |it| !has(it, "b")).await;
    api.apply(Kind::Namespace, &namespace("new"));
    until(&source, "a namespace comes", |it| it.namespace("new")).await;
    assert_eq!(count(&api, LISTS), 0, "a streamed list needs no other");
}

#[tokio::test]
async fn refused_streamed_list_falls_back_to_pages() {
    for code in [400, 422] {
        let api = server().await;
        api.streamed_lists(StreamedLists::Refused(code));
        let source = watch(&api).await;
        assert!(has(source.cluster(), "a"));
        follows(&api, &source).await;
        assert_eq!(count(&api, LISTS), 1);
    }
}

#[tokio::test]
async fn unfinished_streamed_list_falls_back_to_pages() {
    let api = server().await;
    api.streamed_lists(StreamedLists::Ignored);
    let source = watch(&api).await;
    assert!(has(source.cluster(), "a"));
    assert_eq!(count(&api, LISTS), 1);
}

#[tokio::test]
async fn pages_are_one_list() {
    let api = server().await;
    for number in 0..50 {
        api.apply(
            Kind::Service,
            &service(&format!("s{number}"), &format!("10.0.1.{number}")),
        );
    }
    api.streamed_lists(StreamedLists::Refused(422));
    api.longest_page(7);
    let source = watch(&api).await;
    assert_eq!(source.cluster().stats().objects(Kind::Service), 52);
    assert_eq!(count(&api, LISTS), 8);
}

#[tokio::test]
async fn selectors_are_sent_to_the_server() {
    let api = server().await;
    api.apply(Kind::Pod, &pod("runs", "10.1.0.1", "Running"));
    api.apply(Kind::Pod, &pod("over", "10.1.0.2", "Succeeded"));
    let mut settings = settings(&api);
    settings.labels = "app in (a, c)".parse().unwrap();
    settings.slices = false;
    let source = ClusterSource::start(settings.clone(), &Handle::current()).unwrap();
    timeout(DEADLINE, source.cluster().wait_synced())
        .await
        .unwrap();
    assert!(has(source.cluster(), "a") && !has(source.cluster(), "b"));
    assert_eq!(count(&api, "endpointslices"), 0);
    assert_eq!(count(&api, "pods"), 0);

    let mut relabelled = service("a", "10.0.0.1");
    relabelled["metadata"]["labels"] = json!({"app": "other"});
    api.apply(Kind::Service, &relabelled);
    until(&source, "a is no longer selected", |it| !has(it, "a")).await;

    settings.labels = "".parse().unwrap();
    settings.pods = true;
    let source = ClusterSource::start(settings, &Handle::current()).unwrap();
    timeout(DEADLINE, source.cluster().wait_synced())
        .await
        .unwrap();
    let cluster = source.cluster();
    assert!(cluster.pod("ns", "10.1.0.1".parse().unwrap()).is_some());
    assert!(cluster.pod("ns", "10.1.0.2".parse().unwrap()).is_none());
    api.apply(Kind::Pod, &pod("runs", "10.1.0.1", "Failed"));
    until(&source, "the pod is over", |it| {
        it.pods("10.1.0.1".parse().unwrap()).count() == 0
    })
    .await;
}

#[tokio::test]
async fn watch_broken_within_an_object_is_resumed() {
    let api = server().await;
    let source = watch(&api).await;
    api.fault(On::Watch(Kind::Service), Fault::Cut);
    api.unseen(|store| store.apply(Kind::Service, &service("c", "10.0.0.3")));
    until(&source, "c comes", |it| has(it, "c")).await;
    assert_eq!(
        count(&api, "services?watch=1") - count(&api, "sendInitialEvents=true") / 3,
        2
    );
    assert_eq!(count(&api, LISTS), 0, "it lists again for a cut");
}

#[tokio::test]
async fn silent_watch_is_resumed() {
    let api = server().await;
    let mut settings = settings(&api);
    settings.timing.idle = Duration::from_millis(300);
    let source = ClusterSource::start(settings, &Handle::current()).unwrap();
    timeout(DEADLINE, source.cluster().wait_synced())
        .await
        .unwrap();
    api.fault(On::Watch(Kind::Service), Fault::Stall);
    api.unseen(|store| store.apply(Kind::Service, &service("c", "10.0.0.3")));
    until(&source, "c comes", |it| has(it, "c")).await;
    assert!(has(source.cluster(), "a"));
}

/// A test cannot lose packets on loopback. It checks that TCP keepalive is enabled with a short interval.
#[tokio::test]
async fn connections_use_tcp_keepalive() {
    let api = server().await;
    let _source = watch(&api).await;
    let port = api
        .url()
        .rsplit_once(':')
        .unwrap()
        .1
        .parse::<u16>()
        .unwrap();
    let remote = format!("0100007F:{port:04X}");
    let alive = || {
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let lines = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ours = lines.filter(|it| it.len() > 5 && it[2] == remote && it[3] == "01");
        // The active timer (2 is keepalive) and its remaining time in hundredths of a second.
        let timers = ours.map(|it| it[5].split_once(':').unwrap().0 == "02");
        timers.collect::<Vec<_>>()
    };
    let begun = std::time::Instant::now();
    while alive().len() < 3 || !alive().iter().all(|it| *it) {
        assert!(begun.elapsed() < DEADLINE, "{:?}", alive());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn watches_that_end_at_once_are_retried() {
    let api = server().await;
    let source = watch(&api).await;
    for _ in 0..4 {
        api.fault(On::Watch(Kind::Service), Fault::End);
    }
    api.unseen(|store| store.apply(Kind::Service, &service("c", "10.0.0.3")));
    until(&source, "c comes", |it| has(it, "c")).await;
}

#[tokio::test]
async fn expired_version_is_relisted_and_deletions_are_seen() {
    let fault = |code| [Some(Fault::Error(code)), Some(Fault::Status(code)), None];
    for fault in fault(410) {
        for streamed in [StreamedLists::Spoken, StreamedLists::Refused(422)] {
            let api = server().await;
            api.streamed_lists(streamed);
            let source = watch(&api).await;
            if let Some(fault) = fault.clone() {
                api.fault(On::Watch(Kind::Service), fault);
            }
            let before = source.cluster().entry("ns", "a").unwrap().share();
            api.unseen(|store| {
                store.delete(Kind::Service, "ns", "b");
                store.apply(Kind::Service, &service("c", "10.0.0.3"));
                store.compact();
            });
            until(&source, "c comes and b goes", |it| {
                has(it, "c") && !has(it, "b")
            })
            .await;
            let after = source.cluster().entry("ns", "a").unwrap().share();
            assert!(
                Arc::ptr_eq(&before, &after),
                "a list of the same must change nothing"
            );
        }
    }
}

#[tokio::test]
async fn error_responses_are_retried() {
    for code in [401, 403, 429, 500, 503] {
        let api = server().await;
        api.streamed_lists(StreamedLists::Refused(422));
        for _ in 0..3 {
            api.fault(On::List(Kind::Service), Fault::Status(code));
            api.fault(On::Watch(Kind::EndpointSlice), Fault::Status(code));
        }
        let source = watch(&api).await;
        assert!(has(source.cluster(), "a"), "{code}");
        api.apply(Kind::EndpointSlice, &slice("a-1", "a", &["10.1.0.3"]));
        until(&source, "the slice changes", |it| endpoints(it, "a") == 1).await;
        assert_eq!(
            count(&api, "endpointslices?limit"),
            1,
            "{code} is no reason to list again"
        );
    }
}

#[tokio::test]
async fn error_responses_to_a_streamed_list_are_retried() {
    for code in [401, 403, 500] {
        let api = server().await;
        api.fault(On::Streamed(Kind::Service), Fault::Status(code));
        let source = watch(&api).await;
        assert!(has(source.cluster(), "a"), "{code}");
    }
    for fault in [
        Fault::Cut,
        Fault::End,
        Fault::Stall,
        Fault::Silence,
        Fault::Error(500),
    ] {
        let api = server().await;
        api.fault(On::Streamed(Kind::Service), fault);
        let source = watch(&api).await;
        assert!(has(source.cluster(), "a"));
    }
}

#[tokio::test]
async fn failed_streamed_list_is_followed_by_pages_at_once() {
    let api = server().await;
    api.streamed_lists(StreamedLists::Refused(500));
    let mut settings = settings(&api);
    // With a pause in between it would not be synced before the deadline.
    settings.timing.backoff = 10 * DEADLINE;
    settings.timing.max_backoff = 10 * DEADLINE;
    let source = ClusterSource::start(settings, &Handle::current()).unwrap();
    let synced = timeout(DEADLINE, source.cluster().wait_synced());
    synced.await.expect("in sync");
    follows(&api, &source).await;
}

#[tokio::test]
async fn list_that_fails_on_a_later_page_has_no_effect() {
    for fault in [
        Fault::Status(500),
        Fault::Status(410),
        Fault::Cut,
        Fault::Stall,
    ] {
        let api = server().await;
        api.streamed_lists(StreamedLists::Refused(422));
        api.longest_page(1);
        let mut settings = settings(&api);
        settings.timing.response = Duration::from_millis(300);
        let source = ClusterSource::start(settings, &Handle::current()).unwrap();
        timeout(DEADLINE, source.cluster().wait_synced())
            .await
            .unwrap();

        api.fault(On::Page(Kind::Service), fault);
        api.unseen(|store| {
            store.delete(Kind::Service, "ns", "b");
            store.apply(Kind::Service, &service("c", "10.0.0.3"));
            store.compact();
        });
        until(&source, "the new list is complete", |it| {
            has(it, "c") && !has(it, "b")
        })
        .await;
        assert!(has(source.cluster(), "a"));
        // With a limit, or without after an expired page.
        let is_list = |it: &&String| it.contains("/services?") && !it.contains("watch=");
        assert!(api.requests().iter().filter(is_list).count() >= 5);
    }
}

#[tokio::test]
async fn duplicate_and_reordered_events_give_the_right_state() {
    for fault in [Fault::Twice, Fault::Reorder] {
        let api = server().await;
        let source = watch(&api).await;
        api.fault(On::Watch(Kind::EndpointSlice), fault);
        api.unseen(|store| {
            store.apply(Kind::EndpointSlice, &slice("a-1", "a", &["10.1.0.3"]));
            store.apply(
                Kind::EndpointSlice,
                &slice("a-1", "a", &["10.1.0.4", "10.1.0.5", "10.1.0.6"]),
            );
        });
        until(&source, "the slice changes", |it| endpoints(it, "a") == 3).await;
        // Two more events, to ensure that earlier ones have been applied.
        api.unseen(|store| {
            store.apply(Kind::EndpointSlice, &slice("b-1", "b", &["10.1.0.7"]));
            store.apply(Kind::EndpointSlice, &slice("b-2", "b", &["10.1.0.8"]));
        });
        until(&source, "the other slices come", |it| {
            endpoints(it, "b") == 2
        })
        .await;
        assert_eq!(endpoints(source.cluster(), "a"), 3);
    }
}

#[tokio::test]
async fn unreadable_object_is_skipped_and_others_are_served() {
    let bad = r#"{"metadata":{"name":"bad","namespace":"ns"},"spec":"none"}"#;
    let api = server().await;
    api.streamed_lists(StreamedLists::Refused(422));
    api.fault(On::List(Kind::Service), Fault::Insert(bad.into()));
    let line = format!(r#"{{"type":"ADDED","object":{bad}}}"#);
    api.fault(On::Watch(Kind::Service), Fault::Insert(line));
    let source = watch(&api).await;
    assert!(has(source.cluster(), "a") && has(source.cluster(), "b"));
    skipped(&source, 2).await;
    follows(&api, &source).await;
}

#[tokio::test]
async fn object_that_becomes_unreadable_keeps_its_last_state() {
    let api = server().await;
    let source = watch(&api).await;
    let mut bad = service("a", "10.0.0.1");
    bad["spec"] = json!("none");
    api.apply(Kind::Service, &bad);
    skipped(&source, 1).await;
    assert!(has(source.cluster(), "a"));
    // A list does not remove it either.
    api.unseen(apiserver::Store::compact);
    skipped(&source, 2).await;
    follows(&api, &source).await;
    assert!(has(source.cluster(), "a"));
    api.apply(Kind::Service, &service("a", "10.0.0.9"));
    let nine = "10.0.0.9".parse().unwrap();
    until(&source, "a is good again", |it| {
        it.entries_at(nine).count() == 1
    })
    .await;
}

#[tokio::test]
async fn invalid_address_is_left_out_of_the_new_state() {
    let api = server().await;
    let mut balanced = service("balanced", "10.0.0.4");
    balanced["spec"]["externalIPs"] = json!(["203.000.113.009", "203.0.113.x"]);
    balanced["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.010"}]}});
    api.apply(Kind::Service, &balanced);
    let source = watch(&api).await;
    let external = |cluster: &Cluster, name: &str| {
        let entry = cluster.entry("ns", name)?.share();
        let external = entry.service.as_ref()?.external.as_ref()?;
        Some(
            external
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
        )
    };
    let known = external(source.cluster(), "balanced").expect("it is served");
    assert_eq!(known, ["203.0.113.9", "203.0.113.10"]);
    // An update applies the valid parts of the new state, not the old state.
    let addresses = ["192.0.2.1", "192.0.2.004", "192.0.2.300", "192.0.2.3"];
    api.apply(Kind::EndpointSlice, &slice("a-1", "a", &addresses));
    until(&source, "the slice changes", |it| endpoints(it, "a") == 3).await;
    let fourth = "192.0.2.4".parse().unwrap();
    assert_eq!(
        source.cluster().entries_at(fourth).count(),
        1,
        "decimal, as it is routed"
    );
    let stats = source.cluster().stats();
    assert_eq!(stats.skipped_fields(Kind::Service), 1);
    assert_eq!(stats.skipped_fields(Kind::EndpointSlice), 1);
    assert_eq!(
        (
            stats.skipped_objects(Kind::Service),
            stats.skipped_objects(Kind::EndpointSlice)
        ),
        (0, 0)
    );
}

#[tokio::test]
async fn expired_pages_fall_back_to_a_list_without_pages() {
    let api = server().await;
    api.streamed_lists(StreamedLists::Refused(422));
    api.longest_page(1);
    api.refuse_pages(true);
    let source = watch(&api).await;
    assert!(has(source.cluster(), "a") && has(source.cluster(), "b"));
    follows(&api, &source).await;
    // Objects deleted in between are removed after such a list too.
    api.unseen(|store| {
        store.delete(Kind::Service, "ns", "b");
        store.compact();
    });
    until(&source, "b goes", |it| !has(it, "b")).await;
    assert!(has(source.cluster(), "a") && has(source.cluster(), "c"));
}

#[tokio::test]
async fn oversized_line_is_rejected() {
    let api = server().await;
    api.streamed_lists(StreamedLists::Refused(422));
    api.fault(On::List(Kind::Service), Fault::Long(17 << 20));
    api.fault(On::Watch(Kind::Service), Fault::Long(17 << 20));
    let source = watch(&api).await;
    assert!(has(source.cluster(), "a"));
    skipped(&source, 2).await;
    follows(&api, &source).await;
}

#[tokio::test]
async fn invalid_stream_is_closed_and_retried() {
    let api = server().await;
    let source = watch(&api).await;
    for nonsense in [
        "not JSON",
        r#"{"type":"NEWS","object":{}}"#,
        r#"{"type":"BOOKMARK","object":{}}"#,
    ] {
        api.fault(On::Watch(Kind::Service), Fault::Insert(nonsense.into()));
    }
    api.unseen(|store| store.apply(Kind::Service, &service("c", "10.0.0.3")));
    until(&source, "c comes", |it| has(it, "c")).await;
}

#[tokio::test]
async fn bookmark_updates_the_version_to_resume_from() {
    let api = server().await;
    let source = watch(&api).await;
    api.apply(Kind::Namespace, &namespace("new"));
    until(&source, "a namespace comes", |it| it.namespace("new")).await;
    let before = source.cluster().stats().events(Kind::Service);
    api.bookmark();
    // The version of the list is compacted, that of the bookmark is not: 5 objects.
    api.unseen(|store| store.oldest = 5);
    api.requested("services?watch=1", 2).await;
    api.requested("resourceVersion=5", 1).await;
    assert_eq!(source.cluster().stats().events(Kind::Service), before);
    assert_eq!(count(&api, "services?watch=1"), 2);
}

#[tokio::test]
async fn known_objects_survive_the_api_server() {
    let api = server().await;
    let source = watch(&api).await;
    for _ in 0..4 {
        api.fault(On::Watch(Kind::Service), Fault::Status(503));
    }
    // It returns restored from an older state: the reached version is in its future.
    api.unseen(|store| {
        *store = apiserver::Store::default();
        store.apply(Kind::Service, &service("c", "10.0.0.3"));
    });
    api.requested("services?watch=1", 4).await;
    assert!(source.cluster().synced() && has(source.cluster(), "a"));
    until(&source, "the server is listed anew", |it| {
        has(it, "c") && !has(it, "a")
    })
    .await;
}

#[tokio::test]
async fn successor_source_inherits_known_objects() {
    let api = server().await;
    api.apply(Kind::Pod, &pod("runs", "10.1.0.1", "Running"));
    let first = watch(&api).await;
    let serial = first.cluster().serial();
    let mut settings = settings(&api);
    settings.pods = true;
    settings.pod_names = true;
    for kind in [
        Kind::Namespace,
        Kind::Service,
        Kind::EndpointSlice,
        Kind::Pod,
    ] {
        for _ in 0..3 {
            api.fault(On::Streamed(kind), Fault::Status(503));
        }
        api.fault(On::List(kind), Fault::Silence);
    }
    api.unseen(|store| {
        store.delete(Kind::Service, "ns", "b");
        store.compact();
    });
    let second =
        ClusterSource::replace(Some(&first), settings.clone(), &Handle::current()).unwrap();
    let cluster = second.cluster();
    assert!(cluster.is_ready() && !cluster.synced());
    assert!(cluster.namespace("ns") && has(cluster, "a") && has(cluster, "b"));
    assert_eq!(endpoints(cluster, "a"), 2);
    assert_eq!(cluster.entries_at("10.1.0.2".parse().unwrap()).count(), 1);
    assert_eq!(cluster.serial(), serial, "nothing has changed");
    assert!(cluster.is_listed(Kind::Service) && cluster.is_listed(Kind::EndpointSlice));
    assert!(!cluster.is_listed(Kind::Pod), "pods were not watched");
    assert!(
        cluster.is_listed(Kind::ServiceImport),
        "and imports are not to be"
    );
    // A source that was never synced passes on only what it inherited.
    let third =
        ClusterSource::replace(Some(&second), settings.clone(), &Handle::current()).unwrap();
    assert!(third.cluster().is_ready() && has(third.cluster(), "b"));
    assert!(!third.cluster().is_listed(Kind::Pod));
    drop(third);
    until(&second, "all is listed", Cluster::synced).await;
    until(&second, "b goes", |it| !has(it, "b")).await;
    assert!(second.cluster().is_listed(Kind::Pod) && has(second.cluster(), "a"));

    settings.slices = false;
    settings.pods = false;
    let last = ClusterSource::replace(Some(&second), settings.clone(), &Handle::current()).unwrap();
    assert_eq!(
        endpoints(last.cluster(), "a"),
        0,
        "they are not to be watched"
    );
    assert_eq!(last.cluster().pods("10.1.0.1".parse().unwrap()).count(), 0);
    let fresh = ClusterSource::start(settings.clone(), &Handle::current()).unwrap();
    let after = ClusterSource::replace(Some(&fresh), settings, &Handle::current()).unwrap();
    assert!(!after.cluster().is_ready(), "nothing was known");
}

#[tokio::test]
async fn service_imports_are_watched_once_the_kind_is_installed() {
    let api = server().await;
    api.unknown(Some(Kind::ServiceImport));
    let mut settings = settings(&api);
    settings.imports = true;
    let source = ClusterSource::start(settings, &Handle::current()).unwrap();
    until(&source, "all is known without imports", Cluster::synced).await;
    api.requested("serviceimports", 3).await;
    api.apply(
        Kind::ServiceImport,
        &json!({
            "metadata": {"name": "far", "namespace": "ns"},
            "spec": {"type": "ClusterSetIP", "ips": ["10.2.0.1"], "ports": []},
        }),
    );
    let far = |cluster: &Cluster| {
        let entry = cluster.entry("ns", "far");
        entry.is_some_and(|entry| entry.import.is_some())
    };
    assert!(!far(source.cluster()));
    api.unknown(None);
    until(&source, "the import is known", far).await;
    let mut imported = slice("far-1", "", &["10.1.0.9"]);
    imported["metadata"]["labels"] = json!({
        "multicluster.kubernetes.io/service-name": "far",
        "multicluster.kubernetes.io/source-cluster": "east",
    });
    api.apply(Kind::EndpointSlice, &imported);
    until(&source, "its slice is known", |cluster| {
        let entry = cluster.entry("ns", "far");
        entry.is_some_and(|entry| entry.imported.len() == 1 && entry.slices.is_empty())
    })
    .await;
    api.delete(Kind::EndpointSlice, "ns", "far-1");
    until(&source, "its slice is gone", |cluster| {
        let entry = cluster.entry("ns", "far");
        entry.is_some_and(|entry| entry.imported.is_empty())
    })
    .await;
}

#[tokio::test]
async fn labels_do_not_select_service_imports() {
    let api = server().await;
    let import = json!({
        "metadata": {"name": "far", "namespace": "ns"},
        "spec": {"type": "ClusterSetIP", "ips": ["10.2.0.1"], "ports": []},
    });
    api.apply(Kind::ServiceImport, &import);
    let mut settings = settings(&api);
    settings.imports = true;
    settings.labels = "app=a".parse().unwrap();
    let source = ClusterSource::start(settings, &Handle::current()).unwrap();
    timeout(DEADLINE, source.cluster().wait_synced())
        .await
        .unwrap();
    let cluster = source.cluster();
    assert!(has(cluster, "a") && !has(cluster, "b"));
    let far = cluster.entry("ns", "far");
    assert!(far.is_some_and(|entry| entry.import.is_some()));
}

#[tokio::test]
async fn invalid_settings_are_refused() {
    let refused = |origin| ClusterSource::start(Settings::new(origin), &Handle::current()).is_err();
    for url in ["", "localhost:8080", "ftp://x", "http://"] {
        assert!(
            refused(Backend::Endpoint {
                url: url.into(),
                tls: None
            }),
            "{url}"
        );
    }
    let file = "/nonexistent/kubeconfig".into();
    assert!(refused(Backend::Kubeconfig {
        file,
        context: None
    }));
    assert!(refused(Backend::Manifests {
        directory: "/nonexistent".into()
    }));
}

/// Needs `KUBECONFIG`; see the head of this file.
#[tokio::test]
async fn real_api_server_is_watched() {
    let Some(file) = std::env::var_os("KUBECONFIG") else {
        eprintln!("skipped: KUBECONFIG is not set");
        return;
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut settings = Settings::new(Backend::Kubeconfig {
        file: file.into(),
        context: None,
    });
    settings.pods = true;
    let source = ClusterSource::start(settings, &Handle::current()).unwrap();
    timeout(DEADLINE, source.cluster().wait_synced())
        .await
        .expect("never synced");
    let cluster = source.cluster();
    assert!(cluster.namespace("default") && cluster.namespace("kube-system"));
    let entry = cluster.entry("default", "kubernetes").unwrap();
    let service = entry.service.as_ref().unwrap();
    assert!(
        cluster
            .entries_at(service.cluster_ips[0])
            .any(|it| it.key.name == entry.key.name)
    );
    assert!(entry.endpoints().count() > 0);
}
