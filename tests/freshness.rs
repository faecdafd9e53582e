//! Staleness that no error reports: connections that die silently, and events that are lost.

#![allow(clippy::unwrap_used)] // in the tests' helpers

mod apiserver;

use apiserver::{ApiServer, StreamedLists};
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
        watch: Duration::from_mins(1),
        backoff: Duration::from_millis(5),
        max_backoff: Duration::from_millis(50),
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
