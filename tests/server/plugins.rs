//! A plugin whose answer depends on the name's first label, and a server with it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use lodestone::{
    hooks,
    metrics::Metrics,
    plugin::{Block, Chain, Context, Observer, OnNotify, OnQuery, Resolved, Step, Written},
    query::{Query, Question},
    reply::{Data, Owner, Reply, Section},
    server::{
        Listener, ListenerConfig, LoopKind, Scheme, Servers,
        limits::{Limits, StreamSettings},
        route::{Route, Routes},
    },
    upstream::{
        AttemptObserver, AttemptReport, Packet, PendingLimit, Plan, Settings, Target,
        TransportPolicy, Upstream, UpstreamGroup, UpstreamQuery,
    },
    wire::{Class, Name, Rcode, Type},
};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Semaphore};

/// Its behaviour depends on the first label of the name.
pub struct Labels {
    /// Answer to `version`.
    pub version: u8,
    /// Each permit releases one query for `wait`.
    pub release: Arc<Semaphore>,
    /// A permit for each query for `wait` that is pending.
    pub begun: Arc<Semaphore>,
    /// Size of every reply in bytes.
    pub written: Mutex<Vec<usize>>,
    /// While it is locked, `hold` stops the thread that reads it.
    pub hold: Mutex<()>,
}

impl Labels {
    pub fn new(version: u8) -> Arc<Self> {
        Arc::new(Self {
            version,
            release: Arc::new(Semaphore::new(0)),
            begun: Arc::new(Semaphore::new(0)),
            written: Mutex::default(),
            hold: Mutex::default(),
        })
    }
}

fn address(last: u8) -> Data<'static> {
    Data::A(Ipv4Addr::new(192, 0, 2, last))
}

/// A query for an upstream that no datagram can be sent to: a broadcast address. The observer of the failed
/// attempt panics.
fn unsendable(query: &Query) -> UpstreamQuery {
    #[derive(Debug)]
    struct Panicking;

    impl AttemptObserver for Panicking {
        fn on_attempt(&self, _: &AttemptReport<'_>) {
            panic!("on request, at an upstream");
        }
    }

    let metrics = Metrics::new();
    let target = Target::at(([255, 255, 255, 255], 53).into());
    let upstream = Upstream::new(target, &Settings::unpooled(), Handle::current(), &metrics);
    let desperate = metrics.forward.healthcheck_broken_total.clone();
    let group = UpstreamGroup::new(vec![Arc::new(upstream)], Plan::default(), desperate);
    let mut packet = Packet::of(query);
    packet.observe(Arc::new(Panicking));
    let limit = PendingLimit::new(1, Rcode::REFUSED, []);
    let permit = limit.enter(0, query.client.ip()).unwrap();
    let transport = TransportPolicy::Udp;
    UpstreamQuery::new(Arc::new(group), Arc::default(), packet, transport, permit)
}

hooks!(Labels, "labels" => on_query, observer, on_notify);

impl OnQuery for Labels {
    fn on_query(&self, context: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        let labels = query.question.lower;
        match labels.as_ref().labels().next().unwrap_or_default() {
            b"a" => {
                reply.authoritative = true;
                reply.answer(Type::A, 5, address(1));
            }
            b"soa" => {
                reply.rcode = Rcode::NXDOMAIN;
                let owner = Owner::Name(labels.as_ref().parent().unwrap());
                reply.push(Section::Authority, owner, Type::TXT, 5, Data::Txt(b"here"));
            }
            b"signed" => {
                reply.authentic = true;
                reply.answer(Type::A, 5, address(1));
            }
            b"version" => reply.answer(Type::A, 5, address(self.version)),
            b"big" => (0..200).for_each(|last| reply.answer(Type::A, 5, address(last))),
            b"local" => match query.local.ip() {
                IpAddr::V4(ip) => reply.answer(Type::A, 5, Data::A(ip)),
                IpAddr::V6(ip) => reply.answer(Type::AAAA, 5, Data::Aaaa(ip)),
            },
            b"client" => match query.client.ip() {
                IpAddr::V4(ip) => reply.answer(Type::A, 5, Data::A(ip)),
                IpAddr::V6(ip) => reply.answer(Type::AAAA, 5, Data::Aaaa(ip)),
            },
            b"alias" => {
                let target = Name::parse("a.test").unwrap();
                let again = context.again(query, Question::new(target, Type::A, Class::IN));
                return Step::Wait(Box::pin(async move {
                    let inner = again.await;
                    let mut reply = Reply::default();
                    reply.answer(Type::CNAME, 5, Data::Name(target.as_ref()));
                    for record in inner.section(Section::Answer) {
                        let owner = Owner::Name(target.as_ref());
                        reply.push_from(Section::Answer, owner, &inner, record);
                    }
                    Resolved::Answer(reply)
                }));
            }
            b"wait" => {
                let (release, begun) = (Arc::clone(&self.release), Arc::clone(&self.begun));
                return Step::Wait(Box::pin(async move {
                    begun.add_permits(1);
                    release.acquire().await.unwrap().forget();
                    let mut reply = Reply::default();
                    reply.answer(Type::A, 5, address(2));
                    Resolved::Answer(reply)
                }));
            }
            b"hold" => {
                self.begun.add_permits(1);
                drop(self.hold.lock());
                reply.answer(Type::A, 5, address(3));
            }
            b"drop" => return Step::Drop,
            b"drop-later" => return Step::Wait(Box::pin(async { Resolved::Drop })),
            b"panic" => panic!("on request"),
            b"panic-upstream" => return Step::Forward(Box::new(unsendable(query))),
            b"panic-later" => return Step::Wait(Box::pin(async { panic!("on request, later") })),
            _ => return Step::Pass,
        }
        Step::Answer
    }
}

impl Observer for Labels {
    fn on_sent(&self, _: &Block, _: &Query, _: &Reply, written: Written) {
        self.written.lock().push(written.size);
    }
}

impl OnNotify for Labels {
    fn on_notify(&self, query: &mut Query) -> Option<Rcode> {
        match query.question.lower.as_ref().labels().next()? {
            b"copied" => Some(Rcode::NOERROR),
            b"guarded" => Some(Rcode::REFUSED),
            _ => None,
        }
    }
}

/// Routes with one block, for `zone`.
pub fn routes(zone: &str, plugin: &Arc<Labels>) -> Routes {
    Routes::new([Route::from(Arc::new(Block {
        zone: Name::parse(zone).unwrap(),
        server: "dns://:0".into(),
        zone_label: zone.into(),
        view: "".into(),
        chain: Arc::new(Chain::new(vec![Arc::clone(plugin).into()])),
        counters: Arc::default(),
        feed: Arc::default(),
    }))])
}

/// Listening on `address`, with `plugin` serving the zone `test`.
pub fn wanted(address: &str, plugin: &Arc<Labels>) -> ListenerConfig {
    ListenerConfig {
        listener: Listener {
            scheme: Scheme::Dns,
            address: address.parse().unwrap(),
        },
        label: "dns://:0".into(),
        routes: routes("test", plugin),
        streams: StreamSettings::default(),
        udp_threads: Some(2),
        tls: None,
        proxy: None,
    }
}

/// A server on one listener.
pub struct Serving {
    pub servers: Servers,
    pub plugin: Arc<Labels>,
    pub metrics: Arc<Metrics>,
    /// Its listen address.
    pub at: SocketAddr,
}

/// A server of the zone `test` on a port of loopback.
pub fn serve() -> Serving {
    serve_with(Limits::default(), |_| {})
}

pub fn serve_with(limits: Limits, change: impl FnOnce(&mut ListenerConfig)) -> Serving {
    serve_by(LoopKind::default(), limits, change)
}

pub fn serve_by(
    loops: LoopKind,
    limits: Limits,
    change: impl FnOnce(&mut ListenerConfig),
) -> Serving {
    let plugin = Labels::new(1);
    let metrics = Metrics::new();
    let mut servers = Servers::new(Handle::current(), limits, Arc::clone(&metrics));
    servers.use_loops(loops);
    let mut wanted = wanted("127.0.0.1:0", &plugin);
    change(&mut wanted);
    let listener = wanted.listener;
    servers.apply(vec![wanted]).unwrap();
    Serving {
        at: servers.bound(listener)[0],
        servers,
        plugin,
        metrics,
    }
}

impl Serving {
    /// Waits until `count` queries for `wait` are pending.
    pub async fn begun(&self, count: u32) {
        let begun = self.plugin.begun.acquire_many(count);
        let begun = tokio::time::timeout(Duration::from_secs(5), begun).await;
        begun.expect("questions begin to wait").unwrap().forget();
    }

    /// The value of a metric without labels.
    pub fn metric(&self, name: &str) -> String {
        let text = self.metrics.encode();
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next())
            .unwrap_or_default()
            .to_owned()
    }
}
