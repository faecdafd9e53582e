//! SRV and PTR records.

use std::sync::Arc;

use lodestone::{
    cluster::{Cluster, Event, Kind, ObjectKey, StateWriter},
    reply::Section,
    wire::Rcode,
};

use crate::{
    dialogue::{Server, Setting},
    fixture,
};

fn server() -> Server {
    Setting::default().serve(fixture::cluster())
}

#[test]
fn srv_target_is_the_service_with_cluster_addresses() {
    server().check(
        "
        ? _http._tcp.svc1.testns.svc.cluster.local. SRV
        NOERROR ClusterRecord
        _http._tcp.svc1.testns.svc.cluster.local. 5 IN SRV 0 100 80 svc1.testns.svc.cluster.local.
        + svc1.testns.svc.cluster.local. 5 IN A 10.0.0.1
        ? _HTTP._TCP.SVC1.testns.svc.Cluster.local. SRV
        NOERROR ClusterRecord
        _HTTP._TCP.SVC1.testns.svc.Cluster.local. 5 IN SRV 0 100 80 svc1.testns.svc.Cluster.local.
        + svc1.testns.svc.Cluster.local. 5 IN A 10.0.0.1
        ? svc1.testns.svc.cluster.local. SRV
        NOERROR ClusterRecord
        svc1.testns.svc.cluster.local. 5 IN SRV 0 100 80 svc1.testns.svc.cluster.local.
        + svc1.testns.svc.cluster.local. 5 IN A 10.0.0.1
        ? dual.testns.svc.cluster.local. SRV
        NOERROR ClusterRecord
        dual.testns.svc.cluster.local. 5 IN SRV 0 50 80 dual.testns.svc.cluster.local.
        + dual.testns.svc.cluster.local. 5 IN A 10.0.0.3
        + dual.testns.svc.cluster.local. 5 IN AAAA fd00:1::3
        ? kube-dns.kube-system.svc.cluster.local. SRV
        NOERROR ClusterRecord
        kube-dns.kube-system.svc.cluster.local. 5 IN SRV 0 33 53 kube-dns.kube-system.svc.cluster.local.
        kube-dns.kube-system.svc.cluster.local. 5 IN SRV 0 33 9153 kube-dns.kube-system.svc.cluster.local.
        + kube-dns.kube-system.svc.cluster.local. 5 IN A 10.96.0.10
        ? _dns-tcp._tcp.kube-dns.kube-system.svc.cluster.local. SRV
        NOERROR ClusterRecord
        _dns-tcp._tcp.kube-dns.kube-system.svc.cluster.local. 5 IN SRV 0 100 53 kube-dns.kube-system.svc.cluster.local.
        + kube-dns.kube-system.svc.cluster.local. 5 IN A 10.96.0.10
        ? unnamed.testns.svc.cluster.local. SRV
        NOERROR ClusterRecord
        unnamed.testns.svc.cluster.local. 5 IN SRV 0 100 80 unnamed.testns.svc.cluster.local.
        + unnamed.testns.svc.cluster.local. 5 IN A 10.0.0.9
        ? noports.testns.svc.cluster.local. SRV
        NODATA ClusterNoData, cluster.local.
        ? pending.testns.svc.cluster.local. SRV
        NODATA ClusterNoData, cluster.local.
        ? _smtp._tcp.svc1.testns.svc.cluster.local. SRV
        NXDOMAIN NoSuchPort, cluster.local.
        ? testns.svc.cluster.local. SRV
        NODATA ClusterNoData, cluster.local.
        ",
    );
}

#[test]
fn srv_targets_are_the_endpoints_of_headless_services() {
    // Seven pairs of port and endpoint, one of them twice.
    server().check(
        "
        ? _http._tcp.hdls1.testns.svc.cluster.local. SRV
        NOERROR ClusterRecord
        _http._tcp.hdls1.testns.svc.cluster.local. 5 IN SRV 0 14 80 172-0-0-2.hdls1.testns.svc.cluster.local.
        _http._tcp.hdls1.testns.svc.cluster.local. 5 IN SRV 0 14 80 172-0-0-3.hdls1.testns.svc.cluster.local.
        _http._tcp.hdls1.testns.svc.cluster.local. 5 IN SRV 0 14 80 dup-name.hdls1.testns.svc.cluster.local.
        _http._tcp.hdls1.testns.svc.cluster.local. 5 IN SRV 0 14 80 fd00-2--1.hdls1.testns.svc.cluster.local.
        _http._tcp.hdls1.testns.svc.cluster.local. 5 IN SRV 0 14 80 fd00-3--0.hdls1.testns.svc.cluster.local.
        + 172-0-0-2.hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.2
        + 172-0-0-3.hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.3
        + dup-name.hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.4
        + dup-name.hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.5
        + fd00-2--1.hdls1.testns.svc.cluster.local. 5 IN AAAA fd00:2::1
        + fd00-3--0.hdls1.testns.svc.cluster.local. 5 IN AAAA fd00:3::
        ? dup-name.hdls1.testns.svc.cluster.local. SRV
        NOERROR ClusterRecord
        dup-name.hdls1.testns.svc.cluster.local. 5 IN SRV 0 50 80 dup-name.hdls1.testns.svc.cluster.local.
        + dup-name.hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.4
        + dup-name.hdls1.testns.svc.cluster.local. 5 IN A 172.0.0.5
        ? Ep1a.svc1.testns.svc.cluster.local. SRV
        NOERROR ClusterRecord
        Ep1a.svc1.testns.svc.cluster.local. 5 IN SRV 0 100 80 ep1a.svc1.testns.svc.cluster.local.
        + ep1a.svc1.testns.svc.cluster.local. 5 IN A 172.0.0.1
        ? portless.testns.svc.cluster.local. SRV
        NODATA ClusterNoData, cluster.local.
        ? 172-0-0-20.portless.testns.svc.cluster.local. SRV
        NODATA ClusterNoData, cluster.local.
        ? down.testns.svc.cluster.local. SRV
        NXDOMAIN NoReadyEndpoint, cluster.local.
        ",
    );
}

#[test]
fn srv_uses_the_ports_of_each_slice() {
    let mut objects = fixture::cluster();
    objects.extend([
        fixture::headless("testns", "mixed", &[]),
        fixture::slice(
            "testns",
            "mixed",
            "mixed-a",
            &["http/TCP/80", "open/TCP/-"],
            &["172.1.0.1"],
        ),
        fixture::slice(
            "testns",
            "mixed",
            "mixed-b",
            &["http//8080"],
            &["172.1.0.2"],
        ),
    ]);
    Setting::default().serve(objects).check(
        "
        ? mixed.testns.svc.cluster.local. SRV
        NOERROR ClusterRecord
        mixed.testns.svc.cluster.local. 5 IN SRV 0 33 80 172-1-0-1.mixed.testns.svc.cluster.local.
        mixed.testns.svc.cluster.local. 5 IN SRV 0 33 8080 172-1-0-2.mixed.testns.svc.cluster.local.
        + 172-1-0-1.mixed.testns.svc.cluster.local. 5 IN A 172.1.0.1
        + 172-1-0-2.mixed.testns.svc.cluster.local. 5 IN A 172.1.0.2
        ? _http._tcp.mixed.testns.svc.cluster.local. SRV
        NOERROR ClusterRecord
        _http._tcp.mixed.testns.svc.cluster.local. 5 IN SRV 0 50 80 172-1-0-1.mixed.testns.svc.cluster.local.
        _http._tcp.mixed.testns.svc.cluster.local. 5 IN SRV 0 50 8080 172-1-0-2.mixed.testns.svc.cluster.local.
        + 172-1-0-1.mixed.testns.svc.cluster.local. 5 IN A 172.1.0.1
        + 172-1-0-2.mixed.testns.svc.cluster.local. 5 IN A 172.1.0.2
        ? _open._tcp.mixed.testns.svc.cluster.local. SRV
        NODATA ClusterNoData, cluster.local.
        ? _open._tcp.mixed.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        _open._tcp.mixed.testns.svc.cluster.local. 5 IN A 172.1.0.1
        ",
    );
}

#[test]
fn five_thousand_endpoints_have_one_record_each() {
    let mut objects = fixture::cluster();
    objects.push(fixture::headless("testns", "big", &[]));
    for slice in 0..50 {
        // Each endpoint is in two slices.
        for copy in ["a", "b"] {
            let endpoints: Vec<_> = (0..100).map(|at| format!("10.1.{slice}.{at}")).collect();
            let endpoints: Vec<_> = endpoints.iter().map(String::as_str).collect();
            let name = format!("big-{slice}-{copy}");
            objects.push(fixture::slice(
                "testns",
                "big",
                &name,
                &["http/TCP/80"],
                &endpoints,
            ));
        }
    }
    let server = Setting::default().serve(objects);
    let begun = std::time::Instant::now();
    for rtype in ["A", "SRV"] {
        let name = "big.testns.svc.cluster.local.";
        let reply = server.ask_unlimited(name, rtype);
        assert_eq!(reply.section(Section::Answer).len(), 5000, "{rtype}");
        // A client that accepts 512 bytes gets the records that fit.
        let (_, part) = server.ask(name, rtype);
        let part = part.unwrap();
        assert!(part.truncated && part.section(Section::Answer).len() < 30);
    }
    // Quadratic work would take seconds; this takes milliseconds, even unoptimized.
    assert!(begun.elapsed() < std::time::Duration::from_secs(2));
}

#[test]
fn ptr_of_a_cluster_address_is_the_service() {
    server().check(
        "
        ? 1.0.0.10.in-addr.arpa. PTR
        NOERROR ClusterRecord
        1.0.0.10.in-addr.arpa. 5 IN PTR svc1.testns.svc.cluster.local.
        ? 1.0.0.10.IN-ADDR.arpa. PTR
        NOERROR ClusterRecord
        1.0.0.10.IN-ADDR.arpa. 5 IN PTR svc1.testns.svc.cluster.local.
        ? 3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.D.f.ip6.arpa. PTR
        NOERROR ClusterRecord
        3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.D.f.ip6.arpa. 5 IN PTR dual.testns.svc.cluster.local.
        ? 1.0.0.10.in-addr.arpa. A
        NODATA ClusterNoData, 0.10.in-addr.arpa.
        ? 1.0.0.10.in-addr.arpa. SOA
        NODATA ClusterNoData, 0.10.in-addr.arpa.
        ? 200.0.0.10.in-addr.arpa. PTR
        NXDOMAIN NoSuchAddress, 0.10.in-addr.arpa.
        ? 1.0.9.10.in-addr.arpa. PTR
        PASS
        ? 1.1.0.0.10.in-addr.arpa. PTR
        NXDOMAIN NoSuchForm, 0.10.in-addr.arpa.
        ? 01.0.0.10.in-addr.arpa. PTR
        NXDOMAIN NoSuchForm, 0.10.in-addr.arpa.
        ? testns.svc.0.10.in-addr.arpa. A
        NXDOMAIN NoSuchForm, 0.10.in-addr.arpa.
        ",
    );
}

#[test]
fn ptr_lists_every_ready_endpoint_with_the_address() {
    server().check(
        "
        ? 2.0.0.172.in-addr.arpa. PTR
        NOERROR ClusterRecord
        2.0.0.172.in-addr.arpa. 5 IN PTR 172-0-0-2.hdls1.testns.svc.cluster.local.
        ? 4.0.0.172.in-addr.arpa. PTR
        NOERROR ClusterRecord
        4.0.0.172.in-addr.arpa. 5 IN PTR dup-name.hdls1.testns.svc.cluster.local.
        ? 1.0.0.172.in-addr.arpa. PTR
        NOERROR ClusterRecord
        1.0.0.172.in-addr.arpa. 5 IN PTR ep1a.svc1.testns.svc.cluster.local.
        ? 40.0.0.172.in-addr.arpa. PTR
        NOERROR ClusterRecord
        40.0.0.172.in-addr.arpa. 5 IN PTR 172-0-0-40.deleted.testns.svc.cluster.local.
        ? 6.0.0.172.in-addr.arpa. PTR
        NXDOMAIN NoSuchAddress, 172.in-addr.arpa.
        ? 1.0.9.172.in-addr.arpa. PTR
        NXDOMAIN NoSuchAddress, 172.in-addr.arpa.
        ",
    );
    let setting = Setting {
        zones: "in-addr.arpa. Cluster.local.",
        ..Setting::default()
    };
    let server = setting.serve(fixture::cluster());
    let (_, reply) = server.ask("1.0.168.192.in-addr.arpa.", "PTR");
    let reply = reply.unwrap();
    let records = reply.section(Section::Answer).iter();
    let mut names: Vec<_> = records
        .map(|record| reply.data_name(record).unwrap().to_string())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "192-168-0-1.host1.testns.svc.cluster.local.",
            "node.host2.testns.svc.cluster.local."
        ]
    );
}

#[test]
fn empty_reverse_names_exist() {
    server().check(
        "
        ? 0.0.10.in-addr.arpa. PTR
        NODATA ClusterNoData, 0.10.in-addr.arpa.
        ? 5.0.10.in-addr.arpa. PTR
        NXDOMAIN NoSuchAddress, 0.10.in-addr.arpa.
        ? 0.172.in-addr.arpa. NS
        NODATA ClusterNoData, 172.in-addr.arpa.
        ? 9.172.in-addr.arpa. NS
        NXDOMAIN NoSuchAddress, 172.in-addr.arpa.
        ? d.f.ip6.arpa. A
        NODATA ClusterNoData, ip6.arpa.
        ? f.ip6.arpa. A
        NODATA ClusterNoData, ip6.arpa.
        ? e.ip6.arpa. A
        NXDOMAIN NoSuchAddress, ip6.arpa.
        ",
    );
}

/// Queries right after a change, repeatedly: for a name that was just denied, and for one that just
/// existed.
#[test]
fn empty_reverse_names_follow_their_addresses() {
    let cluster = Arc::new(Cluster::new(&[]));
    let mut writer = StateWriter::new(Arc::clone(&cluster));
    let server = Setting::default().serve_cluster(cluster);
    let check = |name: &str, exists: bool| {
        let (_, reply) = server.ask(name, "A");
        let rcode = if exists {
            Rcode::NOERROR
        } else {
            Rcode::NXDOMAIN
        };
        assert_eq!(reply.unwrap().rcode, rcode, "{name}");
    };
    let web = ["http/TCP/80"];
    let address = |third: usize| format!("10.0.{third}.1");
    let block = |third: usize| format!("{third}.0.10.in-addr.arpa.");
    check(&block(7), false);
    let service = |name: &str, at: &str| fixture::cluster_ip("testns", name, &[at], &web);
    writer.fold(Event::Apply(service("first", "10.0.7.1")));
    check(&block(7), false);
    writer.fold(Event::Apply(fixture::namespace("testns")));
    check(&block(7), true);
    writer.fold(Event::Apply(service("first", "10.0.8.1")));
    check(&block(7), false);
    check(&block(8), true);
    // More changes than are applied one by one, and more than the log of changes holds.
    for (count, width) in [(250, 1), (250, 4), (250, 40)] {
        for third in 0..count {
            for nth in 0..width {
                let name = format!("s{third}-{nth}");
                writer.fold(Event::Apply(service(&name, &address(third))));
            }
        }
        (0..count).for_each(|third| check(&block(third), true));
        for third in 0..count {
            for nth in 0..width {
                let key = ObjectKey::from(("testns", format!("s{third}-{nth}").as_str()));
                writer.fold(Event::Delete(Kind::Service, key));
            }
        }
        (0..count).for_each(|third| check(&block(third), third == 8));
    }
    let endpoint = |text| fixture::slice("testns", "first", "first-a", &web, &[text]);
    for (text, exists) in [
        ("172.1.0.1 unready", false),
        ("172.1.0.1", true),
        ("172.1.0.1 unready", false),
        ("172.1.0.2", true),
        ("172.2.0.2", false),
    ] {
        writer.fold(Event::Apply(endpoint(text)));
        check("1.172.in-addr.arpa.", exists);
    }
    let namespace = ObjectKey::from(("", "testns"));
    writer.fold(Event::Delete(Kind::Namespace, namespace));
    check(&block(8), false);
    check("2.172.in-addr.arpa.", false);
}
