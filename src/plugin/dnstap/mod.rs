//! `dnstap`: tells another program of every query and reply, as messages of dnstap.
//!
//! ```text
//! dnstap [listen] SOCKET [full] [WRITEBUF [QUEUE]] { ... }
//! ```
//!
//! `parse` is the Corefile's form, `message` what a message holds, `tap` makes messages of queries,
//! `frames` is the framing on the wire, and `sink` takes messages there: over a connection of
//! ours, or to whoever connects to us. Whoever answers never waits for whoever listens: what
//! does not fit into the queue is dropped and counted.

mod frames;
pub mod message;
mod parse;
mod sink;
pub mod tap;

use std::{future::Future, path::PathBuf, pin::Pin, sync::Arc};

pub use parse::parse;

use super::{
    Block, Build, BuildError, Context, Plugin, Setup, Step, Written, forward::OfferedObserver,
    metadata::Published,
};
use crate::{query::Query, reply::Reply};
use sink::Sink;
use tap::Tap;

/// The Corefile's word.
const NAME: &str = "dnstap";

/// Messages in a queue, for each of QUEUE.
const QUEUE: usize = 10_000;
/// Octets of a socket's buffer, for each of WRITEBUF.
const WRITE_BUFFER: usize = 1024 * 1024;

/// What a directive says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether whoever wants messages connects to us.
    pub listen: bool,
    /// Where to.
    pub socket: Socket,
    /// Whether messages hold the queries and replies themselves.
    pub full: bool,
    /// Octets of the socket's buffer, for TCP.
    pub write_buffer: usize,
    /// Messages that may wait.
    pub queue: usize,
    /// Who we say we are; the host's name without one.
    pub identity: Option<String>,
    /// What we say we are.
    pub version: String,
    /// What is told beside each message, placeholders in it.
    pub extra: Option<String>,
    /// What may be known beside a query, where the block has `metadata`.
    pub metadata: Option<Published>,
    /// Whether a certificate need not be valid.
    pub skip_verify: bool,
    /// Our certificate and key where we listen, and the authority that clients must be of.
    pub tls: Option<(PathBuf, PathBuf, Option<PathBuf>)>,
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Socket {
    /// A socket of the file system.
    Unix(PathBuf),
    /// Host and port.
    Tcp(String, u16),
    /// The same, over TLS.
    Tls(String, u16),
}

impl Setup for Config {
    fn offers(&self) -> bool {
        true
    }

    fn build(&self, build: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        let key = format!(
            "{:?} {} {} {} {:?}",
            self.socket, self.queue, self.write_buffer, self.skip_verify, self.tls
        );
        let kept = build.parts.keep(&key, || Sink::open(self, build.runtime));
        let sink = kept.map_err(|source| BuildError {
            plugin: NAME,
            action: "TLS".to_owned(),
            source: Some(source),
        })?;
        let tap = Arc::new(Tap::new(self, sink));
        let observer = OfferedObserver(Arc::clone(&tap) as _);
        build.offered.push(Arc::new(observer));
        Ok(Arc::new(Dnstap(tap)))
    }
}

/// The plugin, which leaves every question to the next one.
struct Dnstap(Arc<Tap>);

impl Plugin for Dnstap {
    fn name(&self) -> &'static str {
        NAME
    }

    fn ask(&self, context: &Context<'_>, query: &mut Query, _: &mut Reply) -> Step {
        // What plugins ask among themselves is no client's.
        if query.depth == 0 {
            self.0.client_query(context.block, query);
        }
        Step::Pass
    }

    fn observes(&self) -> bool {
        true
    }

    fn ended(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        Some(Box::pin(self.0.sink().end()))
    }

    fn wrote(&self, block: &Block, query: &Query, reply: &Reply, written: Written) {
        self.0.client_response(block, query, reply, written);
    }
}
