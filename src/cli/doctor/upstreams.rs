//! The servers that queries are forwarded to: whether they answer over UDP and TCP, and whether one of them
//! leads back here.

use std::{net::SocketAddr, sync::Arc};

use futures_util::future::join_all;
use tokio::{runtime::Handle, time::timeout};

use super::{
    Facts, NO_COREFILE,
    api::ClusterFacts,
    probe::{DEADLINE, Probe, question},
    report::Finding,
};
use crate::{
    error_text,
    plugin::forward,
    upstream::{
        Destination, Failure, ResolverFiles, Settings, Target, TransportPolicy, Upstream,
        UpstreamProtocol, read_nameservers, resolve,
    },
    wire::{Name, Rcode, Type},
};

const UPSTREAM: &str = "upstream";
const LOOP: &str = "loop";

/// An upstream of a `forward`.
#[derive(Clone, Debug)]
pub struct Forwarded {
    target: Target,
    /// Its scheme, address and port, and the zone that is forwarded there.
    subject: String,
    from: Name,
    settings: Settings,
}

/// The upstreams of all `forward` lines, and the findings of those that cannot be listed.
pub async fn list(facts: &Facts) -> (Vec<Forwarded>, Vec<Finding>) {
    let (mut upstreams, mut findings) = (Vec::new(), Vec::new());
    let Some(config) = &facts.config else {
        let why = NO_COREFILE;
        return (upstreams, vec![Finding::skipped(UPSTREAM, "", why)]);
    };
    for plugin in config.plugins_of::<forward::Config>() {
        let settings = match plugin.upstream_settings() {
            Ok(settings) => settings,
            Err(error) => {
                let error = error_text::chain(&anyhow::Error::from(error));
                let subject = format!("(forward {})", plugin.from);
                let remedy = "Correct the files of its tls option";
                findings.push(Finding::fail(UPSTREAM, subject, error, remedy));
                continue;
            }
        };
        let targets = join_all(plugin.to.iter().map(|to| targets(plugin, to))).await;
        for targets in targets {
            match targets {
                Ok(targets) => upstreams.extend(targets.into_iter().map(|target| Forwarded {
                    subject: subject(&target, &plugin.from),
                    target,
                    from: plugin.from,
                    settings: settings.clone(),
                })),
                Err(finding) => findings.push(finding),
            }
        }
    }
    // One server of several lines for the same zone is queried once.
    let mut subjects = std::collections::HashSet::new();
    upstreams.retain(|upstream| subjects.insert(upstream.subject.clone()));
    #[cfg(feature = "grpc")]
    let has_grpc = config.plugins_of::<crate::plugin::grpc::Config>().count() > 0;
    #[cfg(not(feature = "grpc"))]
    let has_grpc = false;
    if upstreams.is_empty() && findings.is_empty() && !has_grpc {
        let why = "no forward line in the Corefile";
        findings.push(Finding::skipped(UPSTREAM, "", why));
    }
    (upstreams, findings)
}

fn subject(target: &Target, from: &Name) -> String {
    let scheme = match target.protocol {
        UpstreamProtocol::Dns => "",
        UpstreamProtocol::Tls => "tls://",
        UpstreamProtocol::Https => "https://",
        UpstreamProtocol::Quic => "quic://",
    };
    format!("{scheme}{} (forward {from})", target.address)
}

/// The servers of a destination.
async fn targets(plugin: &forward::Config, to: &Destination) -> Result<Vec<Target>, Finding> {
    match to {
        Destination::Server(target) => Ok(vec![target.clone()]),
        Destination::File(path) => {
            let subject = format!("{} (forward {})", path.display(), plugin.from);
            let servers = read_nameservers(path).map_err(|error| {
                let remedy = "Name a readable file, or the servers themselves";
                Finding::fail(UPSTREAM, &subject, error_text::io(&error), remedy)
            })?;
            if servers.is_empty() {
                let remedy = "Name the servers in the forward line, or in the file";
                let detail = "the file lists no nameserver";
                return Err(Finding::fail(UPSTREAM, subject, detail, remedy));
            }
            let servers = servers.iter();
            Ok(servers
                .map(|server| Target::at(server.with_port(UpstreamProtocol::Dns.default_port())))
                .collect())
        }
        Destination::Host(host) => {
            let files = ResolverFiles::default();
            let runtime = Handle::current();
            let found = resolve(host, &plugin.resolver, &files, &runtime);
            let why = match timeout(DEADLINE, found).await {
                Ok(Ok(addresses)) => {
                    return Ok(addresses.iter().map(|it| host.at(*it)).collect());
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no reply in {} s", DEADLINE.as_secs()),
            };
            let subject = format!("{} (forward {})", host.host, plugin.from);
            let detail = format!("the name of this upstream cannot be resolved: {why}");
            let remedy = "Write its address, or name servers in the resolver option";
            Err(Finding::fail(UPSTREAM, subject, detail, remedy))
        }
    }
}

/// Queries every upstream, over UDP and TCP if it is one of plain DNS.
pub async fn check(facts: &Facts, upstreams: &[Forwarded]) -> Vec<Finding> {
    let findings = join_all(upstreams.iter().map(|it| it.check(facts))).await;
    #[cfg(feature = "grpc")]
    let findings = [findings, super::grpc::check(facts).await].concat();
    findings
}

impl Forwarded {
    fn upstream(&self, facts: &Facts) -> Arc<Upstream> {
        let target = self.target.clone();
        let runtime = Handle::current();
        Arc::new(Upstream::new(
            target,
            &self.settings,
            runtime,
            &facts.metrics,
        ))
    }

    async fn probe(&self, facts: &Facts, name: Name, rtype: Type, by: TransportPolicy) -> Probe {
        let upstream = self.upstream(facts);
        let question = question(name, rtype);
        Probe::of(upstream.probe_over(&question, by)).await
    }

    async fn check(&self, facts: &Facts) -> Finding {
        // The name servers of the root, or the start of the zone that is forwarded.
        let rtype = if self.from == Name::ROOT {
            Type::NS
        } else {
            Type::SOA
        };
        if self.target.protocol != UpstreamProtocol::Dns {
            let probe = self.probe(facts, self.from, rtype, TransportPolicy::Tcp);
            return verdict(&self.subject, &probe.await, None);
        }
        let by = |policy| self.probe(facts, self.from, rtype, policy);
        let (udp, tcp) = tokio::join!(by(TransportPolicy::Udp), by(TransportPolicy::Tcp));
        if self.settings.force_tcp {
            return verdict(&self.subject, &tcp, None);
        }
        verdict(&self.subject, &udp, Some(&tcp))
    }
}

/// The finding of an upstream, from its replies over its usual transport and over TCP.
pub(super) fn verdict(subject: &str, first: &Probe, tcp: Option<&Probe>) -> Finding {
    let detail = match tcp {
        Some(tcp) => format!("UDP {first}, TCP {tcp}"),
        None => first.to_string(),
    };
    let code = first.error_code().or_else(|| tcp?.error_code());
    match (first.is_answered(), tcp.is_none_or(Probe::is_answered)) {
        (true, true) => match code {
            None => Finding::ok(UPSTREAM, subject, detail),
            Some(code) => {
                let remedy = match code {
                    Rcode::SERVFAIL => "It is reached and cannot resolve: check its own upstreams",
                    Rcode::REFUSED => "Permit this address on it (allow-query, allow-recursion)",
                    _ => "Check whether it is the DNS server that is meant",
                };
                Finding::warn(UPSTREAM, subject, detail, remedy)
            }
        },
        (true, false) => {
            let remedy =
                "Permit TCP to it (firewall, NetworkPolicy): long replies are fetched over TCP";
            Finding::warn(UPSTREAM, subject, detail, remedy)
        }
        (false, true) if tcp.is_some() => {
            let remedy = "Permit UDP to it (firewall, NetworkPolicy), or write force_tcp";
            Finding::fail(UPSTREAM, subject, detail, remedy)
        }
        _ => Finding::fail(UPSTREAM, subject, detail, remedy_without_reply(first)),
    }
}

fn remedy_without_reply(probe: &Probe) -> &'static str {
    match &probe.result {
        Err(Failure::Refused) => "Nothing listens there: correct the address, or start it",
        Err(Failure::Silent) => {
            "Check its address, and that no firewall or NetworkPolicy drops UDP and TCP to it"
        }
        Err(Failure::Tls(_)) => "Correct tls_servername or the files of the tls option",
        Err(Failure::Local(_)) => "Correct this machine's network or limits",
        _ => "Check its address and the route to it",
    }
}

/// Whether an upstream is this server, a stub that leads to it, or the cluster's own DNS.
pub async fn check_loops(
    facts: &Facts,
    upstreams: &[Forwarded],
    cluster: &ClusterFacts,
) -> Vec<Finding> {
    if upstreams.is_empty() {
        return vec![Finding::skipped(LOOP, "", "no upstreams")];
    }
    let checks = upstreams.iter().map(|it| it.leads_back(facts, cluster));
    let mut findings: Vec<Finding> = join_all(checks).await.into_iter().flatten().collect();
    if findings.is_empty() {
        findings.push(Finding::ok(
            LOOP,
            "",
            "no upstream leads back to this server",
        ));
    }
    findings
}

impl Forwarded {
    async fn leads_back(&self, facts: &Facts, cluster: &ClusterFacts) -> Option<Finding> {
        let address = self.target.address;
        let forward = "Forward to the servers of the network instead";
        let fail =
            |detail: String, remedy: &str| Some(Finding::fail(LOOP, &self.subject, detail, remedy));
        if facts.is_own(address) {
            return fail("it is an address of this server".to_owned(), forward);
        }
        let is_it = |service: &&crate::cluster::NamedService| {
            service.addresses.contains(&address.ip()) && address.port() == 53
        };
        if let Some(service) = cluster.dns.iter().find(is_it) {
            let detail = format!(
                "it is the Service {}, the DNS of this cluster",
                service.name
            );
            return fail(detail, forward);
        }
        // Queries for names of this cluster that an upstream answers come from a server like this one.
        let zone = facts.cluster_zone().filter(|_| self.from == Name::ROOT)?;
        let name = Name::parse("kubernetes.default.svc").ok()?;
        let name = name.join(zone.as_ref()).ok()?;
        let probe = self.probe(facts, name, Type::A, TransportPolicy::Udp).await;
        let found = probe.result.map_or_else(|_| Vec::new(), |it| it.addresses);
        let is_of_cluster = if cluster.api.is_empty() {
            !found.is_empty() && !self.answers_everything(facts, zone).await
        } else {
            found.iter().any(|address| cluster.api.contains(address))
        };
        if is_of_cluster {
            let detail = format!("it answers {name}, so it leads to the DNS of a cluster");
            return fail(detail, forward);
        }
        if is_stub(address) {
            let detail = "a stub resolver of this machine, which may forward to this server";
            let remedy = "Forward to the servers that the stub uses (/run/systemd/resolve/resolv.conf); for \
                          pods, set the kubelet's resolvConf to that file";
            return Some(Finding::warn(LOOP, &self.subject, detail, remedy));
        }
        None
    }

    /// Whether it has addresses for names that cannot exist, as a captive portal or a wildcard does.
    async fn answers_everything(&self, facts: &Facts, zone: &Name) -> bool {
        let label = format!("lodestone-{:016x}", rand::random::<u64>());
        let Some(Ok(name)) = Name::parse(&label).ok().map(|it| it.join(zone.as_ref())) else {
            return false;
        };
        let probe = self.probe(facts, name, Type::A, TransportPolicy::Udp).await;
        probe
            .result
            .is_ok_and(|answer| !answer.addresses.is_empty())
    }
}

/// Whether an address is that of a stub resolver, such as systemd-resolved's 127.0.0.53. A server on another
/// port of this machine was configured on purpose.
fn is_stub(address: SocketAddr) -> bool {
    address.ip().is_loopback() && address.port() == 53
}
