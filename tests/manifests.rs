//! The `manifests` source with directories that change.

#![allow(clippy::unwrap_used)] // in the tests' helpers

use lodestone::cluster::{
    Backend, Cluster, ClusterSource, Kind, ServiceEntry, ServiceKind, Settings,
};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// Timeout of a test.
const DEADLINE: Duration = Duration::from_secs(20);

const SHOP: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: a}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: web}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec:
  containers: [{name: c, image: i, ports: [{name: web, containerPort: 8080}]}]
status:
  podIP: 10.1.0.1
  conditions: [{type: Ready, status: 'True'}]
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, namespace: shop, labels: {app: web}}
status:
  podIP: 10.1.0.2
  conditions: [{type: Ready, status: 'False'}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: other, namespace: warehouse}
spec: {selector: {matchLabels: {app: x}}}
";

const DATABASE: &str = "
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: sql, port: 5432}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: db-0
  labels: {app: db, statefulset.kubernetes.io/pod-name: db-0}
spec: {hostname: db-0, subdomain: db}
status: {podIP: 10.1.1.1, podIPs: [{ip: 10.1.1.1}, {ip: 'fd00::1'}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: db-1
  labels: {app: db, statefulset.kubernetes.io/pod-name: db-1}
status: {podIP: 10.1.1.2}
";

fn service(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::new().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

fn settings(directory: &Path) -> Settings {
    let mut settings = Settings::new(Backend::Manifests {
        directory: directory.to_owned(),
    });
    settings.pods = true;
    settings.pod_names = true;
    settings
}

async fn read_with(settings: Settings) -> ClusterSource {
    let source = ClusterSource::start(settings, &Handle::current()).unwrap();
    timeout(DEADLINE, source.cluster().wait_synced())
        .await
        .expect("never synced");
    source
}

async fn read(directory: &TempDir) -> ClusterSource {
    read_with(settings(directory.path())).await
}

async fn until(source: &ClusterSource, what: &str, is: impl Fn(&Cluster) -> bool) {
    let wait = source.cluster().wait_for(is);
    assert!(
        timeout(DEADLINE, wait).await.is_ok(),
        "it never came about that {what}"
    );
}

fn entry(source: &ClusterSource, namespace: &str, name: &str) -> Arc<ServiceEntry> {
    source.cluster().entry(namespace, name).expect(name).share()
}

fn has(cluster: &Cluster, name: &str) -> bool {
    cluster.entry("default", name).is_some()
}

#[tokio::test]
async fn manifests_in_every_format_are_read() {
    let list = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "one"},
         "spec": {"clusterIP": "10.96.0.7"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "two"},
         "spec": {"type": "ExternalName", "externalName": "example.com"}}]}"#;
    let knative =
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: k}\nspec: 7\n";
    let directory = directory(&[
        ("shop.yaml", SHOP),
        ("deep/er/database.yml", DATABASE),
        ("list.json", list),
        ("knative.yaml", knative),
        ("README.md", "no manifest"),
        (".git/config.yaml", "no: manifest"),
    ]);
    let source = read(&directory).await;
    let cluster = source.cluster();
    let mut namespaces: Vec<_> = cluster.namespaces().map(|it| it.name.to_string()).collect();
    namespaces.sort();
    assert_eq!(namespaces, ["default", "kube-system", "shop", "warehouse"]);
    assert_eq!(cluster.stats().objects(Kind::Service), 4);
    assert_eq!(cluster.stats().objects(Kind::Pod), 4);
    let one = entry(&source, "default", "one");
    assert_eq!(
        one.service.as_ref().unwrap().cluster_ips[0].to_string(),
        "10.96.0.7"
    );
    let two = entry(&source, "default", "two");
    assert_eq!(
        two.service.as_ref().unwrap().kind,
        ServiceKind::ExternalName
    );
    assert_eq!(cluster.pods("fd00::1".parse().unwrap()).count(), 1);
}

#[tokio::test]
async fn endpoints_are_derived_from_matching_pods() {
    let directory = directory(&[("shop.yaml", SHOP), ("database.yaml", DATABASE)]);
    let source = read(&directory).await;
    let web = entry(&source, "shop", "web");
    let port = |at: usize| {
        web.slices[at]
            .ports
            .iter()
            .map(|it| it.number)
            .collect::<Vec<_>>()
    };
    // web-2 has no port with that name, so it is in another slice, and it is not ready.
    assert_eq!(web.slices.len(), 2);
    assert_eq!((port(0), port(1)), (vec![], vec![Some(8080)]));
    let ready: Vec<_> = web.slices.iter().flat_map(|it| it.ready()).collect();
    assert_eq!(ready.len(), 1);
    assert_eq!((ready[0].pod(), ready[0].hostname()), (Some("web-1"), None));

    let database = entry(&source, "default", "db");
    let hostnames: Vec<_> = database
        .endpoints()
        .map(|it| it.hostname().unwrap())
        .collect();
    assert_eq!(
        hostnames,
        ["db-0", "db-1"],
        "of one family, as nothing asks for both"
    );
    assert_eq!(database.slices[0].ports[0].number, Some(5432));
}

#[tokio::test]
async fn declared_slice_replaces_the_derived_one() {
    let slice = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-x, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints: [{addresses: [10.9.9.9]}]
";
    let directory = directory(&[("database.yaml", DATABASE), ("slice.yaml", slice)]);
    let source = read(&directory).await;
    let addresses = |source: &ClusterSource| {
        let database = entry(source, "default", "db");
        database
            .endpoints()
            .map(|it| it.address.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(addresses(&source), ["10.9.9.9"]);
    fs::remove_file(directory.path().join("slice.yaml")).unwrap();
    let first = "10.1.1.1".parse().unwrap();
    until(&source, "the pods count again", |it| {
        it.entries_at(first).count() == 1
    })
    .await;
    assert_eq!(addresses(&source), ["10.1.1.1", "10.1.1.2"]);
}

#[tokio::test]
async fn service_imports_and_their_slices_are_read() {
    let text = "
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata: {name: spread, namespace: shop}
spec: {type: Headless, ports: [{name: http, port: 80, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: spread-east
  namespace: shop
  labels:
    multicluster.kubernetes.io/service-name: spread
    multicluster.kubernetes.io/source-cluster: east
addressType: IPv4
endpoints: [{addresses: [10.9.0.1], hostname: db-0}]
ports: [{name: http, port: 80, protocol: TCP}]
";
    let directory = directory(&[("far.yaml", text)]);
    let mut settings = settings(directory.path());
    settings.imports = true;
    let source = read_with(settings).await;
    let spread = entry(&source, "shop", "spread");
    assert!(spread.import.as_ref().unwrap().headless);
    assert!(spread.service.is_none() && spread.slices.is_empty());
    let import = spread.imported[0].import.as_ref().unwrap();
    assert_eq!((&*import.service, &*import.cluster), ("spread", "east"));
}

#[tokio::test]
async fn address_families_and_readiness_follow_the_service() {
    let pods = DATABASE.split_once("---").unwrap().1;
    let unready = pods.replace(
        "podIP: 10.1.1.2",
        "podIP: 10.1.1.2, conditions: [{type: Ready, status: 'False'}]",
    );
    let all =
        "{selector: {app: db}, ipFamilyPolicy: PreferDualStack, publishNotReadyAddresses: true}";
    let six = "{selector: {app: db}, ipFamilies: [IPv6]}";
    let text = [&service("all", all), &service("six", six), unready.as_str()]
        .map(str::trim)
        .join("\n---\n");
    let directory = directory(&[("a.yaml", &text)]);
    let source = read(&directory).await;
    let all = entry(&source, "default", "all");
    assert_eq!(all.endpoints().filter(|it| it.ready).count(), 3);
    assert_eq!(all.service.as_ref().unwrap().cluster_ips.len(), 2);
    let six = entry(&source, "default", "six");
    assert!(six.endpoints().all(|it| it.address.is_ipv6()) && six.endpoints().count() == 1);
    assert!(six.service.as_ref().unwrap().cluster_ips[0].is_ipv6());
}

#[tokio::test]
async fn derived_address_is_stable_and_unique() {
    let names: Vec<_> = (0..3000).map(|number| format!("s{number}")).collect();
    let text: Vec<_> = names.iter().map(|name| service(name, "{}")).collect();
    let directory = directory(&[("a.yaml", &text.join("---\n"))]);
    let source = read(&directory).await;
    let address = |name: &str| {
        entry(&source, "default", name)
            .service
            .as_ref()
            .unwrap()
            .cluster_ips[0]
    };
    let mut all: Vec<_> = names.iter().map(|name| address(name)).collect();
    assert_eq!(
        address("s1").to_string(),
        "10.101.22.78",
        "it may never change"
    );
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), names.len());
    let range: ipnet::IpNet = "10.96.0.0/12".parse().unwrap();
    assert!(all.iter().all(|it| range.contains(it)));
}

#[tokio::test]
async fn label_selectors_work_as_in_the_api_server() {
    let directory = directory(&[("shop.yaml", SHOP), ("database.yaml", DATABASE)]);
    let mut settings = settings(directory.path());
    settings.namespace_labels = "team=a".parse().unwrap();
    settings.labels = "app=db".parse().unwrap();
    let source = read_with(settings).await;
    let cluster = source.cluster();
    assert!(cluster.namespace("shop") && !cluster.namespace("default"));
    assert_eq!(cluster.stats().objects(Kind::Service), 0);
    assert_eq!(cluster.stats().objects(Kind::Pod), 2);
}

#[tokio::test]
async fn every_kind_of_file_change_is_detected() {
    let directory = directory(&[("a.yaml", &service("a", "{}"))]);
    let path = directory.path().join("a.yaml");
    let source = read(&directory).await;
    fs::write(&path, service("written", "{}")).unwrap();
    until(&source, "it is written over", |it| {
        has(it, "written") && !has(it, "a")
    })
    .await;
    let new = directory.path().join("a.yaml~");
    fs::write(&new, service("renamed", "{}")).unwrap();
    fs::rename(&new, &path).unwrap();
    until(&source, "it is renamed over", |it| {
        has(it, "renamed") && !has(it, "written")
    })
    .await;
    fs::create_dir(directory.path().join("sub")).unwrap();
    fs::write(directory.path().join("sub/b.yaml"), service("b", "{}")).unwrap();
    until(&source, "one in a new sub-directory is read", |it| {
        has(it, "b")
    })
    .await;
    fs::remove_file(&path).unwrap();
    until(&source, "it is gone", |it| !has(it, "renamed")).await;
    assert!(has(source.cluster(), "b"));
}

#[tokio::test]
async fn swapped_config_map_volume_is_read_again() {
    use std::os::unix::fs::symlink;
    let directory = directory(&[
        ("..one/a.yaml", &service("one", "{}")),
        ("..two/a.yaml", &service("two", "{}")),
    ]);
    let at = |name: &str| directory.path().join(name);
    symlink("..one", at("..data")).unwrap();
    symlink("..data/a.yaml", at("a.yaml")).unwrap();
    let source = read(&directory).await;
    assert!(has(source.cluster(), "one") && !has(source.cluster(), "two"));
    symlink("..two", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    until(&source, "the link is swapped", |it| {
        has(it, "two") && !has(it, "one")
    })
    .await;
}

#[test]
fn link_into_the_directory_adds_no_duplicates() {
    use std::os::unix::fs::symlink;
    let directory = directory(&[("a.yaml", "{}"), ("below/b.yaml", "{}")]);
    symlink("..", directory.path().join("below/up")).unwrap();
    symlink(".", directory.path().join("circle")).unwrap();
    let found = lodestone::cluster::manifests::files(directory.path()).unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
}

#[tokio::test]
async fn unreadable_file_keeps_its_objects_and_others_are_served() {
    let directory = directory(&[
        ("a.yaml", &service("a", "{}")),
        ("b.yaml", &service("b", "{}")),
        ("bad.yaml", "kind: ["),
    ]);
    let source = read(&directory).await;
    assert!(has(source.cluster(), "a") && has(source.cluster(), "b"));
    let half = format!("{}---\nkind: [", service("new", "{}"));
    fs::write(directory.path().join("a.yaml"), half).unwrap();
    fs::write(directory.path().join("b.yaml"), service("c", "{}")).unwrap();
    until(&source, "the other file is read", |it| has(it, "c")).await;
    // The broken document does not identify its object, so all objects of the file stay.
    assert!(has(source.cluster(), "a") && has(source.cluster(), "new"));
    fs::write(directory.path().join("a.yaml"), service("new", "{}")).unwrap();
    until(&source, "the file is good again", |it| {
        has(it, "new") && !has(it, "a")
    })
    .await;
}

#[tokio::test]
async fn fault_in_one_document_does_not_affect_others() {
    let text = [
        service(
            "first",
            "{clusterIP: 10.96.0.7, externalIPs: [192.0.2.1, nonsense]}",
        ),
        "kind: [".to_owned(),
        service("none", "7"),
        service("last", "{ports: [{name: null, port: 80}, {port: many}]}"),
    ];
    let directory = directory(&[("a.yaml", &text.join("\n---\n"))]);
    let source = read(&directory).await;
    assert!(!has(source.cluster(), "none"));
    let first = entry(&source, "default", "first").service.clone().unwrap();
    assert_eq!(first.external.as_ref().unwrap().addresses.len(), 1);
    let last = entry(&source, "default", "last").service.clone().unwrap();
    assert_eq!(last.ports.len(), 1);
    let stats = source.cluster().stats();
    assert_eq!(stats.skipped_fields(Kind::Service), 2);
    assert_eq!(stats.skipped_objects(Kind::Service), 1);
    // An object that became unreadable stays; a removed one is deleted.
    let text = [service("first", "none"), service("new", "{}")];
    fs::write(directory.path().join("a.yaml"), text.join("---\n")).unwrap();
    until(&source, "the file is read again", |it| {
        has(it, "new") && !has(it, "last")
    })
    .await;
    assert!(has(source.cluster(), "first"));
}

#[tokio::test]
async fn typed_lists_are_read() {
    let services = r#"{"kind": "ServiceList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"},
        "items": [{"metadata": {"name": "one", "namespace": "default"}, "spec": {"clusterIP": "10.96.0.7"}},
        {"metadata": {"name": 7}, "spec": {}},
        {"metadata": {"name": "two", "namespace": "default"}, "spec": {"clusterIP": "None"}}]}"#;
    let slices = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSliceList
items:
- metadata: {name: two-1, labels: {kubernetes.io/service-name: two}}
  addressType: IPv4
  endpoints: [{addresses: [10.1.0.1]}]
";
    let directory = directory(&[("services.json", services), ("slices.yaml", slices)]);
    let source = read(&directory).await;
    assert!(has(source.cluster(), "one"));
    assert_eq!(entry(&source, "default", "two").endpoints().count(), 1);
}

#[tokio::test]
async fn endpoints_provide_addresses_to_a_service_without_selector() {
    let endpoints = "
apiVersion: v1
kind: Endpoints
metadata: {name: outside}
subsets:
- addresses: [{ip: 192.0.2.010, hostname: a}, {ip: fd00::1}, {ip: nonsense}]
  notReadyAddresses: [{ip: 192.0.2.11}]
  ports: [{name: sql, port: 5432}]
";
    let headless = "{clusterIP: None, ports: [{name: sql, port: 5432}]}";
    let directory = directory(&[
        ("service.yaml", &service("outside", headless)),
        ("endpoints.yaml", endpoints),
        ("others.yaml", &endpoints.replace("outside", "nobody")),
    ]);
    let source = read(&directory).await;
    let outside = entry(&source, "default", "outside");
    let ready: Vec<_> = outside.slices.iter().flat_map(|it| it.ready()).collect();
    let addresses: Vec<_> = ready.iter().map(|it| it.address.to_string()).collect();
    assert_eq!(addresses, ["192.0.2.10", "fd00::1"]);
    assert_eq!(ready[0].hostname(), Some("a"));
    assert_eq!(outside.endpoints().count(), 3);
    assert_eq!(outside.slices[0].ports[0].number, Some(5432));
    assert!(
        !has(source.cluster(), "nobody"),
        "as the mirroring controller, for Services alone"
    );
    // A declared slice replaces them.
    let slice = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: outside-1, labels: {kubernetes.io/service-name: outside}}
addressType: IPv4
endpoints: [{addresses: [10.9.9.9]}]
";
    fs::write(directory.path().join("slice.yaml"), slice).unwrap();
    until(&source, "the slice counts", |it| {
        it.entry("default", "outside")
            .is_some_and(|it| it.endpoints().count() == 1)
    })
    .await;
}

#[tokio::test]
async fn replaced_directory_is_read_again() {
    let parent = directory(&[
        ("d/a.yaml", &service("a", "{}")),
        ("e/b.yaml", &service("b", "{}")),
    ]);
    let at = |name: &str| parent.path().join(name);
    let source = read_with(settings(&at("d"))).await;
    fs::rename(at("d"), at("old")).unwrap();
    fs::rename(at("e"), at("d")).unwrap();
    until(&source, "the other one is read", |it| {
        has(it, "b") && !has(it, "a")
    })
    .await;
    fs::write(at("d/c.yaml"), service("c", "{}")).unwrap();
    until(&source, "and watched", |it| has(it, "c")).await;
}
