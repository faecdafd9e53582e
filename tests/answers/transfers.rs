//! Zone transfers: content, order and permissions.

use std::sync::Arc;

use lodestone::{
    cluster::{Cluster, Event, Kind, Object, StateWriter},
    plugin::{
        k8s_external::K8sExternal,
        transfer::{Allowed, Config, Rule, Transferable, Transfers},
    },
    query::{Query, Request, Transport},
    reply::{Reply, Section},
    wire::{Rcode, Type},
    zone::AnswerRules,
};

use crate::{
    dialogue::{Server, Setting, ask, ask_as, name, question, written},
    external::{config, reached},
    fixture,
};

/// A client: address, transport and, for IXFR, its serial.
struct Client {
    address: &'static str,
    held: Option<u32>,
    transport: Transport,
}

const ANYONE: Client = Client {
    address: "192.0.2.1:4000",
    held: None,
    transport: Transport::Tcp,
};

fn rule(zone: &str, to: &[&str]) -> Rule {
    Rule {
        zones: [name(zone)].into_iter().collect(),
        to: to
            .iter()
            .map(|text| match *text {
                "*" => Allowed::Anyone,
                network => Allowed::From(network.parse().unwrap()),
            })
            .collect(),
        ..Rule::default()
    }
}

fn transfers(server: &Server, rules: Vec<Rule>) -> Transfers {
    Transfers::new(Config { rules }, vec![Arc::clone(&server.view) as _])
}

impl Client {
    fn send(&self, plugin: &Transfers, zone: &str, rtype: &str) -> Option<Reply> {
        let query = Query::new(Request {
            client: self.address.parse().unwrap(),
            held_serial: self.held,
            transport: self.transport,
            ..Request::internal(question(zone, rtype))
        });
        ask_as(plugin, query)
    }
}

/// The records of a zone transfer, as text.
fn zone(setting: Setting, objects: Vec<Object>, zone: &str) -> String {
    let server = setting.serve(objects);
    let plugin = transfers(&server, vec![rule(".", &["*"])]);
    let reply = ANYONE.send(&plugin, zone, "AXFR").expect("the zone");
    let text = written(&question(zone, "AXFR"), &reply);
    text.split_inclusive('\n').skip(2).collect()
}

fn check(sent: &str, expected: &str) {
    let lines: Vec<_> = expected.lines().map(str::trim).collect();
    let lines: Vec<_> = lines.into_iter().filter(|line| !line.is_empty()).collect();
    assert_eq!(sent.trim_end(), lines.join("\n"));
}

fn small() -> Vec<Object> {
    let web = ["http/TCP/80", "/UDP/9", "https/TCP/80"];
    vec![
        fixture::namespace("shop"),
        fixture::namespace("aside"),
        fixture::cluster_ip("shop", "web", &["10.0.0.1", "fd00::1"], &web),
        fixture::slice("shop", "web", "web-a", &web, &["172.0.0.1"]),
        fixture::cluster_ip("shop", "waiting", &[], &web),
        fixture::cluster_ip("hidden", "web", &["10.0.0.9"], &web),
        fixture::cluster_ip("aside", "web", &["10.0.0.2"], &[]),
        fixture::headless("shop", "db", &[]),
        fixture::slice(
            "shop",
            "db",
            "db-a",
            &["Sql/TCP/5432", "/TCP/1"],
            &["172.0.0.2 hostname=db-0", "172.0.0.3", "172.0.0.4 unready"],
        ),
        fixture::slice("shop", "db", "db-b", &["Sql/TCP/5432"], &["172.0.0.3"]),
        fixture::external("shop", "away", "Example.net"),
        fixture::external("shop", "address", "192.0.2.7"),
        fixture::external("shop", "nonsense", "a..b"),
        fixture::cluster_ip("shop", "dns", &["10.0.0.10"], &[]),
        fixture::slice("shop", "dns", "dns-a", &[], &["10.244.0.2", "10.244.0.3"]),
        fixture::pod("shop", "web-0", "172.0.0.1", None),
    ]
}

const SOA: &str = "cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. SERIAL 7200 1800 86400 5";

#[test]
fn records_are_in_order_and_sent_once() {
    let sent = zone(Setting::default(), small(), "cluster.local.");
    check(
        &sent,
        &format!(
            "
            {SOA}
            cluster.local. 5 IN NS dns.shop.svc.cluster.local.
            dns.shop.svc.cluster.local. 5 IN A 10.0.0.10
            address.shop.svc.cluster.local. 5 IN A 192.0.2.7
            away.shop.svc.cluster.local. 5 IN CNAME Example.net.
            db.shop.svc.cluster.local. 5 IN A 172.0.0.2
            db-0.db.shop.svc.cluster.local. 5 IN A 172.0.0.2
            _sql._tcp.db.shop.svc.cluster.local. 5 IN SRV 0 50 5432 db-0.db.shop.svc.cluster.local.
            db.shop.svc.cluster.local. 5 IN A 172.0.0.3
            172-0-0-3.db.shop.svc.cluster.local. 5 IN A 172.0.0.3
            _sql._tcp.db.shop.svc.cluster.local. 5 IN SRV 0 50 5432 172-0-0-3.db.shop.svc.cluster.local.
            web.aside.svc.cluster.local. 5 IN A 10.0.0.2
            web.shop.svc.cluster.local. 5 IN A 10.0.0.1
            web.shop.svc.cluster.local. 5 IN AAAA fd00::1
            web.shop.svc.cluster.local. 5 IN SRV 0 100 80 web.shop.svc.cluster.local.
            web.shop.svc.cluster.local. 5 IN SRV 0 100 9 web.shop.svc.cluster.local.
            _http._tcp.web.shop.svc.cluster.local. 5 IN SRV 0 100 80 web.shop.svc.cluster.local.
            _https._tcp.web.shop.svc.cluster.local. 5 IN SRV 0 100 80 web.shop.svc.cluster.local.
            {SOA}
            "
        ),
    );
}

#[test]
fn server_with_several_addresses_or_none_is_transferred() {
    let with = |local| Setting {
        local,
        ..Setting::default()
    };
    let head = |local| {
        let sent = zone(
            with(local),
            vec![fixture::namespace("shop")],
            "cluster.local.",
        );
        sent.replace(&format!("{SOA}\n"), "")
    };
    check(
        &head(&["10.1.0.1", "10.1.0.2", "fd00::7"]),
        "
        cluster.local. 5 IN NS ns.dns.cluster.local.
        ns.dns.cluster.local. 5 IN A 10.1.0.1
        ns.dns.cluster.local. 5 IN A 10.1.0.2
        ns.dns.cluster.local. 5 IN AAAA fd00::7
        ",
    );
    check(&head(&[]), "cluster.local. 5 IN NS ns.dns.cluster.local.");
    let both = zone(
        with(&["10.244.0.2", "10.244.0.3"]),
        small(),
        "cluster.local.",
    );
    assert_eq!(both.matches(" NS ").count(), 1);
    assert_eq!(both.matches(" 10.0.0.10\n").count(), 1);
}

#[test]
fn excluded_namespaces_are_not_transferred() {
    let setting = Setting {
        rules: AnswerRules {
            namespaces: [Box::from("shop")].into(),
            ignore_empty_service: true,
            ttl: 3600,
            ..AnswerRules::default()
        },
        ..Setting::default()
    };
    let sent = zone(setting, small(), "cluster.local.");
    assert!(
        !sent.contains("aside") && !sent.contains("hidden"),
        "{sent}"
    );
    assert!(sent.contains("web.shop.svc.cluster.local. 3600 IN A 10.0.0.1\n"));
    assert!(sent.starts_with("cluster.local. 300 IN SOA"));
    let setting = Setting {
        rules: AnswerRules {
            ignore_empty_service: true,
            ..AnswerRules::default()
        },
        ..Setting::default()
    };
    let sent = zone(setting, small(), "cluster.local.");
    assert!(!sent.contains("aside"), "it has no endpoint: {sent}");
}

#[test]
fn zone_name_keeps_the_spelling_of_the_query() {
    let sent = zone(Setting::default(), small(), "Cluster.LOCAL.");
    assert!(sent.contains("web.shop.svc.Cluster.LOCAL. 5 IN A 10.0.0.1\n"));
    assert!(!sent.contains("cluster.local"), "{sent}");
}

#[test]
fn only_apexes_are_transferred() {
    let server = Setting::default().serve(small());
    let plugin = transfers(&server, vec![rule(".", &["*"])]);
    for zone in [
        "shop.svc.cluster.local.",
        "foo.cluster.local.",
        "local.",
        "0.10.in-addr.arpa.",
        "ip6.arpa.",
        "example.org.",
    ] {
        assert!(ANYONE.send(&plugin, zone, "AXFR").is_none(), "{zone}");
    }
    assert!(ANYONE.send(&plugin, "cluster.local.", "SOA").is_none());
    // Names of the cluster are REFUSED there.
    server.check(
        "
        ? foo.cluster.local. AXFR
        REFUSED TransferRefused
        ? 0.10.in-addr.arpa. AXFR
        REFUSED TransferRefused
        ",
    );
}

#[test]
fn only_permitted_clients_get_a_transfer() {
    let server = Setting::default().serve(small());
    let rules = vec![
        rule("local.", &["*"]),
        rule("cluster.local.", &["192.0.2.0/24", "fd00::1/128"]),
        rule("cluster.local.", &["*"]),
    ];
    let plugin = transfers(&server, rules);
    for (client, transport, rcode) in [
        ("192.0.2.7:1", Transport::Tcp, Rcode::NOERROR),
        ("[::ffff:192.0.2.7]:1", Transport::Tcp, Rcode::NOERROR),
        ("[fd00::1]:1", Transport::Tls, Rcode::NOERROR),
        ("192.0.3.1:1", Transport::Tcp, Rcode::REFUSED),
        ("[fd00::2]:1", Transport::Tcp, Rcode::REFUSED),
        ("192.0.2.7:1", Transport::Udp, Rcode::REFUSED),
    ] {
        let from = Client {
            address: client,
            held: Some(0),
            transport,
        };
        for rtype in ["AXFR", "IXFR"] {
            let reply = from.send(&plugin, "cluster.local.", rtype).unwrap();
            if transport == Transport::Udp && rtype == "IXFR" {
                // The SOA record alone (RFC 1995 section 2).
                assert_eq!((reply.rcode, reply.records().count()), (Rcode::NOERROR, 1));
                continue;
            }
            assert_eq!(reply.rcode, rcode, "{client} {transport:?}");
            let is_empty = reply.section(Section::Answer).is_empty();
            assert_eq!(is_empty, rcode == Rcode::REFUSED);
        }
    }
    let elsewhere = transfers(&server, vec![rule("test.", &["*"])]);
    assert!(ANYONE.send(&elsewhere, "cluster.local.", "AXFR").is_none());
}

#[test]
fn ixfr_returns_soa_for_a_current_serial_and_the_zone_for_an_older_one() {
    let server = Setting::default().serve(small());
    let serial = server.cluster.serial();
    let plugin = transfers(&server, vec![rule(".", &["*"])]);
    let records = |held, rtype: &str| {
        let client = Client { held, ..ANYONE };
        let reply = client.send(&plugin, "cluster.local.", rtype).unwrap();
        (reply.rcode, reply.section(Section::Answer).len())
    };
    let zone = records(None, "AXFR");
    assert_eq!(zone, (Rcode::NOERROR, 19));
    assert_eq!(records(Some(serial), "IXFR"), (Rcode::NOERROR, 1));
    assert_eq!(records(Some(serial + 1), "IXFR"), (Rcode::NOERROR, 1));
    assert_eq!(records(Some(serial - 1), "IXFR"), zone);
    assert_eq!(records(Some(serial), "AXFR"), zone);
    assert_eq!(records(None, "IXFR"), (Rcode::FORMERR, 0));
}

#[test]
fn transfer_is_servfail_until_all_objects_are_listed() {
    let server = Setting::default().serve_cluster(Arc::new(Cluster::new(&Kind::ALL)));
    let plugin = transfers(&server, vec![rule(".", &["*"])]);
    let reply = ANYONE.send(&plugin, "cluster.local.", "AXFR").unwrap();
    assert_eq!((reply.rcode, reply.records().count()), (Rcode::SERVFAIL, 0));
    assert!(reply.records().all(|record| record.rtype != Type::SOA));
    let by_datagram = Client {
        held: Some(1),
        transport: Transport::Udp,
        ..ANYONE
    };
    let reply = by_datagram.send(&plugin, "cluster.local.", "IXFR").unwrap();
    assert_eq!((reply.rcode, reply.records().count()), (Rcode::SERVFAIL, 0));
}

/// `k8s_external` zones, with Services of every external kind.
fn external_zones(options: &str) -> K8sExternal {
    let ports = ["http/TCP/80", "/UDP/53"];
    let service = |name| fixture::cluster_ip("shop", name, &["10.0.0.70"], &ports);
    let server = Setting::default().serve(vec![
        fixture::namespace("shop"),
        fixture::namespace("dns"),
        reached(service("web"), &["198.51.100.1", "2001:db8::1"], &[]),
        reached(service("elb"), &[], &["One.example.net", "two.example.net"]),
        reached(service("bad"), &[], &["a..b"]),
        reached(
            fixture::cluster_ip("dns", "ns1", &["10.0.0.71"], &ports),
            &["198.51.100.7"],
            &[],
        ),
        reached(
            fixture::cluster_ip("hidden", "web", &["10.0.0.72"], &ports),
            &["198.51.100.8"],
            &[],
        ),
        service("inner"),
        fixture::headless("shop", "db", &ports),
        fixture::slice(
            "shop",
            "db",
            "db-a",
            &ports,
            &["172.0.0.2 hostname=db-0", "172.0.0.3 unready"],
        ),
        // Slices of different sizes and ports, for SRV weights.
        fixture::headless("shop", "wide", &ports),
        fixture::slice(
            "shop",
            "wide",
            "wide-a",
            &ports,
            &["172.0.1.1", "172.0.1.2"],
        ),
        fixture::slice(
            "shop",
            "wide",
            "wide-b",
            &["http/TCP/8080"],
            &["172.0.1.3", "172.0.1.2", "fd00::1 hostname=w-0"],
        ),
        fixture::slice("shop", "wide", "wide-c", &[], &["172.0.1.4"]),
    ]);
    let text = format!("k8s_external Example.com 172.in-addr.arpa {{\n{options}\n}}\nkubernetes");
    K8sExternal::new(&config(&text).unwrap(), &server.view)
}

fn transfer_external(plugin: &K8sExternal) -> String {
    let rules = vec![rule(".", &["*"])];
    let transfers = Transfers::new(Config { rules }, vec![plugin.zones()]);
    let reply = ANYONE.send(&transfers, "example.com.", "AXFR").unwrap();
    let text = written(&question("example.com.", "AXFR"), &reply);
    text.split_inclusive('\n').skip(2).collect()
}

const OUTSIDE: &str = "
    example.com. 9 IN SOA ns1.dns.example.com. hostmaster.dns.example.com. SERIAL 7200 1800 86400 9
    example.com. 9 IN NS ns1.dns.example.com.
    ns1.dns.example.com. 9 IN A 10.244.0.2
";

#[test]
fn external_zones_are_transferred() {
    let soa = OUTSIDE.trim().lines().next().unwrap();
    check(
        &transfer_external(&external_zones("ttl 9")),
        &format!(
            "{OUTSIDE}
            elb.shop.example.com. 9 IN CNAME One.example.net.
            _http._tcp.elb.shop.example.com. 9 IN SRV 0 50 80 One.example.net.
            _http._tcp.elb.shop.example.com. 9 IN SRV 0 50 80 two.example.net.
            web.shop.example.com. 9 IN A 198.51.100.1
            web.shop.example.com. 9 IN AAAA 2001:db8::1
            web.shop.example.com. 9 IN SRV 0 25 80 web.shop.example.com.
            web.shop.example.com. 9 IN SRV 0 25 53 web.shop.example.com.
            _http._tcp.web.shop.example.com. 9 IN SRV 0 50 80 web.shop.example.com.
            {soa}"
        ),
    );
    let sent = transfer_external(&external_zones("headless"));
    let db: Vec<_> = sent.lines().filter(|line| line.contains("db.")).collect();
    check(
        &db.join("\n"),
        "
        db.shop.example.com. 5 IN A 172.0.0.2
        db-0.db.shop.example.com. 5 IN A 172.0.0.2
        db.shop.example.com. 5 IN SRV 0 50 80 db-0.db.shop.example.com.
        db-0.db.shop.example.com. 5 IN SRV 0 50 80 db-0.db.shop.example.com.
        _http._tcp.db.shop.example.com. 5 IN SRV 0 100 80 db-0.db.shop.example.com.
        db.shop.example.com. 5 IN SRV 0 50 53 db-0.db.shop.example.com.
        db-0.db.shop.example.com. 5 IN SRV 0 50 53 db-0.db.shop.example.com.
        ",
    );
}

#[test]
fn copy_of_an_external_zone_gives_the_same_answers() {
    let plugin = external_zones("headless");
    for line in transfer_external(&plugin).lines() {
        let mut words = line.split(' ');
        let (owner, rtype) = (words.next().unwrap(), words.nth(2).unwrap());
        let question = question(owner, rtype);
        let reply = ask(&plugin, &question).unwrap();
        let text = written(&question, &reply);
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    let refused = ask(&plugin, &question("example.com.", "AXFR")).unwrap();
    assert_eq!(refused.rcode, Rcode::REFUSED);
}

#[test]
fn change_after_a_transfer_raises_the_serial_within_the_same_second() {
    let cluster = Arc::new(Cluster::new(&[]));
    let mut writer = StateWriter::new(Arc::clone(&cluster));
    let server = Setting::default().serve_cluster(Arc::clone(&cluster));
    let plugin = transfers(&server, vec![rule(".", &["*"])]);
    let mut put = |number: u8| {
        let address = format!("10.0.0.{number}");
        let service = fixture::cluster_ip("shop", "web", &[&address], &[]);
        writer.fold(Event::Apply(service));
        cluster.serial()
    };
    // Changes without a transfer in between share a serial or follow the clock.
    let mut last = put(1);
    for number in 2..10 {
        ANYONE.send(&plugin, "cluster.local.", "AXFR").unwrap();
        let next = put(number);
        assert!(next > last, "{next} after {last}");
        assert_eq!(server.view.serials()[0].1, next);
        last = next;
    }
    put(10);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let ahead = u64::from(put(11)).saturating_sub(now.as_secs().max(last.into()));
    assert!(
        ahead <= 1,
        "only transferred changes raise the serial beyond the clock"
    );
    let zones = Transferable::serials(&*server.view);
    let names: Vec<_> = zones.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["cluster.local."], "reverse zones are not notified");
}

#[test]
fn transfer_in_parts_is_a_snapshot() {
    const SERVICES: usize = 4000;
    let cluster = Arc::new(Cluster::new(&[]));
    let mut writer = StateWriter::new(Arc::clone(&cluster));
    let mut put = |namespace: &str, count: usize| {
        writer.fold(Event::Apply(fixture::namespace(namespace)));
        for number in 0..count {
            let address = format!("10.{}.{}.{}", namespace.len(), number / 250, number % 250);
            let name = format!("web-{number:04}");
            let service = fixture::cluster_ip(namespace, &name, &[&address], &["http/TCP/80"]);
            writer.fold(Event::Apply(service));
        }
    };
    put("shop", SERVICES);
    let server = Setting::default().serve_cluster(Arc::clone(&cluster));
    let question = question("cluster.local.", "AXFR");
    let begin = || {
        let mut reply = Reply::default();
        let view = Arc::clone(&server.view);
        assert!(Transferable::transfer(view, &question, None, &mut reply));
        assert!(reply.remaining.is_some() && reply.authoritative);
        reply
    };
    let mut reply = begin();
    assert_eq!(
        reply.records().count(),
        0,
        "records are made when they are sent"
    );
    reply.add_batch();
    let first = reply.records().count();
    assert!(first < 2 * SERVICES, "a part: {first}");
    assert!(reply.weight() < 256 << 10, "{}", reply.weight());
    // A change during the transfer is in the next one, with a later serial.
    put("market", SERVICES);
    reply.complete();
    let mut next = begin();
    next.complete();
    let serials = |reply: &Reply| {
        let soas = reply.section(Section::Answer).iter();
        let soas = soas.filter(|record| record.rtype == Type::SOA);
        let data = soas.map(|record| reply.data(record));
        let serials =
            data.map(|data| u32::from_be_bytes(*data[data.len() - 20..].first_chunk().unwrap()));
        serials.collect::<Vec<_>>()
    };
    // Two SOA records, an NS record and its address.
    for (reply, services) in [(&reply, SERVICES), (&next, 2 * SERVICES)] {
        assert_eq!(reply.records().count(), 2 + 1 + 1 + 3 * services);
        let serials = serials(reply);
        assert_eq!(serials.len(), 2);
        assert_eq!(serials[0], serials[1]);
    }
    assert!(serials(&next)[0] > serials(&reply)[0]);
}
