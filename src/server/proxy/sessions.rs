//! PROXY headers of datagrams: in every datagram, or in the first one of a session.
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

use super::{ProxyHeader, ProxyPolicy, Start, Treatment};

/// The PROXY settings of a listener's datagrams. Clones share them: a reload changes them for all threads.
#[derive(Clone, Default)]
pub struct DatagramProxy(Arc<ArcSwapOption<Active>>);

/// The settings in force.
struct Active {
    policy: Arc<ProxyPolicy>,
    /// Present if sessions are tracked.
    sessions: Option<Arc<SessionTable>>,
}

/// The client that a peer's last header named, and when the last datagram of that session came.
struct SessionTable {
    ttl: Duration,
    clients: Cache<SocketAddr, (SocketAddr, Instant)>,
}

/// Strips the headers from the datagrams of one thread.
pub struct Relay {
    active: Cached<Arc<ArcSwapOption<Active>>, Option<Arc<Active>>>,
    /// When a dropped datagram was last logged.
    logged: Option<Instant>,
}

/// Bound on the rate of log lines for dropped datagrams: any peer can send them.
const LOG: Duration = Duration::from_mins(1);

/// A datagram without its header.
#[derive(Debug, PartialEq, Eq)]
pub struct Relayed<'a> {
    /// The query.
    pub bytes: &'a [u8],
    /// The client.
    pub client: SocketAddr,
}

impl DatagramProxy {
    /// Sets the policy; without one, headers are not parsed. Sessions are kept if their settings are
    /// unchanged.
    pub fn set(&self, policy: Option<Arc<ProxyPolicy>>) {
        let before = self.0.load_full();
        let active = policy.map(|policy| {
            let same = before.filter(|before| before.policy.sessions == policy.sessions);
            let sessions = match same {
                Some(before) => before.sessions.clone(),
                None => policy.sessions.map(|sessions| {
                    Arc::new(SessionTable {
                        ttl: sessions.ttl,
                        clients: Cache::new(sessions.max_peers),
                    })
                }),
            };
            Arc::new(Active { policy, sessions })
        });
        self.0.store(active);
    }
}

impl Relay {
    /// A relay for one thread of the listener.
    pub fn new(proxy: &DatagramProxy) -> Self {
        Self {
            active: Cached::new(Arc::clone(&proxy.0)),
            logged: None,
        }
    }

    /// Strips the header from a datagram of `peer`; `None` if the datagram is dropped.
    pub fn read<'a>(
        &mut self,
        bytes: &'a [u8],
        peer: SocketAddr,
        now: Instant,
    ) -> Option<Relayed<'a>> {
        let bare = Relayed {
            bytes,
            client: peer,
        };
        let Some(active) = self.active.load() else {
            return Some(bare);
        };
        let treatment = active.policy.of(peer.ip());
        if treatment == Treatment::Skip {
            return Some(bare);
        }
        let header = match Start::read(bytes) {
            Ok(Start::Header(header)) => header,
            // An incomplete header may be a query that begins like one.
            Ok(Start::Bare | Start::Unfinished) => {
                let sessions = active.sessions.as_ref();
                let sessions = sessions.filter(|_| treatment == Treatment::Use);
                let client = sessions.and_then(|sessions| sessions.renew(peer, now));
                return Some(Relayed {
                    bytes,
                    client: client.unwrap_or(peer),
                });
            }
            Err(error) => {
                self.log(peer, &error, now);
                return None;
            }
        };
        // Version 1 does not support UDP (section 2.1), and a datagram's header must be for a datagram
        // protocol.
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
        let bytes = &bytes[header.length..];
        (!bytes.is_empty()).then_some(Relayed { bytes, client })
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
    fn client(&self, header: &ProxyHeader, peer: SocketAddr, now: Instant) -> SocketAddr {
        // A header without addresses (LOCAL) is a health check of the load balancer, without a client.
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
    /// The client of a session that has not expired; extends it by [`ttl`](Self::ttl).
    fn renew(&self, peer: SocketAddr, now: Instant) -> Option<SocketAddr> {
        let (client, last) = self.clients.get(&peer)?;
        if now.duration_since(last) > self.ttl {
            return None;
        }
        self.clients.insert(peer, (client, now));
        Some(client)
    }
}

/// Default maximum number of peers.
pub const DEFAULT_PEERS: NonZero<usize> = NonZero::new(10_240).expect("more than none");

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
                max_peers: 4,
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
    fn headers_are_stripped_or_kept_by_the_policy_for_the_peer() {
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
                .map(|relayed| (relayed.bytes, relayed.client));
            assert_eq!(relayed, wanted, "{others:?}");
        }
        let bare = Relayed {
            bytes: b"ask",
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
    fn a_session_keeps_the_client_until_it_expires() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let peer: SocketAddr = "192.0.2.8:99".parse().unwrap();
        let client: SocketAddr = "192.0.2.1:7".parse().unwrap();
        let mut relay = relay(Treatment::Ignore, Some(10));
        let mut client_of =
            |bytes: &[u8], peer, now| relay.read(bytes, peer, now).map(|relayed| relayed.client);
        assert_eq!(client_of(b"ask", peer, at(0)), Some(peer));
        assert_eq!(client_of(HEADER, peer, at(0)), None);
        assert_eq!(client_of(b"ask", peer, at(8)), Some(client));
        assert_eq!(
            client_of(b"ask", peer, at(16)),
            Some(client),
            "each renews it"
        );
        assert_eq!(client_of(b"ask", peer, at(27)), Some(peer));
        let another: SocketAddr = "192.0.2.8:98".parse().unwrap();
        assert_eq!(client_of(b"ask", another, at(16)), Some(another));
        // LOCAL is a check of the load balancer; the session's client stays.
        let local = [&HEADER[..12], b"\x20\0\0\0"].concat();
        assert_eq!(client_of(HEADER, peer, at(30)), None);
        assert_eq!(
            client_of(&[&local[..], b"ask"].concat(), peer, at(31)),
            Some(peer)
        );
        assert_eq!(client_of(b"ask", peer, at(32)), Some(client));
    }

    #[test]
    fn sessions_survive_a_policy_change_and_are_shared_by_threads() {
        let now = Instant::now();
        let peer: SocketAddr = "192.0.2.8:99".parse().unwrap();
        let client: SocketAddr = "192.0.2.1:7".parse().unwrap();
        let policy = |allow: &[&str], max_peers| {
            Some(Arc::new(ProxyPolicy {
                allow: allow.iter().map(|net| net.parse().unwrap()).collect(),
                others: Treatment::Ignore,
                sessions: Some(Sessions {
                    ttl: Duration::from_secs(10),
                    max_peers,
                }),
            }))
        };
        let proxy = DatagramProxy::default();
        let (mut relay, mut other) = (Relay::new(&proxy), Relay::new(&proxy));
        let datagram = with_header(b"ask");
        let client_of = |relay: &mut Relay, bytes: &[u8]| {
            let relayed = relay.read(bytes, peer, now).unwrap();
            (relayed.bytes.len(), relayed.client)
        };
        assert_eq!(
            client_of(&mut relay, &datagram),
            (datagram.len(), peer),
            "off"
        );
        proxy.set(policy(&["192.0.2.8/32"], 10));
        assert_eq!(client_of(&mut relay, &datagram), (3, client));
        assert_eq!(
            client_of(&mut other, b"ask"),
            (3, client),
            "by another thread"
        );
        proxy.set(policy(&["192.0.2.0/24"], 10));
        assert_eq!(client_of(&mut other, b"ask"), (3, client));
        proxy.set(policy(&["192.0.3.0/24"], 10));
        assert_eq!(
            client_of(&mut other, b"ask"),
            (3, peer),
            "no longer an allowed peer"
        );
        proxy.set(policy(&["192.0.2.0/24"], 20));
        assert_eq!(client_of(&mut other, b"ask"), (3, peer), "a new table");
        proxy.set(None);
        assert_eq!(
            client_of(&mut relay, &datagram),
            (datagram.len(), peer),
            "off"
        );
    }
}
