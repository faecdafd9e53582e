//! `loop`: detects forwarding loops, and disables the upstreams that cause them.
//!
//! The usual cause is a node's resolv.conf with a stub resolver on the node itself, which in turn
//! forwards to the cluster's DNS. An upstream at one of this server's own addresses is a loop at
//! once. Every other one is probed when it first appears, with an HINFO query for a random name; if
//! that query reaches this server, the upstream loops. The loop is logged once, with a remedy, and
//! the upstream is no longer used; if none is left, forwarded queries get SERVFAIL. No packet ends
//! the process (CVE-2026-26018). Queries that loop before the probe returns are coalesced with
//! themselves in [`crate::upstream::InFlight`], and so do not multiply.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::{
    Build, BuildError, Context, Offer, OnQuery, ParseErrors, Parsing, Plugin, Setup, Step,
};
use crate::{
    corefile::Directive,
    hooks,
    query::{Query, Question},
    reply::{Reply, Why},
    upstream::{Member, Upstream},
    wire::{Class, Name, Rcode, Type},
};

/// Delay before each probe, in seconds: the stub behind the upstream, or this server, may still be
/// starting. 28 seconds in total.
const PROBE_DELAYS: [u64; 7] = [0, 1, 1, 2, 4, 8, 12];
/// Timeout of one probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

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

    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        let zone = build.zones.first().copied().unwrap_or(Name::ROOT);
        let guard = Arc::new(LoopGuard::new(zone, build.addresses));
        build.offers.loop_guard = Some(Arc::clone(&guard));
        Ok(guard.into())
    }
}

/// The plugin. Each `forward` of its block passes its upstreams to [`check`](Self::check).
#[derive(Debug)]
pub struct LoopGuard {
    zone: Name,
    addresses: Box<[SocketAddr]>,
    probes: Mutex<Vec<Probe>>,
    /// Number of active probes, so that queries take no lock without any.
    active: AtomicUsize,
}

/// A probe query. If it reaches this server, the upstream loops.
#[derive(Clone, Debug)]
struct Probe {
    name: Name,
    upstream: Arc<str>,
    looping: Arc<AtomicBool>,
}

hooks!(LoopGuard, "loop" => on_query);

impl OnQuery for LoopGuard {
    fn on_query(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        if self.active.load(Ordering::Relaxed) == 0 || query.question.rtype != Type::HINFO {
            return Step::Pass;
        }
        let Some(probe) = self.find(&query.question.lower) else {
            return Step::Pass;
        };
        self.report_loop(&probe, &query.client.to_string(), query.local.port());
        reply.fail(Rcode::SERVFAIL, Why::UpstreamLoop);
        reply.cause = Some(format!("upstream {} leads back to this server", probe.upstream).into());
        Step::Answer
    }
}

impl LoopGuard {
    /// A guard for the upstreams of a block whose first zone is `zone`, listening on `addresses`.
    pub fn new(zone: Name, addresses: &[SocketAddr]) -> Self {
        Self {
            zone,
            addresses: addresses.into(),
            probes: Mutex::default(),
            active: AtomicUsize::new(0),
        }
    }

    /// Starts probing those of `members` that are not known to loop, and marks those that do.
    pub fn check(self: &Arc<Self>, members: &[Member], runtime: &Handle) {
        for member in members {
            if member.looping.load(Ordering::Relaxed) {
                continue;
            }
            let probe = Probe {
                name: self.random_name(),
                upstream: Arc::clone(member.upstream.label()),
                looping: Arc::clone(&member.looping),
            };
            let address = member.upstream.target().address;
            if self.is_own(address) {
                self.report_loop(&probe, &probe.upstream, address.port());
                continue;
            }
            self.probes.lock().push(probe.clone());
            self.active.fetch_add(1, Ordering::Relaxed);
            let active = ActiveProbe {
                guard: Arc::downgrade(self),
                probe,
            };
            runtime.spawn(active.run(Arc::downgrade(&member.upstream)));
        }
    }

    /// Whether this server listens on the address.
    fn is_own(&self, upstream: SocketAddr) -> bool {
        self.addresses.iter().any(|own| {
            let is_same = own.ip() == upstream.ip();
            let is_local = own.ip().is_unspecified() && upstream.ip().is_loopback();
            own.port() == upstream.port() && (is_same || is_local)
        })
    }

    /// A label of 128 random bits under the block's zone.
    fn random_name(&self) -> Name {
        let label = format!("{:032x}", rand::random::<u128>());
        let name = Name::from_labels([label.as_bytes()], self.zone.as_ref());
        // If the label does not fit under the zone (RFC 1035 section 2.3.4), probe under the root.
        let name = name.or_else(|_| Name::from_labels([label.as_bytes()], Name::ROOT.as_ref()));
        name.expect("32 bytes are a label").to_lower()
    }

    fn find(&self, name: &Name) -> Option<Probe> {
        let probes = self.probes.lock();
        probes.iter().find(|probe| probe.name == *name).cloned()
    }

    fn report_loop(&self, probe: &Probe, from: &str, port: u16) {
        if probe.looping.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::error!(
            target: "plugin/loop",
            "Loop ({from} -> :{port}) detected for zone \"{}\", \
             see https://coredns.io/plugins/loop#troubleshooting. Query: \"HINFO {}\". \
             Upstream {} leads back to this server and is no longer used: forward to \
             servers that do not forward to this one, such as those in /run/systemd/resolve/resolv.conf \
             of the node",
            self.zone,
            probe.name,
            probe.upstream
        );
    }

    fn remove(&self, probe: &Probe) {
        let mut probes = self.probes.lock();
        probes.retain(|one| one.name != probe.name);
        self.active.store(probes.len(), Ordering::Relaxed);
    }
}

/// An active probe; dropping it removes it from the guard.
struct ActiveProbe {
    guard: Weak<LoopGuard>,
    probe: Probe,
}

impl ActiveProbe {
    /// Probes until the upstream answers or the loop is detected.
    async fn run(self, upstream: Weak<Upstream>) {
        let question = Question::new(self.probe.name, Type::HINFO, Class::IN);
        for delay in PROBE_DELAYS {
            tokio::time::sleep(Duration::from_secs(delay)).await;
            let (Some(upstream), 1..) = (upstream.upgrade(), self.guard.strong_count()) else {
                return;
            };
            let exchange = upstream.probe(&question, true);
            let answer = tokio::time::timeout(PROBE_TIMEOUT, exchange).await;
            if self.probe.looping.load(Ordering::Relaxed) {
                return;
            }
            if let Ok(Ok(reply)) = answer
                && matches!(reply.rcode, Rcode::NOERROR | Rcode::NXDOMAIN)
            {
                return;
            }
        }
    }
}

impl Drop for ActiveProbe {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.upgrade() {
            guard.remove(&self.probe);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(addresses: &[&str]) -> Arc<LoopGuard> {
        let addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(LoopGuard::new(Name::ROOT, &addresses))
    }

    #[test]
    fn only_own_addresses_are_recognized() {
        let wildcard = guard(&["0.0.0.0:53", "[::]:53"]);
        let bound = guard(&["10.0.0.1:53"]);
        for (upstream, by_wildcard, by_bound) in [
            ("127.0.0.53:53", true, false),
            ("[::1]:53", true, false),
            ("127.0.0.1:5353", false, false),
            ("10.0.0.1:53", false, true),
            ("10.0.0.2:53", false, false),
        ] {
            let upstream = upstream.parse().unwrap();
            assert_eq!(wildcard.is_own(upstream), by_wildcard, "{upstream}");
            assert_eq!(bound.is_own(upstream), by_bound, "{upstream}");
        }
    }

    #[test]
    fn probe_names_are_unique_and_under_the_zone() {
        let zone = Name::parse("example.org").unwrap();
        let guard = LoopGuard::new(zone, &[]);
        let (one, other) = (guard.random_name(), guard.random_name());
        assert!(one.as_ref().is_under(zone.as_ref()) && one != other);
    }

    #[test]
    fn a_zone_of_maximum_length_is_probed_under_the_root() {
        let long = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        let guard = LoopGuard::new(Name::parse(&long).unwrap(), &[]);
        assert_eq!(guard.random_name().as_ref().label_count(), 1);
    }
}
