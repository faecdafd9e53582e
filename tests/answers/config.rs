//! Options of `kubernetes`: parsing, and their effect on answers.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use lodestone::{
    cluster::{Backend, Cluster, Event, Kind, Object, RateLimits, Settings, StateWriter},
    corefile::Diagnostic,
    metrics::Metrics,
    plugin::{
        Build, Offers, Plugin, ReadinessCheck, Setup, SharedResources, Startup,
        kubernetes::{Config, parse},
    },
    query::Question,
    wire::{Class, Type},
    zone::{AnswerRules, PodNames},
};

use crate::{
    dialogue::{Server, Setting, ask, check, name},
    fixture,
    reading::parsed,
};

#[test]
fn nonexistent_names_fall_through_with_fallthrough() {
    let with = |fallthrough| {
        let setting = Setting {
            fallthrough,
            ..Setting::default()
        };
        setting.serve(fixture::cluster())
    };
    with(&["."]).check(
        "
        ? none.testns.svc.cluster.local. A
        PASS
        ? svc1.testns.svc.cluster.local. AAAA
        NODATA ClusterNoData, cluster.local.
        ? svc1.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        svc1.testns.svc.cluster.local. 5 IN A 10.0.0.1
        ",
    );
    with(&["in-addr.arpa.", "ip6.arpa."]).check(
        "
        ? none.testns.svc.cluster.local. A
        NXDOMAIN NoSuchService, cluster.local.
        ? 9.9.9.172.in-addr.arpa. PTR
        PASS
        ? 9.172.in-addr.arpa. NS
        PASS
        ? 0.172.in-addr.arpa. NS
        NODATA ClusterNoData, 172.in-addr.arpa.
        ? 1.ip6.arpa. PTR
        PASS
        ",
    );
}

#[test]
fn only_listed_namespaces_are_served() {
    let setting = Setting {
        rules: AnswerRules {
            namespaces: ["kube-system", "absent"].map(Box::from).into(),
            pods: PodNames::Insecure,
            ..AnswerRules::default()
        },
        ..Setting::default()
    };
    setting.serve(fixture::cluster()).check(
        "
        ? svc1.testns.svc.cluster.local. A
        NXDOMAIN NoSuchNamespace, cluster.local.
        ? testns.svc.cluster.local. A
        NXDOMAIN NoSuchNamespace, cluster.local.
        ? 1-2-3-4.testns.pod.cluster.local. A
        NXDOMAIN NoSuchNamespace, cluster.local.
        ? absent.svc.cluster.local. A
        NXDOMAIN NoSuchNamespace, cluster.local.
        ? 1.0.0.10.in-addr.arpa. PTR
        NXDOMAIN NoSuchAddress, 0.10.in-addr.arpa.
        ? 2.0.0.172.in-addr.arpa. PTR
        NXDOMAIN NoSuchAddress, 172.in-addr.arpa.
        ? 0.172.in-addr.arpa. PTR
        NXDOMAIN NoSuchAddress, 172.in-addr.arpa.
        ? kube-dns.kube-system.svc.cluster.local. A
        NOERROR ClusterRecord
        kube-dns.kube-system.svc.cluster.local. 5 IN A 10.96.0.10
        ",
    );
    // The name server's Service is answered even in an excluded namespace.
    let setting = Setting {
        rules: AnswerRules {
            namespaces: ["testns"].map(Box::from).into(),
            ..AnswerRules::default()
        },
        ..Setting::default()
    };
    setting.serve(fixture::cluster()).check(
        "
        ? cluster.local. NS
        NOERROR ClusterRecord
        cluster.local. 5 IN NS kube-dns.kube-system.svc.cluster.local.
        + kube-dns.kube-system.svc.cluster.local. 5 IN A 10.96.0.10
        ",
    );
}

#[test]
fn ignore_empty_service_denies_services_without_ready_endpoints() {
    let setting = Setting {
        rules: AnswerRules {
            ignore_empty_service: true,
            ..AnswerRules::default()
        },
        ..Setting::default()
    };
    setting.serve(fixture::cluster()).check(
        "
        ? svc1.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        svc1.testns.svc.cluster.local. 5 IN A 10.0.0.1
        ? dual.testns.svc.cluster.local. A
        NXDOMAIN EmptyService, cluster.local.
        ? dual.testns.svc.cluster.local. TXT
        NXDOMAIN EmptyService, cluster.local.
        ? _http._tcp.dual.testns.svc.cluster.local. SRV
        NXDOMAIN EmptyService, cluster.local.
        ? _tcp.dual.testns.svc.cluster.local. SRV
        NXDOMAIN EmptyService, cluster.local.
        ? noports.testns.svc.cluster.local. A
        NXDOMAIN EmptyService, cluster.local.
        ? outside.testns.svc.cluster.local. CNAME
        NOERROR ClusterRecord
        outside.testns.svc.cluster.local. 5 IN CNAME ghost.Example.net.
        ? 3.0.0.10.in-addr.arpa. PTR
        NOERROR ClusterRecord
        3.0.0.10.in-addr.arpa. 5 IN PTR dual.testns.svc.cluster.local.
        ",
    );
}

#[test]
fn noendpoints_serves_cluster_addresses_only() {
    let objects = fixture::cluster();
    let objects = objects
        .into_iter()
        .filter(|object| object.kind() != Kind::EndpointSlice);
    Setting::default().serve(objects.collect()).check(
        "
        ? svc1.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        svc1.testns.svc.cluster.local. 5 IN A 10.0.0.1
        ? hdls1.testns.svc.cluster.local. A
        NXDOMAIN NoReadyEndpoint, cluster.local.
        ? ep1a.svc1.testns.svc.cluster.local. A
        NXDOMAIN NoSuchEndpoint, cluster.local.
        ? 2.0.0.172.in-addr.arpa. PTR
        NXDOMAIN NoSuchAddress, 172.in-addr.arpa.
        ",
    );
}

/// A server with these objects whose lists are not complete yet.
fn unsynced(objects: Vec<Object>, fallthrough: &'static [&'static str]) -> (Server, StateWriter) {
    let cluster = Arc::new(Cluster::new(&Kind::ALL));
    let mut writer = StateWriter::new(Arc::clone(&cluster));
    for kind in Kind::ALL {
        writer.fold(Event::ListStart(kind));
    }
    for object in objects {
        writer.fold(Event::Apply(object));
    }
    let setting = Setting {
        fallthrough,
        ..Setting::default()
    };
    (setting.serve_cluster(cluster), writer)
}

#[test]
fn unknown_names_are_servfail_until_all_objects_are_listed() {
    let (server, _writer) = unsynced(Vec::new(), &["."]);
    assert!(!server.plugin.is_ready());
    assert_eq!(server.cluster.serial(), 0);
    server.check(
        "
        ? cluster.local. SOA
        NOERROR ClusterRecord
        cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. SERIAL 7200 1800 86400 5
        ? svc.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ? testns.svc.cluster.local. A
        SERVFAIL NotSynced
        ? svc1.testns.svc.cluster.local. A
        SERVFAIL NotSynced
        ? 1.0.0.10.in-addr.arpa. PTR
        SERVFAIL NotSynced
        ? 0.0.10.in-addr.arpa. PTR
        SERVFAIL NotSynced
        ",
    );
    let (server, mut writer) = unsynced(fixture::cluster(), &[]);
    server.check(
        "
        ? svc1.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        svc1.testns.svc.cluster.local. 5 IN A 10.0.0.1
        ? svc1.testns.svc.cluster.local. AAAA
        NODATA ClusterNoData, cluster.local.
        ? none.testns.svc.cluster.local. A
        SERVFAIL NotSynced
        ? dangling.testns.svc.cluster.local. A
        SERVFAIL NotSynced
        ? 9.172.in-addr.arpa. PTR
        SERVFAIL NotSynced
        ",
    );
    for kind in Kind::ALL {
        writer.fold(Event::ListEnd(kind));
    }
    assert!(server.plugin.is_ready());
    server.check(
        "
        ? none.testns.svc.cluster.local. A
        NXDOMAIN NoSuchService, cluster.local.
        ? 9.172.in-addr.arpa. PTR
        NXDOMAIN NoSuchAddress, 172.in-addr.arpa.
        ",
    );
}

#[tokio::test]
async fn start_waits_for_the_lists_up_to_startup_timeout() {
    let (server, mut writer) = unsynced(fixture::cluster(), &[]);
    assert!(server.plugin.started().is_none(), "zero does not wait");
    let waiting = server.waiting(Duration::from_hours(1));
    let waiting = waiting.started().unwrap();
    let listed = async {
        for kind in Kind::ALL {
            writer.fold(Event::ListEnd(kind));
        }
        writer.notify();
    };
    tokio::join!(waiting, listed);
    // Without complete lists the wait times out.
    let (server, _writer) = unsynced(fixture::cluster(), &[]);
    let impatient = server.waiting(Duration::from_millis(1));
    impatient.started().unwrap().await;
}

#[test]
fn classes_other_than_in_pass_to_the_next_plugin() {
    let server = Setting::default().serve(fixture::cluster());
    let question = Question::new(name("svc1.testns.svc.cluster.local"), Type::A, Class::CH);
    assert!(ask(&server.plugin, &question).is_none());
}

/// Parses a directive in a block with two zones.
fn read(directive: &str) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    let zones = ["cluster.test.", "0.0.10.in-addr.arpa."];
    let (_, config, warnings) = parsed(directive, &zones, "kubernetes", &[], parse);
    let config = config?;
    Ok((config, warnings))
}

fn option(line: &str) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    read(&format!("kubernetes cluster.local {{\n{line}\n}}"))
}

fn accepted(line: &str) -> Config {
    let (config, warnings) = option(line).unwrap_or_else(|errors| panic!("{line}: {errors:?}"));
    assert!(warnings.is_empty(), "{line}: {warnings:?}");
    config
}

#[test]
fn stock_directive_is_parsed() {
    let (config, warnings) = read(
        "kubernetes cluster.local in-addr.arpa ip6.arpa {
            pods insecure
            fallthrough in-addr.arpa ip6.arpa
            ttl 30
        }",
    )
    .unwrap();
    assert!(warnings.is_empty());
    assert_eq!(config.zones.primary(), &name("cluster.local"));
    let rules = AnswerRules {
        ttl: 30,
        pods: PodNames::Insecure,
        ..AnswerRules::default()
    };
    assert_eq!(config.rules, rules);
    assert_eq!(*config.fallthrough, ["in-addr.arpa", "ip6.arpa"].map(name));
    assert_eq!(config.startup_timeout, Duration::from_secs(5));
    assert_eq!(config.source, Settings::new(Backend::InCluster));
}

#[test]
fn zones_default_to_those_of_the_block() {
    let (config, _) = read("kubernetes").unwrap();
    assert_eq!(config.zones.primary(), &name("cluster.test"));
    assert_eq!(config.fallthrough.len(), 0);
    assert_eq!(config.rules, AnswerRules::default());
    let (config, _) = read("kubernetes 10.96.0.0/16 Example.ORG").unwrap();
    assert_eq!(config.zones.primary(), &name("example.org"));
    let errors = read("kubernetes 10.96.0.0/16 in-addr.arpa").unwrap_err();
    assert_eq!(errors[0].message, "non-reverse zone name must be used");
}

#[test]
fn every_option_is_parsed() {
    let pods = |mode| accepted(&format!("pods {mode}"));
    assert_eq!(pods("disabled").rules.pods, PodNames::Disabled);
    assert_eq!(pods("verified").rules.pods, PodNames::Verified);
    assert!(pods("verified").source.pods && !pods("insecure").source.pods);
    assert_eq!(accepted("ttl 0").rules.ttl, 0);
    assert_eq!(accepted("ttl 3600").rules.ttl, 3600);
    assert!(accepted("endpoint_pod_names").rules.endpoint_pod_names);
    let imports = accepted("multicluster Cluster.local");
    assert!(
        imports.source.imports
            && imports
                .zones
                .is_multicluster(name("cluster.local").as_ref())
    );
    assert!(accepted("zonal").rules.zonal);
    assert!(!accepted("noendpoints").source.slices);
    assert!(accepted("ignore empty_service").rules.ignore_empty_service);
    assert_eq!(*accepted("fallthrough").fallthrough, [name(".")]);
    assert_eq!(
        *accepted("fallthrough 10.0.0.0/8").fallthrough,
        [name("10.in-addr.arpa")]
    );
    let audit = |line: &str| accepted(line).source.audit;
    assert_eq!(audit(""), Some(Duration::from_mins(10)));
    assert_eq!(audit("audit 1m30s"), Some(Duration::from_secs(90)));
    assert_eq!(audit("audit off"), None);
    let timeout = accepted("startup_timeout 1m30s").startup_timeout;
    assert_eq!(timeout, Duration::from_secs(90));
    assert!(accepted("startup_timeout 0s").startup_timeout.is_zero());
    let namespaces = accepted("namespaces a b\nnamespaces c").rules.namespaces;
    assert_eq!(*namespaces, ["a", "b", "c"].map(Box::from));
    let labels = accepted("labels app=web, tier in (a, b)").source.labels;
    assert_eq!(labels.as_str(), "app=web, tier in (a, b)");
    let labels = accepted("namespace_labels team=x").source.namespace_labels;
    assert_eq!(labels.as_str(), "team=x");
    let limits = RateLimits {
        per_thousand_seconds: 2500,
        burst: 7,
        in_flight: 3,
    };
    let text = "apiserver_qps 2.5\napiserver_burst 7\napiserver_max_inflight 3";
    assert_eq!(accepted(text).source.limits, limits);
}

#[test]
fn every_backend_is_parsed() {
    let kubeconfig = |context: Option<&str>| Backend::Kubeconfig {
        file: "/etc/k".into(),
        context: context.map(str::to_owned),
    };
    assert_eq!(
        accepted("kubeconfig /etc/k").source.backend,
        kubeconfig(None)
    );
    let named = accepted("kubeconfig /etc/k prod").source.backend;
    assert_eq!(named, kubeconfig(Some("prod")));
    let Backend::Endpoint { url, tls } = accepted("endpoint localhost:8080").source.backend else {
        panic!("an endpoint");
    };
    assert_eq!((url.as_str(), tls), ("http://localhost:8080", None));
    let secure = accepted("tls cert key ca\nendpoint k8s:6443")
        .source
        .backend;
    let Backend::Endpoint { url, tls } = secure else {
        panic!("an endpoint");
    };
    assert_eq!(url, "https://k8s:6443");
    assert_eq!(tls.unwrap().authority.to_str(), Some("ca"));
    let manifests = Backend::Manifests {
        directory: "lab".into(),
    };
    assert_eq!(accepted("manifests lab").source.backend, manifests);
}

#[test]
fn options_without_effect_give_a_warning() {
    for line in [
        "endpoint http://a http://b",
        "tls a b c",
        "kubeconfig f\nendpoint http://a",
    ] {
        let (_, warnings) = option(line).unwrap();
        assert_eq!(warnings.len(), 1, "{line}");
    }
}

#[test]
fn invalid_options_are_refused() {
    for line in [
        "pods",
        "pods all",
        "pods insecure verified",
        "ttl",
        "ttl -1",
        "ttl 3601",
        "ttl 5 6",
        "ttl 5s",
        "endpoint_pod_names yes",
        "noendpoints yes",
        "ignore",
        "ignore everything",
        "fallthrough a..b",
        "audit",
        "audit on",
        "audit 59s",
        "audit 0s",
        "audit 10",
        "audit 10m off",
        "startup_timeout",
        "startup_timeout 5",
        "startup_timeout -1s",
        "namespaces",
        "namespaces a\nnamespace_labels b=c",
        "namespace_labels b=c\nnamespaces a",
        "labels",
        "labels a in b",
        "endpoint",
        "tls a b",
        "tls a b c d",
        "kubeconfig",
        "kubeconfig a b c",
        "manifests",
        "manifests a b",
        "manifests a\nendpoint http://b",
        "kubeconfig b\nmanifests a",
        "apiserver_qps",
        "apiserver_qps -1",
        "apiserver_qps 1 2",
        "apiserver_burst 1.5",
        "apiserver_max_inflight -1",
        "resyncperiod 5m",
        "upstream",
        "transfer to *",
        "federation a b",
        "zonal on",
        "zonal\nnoendpoints",
        "noendpoints\nzonal",
        "multicluster clusterset.local",
        "multicluster",
    ] {
        let errors = option(line).expect_err(line);
        assert_eq!(errors.len(), 1, "{line}: {errors:?}");
        assert!(errors[0].span.is_some(), "{line} points at a word");
    }
    let errors = option("pod insecure\nttl x").unwrap_err();
    assert_eq!(errors.len(), 2, "all mistakes are reported");
    assert_eq!(errors[0].help.as_deref(), Some("did you mean 'pods'?"));
}

/// Builds a plugin with a `manifests` source, as at a start or reload.
fn build(resources: &SharedResources, directory: &Path) -> Plugin {
    let config = accepted(&format!("manifests {}", directory.display()));
    let address: SocketAddr = "127.0.0.1:53".parse().unwrap();
    let mut build = Build {
        runtime: &tokio::runtime::Handle::current(),
        resources,
        metrics: &Metrics::new(),
        zones: &[name("cluster.test")],
        addresses: &[address],
        server: &"dns://:53".into(),
        view: "",
        offers: Offers::default(),
    };
    let plugin = config.build(&mut build).unwrap();
    assert!(build.offers.cluster.is_some() && build.offers.zones.len() == 1);
    plugin
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_keeps_the_source_and_its_objects() {
    let directory = tempfile::tempdir().unwrap();
    let manifest = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.9, ports: [{name: http, port: 80}]}
";
    std::fs::write(directory.path().join("web.yaml"), manifest).unwrap();
    let resources = SharedResources::default();
    let plugin = build(&resources, directory.path());
    if let Some(started) = plugin.started() {
        started.await;
    }
    assert!(plugin.is_ready());
    let dialogue = "
        ? web.shop.svc.cluster.local. A
        NOERROR ClusterRecord
        web.shop.svc.cluster.local. 5 IN A 10.0.0.9
        ? _http._tcp.web.shop.svc.cluster.local. SRV
        NOERROR ClusterRecord
        _http._tcp.web.shop.svc.cluster.local. 5 IN SRV 0 100 80 web.shop.svc.cluster.local.
        + web.shop.svc.cluster.local. 5 IN A 10.0.0.9
        ? cluster.local. NS
        NOERROR ClusterRecord
        cluster.local. 5 IN NS ns.dns.cluster.local.
        + ns.dns.cluster.local. 5 IN A 127.0.0.1
        ";
    check(&**plugin.on_query.as_ref().unwrap(), dialogue);
    let next = build(&resources.succeed(), directory.path());
    drop((plugin, resources));
    assert!(next.is_ready(), "what was read is not read again");
    check(&**next.on_query.as_ref().unwrap(), dialogue);
}

#[tokio::test]
async fn invalid_source_is_an_error_of_the_build() {
    let config = accepted("manifests /nowhere/at/all");
    let mut build = Build {
        runtime: &tokio::runtime::Handle::current(),
        resources: &SharedResources::default(),
        metrics: &Metrics::new(),
        zones: &[],
        addresses: &[],
        server: &"dns://:53".into(),
        view: "",
        offers: Offers::default(),
    };
    let error = config.build(&mut build).err().unwrap();
    assert_eq!(
        error.to_string(),
        "plugin/kubernetes: cannot watch the cluster"
    );
}
