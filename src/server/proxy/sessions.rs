//! PROXY headers of datagrams: each datagram with a header of its own, or the first one of a session for
//! those behind it.
//!
//! The settings and the session table belong to a listener and outlive its threads: a datagram of a session
//! may come to another socket once the number of sockets has changed.

use std::{
    net::SocketAddr,
    num::NonZero,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwapOption, Cache as Cached};
use quick_cache::sync::Cache;

use super::{Header, ProxyPolicy, Start, Treatment};

/// How a listener's datagrams are searched for headers. Clones share it: a reload changes it for all threads.
#[derive(Clone, Default)]
pub struct DatagramProxy(Arc<ArcSwapOption<Active>>);

/// The settings in force.
struct Active {
    policy: Arc<ProxyPolicy>,
    /// Where headers hold for datagrams behind them.
    sessions: Option<Arc<SessionTable>>,
}

/// The client that a peer's last header named, and when the last datagram of that session came.
struct SessionTable {
    ttl: Duration,
    clients: Cache<SocketAddr, (SocketAddr, Instant)>,
}

/// Takes the headers off the datagrams of one thread.
pub struct Relay {
    active: Cached<Arc<ArcSwapOption<Active>>, Option<Arc<Active>>>,
    /// When a dropped datagram was last logged.
    logged: Option<Instant>,
}

/// How often dropped datagrams are logged: anybody can send some.
const LOG: Duration = Duration::from_mins(1);

/// A datagram without its header.
#[derive(Debug, PartialEq, Eq)]
pub struct Relayed<'a> {
    /// The query.
    pub octets: &'a [u8],
    /// The client.
    pub client: SocketAddr,
}

impl DatagramProxy {
    /// Headers are read as `policy` says; without it they are not looked for. Sessions go on while their
    /// settings stay the same.
    pub fn set(&self, policy: Option<Arc<ProxyPolicy>>) {
        let before = self.0.load_full();
        let active = policy.map(|policy| {
            let same = before.filter(|before| before.policy.sessions == policy.sessions);
            let sessions = match same {
                Some(before) => before.sessions.clone(),
                None => policy.sessions.map(|sessions| {
                    Arc::new(SessionTable {
                        ttl: sessions.ttl,
                        clients: Cache::new(sessions.most),
                    })
                }),
            };
            Arc::new(Active { policy, sessions })
        });
        self.0.store(active);
    }
}

impl Relay {
    /// One for a thread of the listener with this setting.
    pub fn new(proxy: &DatagramProxy) -> Self {
        Self {
            active: Cached::new(Arc::clone(&proxy.0)),
            logged: None,
        }
    }

    /// Takes the header off a datagram that came from `peer`; nothing where no reply is to be sent.
    pub fn read<'a>(
        &mut self,
        octets: &'a [u8],
        peer: SocketAddr,
        now: Instant,
    ) -> Option<Relayed<'a>> {
        let bare = Relayed {
            octets,
            client: peer,
        };
        let Some(active) = self.active.load() else {
            return Some(bare);
        };
        let treatment = active.policy.of(peer.ip());
        if treatment == Treatment::Skip {
            return Some(bare);
        }
        let header = match Start::read(octets) {
            Ok(Start::Header(header)) => header,
            // An incomplete header may be a query that begins like one.
            Ok(Start::Bare | Start::Unfinished) => {
                let sessions = active.sessions.as_ref();
                let sessions = sessions.filter(|_| treatment == Treatment::Use);
                let client = sessions.and_then(|sessions| sessions.renew(peer, now));
                return Some(Relayed {
                    octets,
                    client: client.unwrap_or(peer),
                });
            }
            Err(error) => {
                self.log(peer, &error, now);
                return None;
            }
        };
        // Version 1 has no datagrams, and a header for a stream does not belong into one.
        let fits = header.version == 2 && header.addresses.is_none_or(|ends| ends.datagrams);
        if !fits {
            self.log(peer, &"a PROXY header that is not one of datagrams", now);
            return None;
        }
        if treatment == Treatment::Reject {
            self.log(
                peer,
                &"a PROXY header of a peer that is not allowed one",
                now,
            );
            return None;
        }
        let client = if treatment == Treatment::Use {
            active.client(&header, peer, now)
        } else {
            peer
        };
        let octets = &octets[header.length..];
        (!octets.is_empty()).then_some(Relayed { octets, client })
    }

    fn log(&mut self, peer: SocketAddr, why: &dyn std::fmt::Display, now: Instant) {
        let last = self.logged.map(|last| now.duration_since(last));
        if last.is_none_or(|ago| ago >= LOG) {
            self.logged = Some(now);
            tracing::warn!(target: "plugin/proxyproto", "a datagram of {peer} is dropped: {why}");
        }
    }
}

impl Active {
    fn client(&self, header: &Header, peer: SocketAddr, now: Instant) -> SocketAddr {
        // A header without addresses is the balancer's own check and has no client (LOCAL).
        let Some(ends) = header.addresses else {
            return peer;
        };
        if let Some(sessions) = &self.sessions {
            sessions.clients.insert(peer, (ends.client, now));
        }
        ends.client
    }
}

impl SessionTable {
    /// The client of a session that has not ended, which goes on for another [`ttl`](Self::ttl).
    fn renew(&self, peer: SocketAddr, now: Instant) -> Option<SocketAddr> {
        let (client, last) = self.clients.get(&peer)?;
        if now.duration_since(last) > self.ttl {
            return None;
        }
        self.clients.insert(peer, (client, now));
        Some(client)
    }
}

/// Peers that are tracked by default.
pub const MOST: NonZero<usize> = NonZero::new(10_240).expect("more than none");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::proxy::Sessions;

    const HEADER: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0C\xC0\0\x02\x01\xC6\x33\x64\x01\0\x07\0\x35";

    fn relay(others: Treatment, ttl: Option<u64>) -> Relay {
        let policy = ProxyPolicy {
            allow: vec!["192.0.2.8/32".parse().unwrap()],
            others,
            sessions: ttl.map(|ttl| Sessions {
                ttl: Duration::from_secs(ttl),
                most: 4,
            }),
        };
        let proxy = DatagramProxy::default();
        proxy.set(Some(Arc::new(policy)));
        Relay::new(&proxy)
    }

    fn with_header(payload: &[u8]) -> Vec<u8> {
        [HEADER, payload].concat()
    }

    #[test]
    fn headers_are_taken_off_as_their_sender_is_treated() {
        let now = Instant::now();
        let trusted: SocketAddr = "192.0.2.8:99".parse().unwrap();
        let other: SocketAddr = "192.0.2.9:99".parse().unwrap();
        let datagram = with_header(b"ask");
        let client: SocketAddr = "192.0.2.1:7".parse().unwrap();
        for (peer, others, wanted) in [
            (trusted, Treatment::Reject, Some((&b"ask"[..], client))),
            (other, Treatment::Use, Some((&b"ask"[..], client))),
            (other, Treatment::Ignore, Some((&b"ask"[..], other))),
            (other, Treatment::Skip, Some((&datagram[..], other))),
            (other, Treatment::Reject, None),
        ] {
            let relayed = relay(others, None)
                .read(&datagram, peer, now)
                .map(|relayed| (relayed.octets, relayed.client));
            assert_eq!(relayed, wanted, "{others:?}");
        }
        let bare = Relayed {
            octets: b"ask",
            client: other,
        };
        let mut relay = relay(Treatment::Reject, None);
        assert_eq!(relay.read(b"ask", other, now), Some(bare));
        assert_eq!(relay.read(&with_header(b""), trusted, now), None);
        let line = b"PROXY TCP4 192.0.2.1 198.51.100.1 4660 53\r\nask";
        assert_eq!(relay.read(line, trusted, now), None);
        let mut stream = with_header(b"ask");
        stream[13] = 0x11;
        assert_eq!(relay.read(&stream, trusted, now), None);
    }

    #[test]
    fn what_one_header_said_holds_for_a_while() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let peer: SocketAddr = "192.0.2.8:99".parse().unwrap();
        let client: SocketAddr = "192.0.2.1:7".parse().unwrap();
        let mut relay = relay(Treatment::Ignore, Some(10));
        let mut who =
            |octets: &[u8], peer, now| relay.read(octets, peer, now).map(|relayed| relayed.client);
        assert_eq!(who(b"ask", peer, at(0)), Some(peer));
        assert_eq!(who(HEADER, peer, at(0)), None);
        assert_eq!(who(b"ask", peer, at(8)), Some(client));
        assert_eq!(who(b"ask", peer, at(16)), Some(client), "each renews it");
        assert_eq!(who(b"ask", peer, at(27)), Some(peer));
        let another: SocketAddr = "192.0.2.8:98".parse().unwrap();
        assert_eq!(who(b"ask", another, at(16)), Some(another));
        // LOCAL: the balancer itself asks, and the client is who it was.
        let local = [&HEADER[..12], b"\x20\0\0\0"].concat();
        assert_eq!(who(HEADER, peer, at(30)), None);
        assert_eq!(
            who(&[&local[..], b"ask"].concat(), peer, at(31)),
            Some(peer)
        );
        assert_eq!(who(b"ask", peer, at(32)), Some(client));
    }

    #[test]
    fn sessions_outlive_other_settings_and_serve_every_thread() {
        let now = Instant::now();
        let peer: SocketAddr = "192.0.2.8:99".parse().unwrap();
        let client: SocketAddr = "192.0.2.1:7".parse().unwrap();
        let policy = |allow: &[&str], most| {
            Some(Arc::new(ProxyPolicy {
                allow: allow.iter().map(|net| net.parse().unwrap()).collect(),
                others: Treatment::Ignore,
                sessions: Some(Sessions {
                    ttl: Duration::from_secs(10),
                    most,
                }),
            }))
        };
        let proxy = DatagramProxy::default();
        let (mut relay, mut other) = (Relay::new(&proxy), Relay::new(&proxy));
        let datagram = with_header(b"ask");
        let who = |relay: &mut Relay, octets: &[u8]| {
            let relayed = relay.read(octets, peer, now).unwrap();
            (relayed.octets.len(), relayed.client)
        };
        assert_eq!(who(&mut relay, &datagram), (datagram.len(), peer), "off");
        proxy.set(policy(&["192.0.2.8/32"], 10));
        assert_eq!(who(&mut relay, &datagram), (3, client));
        assert_eq!(who(&mut other, b"ask"), (3, client), "by another thread");
        proxy.set(policy(&["192.0.2.0/24"], 10));
        assert_eq!(who(&mut other, b"ask"), (3, client));
        proxy.set(policy(&["192.0.3.0/24"], 10));
        assert_eq!(who(&mut other, b"ask"), (3, peer), "not believed any more");
        proxy.set(policy(&["192.0.2.0/24"], 20));
        assert_eq!(who(&mut other, b"ask"), (3, peer), "a new table");
        proxy.set(None);
        assert_eq!(who(&mut relay, &datagram), (datagram.len(), peer), "off");
    }
}
