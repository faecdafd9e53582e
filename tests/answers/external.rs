//! `k8s_external`: Services by their external addresses.

use std::sync::Arc;

use lodestone::{
    cluster::{Cluster, Event, ExternalAddresses, Object, StateWriter},
    metrics::Metrics,
    plugin::{
        Build, Offers, Setup, SharedResources,
        k8s_external::{Config, K8sExternal, parse},
    },
    wire::Rcode,
};

use crate::{
    dialogue::{Setting, ask, converse, question},
    fixture,
    reading::parsed,
};

/// The Service with external addresses and load balancer host names.
pub fn reached(object: Object, addresses: &[&str], hostnames: &[&str]) -> Object {
    let Object::Service(mut service) = object else {
        panic!("only Services are reached");
    };
    service.external = Some(Box::new(ExternalAddresses {
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        hostnames: hostnames.iter().map(|text| (*text).into()).collect(),
    }));
    Object::Service(service)
}

fn cluster() -> Vec<Object> {
    let ports = ["http/TCP/80", "dns/UDP/53"];
    let service = |name| fixture::cluster_ip("testns", name, &["10.0.0.70"], &ports);
    let mut objects = fixture::cluster();
    objects.extend([
        reached(service("web"), &["198.51.100.1", "2001:db8::1"], &[]),
        reached(
            service("elb"),
            &[],
            &["ghost.Example.net", "other.example.net"],
        ),
        reached(service("bad"), &[], &["a..b"]),
        reached(service("both"), &["198.51.100.2"], &["ghost.example.net"]),
        reached(service("portless"), &["198.51.100.4"], &[]),
        reached(
            fixture::headless("testns", "wide", &ports),
            &["198.51.100.5"],
            &[],
        ),
        fixture::slice(
            "testns",
            "wide",
            "wide-a",
            &ports,
            &["172.0.7.1 hostname=w0"],
        ),
        reached(
            fixture::cluster_ip("hidden", "web", &["10.9.0.7"], &ports),
            &["198.51.100.9"],
            &[],
        ),
    ]);
    objects
}

pub fn config(lines: &str) -> Result<Config, String> {
    let others = ["kubernetes"];
    let (file, config, _) = parsed(lines, &["a.example."], "k8s_external", &others, parse);
    config.map_err(|list| file.report(list).to_string())
}

fn check(options: &str, dialogue: &str) {
    let text = format!(
        "k8s_external Example.com 198.51.100.0/24 2001:db8::/32 172.in-addr.arpa {{\n{options}\n}}\nkubernetes"
    );
    let cluster = Setting::default().serve(cluster());
    let plugin = K8sExternal::new(&config(&text).unwrap(), &cluster.view);
    let soa = |zone: &str, ttl: &str| {
        format!(
            "{zone} {ttl} IN SOA ns1.dns.{zone} hostmaster.dns.{zone} SERIAL 7200 1800 86400 {ttl}"
        )
    };
    for serial in converse(dialogue, soa, |question| ask(&plugin, question)) {
        assert_eq!(serial, cluster.cluster.serial());
    }
}

#[test]
fn services_have_their_external_addresses() {
    check(
        "",
        "
        ? web.testns.example.com. A
        NOERROR ClusterRecord
        web.testns.example.com. 5 IN A 198.51.100.1
        ? Web.Testns.Example.com. AAAA
        NOERROR ClusterRecord
        Web.Testns.Example.com. 5 IN AAAA 2001:db8::1
        ? web.testns.example.com. TXT
        NODATA ClusterNoData, example.com.
        ? web.testns.example.com. CNAME
        NODATA ClusterNoData, example.com.
        ? wide.testns.example.com. A
        NOERROR ClusterRecord
        wide.testns.example.com. 5 IN A 198.51.100.5
        ? testns.example.com. A
        NODATA ClusterNoData, example.com.
        ? svc1.testns.example.com. A
        NXDOMAIN NotExternal, example.com.
        ? hdls1.testns.example.com. A
        NXDOMAIN NotExternal, example.com.
        ? none.testns.example.com. A
        NXDOMAIN NoSuchService, example.com.
        ? hidden.example.com. A
        NXDOMAIN NoSuchNamespace, example.com.
        ? web.hidden.example.com. A
        NXDOMAIN NoSuchNamespace, example.com.
        ? x.web.testns.example.com. A
        NXDOMAIN NoSuchEndpoint, example.com.
        ? a.b.c.testns.testns.example.com. A
        NXDOMAIN NoSuchForm, example.com.
        ? web.testns.svc.cluster.local. A
        PASS
        ? example.com. AXFR
        REFUSED TransferRefused
        ",
    );
}

#[test]
fn load_balancer_host_name_is_a_cname() {
    check(
        "ttl 60",
        "
        ? elb.testns.example.com. A
        NOERROR ClusterRecord
        elb.testns.example.com. 60 IN CNAME ghost.Example.net.
        ghost.Example.net. 60 IN CNAME host.example.net.
        host.example.net. 30 IN A 203.0.113.1
        ? elb.testns.example.com. CNAME
        NOERROR ClusterRecord
        elb.testns.example.com. 60 IN CNAME ghost.Example.net.
        ? _http._tcp.elb.testns.example.com. SRV
        NOERROR ClusterRecord
        _http._tcp.elb.testns.example.com. 60 IN SRV 0 50 80 ghost.Example.net.
        _http._tcp.elb.testns.example.com. 60 IN SRV 0 50 80 other.example.net.
        ? elb.testns.example.com. TXT
        NODATA ClusterNoData, example.com.
        ? both.testns.example.com. A
        NOERROR ClusterRecord
        both.testns.example.com. 60 IN A 198.51.100.2
        ? bad.testns.example.com. A
        NODATA ClusterNoData, example.com.
        ",
    );
}

#[test]
fn ports_have_srv_records() {
    check(
        "",
        "
        ? _http._tcp.web.testns.example.com. SRV
        NOERROR ClusterRecord
        _http._tcp.web.testns.example.com. 5 IN SRV 0 50 80 web.testns.example.com.
        + web.testns.example.com. 5 IN A 198.51.100.1
        + web.testns.example.com. 5 IN AAAA 2001:db8::1
        ? _http._tcp.both.testns.example.com. A
        NOERROR ClusterRecord
        _http._tcp.both.testns.example.com. 5 IN A 198.51.100.2
        ? both.testns.example.com. SRV
        NOERROR ClusterRecord
        both.testns.example.com. 5 IN SRV 0 50 80 both.testns.example.com.
        both.testns.example.com. 5 IN SRV 0 50 53 both.testns.example.com.
        + both.testns.example.com. 5 IN A 198.51.100.2
        ? _tcp.both.testns.example.com. SRV
        NODATA ClusterNoData, example.com.
        ? _http._udp.both.testns.example.com. SRV
        NXDOMAIN NoSuchPort, example.com.
        ",
    );
}

#[test]
fn apex_has_ns_and_the_address_of_the_name_server() {
    check(
        "",
        "
        ? Example.com. SOA
        NOERROR ClusterRecord
        Example.com. 5 IN SOA ns1.dns.Example.com. hostmaster.dns.Example.com. SERIAL 7200 1800 86400 5
        ? example.com. NS
        NOERROR ClusterRecord
        example.com. 5 IN NS ns1.dns.example.com.
        ? example.com. A
        NODATA ClusterNoData, example.com.
        ? dns.example.com. A
        NODATA ClusterNoData, example.com.
        ? ns1.dns.example.com. A
        NODATA ClusterNoData, example.com.
        ? ns2.dns.example.com. A
        NXDOMAIN NoSuchForm, example.com.
        ? x.ns1.dns.example.com. A
        NXDOMAIN NoSuchForm, example.com.
        ",
    );
    // Outside of the cluster, the name server has this server's addresses.
    let setting = Setting {
        local: &["203.0.113.53"],
        ..Setting::default()
    };
    let cluster = setting.serve(cluster());
    let config = config("k8s_external example.com {\napex Ext\n}\nkubernetes").unwrap();
    let plugin = K8sExternal::new(&config, &cluster.view);
    let soa = |zone: &str, ttl: &str| {
        format!(
            "{zone} {ttl} IN SOA ns1.ext.{zone} hostmaster.ext.{zone} SERIAL 7200 1800 86400 {ttl}"
        )
    };
    let dialogue = "
        ? example.com. NS
        NOERROR ClusterRecord
        example.com. 5 IN NS ns1.ext.example.com.
        + ns1.ext.example.com. 5 IN A 203.0.113.53
        ? ns1.ext.example.com. A
        NOERROR ClusterRecord
        ns1.ext.example.com. 5 IN A 203.0.113.53
        ? ns1.ext.example.com. AAAA
        NODATA ClusterNoData, example.com.
        ? ns1.dns.example.com. A
        NXDOMAIN NoSuchNamespace, example.com.
        ";
    converse(dialogue, soa, |question| ask(&plugin, question));
}

#[test]
fn external_addresses_have_ptr_records() {
    check(
        "",
        "
        ? 1.100.51.198.in-addr.arpa. PTR
        NOERROR ClusterRecord
        1.100.51.198.in-addr.arpa. 5 IN PTR web.testns.example.com.
        ? 1.100.51.198.in-addr.arpa. A
        NODATA ClusterNoData, 100.51.198.in-addr.arpa.
        ? 3.100.51.198.in-addr.arpa. PTR
        NXDOMAIN NoSuchAddress, 100.51.198.in-addr.arpa.
        ? 9.100.51.198.in-addr.arpa. PTR
        NXDOMAIN NoSuchAddress, 100.51.198.in-addr.arpa.
        ? 0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. NS
        NODATA ClusterNoData, 8.b.d.0.1.0.0.2.ip6.arpa.
        ? f.8.b.d.0.1.0.0.2.ip6.arpa. NS
        NXDOMAIN NoSuchAddress, 8.b.d.0.1.0.0.2.ip6.arpa.
        ? 2.0.0.172.in-addr.arpa. PTR
        NXDOMAIN NoSuchAddress, 172.in-addr.arpa.
        ",
    );
}

#[test]
fn headless_services_are_served_with_headless() {
    check(
        "headless",
        "
        ? host2.testns.example.com. A
        NOERROR ClusterRecord
        host2.testns.example.com. 5 IN A 192.168.0.1
        ? node.host2.testns.example.com. A
        NOERROR ClusterRecord
        node.host2.testns.example.com. 5 IN A 192.168.0.1
        ? _http._tcp.host2.testns.example.com. SRV
        NOERROR ClusterRecord
        _http._tcp.host2.testns.example.com. 5 IN SRV 0 100 80 node.host2.testns.example.com.
        + node.host2.testns.example.com. 5 IN A 192.168.0.1
        ? down.testns.example.com. A
        NXDOMAIN NoReadyEndpoint, example.com.
        ? ep1a.svc1.testns.example.com. A
        NXDOMAIN NotExternal, example.com.
        ? wide.testns.example.com. A
        NOERROR ClusterRecord
        wide.testns.example.com. 5 IN A 198.51.100.5
        ? w0.wide.testns.example.com. A
        NXDOMAIN NoSuchEndpoint, example.com.
        ? 5.0.0.172.in-addr.arpa. PTR
        NOERROR ClusterRecord
        5.0.0.172.in-addr.arpa. 5 IN PTR dup-name.hdls1.testns.example.com.
        ? 1.7.0.172.in-addr.arpa. PTR
        NXDOMAIN NoSuchAddress, 172.in-addr.arpa.
        ? 0.0.172.in-addr.arpa. PTR
        NODATA ClusterNoData, 172.in-addr.arpa.
        ",
    );
}

#[test]
fn nonexistent_names_fall_through_with_fallthrough() {
    check(
        "fallthrough example.com",
        "
        ? none.testns.example.com. A
        PASS
        ? 3.100.51.198.in-addr.arpa. PTR
        NXDOMAIN NoSuchAddress, 100.51.198.in-addr.arpa.
        ",
    );
}

#[test]
fn options_are_parsed_or_refused() {
    let plain = config("k8s_external\nkubernetes").unwrap();
    assert_eq!(plain.zones.primary().to_string(), "a.example.");
    assert_eq!(
        (plain.apex.as_str(), plain.ttl, plain.headless),
        ("dns", 5, false)
    );
    for (lines, expected) in [
        ("k8s_external", "no 'kubernetes' in this server block"),
        ("k8s_external 10.0.0.0/8\nkubernetes", "only reverse zones"),
        ("k8s_external {\nttl 3601\n}\nkubernetes", "3601"),
        (
            "k8s_external {\napex a.b\n}\nkubernetes",
            "'a.b' is no label",
        ),
        (
            "k8s_external {\napexx dns\n}\nkubernetes",
            "did you mean 'apex'?",
        ),
        (
            "k8s_external {\nheadless yes\n}\nkubernetes",
            "takes no argument",
        ),
    ] {
        let error = config(lines).unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("Corefile:"), "{error}");
    }
}

#[tokio::test]
async fn build_without_kubernetes_fails() {
    let config = config("k8s_external\nkubernetes").unwrap();
    let (resources, metrics) = (SharedResources::default(), Metrics::new());
    let server: Arc<str> = "dns://:53".into();
    let mut build = Build {
        runtime: &tokio::runtime::Handle::current(),
        resources: &resources,
        metrics: &metrics,
        zones: &[],
        addresses: &[],
        server: &server,
        view: "",
        offers: Offers::default(),
    };
    let error = config.build(&mut build).err().unwrap().to_string();
    assert!(error.contains("plugin/k8s_external"), "{error}");
}

/// Endpoints of a headless Service are served as long as the Service has no external address.
#[test]
fn empty_reverse_names_follow_the_addresses_of_services() {
    let known = Arc::new(Cluster::new(&[]));
    let mut writer = StateWriter::new(Arc::clone(&known));
    let view = Setting::default().serve_cluster(known).view;
    let text = "k8s_external example.com in-addr.arpa {\nheadless\n}\nkubernetes";
    let plugin = K8sExternal::new(&config(text).unwrap(), &view);
    let exists = |name: &str| {
        let reply = ask(&plugin, &question(name, "A")).unwrap();
        reply.rcode == Rcode::NOERROR
    };
    let web = ["http/TCP/80"];
    let service = || fixture::headless("testns", "web", &web);
    assert!(!exists("5.172.in-addr.arpa."));
    for (object, inside, outside) in [
        (fixture::namespace("testns"), false, false),
        (
            fixture::slice("testns", "web", "web-a", &web, &["172.5.0.1"]),
            false,
            false,
        ),
        (service(), true, false),
        (reached(service(), &["198.51.100.1"], &[]), false, true),
        (service(), true, false),
        (
            fixture::cluster_ip("testns", "web", &["10.0.0.1"], &web),
            false,
            false,
        ),
    ] {
        writer.fold(Event::Apply(object));
        assert_eq!(exists("5.172.in-addr.arpa."), inside);
        assert_eq!(exists("51.198.in-addr.arpa."), outside);
    }
}
