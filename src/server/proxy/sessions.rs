//! Datagrams of a proxy: each with a header of its own, or the first one for those behind it.
//!
//! One of these belongs to one thread, which gets all datagrams of a peer's port: the system
//! divides them among the sockets by their two addresses.

use std::{
    net::SocketAddr,
    num::NonZero,
    sync::Arc,
    time::{Duration, Instant},
};

use quick_cache::unsync::Cache;

use super::{Header, Start, Treatment, Trust};

/// Takes the headers off datagrams.
pub struct Relay {
    trust: Arc<Trust>,
    known: Option<Known>,
    /// When a datagram was last told to be dropped.
    told: Option<Instant>,
}

/// How often it is told that datagrams are dropped: anybody can send some.
const TELL: Duration = Duration::from_mins(1);

/// Who was last told to ask behind a peer's port, and when that was.
struct Known {
    ttl: Duration,
    peers: Cache<SocketAddr, (SocketAddr, Instant)>,
}

/// What is left of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub struct Relayed<'a> {
    /// The question.
    pub octets: &'a [u8],
    /// Who asks.
    pub client: SocketAddr,
}

impl Relay {
    /// One of `threads` of an address.
    pub fn new(trust: &Arc<Trust>, threads: usize) -> Self {
        let known = trust.sessions.map(|sessions| Known {
            ttl: sessions.ttl,
            peers: Cache::new(sessions.most.div_ceil(threads.max(1))),
        });
        Self {
            trust: Arc::clone(trust),
            known,
            told: None,
        }
    }

    /// Takes the header off a datagram that came from `peer`; nothing where nobody is to be
    /// answered.
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
        let treatment = self.trust.of(peer.ip());
        if treatment == Treatment::Skip {
            return Some(bare);
        }
        let header = match Start::read(octets) {
            Ok(Start::Header(header)) => header,
            // What is cut within a header may be a question that begins like one.
            Ok(Start::Bare | Start::Unfinished) => {
                let known = self.known.as_mut().filter(|_| treatment == Treatment::Use);
                let client = known.and_then(|known| known.find(peer, now));
                return Some(Relayed {
                    octets,
                    client: client.unwrap_or(peer),
                });
            }
            Err(error) => {
                self.tell(peer, &error, now);
                return None;
            }
        };
        // Version 1 knows no datagrams, and nobody hands on a stream as one.
        let fits = header.version == 2 && header.addresses.is_none_or(|ends| ends.datagrams);
        if !fits {
            self.tell(peer, &"a PROXY header that is not one of datagrams", now);
            return None;
        }
        if treatment == Treatment::Reject {
            self.tell(
                peer,
                &"a PROXY header of somebody who is not allowed one",
                now,
            );
            return None;
        }
        let client = if treatment == Treatment::Use {
            self.client(&header, peer, now)
        } else {
            peer
        };
        let octets = &octets[header.length..];
        (!octets.is_empty()).then_some(Relayed { octets, client })
    }

    fn tell(&mut self, peer: SocketAddr, why: &dyn std::fmt::Display, now: Instant) {
        if self
            .told
            .is_none_or(|last| now.duration_since(last) >= TELL)
        {
            self.told = Some(now);
            tracing::warn!(target: "plugin/proxyproto", "a datagram of {peer} is dropped: {why}");
        }
    }

    fn client(&mut self, header: &Header, peer: SocketAddr, now: Instant) -> SocketAddr {
        // A header without addresses is the balancer's own check and has no client (LOCAL).
        let Some(ends) = header.addresses else {
            return peer;
        };
        if let Some(known) = &mut self.known {
            known.peers.insert(peer, (ends.client, now));
        }
        ends.client
    }
}

impl Known {
    fn find(&mut self, peer: SocketAddr, now: Instant) -> Option<SocketAddr> {
        let mut known = self.peers.get_mut(&peer)?;
        let (client, last) = &mut *known;
        if now.duration_since(*last) > self.ttl {
            return None;
        }
        *last = now;
        Some(*client)
    }
}

/// Peers that are remembered unless it is said.
pub const MOST: NonZero<usize> = NonZero::new(10_240).expect("more than none");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::proxy::Sessions;

    const HEADER: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0C\xC0\0\x02\x01\xC6\x33\x64\x01\0\x07\0\x35";

    fn relay(others: Treatment, ttl: Option<u64>) -> Relay {
        let trust = Trust {
            allow: vec!["192.0.2.8/32".parse().unwrap()],
            others,
            sessions: ttl.map(|ttl| Sessions {
                ttl: Duration::from_secs(ttl),
                most: 4,
            }),
        };
        Relay::new(&Arc::new(trust), 2)
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
}
