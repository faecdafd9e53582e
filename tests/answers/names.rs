//! Existence of names: apex, namespaces, Services, endpoints, CNAMEs, pods.

use lodestone::{
    reply::Section,
    zone::{AnswerRules, PodNames},
};

use crate::{
    dialogue::{Server, Setting},
    fixture,
};

fn server() -> Server {
    Setting::default().serve(fixture::cluster())
}

#[test]
fn apex_has_soa_and_ns_only() {
    server().check(
        "
        ? cluster.local. SOA
        NOERROR ClusterRecord
        cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. SERIAL 7200 1800 86400 5
        ? Cluster.LOCAL. SOA
        NOERROR ClusterRecord
        Cluster.LOCAL. 5 IN SOA ns.dns.Cluster.LOCAL. hostmaster.Cluster.LOCAL. SERIAL 7200 1800 86400 5
        ? Cluster.local. NS
        NOERROR ClusterRecord
        Cluster.local. 5 IN NS kube-dns.kube-system.svc.Cluster.local.
        + kube-dns.kube-system.svc.Cluster.local. 5 IN A 10.96.0.10
        ? 172.in-addr.arpa. NS
        NOERROR ClusterRecord
        172.in-addr.arpa. 5 IN NS kube-dns.kube-system.svc.172.in-addr.arpa.
        + kube-dns.kube-system.svc.172.in-addr.arpa. 5 IN A 10.96.0.10
        ? cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ? cluster.local. TXT
        NODATA ClusterNoData, cluster.local.
        ? cluster.local. ANY
        NODATA ClusterNoData, cluster.local.
        ? cluster.local. HTTPS
        NODATA ClusterNoData, cluster.local.
        ? cluster.local. AXFR
        REFUSED TransferRefused
        ? svc1.testns.svc.cluster.local. IXFR
        REFUSED TransferRefused
        ? local. A
        PASS
        ? xcluster.local. A
        PASS
        ",
    );
}

#[test]
fn dns_version_and_ns_dns_are_answered() {
    server().check(
        r#"
        ? dns-version.cluster.local. TXT
        NOERROR ClusterRecord
        dns-version.cluster.local. 28800 IN TXT "1.1.0"
        ? DNS-Version.Cluster.local. TXT
        NOERROR ClusterRecord
        DNS-Version.Cluster.local. 28800 IN TXT "1.1.0"
        ? dns-version.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ? dns-version.ip6.arpa. TXT
        NOERROR ClusterRecord
        dns-version.ip6.arpa. 28800 IN TXT "1.1.0"
        ? ns.dns.cluster.local. A
        NOERROR ClusterRecord
        ns.dns.cluster.local. 5 IN A 10.96.0.10
        ? NS.dns.Cluster.local. A
        NOERROR ClusterRecord
        NS.dns.Cluster.local. 5 IN A 10.96.0.10
        ? ns.dns.cluster.local. AAAA
        NODATA ClusterNoData, cluster.local.
        ? ns.dns.cluster.local. TXT
        NODATA ClusterNoData, cluster.local.
        ? dns.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ? other.dns.cluster.local. A
        NXDOMAIN NoSuchForm, cluster.local.
        ? a.ns.dns.cluster.local. A
        NXDOMAIN NoSuchForm, cluster.local.
        "#,
    );
}

#[test]
fn outside_of_the_cluster_ns_has_own_addresses() {
    let setting = Setting {
        local: &["192.0.2.53", "2001:db8::53"],
        ..Setting::default()
    };
    setting.serve(fixture::cluster()).check(
        "
        ? cluster.local. NS
        NOERROR ClusterRecord
        cluster.local. 5 IN NS ns.dns.cluster.local.
        + ns.dns.cluster.local. 5 IN A 192.0.2.53
        + ns.dns.cluster.local. 5 IN AAAA 2001:db8::53
        ? ns.dns.cluster.local. AAAA
        NOERROR ClusterRecord
        ns.dns.cluster.local. 5 IN AAAA 2001:db8::53
        ",
    );
    let setting = Setting {
        local: &[],
        ..Setting::default()
    };
    setting.serve(fixture::cluster()).check(
        "
        ? cluster.local. NS
        NOERROR ClusterRecord
        cluster.local. 5 IN NS ns.dns.cluster.local.
        ? ns.dns.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ",
    );
}

#[test]
fn ns_lists_every_service_that_selects_the_server() {
    let ports = ["dns/UDP/53"];
    let mut objects = fixture::cluster();
    objects.extend([
        fixture::headless("testns", "dns", &ports),
        fixture::slice(
            "testns",
            "dns",
            "dns-a",
            &ports,
            &["10.244.0.2 hostname=one", "10.244.0.3 hostname=two"],
        ),
    ]);
    let setting = Setting {
        local: &["10.244.0.2", "10.244.0.3"],
        ..Setting::default()
    };
    let server = setting.serve(objects);
    let (_, reply) = server.ask("cluster.local.", "NS");
    let reply = reply.unwrap();
    let mut names: Vec<_> = reply
        .section(Section::Answer)
        .iter()
        .map(|record| reply.data_name(record).unwrap().to_string())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "kube-dns.kube-system.svc.cluster.local.",
            "one.dns.testns.svc.cluster.local.",
            "two.dns.testns.svc.cluster.local."
        ]
    );
    assert_eq!(reply.section(Section::Additional).len(), 3);
}

#[test]
fn soa_ttl_is_at_most_300() {
    let setting = Setting {
        rules: AnswerRules {
            ttl: 3600,
            ..AnswerRules::default()
        },
        ..Setting::default()
    };
    setting.serve(fixture::cluster()).check(
        "
        ? cluster.local. SOA
        NOERROR ClusterRecord
        cluster.local. 300 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. SERIAL 7200 1800 86400 3600
        ? none.testns.svc.cluster.local. A
        NXDOMAIN NoSuchService, cluster.local.
        ? svc1.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        svc1.testns.svc.cluster.local. 3600 IN A 10.0.0.1
        ? svc1.testns.svc.cluster.local. SOA
        NODATA ClusterNoData, cluster.local.
        ? none.testns.svc.cluster.local. SOA
        NXDOMAIN NoSuchService, cluster.local.
        ",
    );
}

#[test]
fn empty_non_terminals_exist() {
    server().check(
        "
        ? svc.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ? svc.cluster.local. TXT
        NODATA ClusterNoData, cluster.local.
        ? pod.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ? SVC.Cluster.local. A
        NODATA ClusterNoData, Cluster.local.
        ? testns.svc.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ? testns.svc.cluster.local. NS
        NODATA ClusterNoData, cluster.local.
        ? empty.svc.cluster.local. TXT
        NODATA ClusterNoData, cluster.local.
        ? none.svc.cluster.local. A
        NXDOMAIN NoSuchNamespace, cluster.local.
        ? svc1.none.svc.cluster.local. A
        NXDOMAIN NoSuchNamespace, cluster.local.
        ? ep.svc1.none.svc.cluster.local. A
        NXDOMAIN NoSuchNamespace, cluster.local.
        ? svc1.hidden.svc.cluster.local. A
        NXDOMAIN NoSuchNamespace, cluster.local.
        ? other.cluster.local. A
        NXDOMAIN NoSuchForm, cluster.local.
        ? testns.other.cluster.local. A
        NXDOMAIN NoSuchForm, cluster.local.
        ? a.b.c.svc1.testns.svc.cluster.local. A
        NXDOMAIN NoSuchForm, cluster.local.
        ? *.testns.svc.cluster.local. A
        NXDOMAIN NoSuchService, cluster.local.
        ? any.any.svc1.testns.svc.cluster.local. A
        NXDOMAIN NoSuchPort, cluster.local.
        ",
    );
}

#[test]
fn search_list_names_are_nxdomain_and_the_last_one_passes() {
    server().check(
        "
        ? www.example.com.testns.svc.cluster.local. A
        NXDOMAIN NoSuchService, cluster.local.
        ? www.example.com.svc.cluster.local. A
        NXDOMAIN NoSuchNamespace, cluster.local.
        ? www.example.com.cluster.local. A
        NXDOMAIN NoSuchForm, cluster.local.
        ? svc1.testns.svc.testns.svc.cluster.local. A
        NXDOMAIN NoSuchService, cluster.local.
        ? www.example.com. A
        PASS
        ",
    );
}

#[test]
fn services_have_their_cluster_addresses() {
    server().check(
        "
        ? svc1.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        svc1.testns.svc.cluster.local. 5 IN A 10.0.0.1
        ? SVC1.TestNS.svc.Cluster.Local. A
        NOERROR ClusterRecord
        SVC1.TestNS.svc.Cluster.Local. 5 IN A 10.0.0.1
        ? svc1.testns.svc.cluster.local. AAAA
        NODATA ClusterNoData, cluster.local.
        ? svc6.testns.svc.cluster.local. AAAA
        NOERROR ClusterRecord
        svc6.testns.svc.cluster.local. 5 IN AAAA fd00:1::6
        ? svc6.testns.svc.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ? dual.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        dual.testns.svc.cluster.local. 5 IN A 10.0.0.3
        ? dual.testns.svc.cluster.local. AAAA
        NOERROR ClusterRecord
        dual.testns.svc.cluster.local. 5 IN AAAA fd00:1::3
        ? noports.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        noports.testns.svc.cluster.local. 5 IN A 10.0.0.8
        ? pending.testns.svc.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ? pod.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        pod.testns.svc.cluster.local. 5 IN A 10.0.0.50
        ? svc1.testns.svc.cluster.local. TXT
        NODATA ClusterNoData, cluster.local.
        ? svc1.testns.svc.cluster.local. MX
        NODATA ClusterNoData, cluster.local.
        ? svc1.testns.svc.cluster.local. CNAME
        NODATA ClusterNoData, cluster.local.
        ? svc1.testns.svc.cluster.local. PTR
        NODATA ClusterNoData, cluster.local.
        ? svc1.testns.svc.cluster.local. NS
        NODATA ClusterNoData, cluster.local.
        ? svc1.testns.svc.cluster.local. HINFO
        NODATA ClusterNoData, cluster.local.
        ? svc1.testns.svc.cluster.local. HTTPS
        NODATA ClusterNoData, cluster.local.
        ? svc1.testns.svc.cluster.local. ANY
        NODATA ClusterNoData, cluster.local.
        ? none.testns.svc.cluster.local. HTTPS
        NXDOMAIN NoSuchService, cluster.local.
        ? deleted.testns.svc.cluster.local. A
        NXDOMAIN NoSuchService, cluster.local.
        ",
    );
}

#[test]
fn port_names_have_addresses() {
    server().check(
        "
        ? _http._tcp.svc1.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        _http._tcp.svc1.testns.svc.cluster.local. 5 IN A 10.0.0.1
        ? http.TCP.svc1.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        http.TCP.svc1.testns.svc.cluster.local. 5 IN A 10.0.0.1
        ? _http._tcp.svc1.testns.svc.cluster.local. TXT
        NODATA ClusterNoData, cluster.local.
        ? _http._udp.svc1.testns.svc.cluster.local. A
        NXDOMAIN NoSuchPort, cluster.local.
        ? _._tcp.svc1.testns.svc.cluster.local. SRV
        NXDOMAIN NoSuchPort, cluster.local.
        ? _._tcp.unnamed.testns.svc.cluster.local. SRV
        NXDOMAIN NoSuchPort, cluster.local.
        ? _http._tcp.portless.testns.svc.cluster.local. A
        NXDOMAIN NoSuchPort, cluster.local.
        ? _http._tcp.noports.testns.svc.cluster.local. A
        NXDOMAIN NoSuchPort, cluster.local.
        ? _tcp.svc1.testns.svc.cluster.local. SRV
        NODATA ClusterNoData, cluster.local.
        ? tcp.svc1.testns.svc.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ? _tcp.hdls1.testns.svc.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ? _udp.svc1.testns.svc.cluster.local. A
        NXDOMAIN NoSuchEndpoint, cluster.local.
        ? _tcp.unnamed.testns.svc.cluster.local. A
        NXDOMAIN NoSuchEndpoint, cluster.local.
        ? _tcp.down.testns.svc.cluster.local. A
        NXDOMAIN NoSuchEndpoint, cluster.local.
        ",
    );
}

#[test]
fn headless_services_have_their_ready_endpoints() {
    server().check(
        "
        ? hdls1.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.2
        hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.3
        hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.4
        hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.5
        ? hdls1.testns.svc.cluster.local. AAAA
        NOERROR ClusterRecord
        hdls1.testns.svc.cluster.local. 5 IN AAAA fd00:2::1
        hdls1.testns.svc.cluster.local. 5 IN AAAA fd00:3::
        ? hdls1.testns.svc.cluster.local. MX
        NODATA ClusterNoData, cluster.local.
        ? _http._tcp.hdls1.testns.svc.cluster.local. AAAA
        NOERROR ClusterRecord
        _http._tcp.hdls1.testns.svc.cluster.local. 5 IN AAAA fd00:2::1
        _http._tcp.hdls1.testns.svc.cluster.local. 5 IN AAAA fd00:3::
        ? portless.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        portless.testns.svc.cluster.local. 5 IN A 172.0.0.20
        ? portless.testns.svc.cluster.local. AAAA
        NODATA ClusterNoData, cluster.local.
        ? down.testns.svc.cluster.local. A
        NXDOMAIN NoReadyEndpoint, cluster.local.
        ? _http._tcp.down.testns.svc.cluster.local. SRV
        NXDOMAIN NoReadyEndpoint, cluster.local.
        ? down.testns.svc.cluster.local. TXT
        NXDOMAIN NoReadyEndpoint, cluster.local.
        ? never.testns.svc.cluster.local. A
        NXDOMAIN NoReadyEndpoint, cluster.local.
        ",
    );
}

#[test]
fn endpoints_have_one_name_each() {
    server().check(
        "
        ? 172-0-0-2.hdls1.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        172-0-0-2.hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.2
        ? dup-name.hdls1.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        dup-name.hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.4
        dup-name.hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.5
        ? Dup-Name.hdls1.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        Dup-Name.hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.4
        Dup-Name.hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.5
        ? 172-0-0-4.hdls1.testns.svc.cluster.local. A
        NXDOMAIN NoSuchEndpoint, cluster.local.
        ? 172-0-0-2.hdls1.testns.svc.cluster.local. AAAA
        NODATA ClusterNoData, cluster.local.
        ? FD00-2--1.hdls1.testns.svc.cluster.local. AAAA
        NOERROR ClusterRecord
        FD00-2--1.hdls1.testns.svc.cluster.local. 5 IN AAAA fd00:2::1
        ? fd00-3--0.hdls1.testns.svc.cluster.local. AAAA
        NOERROR ClusterRecord
        fd00-3--0.hdls1.testns.svc.cluster.local. 5 IN AAAA fd00:3::
        ? fd00-3--.hdls1.testns.svc.cluster.local. AAAA
        NXDOMAIN NoSuchEndpoint, cluster.local.
        ? fd00-2-0-0-0-0-0-1.hdls1.testns.svc.cluster.local. AAAA
        NXDOMAIN NoSuchEndpoint, cluster.local.
        ? gone.hdls1.testns.svc.cluster.local. A
        NXDOMAIN EndpointNotReady, cluster.local.
        ? down-0.down.testns.svc.cluster.local. A
        NXDOMAIN EndpointNotReady, cluster.local.
        ? hdls1-pod.hdls1.testns.svc.cluster.local. A
        NXDOMAIN NoSuchEndpoint, cluster.local.
        ? ep1a.svc1.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        ep1a.svc1.testns.svc.cluster.local. 5 IN A 172.0.0.1
        ? ep1a.svc1.testns.svc.cluster.local. TXT
        NODATA ClusterNoData, cluster.local.
        ? _ep.svc1.testns.svc.cluster.local. A
        NXDOMAIN NoSuchEndpoint, cluster.local.
        ? x.outside.testns.svc.cluster.local. A
        NXDOMAIN NoSuchEndpoint, cluster.local.
        ? _x._tcp.outside.testns.svc.cluster.local. SRV
        NXDOMAIN NoSuchPort, cluster.local.
        ",
    );
}

#[test]
fn endpoint_pod_names_uses_the_names_of_pods() {
    let setting = Setting {
        rules: AnswerRules {
            endpoint_pod_names: true,
            ..AnswerRules::default()
        },
        ..Setting::default()
    };
    setting.serve(fixture::cluster()).check(
        "
        ? hdls1-pod.hdls1.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        hdls1-pod.hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.3
        ? 172-0-0-3.hdls1.testns.svc.cluster.local. A
        NXDOMAIN NoSuchEndpoint, cluster.local.
        ? 172-0-0-2.hdls1.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        172-0-0-2.hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.2
        ? 3.0.0.172.in-addr.arpa. PTR
        NOERROR ClusterRecord
        3.0.0.172.in-addr.arpa. 5 IN PTR hdls1-pod.hdls1.testns.svc.cluster.local.
        ",
    );
}

#[test]
fn external_name_is_a_cname() {
    server().check(
        "
        ? outside.testns.svc.cluster.local. CNAME
        NOERROR ClusterRecord
        outside.testns.svc.cluster.local. 5 IN CNAME ghost.Example.net.
        ? Outside.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        Outside.testns.svc.cluster.local. 5 IN CNAME ghost.Example.net.
        ghost.Example.net. 60 IN CNAME host.example.net.
        host.example.net. 30 IN A 203.0.113.1
        ? outside.testns.svc.cluster.local. AAAA
        NOERROR ClusterRecord
        outside.testns.svc.cluster.local. 5 IN CNAME ghost.Example.net.
        ghost.Example.net. 60 IN CNAME host.example.net.
        ? nowhere.testns.svc.cluster.local. A
        NXDOMAIN ClusterRecord
        nowhere.testns.svc.cluster.local. 5 IN CNAME missing.example.net.
        ? outside.testns.svc.cluster.local. TXT
        NODATA ClusterNoData, cluster.local.
        ? outside.testns.svc.cluster.local. SRV
        NODATA ClusterNoData, cluster.local.
        ? nonsense.testns.svc.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ",
    );
}

#[test]
fn cnames_within_the_zone_are_followed() {
    server().check(
        "
        ? alias.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        alias.testns.svc.cluster.local. 5 IN CNAME svc1.testns.svc.Cluster.local.
        svc1.testns.svc.Cluster.local. 5 IN A 10.0.0.1
        ? alias.testns.svc.cluster.local. AAAA
        NOERROR ClusterRecord, Cluster.local.
        alias.testns.svc.cluster.local. 5 IN CNAME svc1.testns.svc.Cluster.local.
        ? alias6.testns.svc.cluster.local. AAAA
        NOERROR ClusterRecord
        alias6.testns.svc.cluster.local. 5 IN CNAME svc6.testns.svc.cluster.local.
        svc6.testns.svc.cluster.local. 5 IN AAAA fd00:1::6
        ? chain.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        chain.testns.svc.cluster.local. 5 IN CNAME alias.testns.svc.cluster.local.
        alias.testns.svc.cluster.local. 5 IN CNAME svc1.testns.svc.Cluster.local.
        svc1.testns.svc.Cluster.local. 5 IN A 10.0.0.1
        ? chain-out.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        chain-out.testns.svc.cluster.local. 5 IN CNAME outside.testns.svc.cluster.local.
        outside.testns.svc.cluster.local. 5 IN CNAME ghost.Example.net.
        ghost.Example.net. 60 IN CNAME host.example.net.
        host.example.net. 30 IN A 203.0.113.1
        ? chain.testns.svc.cluster.local. CNAME
        NOERROR ClusterRecord
        chain.testns.svc.cluster.local. 5 IN CNAME alias.testns.svc.cluster.local.
        ? dangling.testns.svc.cluster.local. A
        NXDOMAIN ClusterRecord
        dangling.testns.svc.cluster.local. 5 IN CNAME none.testns.svc.cluster.local.
        ? self.testns.svc.cluster.local. A
        NOERROR EndlessAlias
        self.testns.svc.cluster.local. 5 IN CNAME self.testns.svc.cluster.local.
        ? ping.testns.svc.cluster.local. A
        NOERROR EndlessAlias
        ping.testns.svc.cluster.local. 5 IN CNAME pong.testns.svc.cluster.local.
        pong.testns.svc.cluster.local. 5 IN CNAME PING.testns.svc.cluster.local.
        ",
    );
}

#[test]
fn cname_chains_are_limited() {
    let mut objects = fixture::cluster();
    objects.extend((0..30).map(|at| {
        let target = format!("link{}.testns.svc.cluster.local", at + 1);
        fixture::external("testns", &format!("link{at}"), &target)
    }));
    let server = Setting::default().serve(objects);
    let (_, reply) = server.ask("link0.testns.svc.cluster.local.", "A");
    let reply = reply.unwrap();
    assert_eq!(reply.section(Section::Answer).len(), 11);
}

#[test]
fn external_name_with_an_address_is_an_address_record() {
    server().check(
        "
        ? address.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        address.testns.svc.cluster.local. 5 IN A 192.0.2.7
        ? address.testns.svc.cluster.local. AAAA
        NODATA ClusterNoData, cluster.local.
        ? address6.testns.svc.cluster.local. AAAA
        NOERROR ClusterRecord
        address6.testns.svc.cluster.local. 5 IN AAAA 2001:db8::7
        ? address.testns.svc.cluster.local. CNAME
        NODATA ClusterNoData, cluster.local.
        ",
    );
}

fn with_pods(pods: PodNames) -> Server {
    let setting = Setting {
        rules: AnswerRules {
            pods,
            ..AnswerRules::default()
        },
        ..Setting::default()
    };
    setting.serve(fixture::cluster())
}

#[test]
fn pods_disabled() {
    with_pods(PodNames::Disabled).check(
        "
        ? pod.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ? testns.pod.cluster.local. A
        NXDOMAIN NoSuchPod, cluster.local.
        ? 10-244-0-7.testns.pod.cluster.local. A
        NXDOMAIN NoSuchPod, cluster.local.
        ",
    );
}

#[test]
fn pods_insecure() {
    with_pods(PodNames::Insecure).check(
        "
        ? testns.pod.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ? none.pod.cluster.local. A
        NXDOMAIN NoSuchNamespace, cluster.local.
        ? 1-2-3-4.none.pod.cluster.local. A
        NXDOMAIN NoSuchNamespace, cluster.local.
        ? 1-2-3-4.TestNS.Pod.cluster.local. A
        NOERROR ClusterRecord
        1-2-3-4.TestNS.Pod.cluster.local. 5 IN A 1.2.3.4
        ? 1-2-3-4.testns.pod.cluster.local. AAAA
        NODATA ClusterNoData, cluster.local.
        ? 1-2-3-4.testns.pod.cluster.local. TXT
        NODATA ClusterNoData, cluster.local.
        ? 1-2-3-4.testns.pod.cluster.local. SRV
        NODATA ClusterNoData, cluster.local.
        ? FD00--9.testns.pod.cluster.local. AAAA
        NOERROR ClusterRecord
        FD00--9.testns.pod.cluster.local. 5 IN AAAA fd00::9
        ? 1-2-3-400.testns.pod.cluster.local. A
        NXDOMAIN NoSuchPod, cluster.local.
        ? web-0.testns.pod.cluster.local. A
        NXDOMAIN NoSuchPod, cluster.local.
        ? x.1-2-3-4.testns.pod.cluster.local. A
        NXDOMAIN NoSuchForm, cluster.local.
        ",
    );
}

#[test]
fn pods_verified() {
    with_pods(PodNames::Verified).check(
        "
        ? 10-244-0-7.testns.pod.cluster.local. A
        NOERROR ClusterRecord
        10-244-0-7.testns.pod.cluster.local. 5 IN A 10.244.0.7
        ? fd00-244--7.testns.pod.cluster.local. AAAA
        NOERROR ClusterRecord
        fd00-244--7.testns.pod.cluster.local. 5 IN AAAA fd00:244::7
        ? fd00-245--0.testns.pod.cluster.local. AAAA
        NOERROR ClusterRecord
        fd00-245--0.testns.pod.cluster.local. 5 IN AAAA fd00:245::
        ? 10-244-0-7.testns.pod.cluster.local. AAAA
        NODATA ClusterNoData, cluster.local.
        ? 10-244-0-2.testns.pod.cluster.local. A
        NXDOMAIN NoSuchPod, cluster.local.
        ? 10-244-0-9.testns.pod.cluster.local. A
        NXDOMAIN NoSuchPod, cluster.local.
        ? testns.pod.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ",
    );
}
