use std::{net::SocketAddr, time::Duration};

use super::*;
use crate::{
    query::{Query, Question, Request, Transport},
    reply::{Reply, Why},
    wire::{Class, Name, Rcode, Type},
};

const MS: &str = "0.00025 0.0005 0.001 0.002 0.004 0.008 0.016 0.032 0.064 0.128 0.256 0.512 1.024 2.048 4.096 8.192 +Inf";
const SIZES: &str = "0 100 200 300 400 511 1023 2047 4095 8291 16000 32000 48000 64000 +Inf";
const PROGRAMMING: &str = "0.001 0.002 0.004 0.008 0.016 0.032 0.064 0.128 0.256 0.512 1.024 2.048 4.096 8.192 16.384 32.768 65.536 131.072 262.144 524.288 +Inf";
const HEALTH: &str = "0.00025 0.0025 0.025 0.25 2.5 +Inf";
const REST: &str = "0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 +Inf";

/// Families that CoreDNS exports: name, type, ordered labels, buckets.
const TABLE: &[(&str, &str, &str, &str)] = &[
    (
        "coredns_acl_allowed_requests_total",
        "counter",
        "server view",
        "",
    ),
    (
        "coredns_acl_blocked_requests_total",
        "counter",
        "server view zone",
        "",
    ),
    (
        "coredns_acl_dropped_requests_total",
        "counter",
        "server view zone",
        "",
    ),
    (
        "coredns_acl_filtered_requests_total",
        "counter",
        "server view zone",
        "",
    ),
    ("coredns_autopath_success_total", "counter", "server", ""),
    (
        "coredns_build_info",
        "gauge",
        "goversion revision version",
        "",
    ),
    (
        "coredns_cache_drops_total",
        "counter",
        "server view zones",
        "",
    ),
    (
        "coredns_cache_entries",
        "gauge",
        "server type view zones",
        "",
    ),
    (
        "coredns_cache_evictions_total",
        "counter",
        "server type view zones",
        "",
    ),
    (
        "coredns_cache_hits_total",
        "counter",
        "server type view zones",
        "",
    ),
    (
        "coredns_cache_misses_total",
        "counter",
        "server view zones",
        "",
    ),
    (
        "coredns_cache_prefetch_total",
        "counter",
        "server view zones",
        "",
    ),
    (
        "coredns_cache_requests_total",
        "counter",
        "server view zones",
        "",
    ),
    (
        "coredns_cache_served_stale_total",
        "counter",
        "server view zones",
        "",
    ),
    (
        "coredns_dns64_requests_translated_total",
        "counter",
        "server",
        "",
    ),
    (
        "coredns_dns_do_requests_total",
        "counter",
        "server view zone",
        "",
    ),
    (
        "coredns_dns_https3_responses_total",
        "counter",
        "server status",
        "",
    ),
    (
        "coredns_dns_https_responses_total",
        "counter",
        "server status",
        "",
    ),
    (
        "coredns_dns_quic_responses_total",
        "counter",
        "server status",
        "",
    ),
    (
        "coredns_dns_request_duration_seconds",
        "histogram",
        "server view zone",
        MS,
    ),
    (
        "coredns_dns_request_size_bytes",
        "histogram",
        "proto server view zone",
        SIZES,
    ),
    (
        "coredns_dns_requests_total",
        "counter",
        "family proto server type view zone",
        "",
    ),
    (
        "coredns_dns_response_size_bytes",
        "histogram",
        "proto server view zone",
        SIZES,
    ),
    (
        "coredns_dns_responses_total",
        "counter",
        "plugin rcode server view zone",
        "",
    ),
    (
        "coredns_forward_conn_cache_hits_total",
        "counter",
        "proto to",
        "",
    ),
    (
        "coredns_forward_conn_cache_misses_total",
        "counter",
        "proto to",
        "",
    ),
    (
        "coredns_forward_healthcheck_broken_total",
        "counter",
        "",
        "",
    ),
    (
        "coredns_forward_healthcheck_failures_total",
        "counter",
        "to",
        "",
    ),
    (
        "coredns_forward_max_concurrent_rejects_total",
        "counter",
        "",
        "",
    ),
    (
        "coredns_forward_request_duration_seconds",
        "histogram",
        "rcode to",
        MS,
    ),
    ("coredns_forward_requests_total", "counter", "to", ""),
    ("coredns_forward_responses_total", "counter", "rcode to", ""),
    (
        "coredns_grpc_request_duration_seconds",
        "histogram",
        "to",
        MS,
    ),
    ("coredns_grpc_requests_total", "counter", "to", ""),
    ("coredns_grpc_responses_total", "counter", "rcode to", ""),
    (
        "coredns_health_request_duration_seconds",
        "histogram",
        "",
        HEALTH,
    ),
    ("coredns_health_request_failures_total", "counter", "", ""),
    ("coredns_hosts_entries", "gauge", "hostsfile", ""),
    ("coredns_hosts_reload_timestamp_seconds", "gauge", "", ""),
    (
        "coredns_kubernetes_dns_programming_duration_seconds",
        "histogram",
        "service_kind",
        PROGRAMMING,
    ),
    (
        "coredns_kubernetes_rest_client_rate_limiter_duration_seconds",
        "histogram",
        "host verb",
        REST,
    ),
    (
        "coredns_kubernetes_rest_client_request_duration_seconds",
        "histogram",
        "host verb",
        REST,
    ),
    (
        "coredns_kubernetes_rest_client_requests_total",
        "counter",
        "code host method",
        "",
    ),
    ("coredns_local_localhost_requests_total", "counter", "", ""),
    ("coredns_panics_total", "counter", "", ""),
    (
        "coredns_plugin_enabled",
        "gauge",
        "name server view zone",
        "",
    ),
    (
        "coredns_proxy_conn_cache_hits_total",
        "counter",
        "proto proxy_name to",
        "",
    ),
    (
        "coredns_proxy_conn_cache_misses_total",
        "counter",
        "proto proxy_name to",
        "",
    ),
    (
        "coredns_proxy_healthcheck_failures_total",
        "counter",
        "proxy_name to",
        "",
    ),
    (
        "coredns_proxy_request_duration_seconds",
        "histogram",
        "proxy_name rcode to",
        MS,
    ),
    ("coredns_reload_failed_total", "counter", "", ""),
    ("coredns_reload_version_info", "gauge", "hash value", ""),
    (
        "coredns_template_matches_total",
        "counter",
        "class server type view zone",
        "",
    ),
    (
        "coredns_template_rr_failures_total",
        "counter",
        "class section server template type view zone",
        "",
    ),
    (
        "coredns_template_template_failures_total",
        "counter",
        "class section server template type view zone",
        "",
    ),
    ("lodestone_audit_repairs_total", "counter", "resource", ""),
    ("lodestone_audits_total", "counter", "resource", ""),
    ("lodestone_cluster_age_seconds", "gauge", "kind", ""),
    ("lodestone_cluster_objects", "gauge", "kind", ""),
    (
        "lodestone_cluster_skipped_fields_total",
        "counter",
        "kind",
        "",
    ),
    (
        "lodestone_cluster_skipped_objects_total",
        "counter",
        "kind",
        "",
    ),
    ("lodestone_config_hash", "gauge", "", ""),
    ("lodestone_config_last_reload_successful", "gauge", "", ""),
    (
        "lodestone_dns_unanswered_total",
        "counter",
        "reason server view zone",
        "",
    ),
    ("lodestone_forward_max_pps", "gauge", "from", ""),
    (
        "lodestone_forward_packets_denied_total",
        "counter",
        "from",
        "",
    ),
    ("lodestone_forward_packets_per_second", "gauge", "from", ""),
    ("lodestone_forward_wrong_replies_total", "counter", "to", ""),
    ("lodestone_left_out_total", "counter", "plugin", ""),
    ("lodestone_log_lines_dropped_total", "counter", "", ""),
    ("lodestone_memory_limit_bytes", "gauge", "", ""),
    ("lodestone_overload_shed_total", "counter", "class", ""),
    ("lodestone_pending_queries", "gauge", "", ""),
    ("lodestone_pending_queries_limit", "gauge", "", ""),
    ("lodestone_queries_after_unready_total", "counter", "", ""),
    ("lodestone_queries_shed_total", "counter", "limit", ""),
    ("lodestone_snapshot_age_seconds", "gauge", "", ""),
    ("lodestone_snapshot_bytes", "gauge", "", ""),
    ("lodestone_snapshot_failures_total", "counter", "", ""),
    ("lodestone_snapshot_writes_total", "counter", "", ""),
    ("lodestone_stale_queries_total", "counter", "", ""),
    ("process_cpu_seconds_total", "counter", "", ""),
    ("process_max_fds", "gauge", "", ""),
    ("process_open_fds", "gauge", "", ""),
    ("process_resident_memory_bytes", "gauge", "", ""),
    ("process_start_time_seconds", "gauge", "", ""),
    ("process_threads", "gauge", "", ""),
    ("process_virtual_memory_bytes", "gauge", "", ""),
    ("process_virtual_memory_max_bytes", "gauge", "", ""),
];

fn query(name: &str, rtype: Type) -> Query {
    let name = Name::parse(name).unwrap();
    Query::new(Request {
        size: 40,
        ..Request::internal(Question::new(name, rtype, Class::IN))
    })
}

/// Creates one series in each family, with arbitrary label values.
fn touch(metrics: &Metrics) {
    metrics.queries_shed_total.with_label_values(&["server"]);
    let Metrics {
        forward,
        cache,
        kubernetes,
        cluster,
        ..
    } = metrics;
    let zone = metrics.dns.zone("dns://:53", ".", "");
    let mut with_do = query("example.org.", Type::A);
    with_do.edns = Some(crate::query::Edns {
        udp_payload: 1232,
        version: 0,
        dnssec_ok: true,
        wants_nsid: false,
        is_padded: false,
    });
    zone.count(&with_do, &Reply::default(), 60, Duration::from_micros(7));
    for vec in [
        &metrics.https_responses_total,
        &metrics.https3_responses_total,
        &metrics.quic_responses_total,
        &forward.healthcheck_failures_total,
    ] {
        vec.with_label_values(&["a", "b"]).inc();
    }
    for vec in [
        &forward.conn_cache_hits_total,
        &forward.conn_cache_misses_total,
        &cache.requests_total,
        &cache.misses_total,
        &cache.prefetch_total,
        &cache.drops_total,
        &cache.served_stale_total,
    ] {
        vec.with(&["a", "b", "c"]).inc();
    }
    forward.wrong_replies_total.with(&["a"]).inc();
    forward.max_pps.with_label_values(&["a"]).set(1);
    forward.packets_per_second.with_label_values(&["a"]).set(1);
    forward.packets_denied_total.with_label_values(&["a"]).inc();
    for vec in [&cache.hits_total, &cache.evictions_total] {
        vec.with(&["a", "success", "c", "d"]).inc();
    }
    metrics.grpc.requests_total.with_label_values(&["a"]).inc();
    metrics
        .grpc
        .responses_total
        .with_label_values(&["NOERROR", "a"])
        .inc();
    metrics
        .grpc
        .request_duration_seconds
        .with_label_values(&["a"])
        .observe(0.1);
    let made = &metrics.plugins;
    let place = ["a", "b", "c", "d", "e", "f", "g"];
    for (vec, labels) in [
        (&made.acl_allowed_requests_total, 2),
        (&made.acl_blocked_requests_total, 3),
        (&made.acl_dropped_requests_total, 3),
        (&made.acl_filtered_requests_total, 3),
        (&made.dns64_requests_translated_total, 1),
        (&made.local_localhost_requests_total, 0),
        (&made.template_matches_total, 5),
        (&made.template_rr_failures_total, 7),
        (&made.template_template_failures_total, 7),
    ] {
        vec.with(&place[..labels]).inc();
    }
    let names = std::iter::once("errors");
    metrics.enable_plugins(["dns://:53", ".", ""], names);
    cache
        .entries
        .with_label_values(&["a", "success", "c", "d"])
        .set(1);
    let _ = metrics.autopath_success_total.with(&["s"]);
    metrics
        .hosts
        .entries
        .with_label_values(&["/etc/hosts"])
        .set(1);
    metrics
        .reload
        .version_info
        .with_label_values(&["sha512", "x"])
        .set(1);
    forward
        .request_duration_seconds
        .with_label_values(&["forward", "10.0.0.1:53", "NOERROR"])
        .observe(0.1);
    kubernetes
        .dns_programming_duration_seconds
        .add(&["cluster_ip"], [1], 0.1);
    for vec in [
        &kubernetes.rest_client_request_duration_seconds,
        &kubernetes.rest_client_rate_limiter_duration_seconds,
    ] {
        vec.add(&["GET", "h"], [1], 0.1);
    }
    kubernetes
        .rest_client_requests_total
        .with_label_values(&["200", "GET", "h"])
        .inc();
    metrics.before_scrape(|Metrics { cluster, .. }| {
        cluster.objects.with_label_values(&["services"]).set(1);
        cluster
            .age_seconds
            .with_label_values(&["services"])
            .set(0.5);
        true
    });
    metrics.left_out_total.with_label_values(&["auto"]).inc();
    for vec in [&cluster.audits_total, &cluster.audit_repairs_total] {
        vec.with_label_values(&["services"]).inc();
    }
    cluster
        .skipped_fields_total
        .with_label_values(&["services"])
        .inc();
    cluster
        .skipped_objects_total
        .with_label_values(&["services"])
        .inc();
}

/// Family, type, labels and buckets of a text exposition.
fn describe(text: &str) -> Vec<(String, String, String, String)> {
    let mut families: Vec<(String, String, String, String)> = Vec::new();
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap();
            families.push((name.into(), kind.into(), String::new(), String::new()));
        } else if !line.starts_with('#') {
            let (_, _, labels, buckets) = families.last_mut().unwrap();
            let Some((_, set)) = line.split_once('{') else {
                continue;
            };
            let set = set.rsplit_once('}').unwrap().0;
            let pairs: Vec<_> = set
                .split("\",")
                .filter_map(|pair| pair.split_once("=\""))
                .collect();
            let names: Vec<_> = pairs.iter().map(|pair| pair.0).collect();
            if let Some(at) = names.iter().position(|name| *name == "le") {
                let bound = pairs[at].1.trim_end_matches('"');
                if !buckets.contains("+Inf") {
                    buckets.push_str(if buckets.is_empty() { "" } else { " " });
                    buckets.push_str(bound);
                }
            } else {
                *labels = names.join(" ");
            }
        }
    }
    families
}

#[test]
fn exported_families_match_the_table() {
    let metrics = Metrics::new();
    touch(&metrics);
    let text = metrics.encode();
    let table: Vec<_> = TABLE
        .iter()
        .map(|(name, kind, labels, buckets)| {
            let [name, kind, labels, buckets] = [name, kind, labels, buckets].map(|&s| s.into());
            (name, kind, labels, buckets)
        })
        .collect();
    let found = describe(&text);
    for (found, wanted) in found.iter().zip(&table) {
        assert_eq!(found, wanted);
    }
    assert_eq!(found.len(), table.len());
}

/// Families of CoreDNS without a counterpart here, by plugin. Once implemented, a family moves from
/// this list to the table.
const NOT_IMPLEMENTED: &[&str] = &[
    // dnssec
    "coredns_dnssec_cache_entries",
    "coredns_dnssec_cache_hits_total",
    "coredns_dnssec_cache_misses_total",
    // nomad
    "coredns_nomad_failed_requests_total",
    "coredns_nomad_success_requests_total",
    // siit: not implemented
    "coredns_siit_requests_translated_total",
    // shed: load is shed by socket buffers here
    "coredns_shed_dropped_total",
];

/// Number of CoreDNS's families ([`crate::COREDNS`]) without those of Go.
const COREDNS: usize = 56;
/// Number of families that CoreDNS had before: [`former`].
const FORMER: usize = 6;

#[test]
fn every_coredns_family_is_exported_or_listed_as_missing() {
    let metrics = Metrics::new();
    let is_there = |name: &str| {
        let same_name =
            IntCounterVec::new(prometheus::Opts::new(name, "another"), &["other"]).unwrap();
        metrics.registry.register(Box::new(same_name)).is_err()
    };
    let ours = |name: &str| TABLE.iter().any(|row| row.0 == name);
    for name in NOT_IMPLEMENTED {
        assert!(
            !is_there(name),
            "{name} is there: it belongs into the table"
        );
        assert!(!ours(name), "{name}");
    }
    let theirs = TABLE.iter().filter(|row| row.0.starts_with("coredns_"));
    let count = theirs.count() - FORMER;
    assert_eq!(count + NOT_IMPLEMENTED.len(), COREDNS);
    for (name, ..) in TABLE {
        assert!(is_there(name) || name.starts_with("process_"), "{name}");
    }
}

#[test]
fn queries_are_counted_by_their_labels() {
    let metrics = Metrics::new();
    let zone = metrics.dns.zone("dns://:53", "cluster.local.", "v\"1");
    let mut reply = Reply::failure(Rcode::NXDOMAIN, Why::NoSuchService);
    reply.answered_by = "kubernetes";
    let mut question = query("a.b.", Type(257));
    question.receive(|it| {
        it.transport = Transport::Tls;
        it.client = SocketAddr::from(([0; 16], 9));
    });
    zone.count(&question, &reply, 100, Duration::from_micros(250));
    zone.count(&question, &reply, 101, Duration::from_nanos(250_001));
    zone.count(
        &query("a.b.", Type::AAAA),
        &Reply::default(),
        70_000,
        Duration::from_secs(9),
    );
    let text = metrics.encode();
    let at = r#"server="dns://:53","#;
    let ends = r#"view="v\"1",zone="cluster.local.""#;
    for line in [
        format!(
            r#"coredns_dns_requests_total{{family="2",proto="tcp",{at}type="other",{ends}}} 2"#
        ),
        format!(r#"coredns_dns_requests_total{{family="1",proto="udp",{at}type="AAAA",{ends}}} 1"#),
        format!(
            r#"coredns_dns_responses_total{{plugin="kubernetes",rcode="NXDOMAIN",{at}{ends}}} 2"#
        ),
        format!(r#"coredns_dns_responses_total{{plugin="",rcode="NOERROR",{at}{ends}}} 1"#),
        format!(r#"coredns_dns_request_duration_seconds_bucket{{{at}{ends},le="0.00025"}} 1"#),
        format!(r#"coredns_dns_request_duration_seconds_bucket{{{at}{ends},le="0.0005"}} 2"#),
        format!(r#"coredns_dns_request_duration_seconds_bucket{{{at}{ends},le="8.192"}} 2"#),
        format!(r#"coredns_dns_request_duration_seconds_bucket{{{at}{ends},le="+Inf"}} 3"#),
        format!(r#"coredns_dns_response_size_bytes_bucket{{proto="tcp",{at}{ends},le="100"}} 1"#),
        format!(r#"coredns_dns_response_size_bytes_bucket{{proto="tcp",{at}{ends},le="200"}} 2"#),
        format!(r#"coredns_dns_response_size_bytes_sum{{proto="udp",{at}{ends}}} 70000"#),
        format!(r#"coredns_dns_response_size_bytes_bucket{{proto="udp",{at}{ends},le="64000"}} 0"#),
    ] {
        assert!(text.contains(&line), "{line}\n{text}");
    }
    assert!(!text.contains("do_requests_total"));
}

#[test]
fn counts_are_exact_across_threads_and_reloads() {
    let metrics = Metrics::new();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let metrics = Arc::clone(&metrics);
            std::thread::spawn(move || {
                let zone = metrics.dns.zone("dns://:53", ".", "");
                let question = query("a.", Type::A);
                for _ in 0..5000 {
                    zone.count(&question, &Reply::default(), 50, Duration::from_micros(3));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let text = metrics.encode();
    for series in [
        r#"coredns_dns_responses_total{plugin="",rcode="NOERROR",server="dns://:53",view="",zone="."} 40000"#,
        r#"coredns_dns_response_size_bytes_sum{proto="udp",server="dns://:53",view="",zone="."} 2000000"#,
        r#"coredns_dns_request_duration_seconds_sum{server="dns://:53",view="",zone="."} 0.12"#,
    ] {
        assert!(text.contains(series), "{series}\n{text}");
    }
}

#[test]
fn refresh_callbacks_run_until_they_return_false() {
    let metrics = Metrics::new();
    let alive = Arc::new(());
    let weak = Arc::downgrade(&alive);
    metrics.before_scrape(move |metrics| {
        metrics.reload.config_hash.inc();
        weak.upgrade().is_some()
    });
    assert!(metrics.encode().contains("lodestone_config_hash 1\n"));
    assert!(metrics.encode().contains("lodestone_config_hash 2\n"));
    drop(alive);
    metrics.encode();
    metrics.encode();
    assert_eq!(metrics.reload.config_hash.get().to_string(), "3");
}

#[test]
fn obsolete_callbacks_are_removed_without_scrapes() {
    let metrics = Metrics::new();
    let alive = Arc::new(());
    for number in 0..10_000 {
        let weak = if number == 0 {
            Arc::downgrade(&alive)
        } else {
            std::sync::Weak::new()
        };
        metrics.before_scrape(move |_| weak.upgrade().is_some());
    }
    assert!(metrics.before_scrape.lock().len() <= 64);
    metrics.encode();
    assert_eq!(metrics.before_scrape.lock().len(), 1);
}

#[test]
fn unassigned_codes_share_one_series() {
    let metrics = Metrics::new();
    let zone = metrics.dns.zone("dns://:53", ".", "");
    let meter = crate::upstream::UpstreamMetrics::new(&metrics, "192.0.2.1:53");
    for code in 0..4096 {
        let rcode = crate::wire::Rcode(code);
        let reply = Reply::failure(rcode, crate::reply::Why::Upstream);
        zone.count(&query("a.", Type::A), &reply, 50, Duration::ZERO);
        meter.answered(rcode, Duration::ZERO);
    }
    let text = metrics.encode();
    for family in [
        "coredns_dns_responses_total{",
        "coredns_proxy_request_duration_seconds_count{",
    ] {
        let series = text.lines().filter(|line| line.starts_with(family));
        assert_eq!(series.count(), 21, "{family}\n{text}");
    }
    let other = text.lines().find(|line| {
        line.starts_with("coredns_dns_responses_total{") && line.contains(r#"rcode="other""#)
    });
    assert!(
        other.is_some_and(|line| line.ends_with(" 4076")),
        "{other:?}"
    );
}

#[test]
fn former_families_of_forward_count_the_same() {
    let metrics = Metrics::new();
    let meter = crate::upstream::UpstreamMetrics::new(&metrics, "192.0.2.1:53");
    for (rcode, times) in [(Rcode::NOERROR, 3), (Rcode::SERVFAIL, 2)] {
        for _ in 0..times {
            meter.answered(rcode, Duration::from_millis(1));
        }
    }
    meter.failed_check();
    let text = metrics.encode();
    for line in [
        r#"coredns_forward_requests_total{to="192.0.2.1:53"} 5"#,
        r#"coredns_forward_responses_total{rcode="SERVFAIL",to="192.0.2.1:53"} 2"#,
        r#"coredns_forward_request_duration_seconds_bucket{rcode="NOERROR",to="192.0.2.1:53",le="0.001"} 3"#,
        r#"coredns_forward_healthcheck_failures_total{to="192.0.2.1:53"} 1"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    // None where nothing is forwarded.
    assert!(!Metrics::new().encode().contains("coredns_forward_requests"));
}
