//! Staleness that no error reports: connections that die silently, and events that are lost.

#![allow(clippy::unwrap_used)] // in the tests' helpers

mod apiserver;

use apiserver::{ApiServer, Fault, On, StreamedLists};
use lodestone::cluster::{Backend, Cluster, ClusterSource, Kind, Settings, Timing};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

/// Timeout of a test; never reached when it passes.
const DEADLINE: Duration = Duration::from_secs(30);

fn settings(url: String) -> Settings {
    let mut settings = Settings::new(Backend::Endpoint { url, tls: None });
    settings.timing = Timing {
        response: Duration::from_secs(2),
        initial: Duration::from_secs(2),
        idle: Duration::from_mins(1),
        settle: Duration::from_mins(1),
        watch: Duration::from_mins(1),
        backoff: Duration::from_millis(5),
        max_backoff: Duration::from_millis(50),
        max_connect_backoff: Duration::from_millis(50),
    };
    settings
}

async fn synced(settings: Settings) -> ClusterSource {
    let source = ClusterSource::start(settings, &Handle::current()).unwrap();
    timeout(DEADLINE, source.cluster().wait_synced())
        .await
        .expect("never synced");
    source
}

/// Waits until `is` holds for the cluster.
async fn until(source: &ClusterSource, what: &str, is: impl Fn(&Cluster) -> bool) {
    let wait = source.cluster().wait_for(is);
    assert!(timeout(DEADLINE, wait).await.is_ok(), "never: {what}");
}

fn service(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80, "protocol": "TCP"}]},
    })
}

/// An API server with a namespace and a Service.
async fn server() -> ApiServer {
    let api = ApiServer::start().await;
    api.apply(Kind::Namespace, &json!({"metadata": {"name": "ns"}}));
    api.apply(Kind::Service, &service("a"));
    api
}

fn has(cluster: &Cluster, name: &str) -> bool {
    let entry = cluster.entry("ns", name);
    entry.is_some_and(|entry| entry.service.is_some())
}

/// A TCP proxy whose connections can stop forwarding without being closed.
struct Proxy {
    address: SocketAddr,
    /// Connections accepted before the last change are silent.
    generation: watch::Sender<u32>,
    accepted: watch::Receiver<usize>,
}

impl Proxy {
    async fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let generation = watch::Sender::new(0);
        let (count, accepted) = watch::channel(0);
        let silence = generation.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                count.send_modify(|count| *count += 1);
                let (target, mut silent) = (target.clone(), silence.subscribe());
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        // Both connections stay open, and the kernel acknowledges what arrives.
                        _ = silent.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self {
            address,
            generation,
            accepted,
        }
    }

    fn silence(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

#[tokio::test]
async fn a_quiet_cluster_without_bookmarks_is_fresh() {
    let api = server().await;
    let mut settings = settings(api.url());
    settings.timing.idle = Duration::from_millis(50);
    let source = synced(settings).await;
    let resumed = "resourceVersion=";
    let before = api
        .requests()
        .iter()
        .filter(|it| it.contains(resumed))
        .count();
    // Each watch is quiet for its time, and is resumed. Three kinds, ten times.
    timeout(DEADLINE, api.requested(resumed, before + 30))
        .await
        .expect("watches are resumed");
    let age = source.cluster().stats().age(Kind::Service).unwrap();
    assert!(age < Duration::from_millis(400), "{age:?}");
    api.apply(Kind::Service, &service("b"));
    until(&source, "a change", |cluster| has(cluster, "b")).await;
}

#[tokio::test]
async fn changes_behind_a_silent_proxy_are_served_after_the_bound() {
    // The number of requests until the watch is established: a refused list precedes it.
    for (lists, requests) in [(StreamedLists::Spoken, 1), (StreamedLists::Refused(422), 2)] {
        let api = server().await;
        api.streamed_lists(lists);
        let target = api.url().strip_prefix("http://").unwrap().to_owned();
        let mut proxy = Proxy::start(target).await;
        let mut settings = settings(format!("http://{}", proxy.address));
        let bound = Duration::from_secs(1);
        settings.timing.idle = bound;
        let source = synced(settings).await;
        // All watches are established.
        for kind in ["namespaces", "services", "endpointslices"] {
            api.requested(&format!("{kind}?watch=1"), requests).await;
        }
        proxy.silence();
        let connections = *proxy.accepted.borrow();
        api.apply(Kind::Service, &service("b"));
        assert!(!has(source.cluster(), "b"));
        until(&source, "b is served", |it| has(it, "b")).await;
        // Over new connections.
        let wait = proxy.accepted.wait_for(|count| *count > connections);
        assert!(timeout(DEADLINE, wait).await.is_ok());
        assert!(has(source.cluster(), "a"));
    }
}

#[tokio::test]
async fn an_api_server_that_is_back_is_connected_to_soon() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let mut settings = settings(format!("http://{address}"));
    // After a failure of another kind, the next attempt would be after the test.
    settings.timing.backoff = 10 * DEADLINE;
    settings.timing.max_backoff = 10 * DEADLINE;
    let source = ClusterSource::start(settings, &Handle::current()).unwrap();
    let cluster = source.cluster();
    let refused = timeout(Duration::from_millis(200), cluster.wait_synced()).await;
    assert!(refused.is_err());
    let api = ApiServer::bind(address).await;
    api.apply(Kind::Namespace, &json!({"metadata": {"name": "ns"}}));
    api.apply(Kind::Service, &service("a"));
    until(&source, "synced", |it| has(it, "a")).await;
}

#[tokio::test]
async fn errors_of_an_api_server_that_is_back_are_retried_at_once() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let mut settings = settings(format!("http://{address}"));
    settings.timing.max_connect_backoff = Duration::from_millis(5);
    settings.timing.max_backoff = 100 * DEADLINE;
    let source = ClusterSource::start(settings, &Handle::current()).unwrap();
    // After that many failures, the delay without the bound is longer than the test.
    let refused = timeout(Duration::from_millis(500), source.cluster().wait_synced()).await;
    assert!(refused.is_err());
    let api = ApiServer::bind(address).await;
    for _ in 0..2 {
        api.fault(On::Streamed(Kind::Service), Fault::Status(403));
    }
    api.apply(Kind::Namespace, &json!({"metadata": {"name": "ns"}}));
    api.apply(Kind::Service, &service("a"));
    until(&source, "synced", |it| has(it, "a")).await;
}

/// Settings with an audit at short intervals.
fn audited(api: &ApiServer) -> Settings {
    let mut settings = settings(api.url());
    settings.audit = Some(Duration::from_millis(50));
    settings.pods = true;
    settings
}

/// Waits until each kind has been audited this often from now.
async fn audits(source: &ClusterSource, more: u64) {
    let kinds = source.settings().kinds();
    let stats = source.cluster().stats();
    let before: Vec<_> = kinds.iter().map(|kind| stats.audits(*kind)).collect();
    let wait = async {
        let is_done = || {
            let mut kinds = kinds.iter().zip(&before);
            kinds.all(|(kind, before)| stats.audits(*kind) >= before + more)
        };
        // There is no event for the end of an audit.
        while !is_done() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(DEADLINE, wait).await.is_ok(), "no audit");
}

/// The number of repaired objects of all kinds.
fn repairs(source: &ClusterSource) -> u64 {
    let stats = source.cluster().stats();
    let kinds = Kind::ALL.iter();
    kinds.map(|kind| stats.audit_repairs(*kind)).sum()
}

/// Number of requests of the audit.
fn audit_requests(api: &ApiServer) -> usize {
    let is_list = |it: &&String| !it.contains("watch=") && it.contains("NotOlderThan");
    api.requests().iter().filter(is_list).count()
}

fn pod(name: &str, address: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "ns"},
        "status": {"podIP": address, "phase": "Running"},
    })
}

fn slice(name: &str, service: &str, address: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "ns", "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        "ports": [{"port": 8080, "protocol": "TCP"}],
    })
}

#[tokio::test]
async fn lost_events_are_repaired_and_counted() {
    for lists in [StreamedLists::Spoken, StreamedLists::Refused(422)] {
        let api = server().await;
        api.streamed_lists(lists);
        for name in ["changed", "deleted"] {
            api.apply(Kind::Service, &service(name));
            api.apply(Kind::EndpointSlice, &slice(name, name, "10.1.0.1"));
        }
        api.apply(Kind::Pod, &pod("deleted", "10.1.0.1"));
        let source = synced(audited(&api)).await;
        let cluster = source.cluster();
        audits(&source, 1).await;
        assert_eq!(repairs(&source), 0);
        api.lose_events(|store| {
            store.apply(Kind::Service, &service("created"));
            store.delete(Kind::Service, "ns", "deleted");
            let changed = slice("changed", "changed", "10.1.0.9");
            store.apply(Kind::EndpointSlice, &changed);
            store.delete(Kind::Pod, "ns", "deleted");
        });
        // The watches go on: bookmarks come after the lost events.
        api.bookmark();
        let nine = "10.1.0.9".parse().unwrap();
        until(&source, "the state is right again", |it| {
            has(it, "created")
                && !has(it, "deleted")
                && it.entries_at(nine).count() == 1
                && it.pods("10.1.0.1".parse().unwrap()).count() == 0
        })
        .await;
        audits(&source, 1).await;
        let stats = cluster.stats();
        assert_eq!(stats.audit_repairs(Kind::Service), 2);
        assert_eq!(stats.audit_repairs(Kind::EndpointSlice), 1);
        assert_eq!(stats.audit_repairs(Kind::Pod), 1);
        assert_eq!(stats.audit_repairs(Kind::Namespace), 0);
        // Events are seen as before.
        api.apply(Kind::Service, &service("later"));
        until(&source, "a later event is seen", |it| has(it, "later")).await;
    }
}

#[tokio::test]
async fn watch_that_never_reaches_the_list_is_repaired_after_a_time() {
    let api = server().await;
    let mut settings = audited(&api);
    settings.timing.settle = Duration::from_millis(300);
    let source = synced(settings).await;
    api.lose_events(|store| store.apply(Kind::Service, &service("created")));
    until(&source, "it is created", |it| has(it, "created")).await;
    assert_eq!(source.cluster().stats().audit_repairs(Kind::Service), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_repaired_under_churn() {
    let api = server().await;
    api.longest_page(50);
    for number in 0..300 {
        api.apply(Kind::Service, &service(&format!("s{number}")));
        api.apply(
            Kind::EndpointSlice,
            &slice(&format!("s{number}"), "a", "10.1.0.1"),
        );
    }
    // Objects that DNS has no use for are delivered, too.
    api.apply(
        Kind::Pod,
        &json!({"metadata": {"name": "pending", "namespace": "ns"}}),
    );
    let mut bad = service("bad");
    bad["spec"] = json!("none");
    api.apply(Kind::Service, &bad);
    let mut settings = audited(&api);
    settings.audit = Some(Duration::from_millis(1));
    let source = synced(settings).await;
    for round in 0..20 {
        // The changes come while the Services and those after them are listed.
        let list = "/api/v1/services?limit=500&resourceVersion";
        api.requested(list, round + 1).await;
        for change in round * 300..(round + 1) * 300 {
            let (number, operation) = (change / 4, change % 4);
            let name = format!("s{}", (number * 7 + operation * 13) % 400);
            match operation {
                0 => api.delete(Kind::Service, "ns", &name),
                1 => api.apply(Kind::Service, &service(&name)),
                2 => api.delete(Kind::EndpointSlice, "ns", &name),
                _ => api.apply(Kind::EndpointSlice, &slice(&name, "a", "10.1.0.2")),
            }
        }
        api.bookmark();
    }
    api.bookmark();
    audits(&source, 2).await;
    assert_eq!(repairs(&source), 0);
    let lists = |it: &&String| it.contains("sendInitialEvents");
    assert_eq!(api.requests().iter().filter(lists).count(), 4);
}

#[tokio::test]
async fn audit_lists_metadata_in_pages_from_the_cache() {
    let api = server().await;
    for number in 0..1_100 {
        api.apply(Kind::Service, &service(&format!("s{number}")));
    }
    let source = synced(audited(&api)).await;
    audits(&source, 1).await;
    let requests = api.requests();
    let services = requests
        .iter()
        .filter(|it| it.starts_with("/api/v1/services?"));
    let services: Vec<_> = services.filter(|it| !it.contains("watch=")).collect();
    let version = 1_102;
    let first = format!(
        "/api/v1/services?limit=500&resourceVersion={version}&resourceVersionMatch=NotOlderThan"
    );
    assert_eq!(*services[0], first);
    for (request, after) in services[1..].iter().zip([500, 1_000]) {
        let continued = format!("/api/v1/services?limit=500&continue={version}.");
        assert!(request.starts_with(&continued), "{request}");
        assert!(request.ends_with(&format!(".{after}")), "{request}");
    }
    let selectors = requests
        .iter()
        .filter(|it| it.starts_with("/api/v1/pods?limit=500"));
    for request in selectors {
        assert!(request.contains("&fieldSelector=status.phase"), "{request}");
    }

    // A server that does not stream lists reads pages from etcd.
    let api = server().await;
    api.streamed_lists(StreamedLists::Refused(422));
    let source = synced(audited(&api)).await;
    audits(&source, 1).await;
    let first = "/api/v1/services?resourceVersion=2&resourceVersionMatch=NotOlderThan";
    assert!(api.requests().iter().any(|it| it == first));
}

#[tokio::test]
async fn failed_audit_changes_nothing() {
    let api = server().await;
    api.longest_page(1);
    api.apply(Kind::Service, &service("b"));
    let source = synced(audited(&api)).await;
    for fault in [Fault::Status(500), Fault::Cut, Fault::Stall] {
        api.fault(On::List(Kind::Service), fault.clone());
        api.fault(On::Page(Kind::Service), fault);
    }
    audits(&source, 3).await;
    assert_eq!(repairs(&source), 0);
    assert!(has(source.cluster(), "a") && has(source.cluster(), "b"));
}

#[tokio::test]
async fn audit_that_is_off_does_nothing() {
    let api = server().await;
    let mut settings = audited(&api);
    settings.audit = None;
    let source = synced(settings).await;
    api.lose_events(|store| store.apply(Kind::Service, &service("lost")));
    api.bookmark();
    // Another source's audit, as a clock.
    let other = synced(audited(&api)).await;
    audits(&other, 5).await;
    let requests = audit_requests(&api);
    drop(other);
    assert!(requests > 0);
    api.apply(Kind::Service, &service("seen"));
    until(&source, "events are seen", |it| has(it, "seen")).await;
    assert!(!has(source.cluster(), "lost"));
    assert_eq!(
        (
            repairs(&source),
            source.cluster().stats().audits(Kind::Service)
        ),
        (0, 0)
    );
}

/// Prints the cost of one audit: `cargo test --test freshness -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn cost_of_an_audit() {
    let api = server().await;
    for number in 0..10_000 {
        let name = format!("service-{number}");
        let mut object = service(&name);
        object["metadata"] = real_metadata(&name);
        api.apply(Kind::Service, &object);
    }
    let mut settings = audited(&api);
    settings.slices = false;
    settings.pods = false;
    settings.audit = Some(Duration::from_mins(1));
    settings.timing.initial = Duration::from_mins(1);
    let source = ClusterSource::start(settings, &Handle::current()).unwrap();
    source.cluster().wait_synced().await;
    assert_eq!(audit_requests(&api), 0);
    let stats = source.cluster().stats();
    while stats.audits(Kind::Service) == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let is_page = |it: &&String| it.starts_with("/api/v1/services?limit");
    let pages = api.requests().iter().filter(is_page).count();
    println!(
        "10,000 Services: {pages} requests, {} bytes",
        api.list_bytes()
    );
}

/// Metadata with the usual fields of real objects.
fn real_metadata(name: &str) -> Value {
    json!({
        "name": name, "namespace": "ns",
        "uid": "3b241101-e2bb-4255-8caf-4136c566a962",
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "labels": {"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "Helm"},
        "annotations": {"meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": "x"},
        "managedFields": [{
            "manager": "helm", "operation": "Update", "apiVersion": "v1",
            "time": "2026-01-02T03:04:05Z", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:app.kubernetes.io/name": {}}},
                "f:spec": {"f:internalTrafficPolicy": {}, "f:ports": {".": {}, "k:{\"port\":80}": {
                    ".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}}}, "f:selector": {}}},
        }],
    })
}
