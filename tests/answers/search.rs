//! `autopath`: search lists resolved by the server.

use std::{pin::Pin, sync::Arc};

use lodestone::{
    corefile::Diagnostic,
    hooks,
    metrics::Metrics,
    plugin::{
        Block, Chain, Context, OnQuery, Outcome, Resolved, Step, SubQueryHandler, ZoneList,
        autopath::{Autopath, Config, List, Search, parse},
    },
    query::{Query, Question},
    reply::{Reply, Why},
    wire::{Class, Name, Rcode, Type},
    zone::{AnswerRules, PodNames},
};

use crate::{
    dialogue::{Setting, converse, name, soa},
    fixture,
    reading::parsed,
};

/// Names outside of the cluster: one host and one failure. Every answer is asynchronous.
struct World;

hooks!(World, "world" => on_query);

impl OnQuery for World {
    fn on_query(&self, _: &Context<'_>, query: &mut Query, _: &mut Reply) -> Step {
        let question = query.question;
        Step::Wait(Box::pin(async move {
            tokio::task::yield_now().await;
            let mut reply = Reply::default();
            reply.authoritative = true;
            reply.why = Why::Upstream;
            match (question.lower.to_string().as_str(), question.rtype) {
                ("www.example.org." | "both.corp.example." | "both.", Type::A) => {
                    reply.answer(
                        Type::A,
                        30,
                        lodestone::reply::Data::A([203, 0, 113, 1].into()),
                    );
                }
                ("www.example.org." | "both.corp.example." | "both.", _) => {}
                ("broken.corp.example.", _) => reply.fail(Rcode::REFUSED, Why::Policy),
                _ => reply.rcode = Rcode::NXDOMAIN,
            }
            reply.authoritative = true;
            Resolved::Answer(reply)
        }))
    }
}

/// A server with one block.
struct Served {
    block: Arc<Block>,
}

impl SubQueryHandler for Served {
    fn answer(self: Arc<Self>, query: Query) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        Box::pin(async move {
            let sub_queries: Arc<dyn SubQueryHandler> = Arc::clone(&self) as _;
            let (mut query, mut reply) = (query, Reply::default());
            let walk = {
                let context = Context {
                    sub_queries: &sub_queries,
                    block: &self.block,
                };
                self.block.chain.walk(&context, &mut query, &mut reply)
            };
            match walk {
                Outcome::Done => reply,
                Outcome::Dropped => panic!("dropped"),
                Outcome::Pending(waiting) => waiting.finish().await.1.unwrap(),
            }
        })
    }
}

/// A server with the cluster, names outside of it, and the search lists of its pods.
struct Tried {
    server: Arc<Served>,
    runtime: tokio::runtime::Runtime,
    metrics: Arc<Metrics>,
}

impl Tried {
    fn new(zones: &[&str], search: impl FnOnce(&crate::dialogue::Server) -> Search) -> Self {
        let rules = AnswerRules {
            pods: PodNames::Verified,
            ..AnswerRules::default()
        };
        let setting = Setting {
            rules,
            ..Setting::default()
        };
        let mut objects = fixture::cluster();
        // Pods in two namespaces with their node's address.
        objects.push(fixture::pod("testns", "host-a", "10.1.1.1", None));
        objects.push(fixture::pod("kube-system", "host-b", "10.1.1.1", None));
        let cluster = setting.serve(objects);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let metrics = Metrics::new();
        let autopath = Autopath::new(
            zones.iter().map(|zone| name(zone)).collect::<ZoneList>(),
            search(&cluster),
            runtime.handle().clone(),
            metrics.autopath_success_total.with(&["dns://:53"]),
        );
        let plugins = vec![autopath.into(), cluster.plugin.into(), World.into()];
        let block = Block {
            zone: Name::ROOT,
            server: "dns://:53".into(),
            zone_label: ".".into(),
            view: "".into(),
            chain: Arc::new(Chain::new(plugins)),
            counters: Arc::default(),
            feed: Arc::default(),
        };
        Self {
            server: Arc::new(Served {
                block: Arc::new(block),
            }),
            runtime,
            metrics,
        }
    }

    /// Search lists of pods, on a node with the search domain `corp.example`.
    fn pods() -> Self {
        Self::new(&["cluster.local."], |cluster| Search::Pods {
            view: Arc::clone(&cluster.view),
            tail: vec![name("corp.example.")],
        })
    }

    fn ask(&self, client: &str, question: &Question) -> Reply {
        let mut query = Query::internal(*question);
        query.receive(|it| it.client = (client.parse::<std::net::IpAddr>().unwrap(), 4660).into());
        let sub_queries = Arc::clone(&self.server);
        self.runtime.block_on(sub_queries.answer(query))
    }

    fn check(&self, client: &str, dialogue: &str) {
        converse(dialogue, soa, |question| Some(self.ask(client, question)));
    }

    fn found(&self) -> String {
        let text = self.metrics.encode();
        let series = "coredns_autopath_success_total{server=\"dns://:53\"} ";
        let value = text.lines().find_map(|line| line.strip_prefix(series));
        value.unwrap_or("none").to_owned()
    }
}

#[test]
fn first_existing_name_is_answered_behind_a_cname() {
    let tried = Tried::pods();
    tried.check(
        "10.244.0.7",
        "
        ? svc1.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        svc1.testns.svc.cluster.local. 5 IN A 10.0.0.1
        ? SVC1.testns.testns.svc.Cluster.local. A
        NOERROR ClusterRecord
        SVC1.testns.testns.svc.Cluster.local. 5 IN CNAME SVC1.testns.svc.Cluster.local.
        SVC1.testns.svc.Cluster.local. 5 IN A 10.0.0.1
        ? kube-dns.kube-system.svc.testns.svc.cluster.local. A
        NOERROR ClusterRecord
        kube-dns.kube-system.svc.testns.svc.cluster.local. 5 IN CNAME kube-dns.kube-system.svc.cluster.local.
        kube-dns.kube-system.svc.cluster.local. 5 IN A 10.96.0.10
        ? www.example.org.testns.svc.cluster.local. A
        NOERROR Upstream
        www.example.org.testns.svc.cluster.local. 30 IN CNAME www.example.org.
        www.example.org. 30 IN A 203.0.113.1
        ? both.testns.svc.cluster.local. A
        NOERROR Upstream
        both.testns.svc.cluster.local. 30 IN CNAME both.corp.example.
        both.corp.example. 30 IN A 203.0.113.1
        ? _http._tcp.svc1.testns.testns.svc.cluster.local. SRV
        NOERROR ClusterRecord
        _http._tcp.svc1.testns.testns.svc.cluster.local. 5 IN CNAME _http._tcp.svc1.testns.svc.cluster.local.
        _http._tcp.svc1.testns.svc.cluster.local. 5 IN SRV 0 100 80 svc1.testns.svc.cluster.local.
        + svc1.testns.svc.cluster.local. 5 IN A 10.0.0.1
        ",
    );
    assert_eq!(tried.found(), "6");
}

#[test]
fn a_and_aaaa_resolve_to_the_same_name() {
    // Each has an A record only; names further down the list have AAAA.
    Tried::pods().check(
        "10.244.0.7",
        "
        ? svc1.testns.testns.svc.cluster.local. AAAA
        NODATA ClusterNoData, cluster.local.
        ? both.testns.svc.cluster.local. AAAA
        NODATA Upstream
        ? www.example.org.testns.svc.cluster.local. HTTPS
        NODATA Upstream
        ",
    );
}

#[test]
fn without_a_match_the_first_reply_is_returned_and_a_failure_ends_the_search() {
    let tried = Tried::pods();
    tried.check(
        "10.244.0.7",
        "
        ? nothing.testns.svc.cluster.local. A
        NXDOMAIN NoSuchService, cluster.local.
        ",
    );
    let question = Question::new(name("broken.testns.svc.cluster.local"), Type::A, Class::IN);
    let reply = tried.ask("10.244.0.7", &question);
    assert_eq!((reply.rcode, reply.why), (Rcode::SERVFAIL, Why::Policy));
    assert_eq!(tried.found(), "0");
}

#[test]
fn only_the_first_query_of_a_known_client_is_searched() {
    let tried = Tried::pods();
    let no_service = "
        ? www.example.org.testns.svc.cluster.local. A
        NXDOMAIN NoSuchService, cluster.local.
        ";
    // An unknown address, a pod in another namespace, and pods with their node's address.
    for client in ["10.9.9.9", "10.244.0.2", "10.1.1.1"] {
        tried.check(client, no_service);
    }
    // The same pod by its other address, and by its first one as an IPv4-mapped IPv6 address.
    for client in ["fd00:244::7", "::ffff:10.244.0.7"] {
        tried.check(
            client,
            "
            ? svc1.testns.testns.svc.cluster.local. AAAA
            NODATA ClusterNoData, cluster.local.
            ",
        );
    }
    tried.check(
        "10.244.0.7",
        "
        ? www.example.org.svc.cluster.local. A
        NXDOMAIN NoSuchNamespace, cluster.local.
        ? testns.svc.cluster.local. A
        NODATA ClusterNoData, cluster.local.
        ? www.example.com. A
        NXDOMAIN Upstream
        ",
    );
    // A zone that autopath is not configured for.
    let elsewhere = Tried::new(&["example.org."], |cluster| Search::Pods {
        view: Arc::clone(&cluster.view),
        tail: Vec::new(),
    });
    elsewhere.check("10.244.0.7", no_service);
}

#[test]
fn search_list_from_a_file_applies_to_every_client() {
    let tried = Tried::new(&["corp.example."], |_| {
        Search::Fixed(vec![name("eu.corp.example."), name("corp.example.")])
    });
    tried.check(
        "192.0.2.1",
        "
        ? both.eu.corp.example. A
        NOERROR Upstream
        both.eu.corp.example. 30 IN CNAME both.corp.example.
        both.corp.example. 30 IN A 203.0.113.1
        ",
    );
}

#[test]
fn names_that_become_too_long_are_skipped() {
    let long = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(34));
    let tried = Tried::new(&["."], |_| {
        Search::Fixed(vec![name("a.b.c."), name(&"long.".repeat(20))])
    });
    let question = Question::new(name(&format!("{long}.a.b.c.")), Type::A, Class::IN);
    assert_eq!(tried.ask("192.0.2.1", &question).rcode, Rcode::NXDOMAIN);
}

fn read(lines: &str) -> (Result<Config, Vec<Diagnostic>>, Vec<String>) {
    let others = ["kubernetes", "forward"];
    let (file, config, warnings) = parsed(lines, &["a.example."], "autopath", &others, parse);
    let drawn = |list: Vec<Diagnostic>| file.report(list).to_string();
    let warnings = warnings.into_iter().map(|one| drawn(vec![one])).collect();
    (config, warnings)
}

#[test]
fn last_argument_selects_the_search_list() {
    let verified = "kubernetes {\npods verified\n}";
    for (lines, zones, list) in [
        (
            format!("autopath @kubernetes\n{verified}"),
            "a.example.",
            List::Kubernetes,
        ),
        (
            format!("{verified}\nautopath b.example 10.0.0.0/8 @kubernetes"),
            "b.example.,10.in-addr.arpa.",
            List::Kubernetes,
        ),
        (
            "autopath /etc/resolv.conf".to_owned(),
            "a.example.",
            List::File("/etc/resolv.conf".into()),
        ),
    ] {
        let (config, warnings) = read(&lines);
        let config = config.unwrap();
        assert_eq!((config.zones.label().as_str(), config.list), (zones, list));
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}

#[test]
fn options_without_effect_give_a_warning() {
    for (lines, expected) in [
        (
            "autopath @kubernetes\nkubernetes {\npods insecure\n}",
            "'kubernetes' does not watch pods",
        ),
        (
            "autopath @kubernetes\nkubernetes {\npods verified\npods disabled\n}",
            "no line 'pods verified' in here",
        ),
        (
            "autopath @kubernetes",
            "no 'kubernetes' in this server block",
        ),
        ("autopath @erratic", "no 'erratic' in this server block"),
        ("autopath a\nautopath b", "only the last 'autopath' counts"),
    ] {
        let (config, warnings) = read(lines);
        config.unwrap();
        assert_eq!(warnings.len(), 1, "{lines}");
        assert!(warnings[0].contains(expected), "{}", warnings[0]);
    }
    for (lines, expected) in [
        ("autopath", "Wrong argument count"),
        (
            "autopath @forward\nforward . 1.1.1.1",
            "has no search lists",
        ),
        ("autopath a..b @kubernetes\nkubernetes", "a..b"),
        ("autopath x {\nttl 5\n}", "has no properties"),
    ] {
        let errors = read(lines).0.unwrap_err();
        assert!(format!("{errors:?}").contains(expected), "{errors:?}");
    }
}
