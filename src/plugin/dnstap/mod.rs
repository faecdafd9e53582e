//! `dnstap`: exports every query and reply as dnstap messages.
//!
//! ```text
//! dnstap [listen] SOCKET [full] [WRITEBUF [QUEUE]] { ... }
//! ```
//!
//! `parse` reads the directive, `message` is the message format, `tap` makes messages from queries and
//! replies, `frames` is the framing, and `sink` sends messages: over an outgoing connection, or to
//! receivers that connect to a listener. Sending never delays a reply: messages that do not fit
//! into the bounded queue are dropped and counted.

mod frames;
pub mod message;
mod parse;
mod sink;
pub mod tap;

use std::{path::PathBuf, sync::Arc};

pub use parse::parse;

use super::{
    Block, Build, BuildError, Context, Observer, Offer, OnQuery, Plugin, Setup, Shutdown, Step,
    Work, Written,
};
use crate::hooks;
use crate::{query::Query, reply::Reply};
use sink::DnstapSink;
use tap::Tap;

/// The name of the plugin in a Corefile.
const NAME: &str = "dnstap";

/// Messages in a queue, for each of QUEUE.
const QUEUE: usize = 10_000;
/// Bytes that a queue has for each of its messages. With `full`, the usual one takes less.
const MESSAGE_BYTES: usize = 512;
/// Bytes of a socket's buffer, for each of WRITEBUF.
const WRITE_BUFFER: usize = 1024 * 1024;

/// The options of a directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether receivers connect to this server, instead of this server to a receiver.
    pub listen: bool,
    /// The endpoint to connect to or to listen on.
    pub socket: DnstapEndpoint,
    /// Whether messages hold the queries and replies in wire form.
    pub full: bool,
    /// Bytes of the socket's send buffer, for TCP.
    pub write_buffer: usize,
    /// Capacity of the queue in messages.
    pub queue: usize,
    /// The identity in messages; the host's name by default.
    pub identity: Option<String>,
    /// The version in messages.
    pub version: String,
    /// The field `extra` of messages, with placeholders.
    pub extra: Option<String>,
    /// Whether certificates are accepted without verification.
    pub skip_verify: bool,
    /// Certificate and key of a listener, and the authority of its clients' certificates.
    pub tls: Option<(PathBuf, PathBuf, Option<PathBuf>)>,
}

/// The endpoint of messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DnstapEndpoint {
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// Host and port.
    Tcp(String, u16),
    /// Host and port, over TLS.
    Tls(String, u16),
}

impl Config {
    /// Bound on the bytes of the messages in all queues of a sink: each message is counted once, however many
    /// receivers have it in their queue.
    fn queue_bytes(&self) -> usize {
        self.queue.saturating_mul(MESSAGE_BYTES)
    }

    /// Bound on the bytes of queues and of messages that are being written.
    pub fn max_bytes(&self) -> u64 {
        (self.queue_bytes() + sink::write_bytes(self.listen)) as u64
    }
}

impl Setup for Config {
    fn offers(&self) -> &'static [Offer] {
        &[Offer::ExchangeObservers]
    }

    fn needs(&self) -> &'static [Offer] {
        &[Offer::Metadata]
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Plugin, BuildError> {
        let key = format!(
            "{:?} {} {} {} {:?}",
            self.socket, self.queue, self.write_buffer, self.skip_verify, self.tls
        );
        let kept = build
            .resources
            .keep(&key, || DnstapSink::open(self, build.runtime));
        let sink = kept.map_err(|source| BuildError {
            plugin: NAME,
            action: "TLS".to_owned(),
            source: Some(source),
        })?;
        let tap = Arc::new(Tap::new(self, sink, build.offers.metadata.clone()));
        build.offers.exchange_observers.push(Arc::clone(&tap) as _);
        Ok(Plugin::from(Dnstap(tap)))
    }
}

/// The plugin, which passes every query.
struct Dnstap(Arc<Tap>);

hooks!(Dnstap, NAME => on_query, observer, shutdown);

impl OnQuery for Dnstap {
    fn on_query(&self, context: &Context<'_>, query: &mut Query, _: &mut Reply) -> Step {
        // Sub-queries of plugins are not from a client.
        if query.depth == 0 {
            self.0.client_query(context.block, query);
        }
        Step::Pass
    }
}

impl Observer for Dnstap {
    fn on_sent(&self, block: &Block, query: &Query, reply: &Reply, written: Written) {
        self.0.client_response(block, query, reply, written);
    }
}

impl Shutdown for Dnstap {
    fn ended(&self) -> Work {
        Box::pin(self.0.sink().end())
    }
}
