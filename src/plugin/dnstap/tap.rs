//! Messages made of queries and replies, for those who have them: the plugin itself, and `forward`.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::{
    Config,
    message::{Kind, Message},
    sink::Sink,
};
use crate::{
    message::{Writer, write_query},
    plugin::{
        Block, Written,
        forward::ExchangeObserver,
        host_name::host_name,
        log::{Format, Outcome},
        metadata::Published,
    },
    query::{Query, Transport},
    reply::Reply,
    upstream::Tried,
};

/// One `dnstap` of a block, as others see it.
pub struct Tap {
    sink: Arc<Sink>,
    full: bool,
    identity: Box<[u8]>,
    version: Box<[u8]>,
    extra: Option<Format>,
    published: Option<Published>,
}

impl Tap {
    /// A tap that tells `sink`.
    pub(super) fn new(config: &Config, sink: Arc<Sink>) -> Self {
        let identity = config.identity.clone().unwrap_or_else(host_name);
        Self {
            sink,
            full: config.full,
            identity: identity.into_bytes().into(),
            version: config.version.clone().into_bytes().into(),
            extra: config.extra.as_deref().map(Format::new),
            published: config.metadata.clone(),
        }
    }

    /// Where its messages go.
    pub(super) fn sink(&self) -> &Sink {
        &self.sink
    }

    /// A client asks.
    pub(super) fn client_query(&self, block: &Block, query: &Query) {
        let mut message = Message::of(Kind::ClientQuery);
        message.asked_from(query.client, query.transport);
        message.asked_at(wall(query.received));
        if self.full {
            message.query_message = Some(as_asked(query));
        }
        self.tell(message, block, query);
    }

    /// A client was answered.
    pub(super) fn client_response(
        &self,
        block: &Block,
        query: &Query,
        reply: &Reply,
        written: Written,
    ) {
        let mut message = Message::of(Kind::ClientResponse);
        message.asked_from(query.client, query.transport);
        let asked = wall(query.received);
        message.asked_at(asked);
        message.answered_at(asked + written.took);
        if self.full {
            let mut octets = Vec::with_capacity(written.octets);
            Writer::default().write(query, reply, &mut octets);
            message.response_message = Some(octets);
        }
        self.tell(message, block, query);
    }

    fn tell(&self, message: Message, block: &Block, query: &Query) {
        let extra = self.extra.as_ref().map(|format| {
            let mut out = Vec::new();
            let metadata = |label: &str| {
                let published = self.published.as_ref()?;
                published.value(&block.chain, query, label)
            };
            format.write(&mut out, query, Outcome::Pending, metadata);
            out
        });
        self.sink
            .push(message.wrapped(&self.identity, &self.version, extra));
    }
}

impl ExchangeObserver for Tap {
    fn observes(&self, _: &Query) -> bool {
        true
    }

    fn exchanged(&self, block: &Block, query: &Query, tried: &Tried<'_>) {
        let heard = tried.reply.and_then(|reply| reply.heard.as_ref());
        let local: Option<SocketAddr> = heard.and_then(|heard| heard.local);
        let begun = wall(tried.begun);
        let begin = |kind| {
            let mut message = Message::of(kind);
            if let Some(local) = local {
                message.asked_from(local, tried.over);
            }
            message.asked_of(tried.upstream, tried.over);
            message.asked_at(begun);
            message
        };
        let mut message = begin(Kind::ForwarderQuery);
        if self.full {
            message.query_message = Some(as_rewritten(query));
        }
        self.tell(message, block, query);
        let Some(reply) = tried.reply else { return };
        let mut message = begin(Kind::ForwarderResponse);
        message.answered_at(begun + tried.took);
        if self.full {
            let mut octets = Vec::new();
            let as_asked_of_upstream = Query {
                asked: query.question,
                transport: Transport::Tcp,
                ..query.clone()
            };
            Writer::default().write(&as_asked_of_upstream, reply, &mut octets);
            message.response_message = Some(octets);
        }
        self.tell(message, block, query);
    }
}

/// The time of a moment: the clock is read now, so that a correction of it shows at once.
fn wall(moment: Instant) -> SystemTime {
    SystemTime::now() - moment.elapsed()
}

/// The query as it came, as far as it is kept.
fn as_asked(query: &Query) -> Vec<u8> {
    write_query(
        query.id,
        &query.asked,
        query.recursion_desired,
        query.checking_disabled,
        query.authentic_data,
        query.edns,
        &query.options,
    )
}

/// The query as it goes to upstreams, under the client's id.
fn as_rewritten(query: &Query) -> Vec<u8> {
    write_query(
        query.id,
        &query.question,
        query.recursion_desired,
        query.checking_disabled,
        true,
        query.edns,
        &query.options,
    )
}
