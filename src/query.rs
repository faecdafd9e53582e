//! A query: the immutable request as received, and the state that the plugin chain modifies.

mod extensions;
mod recorder;

use std::{net::SocketAddr, ops::Deref, sync::Arc, time::Instant};

pub use extensions::{Extension, Extensions};
pub use recorder::{RecordedStep, Recorder};

use crate::{
    edns::Options,
    tsig::{Signed, Signer},
    wire::{Class, HEADER_LENGTH, MAX_MESSAGE, MIN_UDP_PAYLOAD, Name, Opcode, Type},
};

/// Bytes of an OPT record without options (RFC 6891 section 6.1.2).
pub const OPT_LENGTH: usize = 11;

/// A client's request as received, with its transport.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // header bits, independent of each other
pub struct Request {
    /// The client's message id.
    pub id: u16,
    /// The original question, repeated in the reply.
    pub original: Question,
    /// The operation code. Only [`Opcode::QUERY`] reaches the plugins' query hooks.
    pub opcode: Opcode,
    /// The RD bit: the client requests recursion (RFC 1035 section 4.1.1).
    pub recursion_desired: bool,
    /// The CD bit: the client validates signatures itself (RFC 4035 section 3.2.2). Forwarded to
    /// upstreams, and part of the cache key.
    pub checking_disabled: bool,
    /// The AD bit: the client understands it in replies (RFC 6840 section 5.7).
    pub authentic_data: bool,
    /// The client's OPT record, if any.
    pub edns: Option<Edns>,
    /// The zone serial that a secondary holds, from an IXFR query (RFC 1995 section 3).
    pub held_serial: Option<u32>,
    /// The signed message, if it has a TSIG record (RFC 8945).
    pub signed: Option<Arc<Signed>>,
    /// The client's address.
    pub client: SocketAddr,
    /// The local address that received the request.
    pub local: SocketAddr,
    /// The transport.
    pub transport: Transport,
    /// Size of the message in bytes.
    pub size: usize,
    /// When it was read from its socket.
    pub received: Instant,
}

/// A query in the plugin chain: its immutable [`Request`], whose fields are accessible through
/// `Deref`, and the state that plugins modify.
#[derive(Clone, Debug)]
pub struct Query {
    request: Request,
    /// The current question: initially the original one, then as rewritten by plugins.
    pub question: Question,
    /// The client's OPT record, as modified by plugins.
    pub edns: Option<Edns>,
    /// The client's EDNS options that are forwarded to upstreams and that answers may depend on, as
    /// modified by plugins. Hop-by-hop options are not among them.
    pub options: Options,
    /// The RD bit of forwarded queries; initially the client's.
    pub onward_recursion: bool,
    /// Maximum size of a UDP reply in bytes, regardless of what the client advertises; initially
    /// [`Edns::OUR_UDP_PAYLOAD`].
    pub udp_limit: u16,
    /// Signs the reply. Set once the query's signature is verified.
    pub signer: Option<Arc<Signer>>,
    /// The time at which a pending query fails.
    pub deadline: Option<Instant>,
    /// Nesting depth of sub-queries; 0 for a client's query.
    pub depth: u8,
    /// The plugins that a sub-query bypasses.
    pub bypass: Bypass,
    /// Values that plugins have attached.
    pub extensions: Extensions,
    /// Records the walk; shared with sub-queries.
    pub recorder: Option<Arc<Recorder>>,
}

/// Plugins without effect on a sub-query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bypass {
    /// Caches are not read, but store the reply.
    pub cache: bool,
    /// No address translation.
    pub translation: bool,
}

impl Deref for Query {
    type Target = Request;

    fn deref(&self) -> &Request {
        &self.request
    }
}

impl Default for Query {
    /// An empty value, to be overwritten.
    fn default() -> Self {
        Self::internal(Question::default())
    }
}

impl Request {
    /// A request for `question` with default fields, made by the server itself.
    pub fn internal(question: Question) -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            id: 0,
            original: question,
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

    /// Whether the reply may span several messages: a zone transfer over a stream (RFC 5936 section
    /// 2.2).
    pub fn takes_several_messages(&self) -> bool {
        matches!(self.original.rtype, Type::AXFR | Type::IXFR)
            && matches!(
                self.transport,
                Transport::Tcp | Transport::Tls | Transport::Quic
            )
    }
}

impl Query {
    /// A query for a request, not yet modified by plugins.
    pub fn new(request: Request) -> Self {
        Self {
            question: request.original,
            edns: request.edns,
            options: Options::default(),
            onward_recursion: request.recursion_desired,
            udp_limit: Edns::OUR_UDP_PAYLOAD,
            signer: None,
            deadline: None,
            depth: 0,
            bypass: Bypass::default(),
            extensions: Extensions::default(),
            recorder: None,
            request,
        }
    }

    /// A query for `question` with default fields, made by the server itself: for internal look-ups
    /// and tests.
    pub fn internal(question: Question) -> Self {
        Self::new(Request::internal(question))
    }

    /// Reuses this query in place: `fill` writes the request, and all other state is reset.
    pub fn receive<T>(&mut self, fill: impl FnOnce(&mut Request) -> T) -> T {
        let outcome = fill(&mut self.request);
        // Destructured, so that a new field cannot be missed.
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
            recorder,
        } = self;
        question.copy_from(&request.original);
        *edns = request.edns;
        options.clear();
        *onward_recursion = request.recursion_desired;
        *udp_limit = Edns::OUR_UDP_PAYLOAD;
        *signer = None;
        *deadline = None;
        *depth = 0;
        *bypass = Bypass::default();
        extensions.clear();
        *recorder = None;
        outcome
    }

    /// A sub-query of the same client for another question, one level deeper.
    #[must_use]
    pub fn sub_query(&self, question: Question) -> Self {
        let mut sub_query = Self {
            question,
            depth: self.depth.saturating_add(1),
            extensions: self.extensions.inherited(),
            ..self.clone()
        };
        sub_query.request.original = question;
        sub_query
    }

    /// Drops its references to shared values, once it has been answered.
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

    /// The largest reply that the client accepts over this transport, in bytes: over UDP 512
    /// without EDNS (RFC 1035 section 4.2.1), and never less with it (RFC 6891 section 6.2.3).
    pub fn payload(&self) -> usize {
        match (self.transport, self.edns) {
            (Transport::Udp, None) => MIN_UDP_PAYLOAD,
            (Transport::Udp, Some(edns)) => usize::from(edns.udp_payload).max(MIN_UDP_PAYLOAD),
            _ => MAX_MESSAGE,
        }
    }

    /// The maximum size of the reply in bytes: the client's limit, and over UDP at most
    /// [`Self::udp_limit`]. That avoids fragmentation (RFC 9715 section 3.1) and bounds
    /// amplification with forged source addresses.
    pub fn reply_limit(&self) -> usize {
        let payload = self.payload();
        match self.transport {
            Transport::Udp => payload.min(usize::from(self.udp_limit).max(MIN_UDP_PAYLOAD)),
            _ => payload,
        }
    }

    /// Bytes available for records in the reply: [`Self::reply_limit`] less the header, the
    /// question and the OPT record.
    pub fn record_room(&self) -> usize {
        let question = self.original.name.as_wire().len() + 4;
        let opt = self.edns.map_or(0, |_| OPT_LENGTH);
        self.reply_limit()
            .saturating_sub(HEADER_LENGTH + question + opt)
    }
}

/// A question (RFC 1035 section 4.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name in its original case.
    pub name: Name,
    /// The name in lower case, for look-ups and cache keys.
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

    /// Copies `other` into this question. Only the bytes in use are copied: a name has a buffer of
    /// 256 bytes, and most are short.
    pub fn copy_from(&mut self, other: &Self) {
        self.name.copy_from(&other.name);
        self.lower.copy_from(&other.lower);
        (self.rtype, self.class) = (other.rtype, other.class);
    }

    /// Whether both are the same question, regardless of case.
    pub fn same_as(&self, other: &Self) -> bool {
        self.lower == other.lower && self.rtype == other.rtype && self.class == other.class
    }
}

impl Default for Question {
    /// An empty value, to be overwritten.
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
    /// Whether the NSID option is present (RFC 5001 section 2.1).
    pub wants_nsid: bool,
    /// Whether the message has a Padding option, so that its reply may have one (RFC 7830 section
    /// 4).
    pub is_padded: bool,
}

impl Edns {
    /// The largest UDP message that this server accepts, in bytes; small enough to avoid fragmentation.
    pub const OUR_UDP_PAYLOAD: u16 = 1232;

    /// The OPT record of the server's own queries: version 0, no flags, no options.
    pub const OURS: Self = Self {
        udp_payload: Self::OUR_UDP_PAYLOAD,
        version: 0,
        dnssec_ok: false,
        wants_nsid: false,
        is_padded: false,
    };
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
    /// CoreDNS's gRPC service.
    Grpc,
}

impl Transport {
    /// Whether it is encrypted, by this server or by a proxy in front of it.
    pub fn is_encrypted(self) -> bool {
        !matches!(self, Self::Udp | Self::Tcp)
    }

    /// The label in metrics and logs: the transport protocol, as in CoreDNS.
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
