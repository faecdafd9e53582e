//! Makes messages from client queries (in the plugin) and from exchanges with upstreams (in `forward`).

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::{
    Config,
    message::{Kind, Message},
    sink::DnstapSink,
};
use crate::{
    message::{Writer, write_query},
    plugin::{
        Block, Written,
        forward::ExchangeObserver,
        host_name::host_name,
        log::{Format, LoggedOutcome},
        metadata::Published,
    },
    query::{Query, Transport},
    reply::Reply,
    upstream::AttemptReport,
};

/// One `dnstap` of a block, as an observer of its queries and exchanges.
pub struct Tap {
    sink: Arc<DnstapSink>,
    full: bool,
    identity: Box<[u8]>,
    version: Box<[u8]>,
    extra: Option<Format>,
    published: Option<Arc<Published>>,
}

impl Tap {
    /// A tap that sends to `sink`.
    pub(super) fn new(
        config: &Config,
        sink: Arc<DnstapSink>,
        published: Option<Arc<Published>>,
    ) -> Self {
        let identity = config.identity.clone().unwrap_or_else(host_name);
        Self {
            sink,
            full: config.full,
            identity: identity.into_bytes().into(),
            version: config.version.clone().into_bytes().into(),
            extra: config.extra.as_deref().map(Format::new),
            published,
        }
    }

    /// The sink of its messages.
    pub(super) fn sink(&self) -> &DnstapSink {
        &self.sink
    }

    /// Sends a message for a client's query.
    pub(super) fn client_query(&self, block: &Block, query: &Query) {
        let mut message = Message::of(Kind::ClientQuery);
        message.set_client(query.client, query.transport);
        message.set_query_time(wall(query.received));
        if self.full {
            message.query_message = Some(as_received(query));
        }
        self.send(message, block, query);
    }

    /// Sends a message for the reply to a client.
    pub(super) fn client_response(
        &self,
        block: &Block,
        query: &Query,
        reply: &Reply,
        written: Written,
    ) {
        let mut message = Message::of(Kind::ClientResponse);
        message.set_client(query.client, query.transport);
        let received = wall(query.received);
        message.set_query_time(received);
        message.set_response_time(received + written.took);
        if self.full {
            let mut bytes = Vec::with_capacity(written.size);
            Writer::default().write(query, reply, &mut bytes);
            message.response_message = Some(bytes);
        }
        self.send(message, block, query);
    }

    fn send(&self, message: Message, block: &Block, query: &Query) {
        let extra = self.extra.as_ref().map(|format| {
            let mut out = Vec::new();
            let metadata = |label: &str| {
                let published = self.published.as_ref()?;
                published.value(block.chain.plugins(), query, None, label)
            };
            format.write(&mut out, query, LoggedOutcome::Pending, metadata);
            out
        });
        self.sink
            .push(message.encode(&self.identity, &self.version, extra));
    }
}

impl ExchangeObserver for Tap {
    fn observes(&self, _: &Query) -> bool {
        true
    }

    fn exchanged(&self, block: &Block, query: &Query, attempt: &AttemptReport<'_>) {
        let source = attempt.reply.and_then(|reply| reply.source.as_ref());
        let local: Option<SocketAddr> = source.and_then(|source| source.local);
        let begun = wall(attempt.started);
        let begin = |kind| {
            let mut message = Message::of(kind);
            if let Some(local) = local {
                message.set_client(local, attempt.transport);
            }
            message.set_server(attempt.upstream, attempt.transport);
            message.set_query_time(begun);
            message
        };
        let mut message = begin(Kind::ForwarderQuery);
        if self.full {
            message.query_message = Some(as_forwarded(query));
        }
        self.send(message, block, query);
        let Some(reply) = attempt.reply else { return };
        let mut message = begin(Kind::ForwarderResponse);
        message.set_response_time(begun + attempt.duration);
        if self.full {
            let mut bytes = Vec::new();
            let mut over_tcp = query.clone();
            over_tcp.receive(|request| {
                request.original = query.question;
                request.transport = Transport::Tcp;
            });
            Writer::default().write(&over_tcp, reply, &mut bytes);
            message.response_message = Some(bytes);
        }
        self.send(message, block, query);
    }
}

/// Wall-clock time of an instant. Reads the clock at each call, so that adjustments take effect at once.
fn wall(moment: Instant) -> SystemTime {
    SystemTime::now() - moment.elapsed()
}

/// The query as received, rebuilt from its parsed fields.
fn as_received(query: &Query) -> Vec<u8> {
    write_query(
        query.id,
        &query.original,
        query.recursion_desired,
        query.checking_disabled,
        query.authentic_data,
        query.edns,
        &query.options,
    )
}

/// The query as forwarded to upstreams, with the client's message id.
fn as_forwarded(query: &Query) -> Vec<u8> {
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
