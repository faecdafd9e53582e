//! Asking other servers: exchange, pool, policy, health.
//!
//! ```text
//! group        the upstreams of one forward: whom to ask, when to ask the next, when to give up
//! flight       identical questions under way are asked once
//! packet       one question in octets, and whether a message answers it
//! udp, stream  sockets and connections to one upstream; waiters is who waits on them for what
//! health       whether an upstream is worth asking
//! target       how a Corefile names an upstream; resolv_conf is the file that lists some
//! tls          whom to trust
//! meter        what is counted
//! ```
//!
//! Nothing here knows a Corefile, a chain or a plugin. Whatever is spawned ends when its
//! [`Upstream`] is dropped.

mod failure;
mod flight;
mod group;
mod health;
mod meter;
mod packet;
mod policy;
mod resolv_conf;
mod stream;
mod target;
mod tls;
mod udp;
mod waiters;

use std::{
    net::IpAddr,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{runtime::Handle, time::timeout};

pub use failure::Failure;
pub use flight::{Flight, Flights};
pub use group::{Group, Member, Patience, Plan};
pub use health::Check;
pub use meter::{Meter, Proto};
pub use packet::Packet;
pub use policy::{MAX_UPSTREAMS, Policy};
pub use resolv_conf::{ResolvConf, read_nameservers, read_search};
pub use stream::Keeping;
pub use target::{Target, TargetError, To};
pub use tls::{TlsError, TlsFiles};

use crate::{metrics::Metrics, query::Question, reply::Reply};
use health::Health;
use stream::Streams;
use tls::Tls;
use udp::Udp;

/// How long the whole of a cut answer is waited for.
const STREAM_PATIENCE: Duration = Duration::from_secs(1);

/// One server to ask, with its sockets and its health.
#[derive(Debug)]
pub struct Upstream {
    target: Target,
    label: Arc<str>,
    check: Check,
    check_way: Way,
    health: Health,
    udp: Arc<Udp>,
    streams: Arc<Streams>,
    meter: Arc<Meter>,
    runtime: Handle,
}

/// How upstreams of one forward are treated: what, with the target, makes two of them the same.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How connections are kept.
    pub keeping: Keeping,
    /// Failures in a row after which an upstream is down; 0 for never.
    pub max_fails: u32,
    /// How it is asked whether it is up again.
    pub check: Check,
    /// Whether it is always asked by stream: then its checks go that way too.
    pub by_stream: bool,
    /// Our address towards it; the kernel's choice without one.
    pub source: Option<IpAddr>,
    /// The name that TLS upstreams must prove, where none is written for the upstream itself.
    pub tls_name: Option<ServerName<'static>>,
    /// How TLS is spoken, where any upstream wants it.
    pub tls: Option<Arc<ClientConfig>>,
}

/// What a question is sent over. Upstreams with TLS are always asked by stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By datagram.
    Datagram,
    /// By datagram, and again by stream where the answer was cut.
    DatagramFirst,
    /// By stream.
    Stream,
}

impl Upstream {
    /// An upstream; nothing is opened yet.
    pub fn new(
        target: Target,
        settings: &Settings,
        runtime: Handle,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let label: Arc<str> = target.to_string().into();
        let meter = Arc::new(Meter::new(metrics, &label));
        let address = target.address;
        let own_name = target.tls.as_ref().and_then(Option::as_ref);
        let name = own_name.or(settings.tls_name.as_ref());
        let config = settings.tls.clone().filter(|_| target.tls.is_some());
        let tls = config.map(|config| Tls::new(config, name, address.ip()));
        Self {
            label,
            health: Health::new(settings.max_fails),
            check: settings.check,
            check_way: if settings.by_stream {
                Way::Stream
            } else {
                Way::Datagram
            },
            udp: Udp::new(
                address,
                settings.source,
                runtime.clone(),
                Arc::clone(&meter),
            ),
            streams: Streams::new(
                address,
                settings.source,
                tls,
                settings.keeping,
                runtime.clone(),
                Arc::clone(&meter),
            ),
            target,
            meter,
            runtime,
        }
    }

    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What metrics and logs call it.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// What is counted about it.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Whether it has failed so often in a row that it is not asked for now.
    pub fn is_down(&self) -> bool {
        self.health.is_down()
    }

    /// Asks it, and waits for as long as the caller does.
    pub async fn exchange(&self, packet: &Arc<Packet>, way: Way) -> Result<Reply, Failure> {
        let asked = Instant::now();
        let answer = self.ask(packet, way).await;
        if let Ok(reply) = &answer {
            self.health.answered();
            self.meter.answered(reply.rcode, asked.elapsed());
        }
        answer
    }

    async fn ask(&self, packet: &Arc<Packet>, way: Way) -> Result<Reply, Failure> {
        if way == Way::Stream || self.target.tls.is_some() {
            return self.streams.exchange(packet).await;
        }
        let reply = self.udp.exchange(packet).await?;
        if way == Way::DatagramFirst && reply.truncated {
            let whole = timeout(STREAM_PATIENCE, self.streams.exchange(packet)).await;
            // A cut answer is better than none.
            return Ok(whole.ok().and_then(Result::ok).unwrap_or(reply));
        }
        Ok(reply)
    }

    /// Asks it something of our own, in the way in which it is usually asked.
    pub async fn probe(
        &self,
        question: &Question,
        recursion_desired: bool,
    ) -> Result<Reply, Failure> {
        let packet = Arc::new(Packet::probe(question, recursion_desired));
        self.exchange(&packet, self.check_way).await
    }

    /// It has failed; once that makes it down, it is checked until it answers.
    pub fn failed(self: &Arc<Self>) {
        if self.health.failed() {
            tracing::warn!(
                target: "plugin/forward",
                "Upstream {} is down: asking it every {:?} whether it is up again",
                self.label,
                self.check.pause()
            );
            self.runtime.spawn(check_until_up(Arc::downgrade(self)));
        }
    }
}

/// Holds the upstream only while it is being asked, so that it can go meanwhile.
async fn check_until_up(weak: Weak<Upstream>) {
    loop {
        let Some(pause) = weak.upgrade().map(|upstream| upstream.check.pause()) else {
            return;
        };
        tokio::time::sleep(pause).await;
        let Some(upstream) = weak.upgrade() else {
            return;
        };
        let question = upstream.check.question();
        let checking = upstream.probe(&question, upstream.check.recursion_desired);
        let answer = timeout(Check::PATIENCE, checking).await;
        if !matches!(answer, Ok(Ok(_))) {
            upstream.meter.failed_check();
        }
        if !upstream.is_down() {
            upstream.health.checked();
            // It may have failed again in between, when its checks still seemed to go on.
            if !upstream.is_down() || !upstream.health.resume() {
                tracing::info!(target: "plugin/forward", "Upstream {} is up again", upstream.label);
                return;
            }
        }
    }
}
