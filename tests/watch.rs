//! The watch against an API server that does what real ones do, and what they do on bad days.
//!
//! With `KUBECONFIG` set, `a_real_api_server` watches that cluster too. With kind:
//!
//! ```text
//! kind create cluster --name lodestone --kubeconfig /tmp/lodestone.kubeconfig
//! KUBECONFIG=/tmp/lodestone.kubeconfig cargo test --test watch
//! kind delete cluster --name lodestone
//! ```

#![allow(clippy::unwrap_used)] // in the tests' helpers

mod apiserver;

use apiserver::{ApiServer, Fault, On, StreamedLists};
use lodestone::cluster::{Backend, Cluster, Kind, Settings, Source, Timing};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// Beyond this a test has failed. Nothing waits for as long.
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
        watch: Duration::from_mins(1),
        backoff: Duration::from_millis(5),
        max_backoff: Duration::from_millis(50),
    };
    settings
}

/// A source that watches this server, synced.
async fn watch(api: &ApiServer) -> Source {
    let source = Source::start(settings(api), &Handle::current()).unwrap();
    timeout(DEADLINE, source.cluster().wait_synced())
        .await
        .expect("never synced");
    source
}

/// Waits until the cluster is as described.
async fn until(source: &Source, what: &str, is: impl Fn(&Cluster) -> bool) {
    let wait = source.cluster().wait_for(is);
    assert!(
        timeout(DEADLINE, wait).await.is_ok(),
        "it never came about that {what}"
    );
}

/// Waits until so many services were skipped in all.
async fn skipped(source: &Source, count: u64) {
    let is = |it: &Cluster| it.stats().skipped_objects(Kind::Service) == count;
    until(source, &format!("{count} are skipped"), is).await;
}

/// A further service, `c`, comes and is seen.
async fn follows(api: &ApiServer, source: &Source) {
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

/// With a namespace, two services and a slice.
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

/// How many requests there were whose path and query contain this.
fn count(api: &ApiServer, part: &str) -> usize {
    api.requests().iter().filter(|it| it.contains(part)).count()
}

#[tokio::test]
async fn the_line_end_of_a_token_file_is_no_part_of_the_token() {
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
    let source = Source::start(settings, &Handle::current()).unwrap();
    timeout(DEADLINE, source.cluster().wait_synced())
        .await
        .expect("never synced");
    assert_eq!(api.authorization().as_deref(), Some("Bearer abc.def"));
}

const LISTS: &str = "services?limit=";

#[tokio::test]
async fn it_lists_and_follows() {
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
async fn where_streamed_lists_are_refused_it_asks_for_pages() {
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
async fn where_streamed_lists_never_end_it_asks_for_pages() {
    let api = server().await;
    api.streamed_lists(StreamedLists::Ignored);
    let source = watch(&api).await;
    assert!(has(source.cluster(), "a"));
    assert_eq!(count(&api, LISTS), 1);
}

#[tokio::test]
async fn a_list_of_many_pages_is_one_list() {
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
async fn selectors_are_the_servers_work() {
    let api = server().await;
    api.apply(Kind::Pod, &pod("runs", "10.1.0.1", "Running"));
    api.apply(Kind::Pod, &pod("over", "10.1.0.2", "Succeeded"));
    let mut settings = settings(&api);
    settings.labels = "app in (a, c)".parse().unwrap();
    settings.slices = false;
    let source = Source::start(settings.clone(), &Handle::current()).unwrap();
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
    let source = Source::start(settings, &Handle::current()).unwrap();
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
async fn a_stream_cut_in_the_middle_of_an_object_is_resumed() {
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
async fn a_stream_that_goes_silent_is_resumed() {
    let api = server().await;
    let mut settings = settings(&api);
    settings.timing.idle = Duration::from_millis(300);
    let source = Source::start(settings, &Handle::current()).unwrap();
    timeout(DEADLINE, source.cluster().wait_synced())
        .await
        .unwrap();
    api.fault(On::Watch(Kind::Service), Fault::Stall);
    api.unseen(|store| store.apply(Kind::Service, &service("c", "10.0.0.3")));
    until(&source, "c comes", |it| has(it, "c")).await;
    assert!(has(source.cluster(), "a"));
}

/// Without packets to lose a test cannot have a connection die in silence; that the system asks
/// whether it lives, and soon, is what can be seen.
#[tokio::test]
async fn quiet_connections_are_asked_whether_they_live() {
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
        // The timer that runs, 2 being that of keepalive, and hundredths of a second until it ends.
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
async fn streams_that_end_at_once_are_tried_again() {
    let api = server().await;
    let source = watch(&api).await;
    for _ in 0..4 {
        api.fault(On::Watch(Kind::Service), Fault::End);
    }
    api.unseen(|store| store.apply(Kind::Service, &service("c", "10.0.0.3")));
    until(&source, "c comes", |it| has(it, "c")).await;
}

#[tokio::test]
async fn what_expires_is_listed_again_and_the_deleted_is_gone() {
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
async fn refusals_are_waited_out() {
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
async fn refusals_of_a_streamed_list_are_waited_out() {
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
async fn an_ordinary_list_follows_at_once_where_a_streamed_one_fails() {
    let api = server().await;
    api.streamed_lists(StreamedLists::Refused(500));
    let mut settings = settings(&api);
    // With a pause between them, it would not be in sync before the deadline.
    settings.timing.backoff = 10 * DEADLINE;
    settings.timing.max_backoff = 10 * DEADLINE;
    let source = Source::start(settings, &Handle::current()).unwrap();
    let synced = timeout(DEADLINE, source.cluster().wait_synced());
    synced.await.expect("in sync");
    follows(&api, &source).await;
}

#[tokio::test]
async fn a_list_that_fails_on_a_later_page_leaves_nothing_behind() {
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
        let source = Source::start(settings, &Handle::current()).unwrap();
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
        // With a limit or, once a page has expired, without.
        let is_list = |it: &&String| it.contains("/services?") && !it.contains("watch=");
        assert!(api.requests().iter().filter(is_list).count() >= 5);
    }
}

#[tokio::test]
async fn events_told_twice_or_out_of_order_end_in_the_right_state() {
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
        // Two more, so that whatever was sent before them has been taken.
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
async fn a_bad_object_is_skipped_and_the_others_are_served() {
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
async fn an_object_that_turns_bad_stays_as_it_was() {
    let api = server().await;
    let source = watch(&api).await;
    let mut bad = service("a", "10.0.0.1");
    bad["spec"] = json!("none");
    api.apply(Kind::Service, &bad);
    skipped(&source, 1).await;
    assert!(has(source.cluster(), "a"));
    // Nor does a list take it away.
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
async fn one_bad_address_voids_no_object_and_keeps_no_old_state() {
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
    // At an update what is good of the new state counts, and not the old one.
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
async fn where_every_list_in_pages_expires_it_lists_without_pages() {
    let api = server().await;
    api.streamed_lists(StreamedLists::Refused(422));
    api.longest_page(1);
    api.refuse_pages(true);
    let source = watch(&api).await;
    assert!(has(source.cluster(), "a") && has(source.cluster(), "b"));
    follows(&api, &source).await;
    // What has gone in between is gone after such a list too.
    api.unseen(|store| {
        store.delete(Kind::Service, "ns", "b");
        store.compact();
    });
    until(&source, "b goes", |it| !has(it, "b")).await;
    assert!(has(source.cluster(), "a") && has(source.cluster(), "c"));
}

#[tokio::test]
async fn a_line_without_end_is_dropped() {
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
async fn a_stream_of_nonsense_is_left_and_tried_again() {
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
async fn a_bookmark_moves_the_place_to_resume_from() {
    let api = server().await;
    let source = watch(&api).await;
    api.apply(Kind::Namespace, &namespace("new"));
    until(&source, "a namespace comes", |it| it.namespace("new")).await;
    let before = source.cluster().stats().events(Kind::Service);
    api.bookmark();
    // The version that services were listed at is forgotten, the bookmark's is not: 5 objects.
    api.unseen(|store| store.oldest = 5);
    api.requested("services?watch=1", 2).await;
    api.requested("resourceVersion=5", 1).await;
    assert_eq!(source.cluster().stats().events(Kind::Service), before);
    assert_eq!(count(&api, "services?watch=1"), 2);
}

#[tokio::test]
async fn what_is_known_outlives_the_api_server() {
    let api = server().await;
    let source = watch(&api).await;
    for _ in 0..4 {
        api.fault(On::Watch(Kind::Service), Fault::Status(503));
    }
    // It returns restored from an older state: the version that was reached is in its future.
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
async fn a_source_in_the_place_of_another_serves_what_that_one_knew() {
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
    let second = Source::replace(Some(&first), settings.clone(), &Handle::current()).unwrap();
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
    // One that was never in sync has nothing to give, but what it has inherited.
    let third = Source::replace(Some(&second), settings.clone(), &Handle::current()).unwrap();
    assert!(third.cluster().is_ready() && has(third.cluster(), "b"));
    assert!(!third.cluster().is_listed(Kind::Pod));
    drop(third);
    until(&second, "all is listed", Cluster::synced).await;
    until(&second, "b goes", |it| !has(it, "b")).await;
    assert!(second.cluster().is_listed(Kind::Pod) && has(second.cluster(), "a"));

    settings.slices = false;
    settings.pods = false;
    let last = Source::replace(Some(&second), settings.clone(), &Handle::current()).unwrap();
    assert_eq!(
        endpoints(last.cluster(), "a"),
        0,
        "they are not to be watched"
    );
    assert_eq!(last.cluster().pods("10.1.0.1".parse().unwrap()).count(), 0);
    let fresh = Source::start(settings.clone(), &Handle::current()).unwrap();
    let after = Source::replace(Some(&fresh), settings, &Handle::current()).unwrap();
    assert!(!after.cluster().is_ready(), "nothing was known");
}

#[tokio::test]
async fn imports_are_watched_once_the_cluster_knows_the_kind() {
    let api = server().await;
    api.unknown(Some(Kind::ServiceImport));
    let mut settings = settings(&api);
    settings.imports = true;
    let source = Source::start(settings, &Handle::current()).unwrap();
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
async fn settings_that_lead_nowhere_are_refused() {
    let refused = |origin| Source::start(Settings::new(origin), &Handle::current()).is_err();
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
async fn a_real_api_server() {
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
    let source = Source::start(settings, &Handle::current()).unwrap();
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
