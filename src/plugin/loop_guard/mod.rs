//! `loop`: detects forwarding loops, and leaves out the upstreams that cause them.
//!
//! The usual cause is a node's resolv.conf with a stub resolver on the node itself, which in turn forwards to the
//! cluster's DNS. An upstream at one of this server's own addresses is a loop at once (`addresses`). Every other one
//! is probed (`watch`), when it first appears and regularly: with an HINFO query for a random name. If that query
//! reaches this server, the upstream loops. It is then left out, with a log line that has the remedy, and probed until
//! the probes are answered elsewhere. If no upstream is left, forwarded queries get SERVFAIL with the reason. No
//! packet ends the process (CVE-2026-26018). Queries that loop before the probe returns are coalesced with themselves
//! in [`crate::upstream::InFlight`], and so do not multiply.
//!
//! Queries of clients are not marked. An EDNS option would be the mark, and the resolvers that cause loops do not pass
//! it on: OPT is hop by hop (RFC 6891 section 6.1.1). Upstreams that reject unknown options would fail, and a mark by a
//! key of the process would let their operators tell the processes behind one address apart.

mod addresses;
mod watch;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use self::{
    addresses::{AddressEvidence, OwnAddresses},
    watch::Watch,
};
use super::{
    Build, BuildError, Context, Offer, OnQuery, ParseErrors, Parsing, Plugin, Setup, Step,
};
use crate::{
    corefile::Directive,
    hooks,
    query::Query,
    reply::{Reply, Why},
    upstream::{LoopState, Member},
    wire::{Name, Rcode, Type},
    zone::ClusterView,
};

/// What to do about a loop.
const REMEDY: &str = "forward to servers that do not forward to this one, such as those in \
                      /run/systemd/resolve/resolv.conf of the node (for a pod: dnsPolicy: Default, and \
                      resolvConf of the kubelet)";

/// The directive, which has no options.
#[derive(Clone, Copy, Debug)]
pub struct Config;

/// Parses the directive.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let checked = uses[0].bare().map(|()| Config);
    checked.map_err(|error| vec![error.in_plugin("loop")])
}

impl Setup for Config {
    fn offers(&self) -> &'static [Offer] {
        &[Offer::LoopGuard]
    }

    fn needs(&self) -> &'static [Offer] {
        &[Offer::Cluster]
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        let zone = build.zones.first().copied().unwrap_or(Name::ROOT);
        let cluster = build.offers.cluster.clone();
        let guard = Arc::new(LoopGuard::new(zone, build.addresses, cluster));
        build.offers.loop_guard = Some(Arc::clone(&guard));
        Ok(guard.into())
    }
}

/// The plugin. Each `forward` of its block passes its upstreams to [`check`](Self::check).
pub struct LoopGuard {
    zone: Name,
    addresses: OwnAddresses,
    probes: Mutex<Vec<Probe>>,
    /// Number of active probes, so that queries take no lock without any.
    active: AtomicUsize,
}

/// A probe query. If it reaches this server, the upstream loops.
#[derive(Clone, Debug)]
struct Probe {
    name: Name,
    upstream: Arc<str>,
    loop_state: Weak<LoopState>,
}

hooks!(LoopGuard, "loop" => on_query);

impl OnQuery for LoopGuard {
    fn on_query(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        if query.question.rtype != Type::HINFO || self.active.load(Ordering::Relaxed) == 0 {
            return Step::Pass;
        }
        let Some(probe) = self.find(&query.question.lower) else {
            return Step::Pass;
        };
        if let Some(state) = probe.loop_state.upgrade() {
            state.probe_returned();
            let from = query.client.to_string();
            let why = "leads back to this server";
            self.report_loop(&state, &probe.upstream, why, (&from, query.local.port()));
        }
        reply.fail(Rcode::SERVFAIL, Why::UpstreamLoop);
        reply.cause = Some(format!("upstream {} leads back to this server", probe.upstream).into());
        Step::Answer
    }
}

impl LoopGuard {
    /// A guard for the upstreams of a block whose first zone is `zone`, listening on `addresses`, which serves the
    /// names of `cluster`.
    pub fn new(zone: Name, addresses: &[SocketAddr], cluster: Option<Arc<ClusterView>>) -> Self {
        Self {
            zone,
            addresses: OwnAddresses::new(addresses, cluster),
            probes: Mutex::default(),
            active: AtomicUsize::new(0),
        }
    }

    /// Leaves out those of `members` that are known to loop by their address, and watches all. Names under `from`
    /// are forwarded to them.
    pub fn check(self: &Arc<Self>, from: &Name, members: &[Member], runtime: &Handle) {
        for member in members {
            if !member.loop_state.watch() {
                continue;
            }
            let watch = Watch::new(self, self.probed_zone(from), member);
            watch.check_address(true);
            runtime.spawn(watch.run());
        }
    }

    /// The zone of the probes' names: one that is forwarded and belongs to this block.
    fn probed_zone(&self, from: &Name) -> Name {
        if from.as_ref().is_under(self.zone.as_ref()) {
            *from
        } else {
            self.zone
        }
    }

    fn find(&self, name: &Name) -> Option<Probe> {
        let probes = self.probes.lock();
        probes.iter().find(|probe| probe.name == *name).cloned()
    }

    /// Leaves out an upstream that loops. The line begins as CoreDNS's, for alerts that match it.
    fn report_loop(&self, state: &LoopState, upstream: &str, why: &str, (from, port): (&str, u16)) {
        if !state.leave_out(why) {
            return;
        }
        tracing::error!(
            target: "plugin/loop",
            "Loop ({from} -> :{port}) detected for zone \"{}\", \
             see https://coredns.io/plugins/loop#troubleshooting. \
             Upstream {upstream} {why} and is not used while this is so: {REMEDY}",
            self.zone
        );
    }

    /// Leaves out an upstream that may loop, until a probe decides.
    fn hold(state: &LoopState, upstream: &str, why: &str) {
        if !state.is_left_out() && state.leave_out(why) {
            tracing::warn!(
                target: "plugin/loop",
                "Upstream {upstream} {why}: it is not used until a probe shows that it does not lead back to this \
                 server; {REMEDY}"
            );
        }
    }

    fn release(state: &LoopState, upstream: &str) {
        if state.use_again() {
            tracing::info!(
                target: "plugin/loop",
                "No probe of upstream {upstream} comes back to this server: it is used"
            );
        }
    }

    fn add(self: &Arc<Self>, probe: Probe) -> ActiveProbe {
        let mut probes = self.probes.lock();
        let name = probe.name;
        probes.push(probe);
        self.active.store(probes.len(), Ordering::Relaxed);
        ActiveProbe {
            guard: Arc::downgrade(self),
            name,
        }
    }

    fn remove(&self, name: &Name) {
        let mut probes = self.probes.lock();
        probes.retain(|one| one.name != *name);
        self.active.store(probes.len(), Ordering::Relaxed);
    }
}

/// A probe that is recognized if it comes back; dropping it removes it from the guard.
struct ActiveProbe {
    guard: Weak<LoopGuard>,
    name: Name,
}

impl Drop for ActiveProbe {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.upgrade() {
            guard.remove(&self.name);
        }
    }
}

/// A label of 128 random bits under the zone.
fn random_name(zone: &Name) -> Name {
    let label = format!("{:032x}", rand::random::<u128>());
    let name = Name::from_labels([label.as_bytes()], zone.as_ref());
    // If the label does not fit under the zone (RFC 1035 section 2.3.4), probe under the root.
    let name = name.or_else(|_| Name::from_labels([label.as_bytes()], Name::ROOT.as_ref()));
    name.expect("32 bytes are a label").to_lower()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_names_are_unique_and_under_the_zone() {
        let zone = Name::parse("example.org").unwrap();
        let (one, other) = (random_name(&zone), random_name(&zone));
        assert!(one.as_ref().is_under(zone.as_ref()) && one != other);
    }

    #[test]
    fn a_zone_of_maximum_length_is_probed_under_the_root() {
        let long = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        let name = random_name(&Name::parse(&long).unwrap());
        assert_eq!(name.as_ref().label_count(), 1);
    }

    #[test]
    fn names_that_are_forwarded_and_served_are_probed() {
        let [root, org, net] =
            [".", "example.org", "example.net"].map(|it| Name::parse(it).unwrap());
        let guard = LoopGuard::new(org, &[], None);
        assert_eq!(guard.probed_zone(&root), org);
        assert_eq!(guard.probed_zone(&net), org);
        assert_eq!(LoopGuard::new(root, &[], None).probed_zone(&org), org);
    }
}
