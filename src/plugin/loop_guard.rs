//! `loop`: finds upstreams that lead back to this server, and takes them out of use.
//!
//! The usual case is a node's resolv.conf that names a stub on the node itself, which in turn asks
//! the cluster's DNS. Upstreams at one of our own addresses are told at once. Each of the others is
//! asked, when it first appears, for a name that nobody can guess; where that question comes back
//! to us, the upstream loops. It is said once, with the way out, and the upstream is not asked any
//! more; with none left, outside names are SERVFAIL. Nothing that a packet says ends the process
//! (CVE-2026-26018), and what loops before the question comes back waits for itself in
//! [`crate::upstream::InFlight`] instead of going round.

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

use super::{Build, BuildError, Context, ParseErrors, Parsing, Plugin, Setup, Step};
use crate::{
    corefile::Directive,
    query::{Query, Question},
    reply::{Reply, Why},
    upstream::{Member, Upstream},
    wire::{Class, Name, Rcode, Type},
};

/// Seconds before each asking: the stub behind the upstream, or we ourselves, may be still on the
/// way up. Half a minute in all.
const PAUSES: [u64; 7] = [0, 1, 1, 2, 4, 8, 12];
/// How long one asking waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// The directive has nothing to say beyond its being there.
#[derive(Clone, Copy, Debug)]
pub struct Config;

/// Reads the directive.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let checked = uses[0].bare().map(|()| Config);
    checked.map_err(|error| vec![error.in_plugin("loop")])
}

impl Setup for Config {
    fn offers(&self) -> bool {
        true
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        let zone = build.zones.first().copied().unwrap_or(Name::ROOT);
        let guard = Arc::new(LoopGuard::new(zone, build.addresses));
        build.offered.push(Arc::clone(&guard) as _);
        Ok(guard)
    }
}

/// The plugin, which `forward` finds among what is offered and tells of its upstreams.
#[derive(Debug)]
pub struct LoopGuard {
    zone: Name,
    addresses: Box<[SocketAddr]>,
    probes: Mutex<Vec<Probe>>,
    /// How many probes are out, so that queries need no lock.
    out: AtomicUsize,
}

/// A question that must not come back.
#[derive(Clone, Debug)]
struct Probe {
    name: Name,
    upstream: Arc<str>,
    looping: Arc<AtomicBool>,
}

impl Plugin for LoopGuard {
    fn name(&self) -> &'static str {
        "loop"
    }

    fn ask(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        if self.out.load(Ordering::Relaxed) == 0 || query.question.rtype != Type::HINFO {
            return Step::Pass;
        }
        let Some(probe) = self.find(&query.question.lower) else {
            return Step::Pass;
        };
        self.found(&probe, &query.client.to_string(), query.local.port());
        reply.fail(Rcode::SERVFAIL, Why::UpstreamLoop);
        reply.cause = Some(format!("upstream {} leads back here", probe.upstream).into());
        Step::Answer
    }
}

impl LoopGuard {
    /// A guard for the upstreams of a block with the first zone `zone`, served on `addresses`.
    pub fn new(zone: Name, addresses: &[SocketAddr]) -> Self {
        Self {
            zone,
            addresses: addresses.into(),
            probes: Mutex::default(),
            out: AtomicUsize::new(0),
        }
    }

    /// Begins to find out which of `members` lead back here, and tells them.
    pub fn check(self: &Arc<Self>, members: &[Member], runtime: &Handle) {
        for member in members {
            if member.looping.load(Ordering::Relaxed) {
                continue;
            }
            let probe = Probe {
                name: self.unguessable_name(),
                upstream: Arc::clone(member.upstream.label()),
                looping: Arc::clone(&member.looping),
            };
            let address = member.upstream.target().address;
            if self.is_own(address) {
                self.found(&probe, &probe.upstream, address.port());
                continue;
            }
            self.probes.lock().push(probe.clone());
            self.out.fetch_add(1, Ordering::Relaxed);
            let out = Out {
                guard: Arc::downgrade(self),
                probe,
            };
            runtime.spawn(out.ask(Arc::downgrade(&member.upstream)));
        }
    }

    /// Whether we are who listens there.
    fn is_own(&self, upstream: SocketAddr) -> bool {
        self.addresses.iter().any(|own| {
            let is_same = own.ip() == upstream.ip();
            let is_local = own.ip().is_unspecified() && upstream.ip().is_loopback();
            own.port() == upstream.port() && (is_same || is_local)
        })
    }

    /// 128 random bits under the block's zone.
    fn unguessable_name(&self) -> Name {
        let label = format!("{:032x}", rand::random::<u128>());
        let name = Name::from_labels([label.as_bytes()], self.zone.as_ref());
        // A zone so long that nothing fits in front of it is no reason not to look.
        let name = name.or_else(|_| Name::from_labels([label.as_bytes()], Name::ROOT.as_ref()));
        name.expect("32 octets are a label").to_lower()
    }

    fn find(&self, name: &Name) -> Option<Probe> {
        let probes = self.probes.lock();
        probes.iter().find(|probe| probe.name == *name).cloned()
    }

    fn found(&self, probe: &Probe, from: &str, port: u16) {
        if probe.looping.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::error!(
            target: "plugin/loop",
            "Loop ({from} -> :{port}) detected for zone \"{}\", \
             see https://coredns.io/plugins/loop#troubleshooting. Query: \"HINFO {}\". \
             Upstream {} leads back to this server and is not asked any more: let forward name \
             servers that do not ask this one, such as those in /run/systemd/resolve/resolv.conf \
             of the node",
            self.zone,
            probe.name,
            probe.upstream
        );
    }

    fn take_back(&self, probe: &Probe) {
        let mut probes = self.probes.lock();
        probes.retain(|one| one.name != probe.name);
        self.out.store(probes.len(), Ordering::Relaxed);
    }
}

/// A probe that is out; it is taken back when this goes.
struct Out {
    guard: Weak<LoopGuard>,
    probe: Probe,
}

impl Out {
    /// Asks until there is an answer or the question has come back.
    async fn ask(self, upstream: Weak<Upstream>) {
        let question = Question::new(self.probe.name, Type::HINFO, Class::IN);
        for pause in PAUSES {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            let (Some(upstream), 1..) = (upstream.upgrade(), self.guard.strong_count()) else {
                return;
            };
            let asking = upstream.probe(&question, true);
            let answer = tokio::time::timeout(PATIENCE, asking).await;
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

impl Drop for Out {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.upgrade() {
            guard.take_back(&self.probe);
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
    fn own_addresses_are_known_and_others_are_not() {
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
    fn names_are_under_the_zone_and_never_twice_the_same() {
        let zone = Name::parse("example.org").unwrap();
        let guard = LoopGuard::new(zone, &[]);
        let (one, other) = (guard.unguessable_name(), guard.unguessable_name());
        assert!(one.as_ref().is_under(zone.as_ref()) && one != other);
    }

    #[test]
    fn a_zone_without_room_is_no_panic() {
        let long = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        let guard = LoopGuard::new(Name::parse(&long).unwrap(), &[]);
        assert_eq!(guard.unguessable_name().as_ref().label_count(), 1);
    }
}
