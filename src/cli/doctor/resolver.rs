//! The resolver of this machine or pod: the DNS address of the cluster, and the search list.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use futures_util::future::join_all;

use super::{
    Facts,
    api::ClusterFacts,
    probe::{Probe, question},
    report::Finding,
};
use crate::{
    error_text,
    interfaces::HostAddress,
    upstream::{
        TransportPolicy, read_invalid_nameservers, read_nameservers, read_options, read_search,
    },
    wire::{Name, NameRef, Rcode, Type},
};

const CLUSTER_DNS: &str = "cluster-dns";
const RESOLV_CONF: &str = "resolv.conf";

/// Name servers that glibc and musl use of a file.
const MAX_SERVERS: usize = 3;
/// Options that musl knows.
const MUSL: [&str; 3] = ["ndots:", "timeout:", "attempts:"];
/// `ndots` that the kubelet writes for pods.
const NDOTS: u32 = 5;

/// The contents of a resolv.conf.
#[derive(Clone, Debug)]
pub struct ResolverFile {
    name: String,
    error: Option<String>,
    servers: Vec<HostAddress>,
    /// Words of `nameserver` lines that are no addresses.
    no_servers: Vec<String>,
    search: Vec<Name>,
    options: Vec<String>,
}

impl ResolverFile {
    /// Reads the file; an error is kept for its finding.
    pub fn read(path: &Path) -> Self {
        let servers = read_nameservers(path);
        Self {
            name: path.display().to_string(),
            error: servers.as_ref().err().map(error_text::io),
            servers: servers.unwrap_or_default(),
            no_servers: read_invalid_nameservers(path).unwrap_or_default(),
            search: read_search(path).unwrap_or_default(),
            options: read_options(path).unwrap_or_default(),
        }
    }

    /// Whether the search list has a domain of the cluster, as the kubelet writes it for pods (dnsPolicy
    /// ClusterFirst).
    fn searches(&self, zone: &Name) -> bool {
        let zone = zone.to_lower();
        let mut search = self.search.iter();
        search.any(|domain| domain.as_ref().is_under(zone.as_ref()))
    }

    /// The zone of the cluster as far as the search list shows it: what follows `svc`, else the usual one.
    fn cluster_zone(&self) -> Option<Name> {
        let after_svc = self.search.iter().find_map(|domain| {
            let mut rest = Some(domain.as_ref());
            while let Some(name) = rest {
                rest = name.parent();
                let is_svc = name
                    .labels()
                    .next()
                    .is_some_and(|it| it.eq_ignore_ascii_case(b"svc"));
                if is_svc {
                    return rest.map(NameRef::to_name);
                }
            }
            None
        });
        after_svc.or_else(|| Name::parse("cluster.local").ok())
    }

    fn ndots(&self) -> u32 {
        let values = self.ndots_values().filter_map(|value| value.parse().ok());
        values.last().unwrap_or(1)
    }

    fn ndots_values(&self) -> impl Iterator<Item = &str> {
        let options = self.options.iter();
        options.filter_map(|word| word.strip_prefix("ndots:"))
    }

    /// The namespace of the first domain `NAMESPACE.svc.ZONE`.
    fn namespace(&self, services: &Name) -> Option<String> {
        let domain = self.search.iter().find(|it| is_namespace(it, services))?;
        let text = domain.to_string();
        text.split('.').next().map(str::to_owned)
    }
}

/// Whether a domain is `NAMESPACE.svc.ZONE`.
fn is_namespace(domain: &Name, services: &Name) -> bool {
    let parent = domain.as_ref().parent();
    parent.is_some_and(|parent| parent.eq_ignore_case(services.as_ref()))
}

/// `svc.ZONE`
fn services(zone: &Name) -> Option<Name> {
    let name = Name::parse("svc").ok()?;
    Some(name.join(zone.as_ref()).ok()?.to_lower())
}

/// Queries the DNS addresses of the cluster for its API server.
pub async fn check_cluster_dns(facts: &Facts, cluster: &ClusterFacts) -> Vec<Finding> {
    let assumed = facts
        .is_client
        .then(|| facts.resolver.cluster_zone())
        .flatten();
    let Some(zone) = facts.cluster_zone().or(assumed.as_ref()) else {
        return vec![Finding::skipped(CLUSTER_DNS, "", facts.why_no_zone())];
    };
    let mut servers: Vec<(SocketAddr, String)> = Vec::new();
    for service in &cluster.dns {
        let addresses = service.addresses.iter();
        servers.extend(addresses.map(|ip| (SocketAddr::new(*ip, 53), service.name.clone())));
    }
    let file = &facts.resolver;
    if file.searches(zone) || facts.is_client {
        for server in &file.servers {
            let address = server.with_port(53);
            if !servers.iter().any(|(known, _)| *known == address) {
                servers.push((address, file.name.clone()));
            }
        }
    }
    if servers.is_empty() {
        let why = format!(
            "no Service with the label k8s-app=kube-dns is known, and {} is not of a pod that uses it",
            file.name
        );
        return vec![Finding::skipped(CLUSTER_DNS, "", why)];
    }
    let api = api_addresses(facts, cluster);
    let checks = servers
        .iter()
        .map(|(address, from)| cluster_dns(facts, zone, *address, from, &api));
    join_all(checks).await
}

/// The addresses of the API server: of its Service, or those that the kubelet gives to pods.
fn api_addresses(facts: &Facts, cluster: &ClusterFacts) -> Vec<IpAddr> {
    let mut addresses = cluster.api.clone();
    if addresses.is_empty() {
        addresses.extend(
            facts
                .kubernetes_host
                .as_ref()
                .and_then(|it| it.parse::<IpAddr>().ok()),
        );
    }
    addresses
}

async fn cluster_dns(
    facts: &Facts,
    zone: &Name,
    address: SocketAddr,
    from: &str,
    api: &[IpAddr],
) -> Finding {
    let subject = format!("{} ({from})", address.ip());
    let name = Name::parse("kubernetes.default.svc").ok();
    let Some(name) = name.and_then(|name| name.join(zone.as_ref()).ok()) else {
        return Finding::skipped(CLUSTER_DNS, subject, "the zone's name is too long");
    };
    let rtype = match api.first() {
        Some(IpAddr::V6(_)) => Type::AAAA,
        _ => Type::A,
    };
    let asked = question(name, rtype);
    let probe = Probe::plain(address, &asked, TransportPolicy::Udp, &facts.metrics);
    let probe = probe.await;
    let Ok(answer) = &probe.result else {
        let remedy = "Check the Service (kubectl -n kube-system get endpointslices -l k8s-app=kube-dns), kube-proxy, \
                      and NetworkPolicies for port 53 of UDP and TCP";
        return Finding::fail(CLUSTER_DNS, subject, probe.to_string(), remedy);
    };
    let listed = answer.addresses.iter().map(IpAddr::to_string);
    let listed = listed.collect::<Vec<_>>().join(", ");
    if answer.rcode != Rcode::NOERROR || answer.addresses.is_empty() {
        let detail = match answer.rcode {
            Rcode::NOERROR => format!("{name} has no address there"),
            code => format!("{name}: {code}"),
        };
        let remedy = format!(
            "Check whether it is the DNS of this cluster, and whether it serves {zone} (is it synced? see its log)"
        );
        return Finding::fail(CLUSTER_DNS, subject, detail, remedy);
    }
    let detail = format!("{name} is {listed}, {probe}");
    if api.is_empty() || answer.addresses.iter().any(|it| api.contains(it)) {
        return Finding::ok(CLUSTER_DNS, subject, detail);
    }
    let expected = api.iter().map(IpAddr::to_string);
    let expected = expected.collect::<Vec<_>>().join(", ");
    let remedy = format!(
        "The API server's Service has {expected}: check whether this DNS is of another cluster, or has old objects"
    );
    Finding::warn(CLUSTER_DNS, subject, detail, remedy)
}

/// Looks for mistakes in the resolv.conf.
pub fn check_file(facts: &Facts) -> Vec<Finding> {
    let file = &facts.resolver;
    let finding =
        |detail: String, remedy: String| Finding::warn(RESOLV_CONF, &file.name, detail, remedy);
    if let Some(error) = &file.error {
        let remedy = "Write it, or name another file: lodestone doctor --resolv-conf FILE. Without it, programs \
                      resolve with a server on this machine, if there is one";
        return vec![Finding::fail(RESOLV_CONF, &file.name, error, remedy)];
    }
    let mut findings = Vec::new();
    for word in &file.no_servers {
        let remedy = "Resolvers skip this line: write an IP address".to_owned();
        findings.push(finding(
            format!("nameserver {word:?} is no address"),
            remedy,
        ));
    }
    for value in file.ndots_values().filter(|it| it.parse::<u32>().is_err()) {
        let detail = format!("ndots is {value:?}, which is no number");
        let remedy = "glibc takes it for 0, musl for 1: write ndots:5 for a pod, or remove it";
        findings.push(finding(detail, remedy.to_owned()));
    }
    match file.servers.len() {
        0 => {
            let remedy =
                "Add a line 'nameserver ADDRESS'; without one, a server on this machine is used";
            findings.push(finding(
                "it lists no nameserver".to_owned(),
                remedy.to_owned(),
            ));
        }
        count if count > MAX_SERVERS => {
            let detail = format!("it lists {count} nameservers");
            let remedy = format!("glibc and musl use the first {MAX_SERVERS}: remove the others");
            findings.push(finding(detail, remedy));
        }
        _ => {}
    }
    let zone = facts.cluster_zone().copied();
    let zone = zone.or_else(|| file.cluster_zone());
    let is_pod = zone.as_ref().is_some_and(|zone| file.searches(zone));
    if let Some(zone) = zone.filter(|_| is_pod || facts.is_client) {
        findings.extend(of_pod(file, &zone, facts.namespace.as_deref()));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(RESOLV_CONF, &file.name, summary(facts, is_pod)));
    }
    findings
}

/// What is wrong with the file of a pod that uses the cluster's DNS.
fn of_pod(file: &ResolverFile, zone: &Name, own: Option<&str>) -> Vec<Finding> {
    let finding =
        |detail: String, remedy: String| Finding::warn(RESOLV_CONF, &file.name, detail, remedy);
    let mut findings = of_search_list(file, zone, own);
    let families = file.servers.iter().map(|server| server.ip.is_ipv4());
    let families: Vec<bool> = families.collect();
    // A dual-stack cluster gives its DNS an address of either family.
    let is_usual = matches!(families[..], [] | [_] | [true, false] | [false, true]);
    if !is_usual && families.len() <= MAX_SERVERS {
        let detail = format!("it lists {} nameservers", families.len());
        let remedy = "All of them must be the cluster's DNS: musl asks all at once and takes the first reply, glibc \
                      the next after a timeout. List the address of its Service alone";
        findings.push(finding(detail, remedy.to_owned()));
    }
    let is_valid = file.ndots_values().all(|it| it.parse::<u32>().is_ok());
    let ndots = file.ndots();
    if ndots < 2 && is_valid {
        let detail = format!("ndots is {ndots}");
        let remedy = format!(
            "web.NAMESPACE is queried as it is before it is searched for: use whole names, or add to the \
             pod:\ndnsConfig:\n  options:\n  - {{name: ndots, value: \"{NDOTS}\"}}"
        );
        findings.push(finding(detail, remedy));
    } else if ndots > NDOTS {
        let detail = format!("ndots is {ndots}");
        let remedy = format!(
            "Names outside of the cluster cost a query per search domain: lower it to {NDOTS} or less"
        );
        findings.push(finding(detail, remedy));
    }
    findings
}

/// What is wrong with the search list of a pod: the kubelet writes `NAMESPACE.svc.ZONE svc.ZONE ZONE`, and then the
/// domains of the node.
fn of_search_list(file: &ResolverFile, zone: &Name, own: Option<&str>) -> Vec<Finding> {
    let Some(services) = services(zone) else {
        return Vec::new();
    };
    let zone = zone.to_lower();
    let listed = file.namespace(&services);
    let namespace = own.or(listed.as_deref()).unwrap_or("NAMESPACE");
    let right = format!("It should be: search {namespace}.{services} {services} {zone}");
    let finding = |detail: String, why: &str| {
        let remedy = format!("{why}. {right}");
        Finding::warn(RESOLV_CONF, &file.name, detail, remedy)
    };
    let mut findings = Vec::new();
    let first = file.search.first();
    let begins = first.is_some_and(|first| {
        let text = first.to_string();
        let label = text.split('.').next().unwrap_or_default();
        is_namespace(first, &services) && own.is_none_or(|own| label.eq_ignore_ascii_case(own))
    });
    if !begins {
        let detail = format!("the search list does not begin with {namespace}.{services}");
        let why =
            "Names such as web are not found in the pod's own namespace, or after other queries";
        findings.push(finding(detail, why));
    }
    for domain in [services, zone] {
        if !file.search.contains(&domain) {
            let detail = format!("the search list lacks {domain}");
            let why = "Names such as web.NAMESPACE are not found without it (dnsPolicy and dnsConfig.searches of the \
                       pod)";
            findings.push(finding(detail, why));
        }
    }
    findings
}

fn summary(facts: &Facts, is_pod: bool) -> String {
    let file = &facts.resolver;
    let mut text = match (is_pod, &facts.kubernetes_host) {
        (true, _) => format!("a pod's, with ndots:{}", file.ndots()),
        (false, Some(_)) => "of the node (dnsPolicy Default), as a DNS server needs it".to_owned(),
        (false, None) => "no pod's".to_owned(),
    };
    let unknown = file.options.iter().map(String::as_str);
    let unknown = unknown.filter(|word| !MUSL.iter().any(|known| word.starts_with(known)));
    let unknown: Vec<&str> = unknown.collect();
    if !unknown.is_empty() {
        text = format!("{text}; musl ignores the options {}", unknown.join(" "));
    }
    text
}
