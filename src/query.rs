//! The question: as asked (kept), as rewritten, who asks, over what.

use std::{any::Any, net::SocketAddr, sync::Arc, time::Instant};

use crate::{
    edns::Options,
    tsig::{Signed, Signer},
    wire::{Class, HEADER_LENGTH, MAX_MESSAGE, MIN_UDP_PAYLOAD, Name, Opcode, Type},
};

/// Bytes of an OPT record without options (RFC 6891 section 6.1.2).
pub const OPT_LENGTH: usize = 11;

/// One query on its way through the chain.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // header bits, independent of each other
pub struct Query {
    /// The client's message id.
    pub id: u16,
    /// The question as the client asked it. No plugin changes it: the reply repeats it.
    pub asked: Question,
    /// The question as the plugins so far have made it; at first the same.
    pub question: Question,
    /// What the client wants done; only [`Opcode::QUERY`] gets as far as a plugin.
    pub opcode: Opcode,
    /// The client wants recursion.
    pub recursion_desired: bool,
    /// What `header` makes of that wish towards upstreams.
    pub onward_recursion: Option<bool>,
    /// The client checks signatures for itself; handed on to upstreams, part of a cache's key.
    pub checking_disabled: bool,
    /// The client understands the AD bit (RFC 6840 §5.7).
    pub authentic_data: bool,
    /// What the client's OPT record said, where it sent one.
    pub edns: Option<Edns>,
    /// Bytes of a UDP reply at most, whatever the client takes: [`Edns::OUR_UDP_PAYLOAD`], unless
    /// `bufsize` sets another limit.
    pub udp_limit: u16,
    /// The options of that record that concern more than the client and us, as the plugins so far
    /// have made them: they go on to upstreams, and answers differ by them.
    pub options: Options,
    /// What `rewrite` did on the way in, for its way out.
    pub rewritten: Option<Arc<dyn Any + Send + Sync>>,
    /// The serial of the zone that a secondary holds: an IXFR question must tell it (RFC 1995 §3).
    pub held_serial: Option<u32>,
    /// The message, where it is signed.
    pub signed: Option<Arc<Signed>>,
    /// How the reply is to be signed; set by whoever has verified the query's signature.
    pub signer: Option<Arc<Signer>>,
    /// Who asks.
    pub client: SocketAddr,
    /// The address that was asked.
    pub local: SocketAddr,
    /// How it came.
    pub transport: Transport,
    /// Octets of the query as it came.
    pub size: usize,
    /// When it was read from its socket.
    pub received: Instant,
    /// How many sub-queries deep this is; 0 for what a client asked.
    pub depth: u8,
    /// Whether a cache must fetch anew rather than answer from what it holds.
    pub refresh: bool,
    /// Whether addresses are to be told as they are, and none made of others.
    pub untranslated: bool,
    /// When whoever is still waited for is given up: nothing but what `cancel` says.
    pub deadline: Option<Instant>,
    /// The trace that the query is part of, if it is in one.
    pub traced: Option<Traced>,
}

/// A query's place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traced {
    /// The number of the trace, and of the span of the whole query in it.
    pub id: u64,
}

impl Default for Query {
    /// One that nobody asks, to be written over.
    fn default() -> Self {
        Self::internal(Question::default())
    }
}

impl Query {
    /// A query for `question` and nothing else, as from the server itself: the start of sub-queries
    /// and tests.
    pub fn internal(question: Question) -> Self {
        let nobody = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            id: 0,
            asked: question,
            question,
            opcode: Opcode::QUERY,
            recursion_desired: true,
            onward_recursion: None,
            checking_disabled: false,
            authentic_data: false,
            edns: None,
            udp_limit: Edns::OUR_UDP_PAYLOAD,
            options: Options::default(),
            rewritten: None,
            held_serial: None,
            signed: None,
            signer: None,
            client: nobody,
            local: nobody,
            transport: Transport::Udp,
            size: 0,
            received: Instant::now(),
            depth: 0,
            refresh: false,
            untranslated: false,
            deadline: None,
            traced: None,
        }
    }

    /// The same client's query for something else, one level deeper.
    #[must_use]
    pub fn sub_query(&self, question: Question) -> Self {
        Self {
            asked: question,
            question,
            depth: self.depth.saturating_add(1),
            rewritten: None,
            ..self.clone()
        }
    }

    /// Lets go of what it shares with others, once it has been answered.
    pub fn release(&mut self) {
        self.options.clear();
        self.rewritten = None;
        self.signed = None;
        self.signer = None;
    }

    /// Whether the client wants DNSSEC records (RFC 3225).
    pub fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// Whether the reply may be as many messages as it takes: that of a zone transfer over a stream
    /// (RFC 5936 §2.2).
    pub fn takes_several_messages(&self) -> bool {
        matches!(self.asked.rtype, Type::AXFR | Type::IXFR)
            && matches!(
                self.transport,
                Transport::Tcp | Transport::Tls | Transport::Quic
            )
    }

    /// Whether the client understands the AD bit (RFC 6840 §5.8).
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

/// What is asked for.
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
    /// A question; its lower-case name is made here, once.
    pub fn new(name: Name, rtype: Type, class: Class) -> Self {
        Self {
            name,
            lower: name.to_lower(),
            rtype,
            class,
        }
    }

    /// Becomes `other`. No more is written than it takes: names are long, and most are short.
    pub fn copy_from(&mut self, other: &Self) {
        self.name.copy_from(&other.name);
        self.lower.copy_from(&other.lower);
        (self.rtype, self.class) = (other.rtype, other.class);
    }

    /// Whether both ask the same, whatever the spelling.
    pub fn same_as(&self, other: &Self) -> bool {
        self.lower == other.lower && self.rtype == other.rtype && self.class == other.class
    }
}

impl Default for Question {
    /// One that nobody asks, to be written over.
    fn default() -> Self {
        Self::new(Name::ROOT, Type(0), Class(0))
    }
}

/// What an OPT record says (RFC 6891 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// Octets of a UDP reply that the sender takes.
    pub udp_payload: u16,
    /// 0 is the only version there is.
    pub version: u8,
    /// The DO bit.
    pub dnssec_ok: bool,
    /// Whether the server's identity is asked for (RFC 5001).
    pub wants_nsid: bool,
    /// Whether the message was padded, so that its reply may be (RFC 7830 section 4).
    pub is_padded: bool,
}

impl Edns {
    /// Octets of a UDP message that we take, small enough never to be fragmented.
    pub const OUR_UDP_PAYLOAD: u16 = 1232;
}

/// What a query came over.
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
    /// Whether what is sent over it is encrypted, here or by whatever stands before it.
    pub fn is_encrypted(self) -> bool {
        !matches!(self, Self::Udp | Self::Tcp)
    }

    /// The word for it in metrics and logs: what packets it comes in, as CoreDNS has it.
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
            query.edns = advertised.map(|udp_payload| Edns {
                udp_payload,
                version: 0,
                dnssec_ok: false,
                wants_nsid: false,
                is_padded: false,
            });
            query.udp_limit = udp_limit;
            query.transport = Transport::Udp;
            assert_eq!(query.reply_limit(), limit, "{advertised:?} {udp_limit}");
            // The header, the root's question and perhaps an OPT record.
            let fixed = if advertised.is_some() { 28 } else { 17 };
            assert_eq!(query.record_room(), limit - fixed);
            query.transport = Transport::Tcp;
            assert_eq!(query.reply_limit(), MAX_MESSAGE);
        }
    }
}
