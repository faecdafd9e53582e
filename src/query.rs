//! A query: what was received, which never changes, and its state on the way through a chain.

mod extensions;

use std::{net::SocketAddr, ops::Deref, sync::Arc, time::Instant};

pub use extensions::{Extension, Extensions};

use crate::{
    edns::Options,
    tsig::{Signed, Signer},
    wire::{Class, HEADER_LENGTH, MAX_MESSAGE, MIN_UDP_PAYLOAD, Name, Opcode, Type},
};

/// Bytes of an OPT record without options (RFC 6891 section 6.1.2).
pub const OPT_LENGTH: usize = 11;

/// What a client has sent, and how it came.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // header bits, independent of each other
pub struct Request {
    /// The client's message id.
    pub id: u16,
    /// The original question. The reply repeats it.
    pub asked: Question,
    /// What the client wants done; only [`Opcode::QUERY`] gets as far as a plugin.
    pub opcode: Opcode,
    /// The client wants recursion.
    pub recursion_desired: bool,
    /// The client checks signatures for itself; handed on to upstreams, part of a cache's key.
    pub checking_disabled: bool,
    /// The client understands the AD bit (RFC 6840 section 5.7).
    pub authentic_data: bool,
    /// The client's OPT record, where it sent one.
    pub edns: Option<Edns>,
    /// The serial of the zone that a secondary holds, which an IXFR question carries (RFC 1995
    /// section 3).
    pub held_serial: Option<u32>,
    /// The message, where it is signed.
    pub signed: Option<Arc<Signed>>,
    /// The client's address.
    pub client: SocketAddr,
    /// The address that was asked.
    pub local: SocketAddr,
    /// How it came.
    pub transport: Transport,
    /// Bytes of the message.
    pub size: usize,
    /// When it was read from its socket.
    pub received: Instant,
}

/// One query on its way through the chain: its [`Request`], whose fields can be read as if they were
/// its own, and the state that plugins change.
#[derive(Clone, Debug)]
pub struct Query {
    request: Request,
    /// The question as the plugins so far have made it; at first the original one.
    pub question: Question,
    /// The client's OPT record, as the plugins so far have made it.
    pub edns: Option<Edns>,
    /// The options of the client's OPT record that concern more than the client and us, as the plugins
    /// so far have made them: they go on to upstreams, and answers differ by them.
    pub options: Options,
    /// Whether upstreams are to recurse; at first as the client wants.
    pub onward_recursion: bool,
    /// Bytes of a UDP reply at most, whatever the client takes; at first [`Edns::OUR_UDP_PAYLOAD`].
    pub udp_limit: u16,
    /// How the reply is to be signed; there once the query's signature is verified.
    pub signer: Option<Arc<Signer>>,
    /// When waiting for a reply ends with a failure.
    pub deadline: Option<Instant>,
    /// How many sub-queries deep this is; 0 for a client's.
    pub depth: u8,
    /// What a sub-query leaves out.
    pub bypass: Bypass,
    /// What plugins have attached to it.
    pub extensions: Extensions,
}

/// Plugins that a sub-query passes without effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bypass {
    /// Caches do not answer from what they hold; they keep what comes.
    pub cache: bool,
    /// No addresses are translated into others.
    pub translation: bool,
}

impl Deref for Query {
    type Target = Request;

    fn deref(&self) -> &Request {
        &self.request
    }
}

impl Default for Query {
    /// An empty one, to be written over.
    fn default() -> Self {
        Self::internal(Question::default())
    }
}

impl Request {
    /// A request for `question` and nothing else, as from the server itself.
    pub fn internal(question: Question) -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            id: 0,
            asked: question,
            opcode: Opcode::QUERY,
            recursion_desired: true,
            checking_disabled: false,
            authentic_data: false,
            edns: None,
            held_serial: None,
            signed: None,
            client: nowhere,
            local: nowhere,
            transport: Transport::Udp,
            size: 0,
            received: Instant::now(),
        }
    }

    /// Whether the reply may be as many messages as it takes: that of a zone transfer over a stream
    /// (RFC 5936 section 2.2).
    pub fn takes_several_messages(&self) -> bool {
        matches!(self.asked.rtype, Type::AXFR | Type::IXFR)
            && matches!(
                self.transport,
                Transport::Tcp | Transport::Tls | Transport::Quic
            )
    }
}

impl Query {
    /// The query of a request, as no plugin has seen it yet.
    pub fn new(request: Request) -> Self {
        Self {
            question: request.asked,
            edns: request.edns,
            options: Options::default(),
            onward_recursion: request.recursion_desired,
            udp_limit: Edns::OUR_UDP_PAYLOAD,
            signer: None,
            deadline: None,
            depth: 0,
            bypass: Bypass::default(),
            extensions: Extensions::default(),
            request,
        }
    }

    /// A query for `question` and nothing else, as from the server itself: the start of sub-queries
    /// and tests.
    pub fn internal(question: Question) -> Self {
        Self::new(Request::internal(question))
    }

    /// Becomes the query of the request that `fill` makes of its own, in place, as no plugin has seen
    /// it yet.
    pub fn receive<T>(&mut self, fill: impl FnOnce(&mut Request) -> T) -> T {
        let outcome = fill(&mut self.request);
        // Each by its name, so that none is forgotten.
        let Self {
            request,
            question,
            edns,
            options,
            onward_recursion,
            udp_limit,
            signer,
            deadline,
            depth,
            bypass,
            extensions,
        } = self;
        question.copy_from(&request.asked);
        *edns = request.edns;
        options.clear();
        *onward_recursion = request.recursion_desired;
        *udp_limit = Edns::OUR_UDP_PAYLOAD;
        *signer = None;
        *deadline = None;
        *depth = 0;
        *bypass = Bypass::default();
        extensions.clear();
        outcome
    }

    /// The same client's query for something else, one level deeper.
    #[must_use]
    pub fn sub_query(&self, question: Question) -> Self {
        let mut sub_query = Self {
            question,
            depth: self.depth.saturating_add(1),
            extensions: self.extensions.inherited(),
            ..self.clone()
        };
        sub_query.request.asked = question;
        sub_query
    }

    /// Drops what it shares with others, once it has been answered.
    pub fn release(&mut self) {
        self.options.clear();
        self.extensions.clear();
        self.request.signed = None;
        self.signer = None;
    }

    /// Whether the client wants DNSSEC records (RFC 3225).
    pub fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// Whether the client understands the AD bit (RFC 6840 section 5.8).
    pub fn takes_authentic(&self) -> bool {
        self.authentic_data || self.dnssec_ok()
    }

    /// The largest reply that the client advertises for this transport, in bytes.
    pub fn payload(&self) -> usize {
        match (self.transport, self.edns) {
            (Transport::Udp, None) => MIN_UDP_PAYLOAD,
            (Transport::Udp, Some(edns)) => usize::from(edns.udp_payload).max(MIN_UDP_PAYLOAD),
            _ => MAX_MESSAGE,
        }
    }

    /// The largest reply that is sent, in bytes: what the client takes, and over UDP no more than
    /// [`Self::udp_limit`], so that no reply is fragmented (RFC 9715 section 3.2) and a forged
    /// sender's address is not worth much.
    pub fn reply_limit(&self) -> usize {
        let payload = self.payload();
        match self.transport {
            Transport::Udp => payload.min(usize::from(self.udp_limit).max(MIN_UDP_PAYLOAD)),
            _ => payload,
        }
    }

    /// Bytes that a reply has for records at most: what is left of [`Self::reply_limit`] behind the
    /// header, the question and the OPT record.
    pub fn record_room(&self) -> usize {
        let question = self.asked.name.as_wire().len() + 4;
        let opt = self.edns.map_or(0, |_| OPT_LENGTH);
        self.reply_limit()
            .saturating_sub(HEADER_LENGTH + question + opt)
    }
}

/// A question (RFC 1035 section 4.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name as spelled.
    pub name: Name,
    /// The name in lower case: what look-ups and cache keys use.
    pub lower: Name,
    /// The type.
    pub rtype: Type,
    /// The class.
    pub class: Class,
}

impl Question {
    /// A question; its lower-case name is computed here, once.
    pub fn new(name: Name, rtype: Type, class: Class) -> Self {
        Self {
            name,
            lower: name.to_lower(),
            rtype,
            class,
        }
    }

    /// Becomes `other`. Copies only the bytes in use: a name has room for 256, and most are short.
    pub fn copy_from(&mut self, other: &Self) {
        self.name.copy_from(&other.name);
        self.lower.copy_from(&other.lower);
        (self.rtype, self.class) = (other.rtype, other.class);
    }

    /// Whether both are the same question, in whatever spelling.
    pub fn same_as(&self, other: &Self) -> bool {
        self.lower == other.lower && self.rtype == other.rtype && self.class == other.class
    }
}

impl Default for Question {
    /// An empty one, to be written over.
    fn default() -> Self {
        Self::new(Name::ROOT, Type(0), Class(0))
    }
}

/// The fields of an OPT record (RFC 6891 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// The largest UDP reply that the sender accepts, in bytes.
    pub udp_payload: u16,
    /// The version; only 0 is defined.
    pub version: u8,
    /// The DO bit.
    pub dnssec_ok: bool,
    /// Whether the server's identity is asked for (RFC 5001).
    pub wants_nsid: bool,
    /// Whether the message was padded, so that its reply may be (RFC 7830 section 4).
    pub is_padded: bool,
}

impl Edns {
    /// The largest UDP message that this server accepts, in bytes; small enough to avoid fragmentation.
    pub const OUR_UDP_PAYLOAD: u16 = 1232;
}

/// The transport of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A stream (RFC 7766).
    Tcp,
    /// DNS over TLS (RFC 7858).
    Tls,
    /// DNS over HTTPS (RFC 8484), HTTP/1.1 or 2.
    Https,
    /// DNS over HTTP/3.
    Https3,
    /// DNS over QUIC (RFC 9250).
    Quic,
    /// CoreDNS's service of gRPC.
    Grpc,
}

impl Transport {
    /// Whether it is encrypted, here or by a proxy in front.
    pub fn is_encrypted(self) -> bool {
        !matches!(self, Self::Udp | Self::Tcp)
    }

    /// Its label in metrics and logs: the protocol of its packets, as CoreDNS has it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Udp | Self::Quic | Self::Https3 => "udp",
            Self::Tcp | Self::Tls | Self::Https | Self::Grpc => "tcp",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_replies_are_not_fragmented() {
        let mut query = Query::default();
        for (advertised, udp_limit, limit) in [
            (None, 1232, 512),
            (None, 4096, 512),
            (Some(0), 1232, 512),
            (Some(1200), 1232, 1200),
            (Some(4096), 1232, 1232),
            (Some(65_535), 1232, 1232),
            (Some(65_535), 4096, 4096),
            (Some(1232), 512, 512),
            (Some(1232), 0, 512),
        ] {
            let edns = advertised.map(|udp_payload| Edns {
                udp_payload,
                version: 0,
                dnssec_ok: false,
                wants_nsid: false,
                is_padded: false,
            });
            query.receive(|it| (it.edns, it.transport) = (edns, Transport::Udp));
            query.udp_limit = udp_limit;
            assert_eq!(query.reply_limit(), limit, "{advertised:?} {udp_limit}");
            // The header, the root's question and perhaps an OPT record.
            let fixed = if advertised.is_some() { 28 } else { 17 };
            assert_eq!(query.record_room(), limit - fixed);
            query.receive(|it| it.transport = Transport::Tcp);
            assert_eq!(query.reply_limit(), MAX_MESSAGE);
        }
    }
}
