//! A reply of several messages, written part by part: a zone is never in memory as a whole reply, and
//! is not built on the thread that reads the queries of other clients.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::{
    message::Writer,
    metrics::Metrics,
    plugin::{Block, Context, Door, Written},
    query::Query,
    reply::{Reply, Why},
    wire::Rcode,
};

/// A zone transfer in progress (RFC 5936), or a failure in its place.
pub struct Transfer {
    query: Query,
    reply: Reply,
    block: Arc<Block>,
    metrics: Arc<Metrics>,
    door: Arc<dyn Door>,
    writer: Writer,
    /// Of the last message, which the next one's covers (RFC 8945 §5.3.1).
    signature: Option<Vec<u8>>,
    is_begun: bool,
    octets: usize,
}

impl Transfer {
    /// The reply to `query`, of which [`Reply::rest`] may be still to come.
    pub(super) fn new(
        query: Query,
        reply: Reply,
        block: &Arc<Block>,
        metrics: &Arc<Metrics>,
        door: &Arc<dyn Door>,
    ) -> Self {
        Self {
            query,
            reply,
            block: Arc::clone(block),
            metrics: Arc::clone(metrics),
            door: Arc::clone(door),
            writer: Writer::default(),
            signature: None,
            is_begun: false,
            octets: 0,
        }
    }

    /// The next messages, each with its length before it, and the transfer itself where there are
    /// more behind them. The first part is made on a thread that may be held up: the state of a
    /// large cluster is taken and sorted for it.
    pub async fn next(mut self: Box<Self>) -> (Vec<u8>, Option<Box<Self>>) {
        if self.is_begun || self.reply.rest.is_none() {
            // Other connections have their turn between two parts.
            tokio::task::yield_now().await;
            return self.write();
        }
        self.is_begun = true;
        let written = tokio::task::spawn_blocking(move || self.write()).await;
        // It fails where the runtime ends.
        written.unwrap_or_default()
    }

    /// See [`Self::next`].
    fn write(mut self: Box<Self>) -> (Vec<u8>, Option<Box<Self>>) {
        let mut out = Vec::new();
        let part = AssertUnwindSafe(|| self.write_part(&mut out));
        if catch_unwind(part).is_err() {
            // The client must not take what it has for the zone.
            self.metrics.panics_total.inc();
            tracing::error!(
                server = %self.block.server,
                "a zone transfer made the server panic; it was ended"
            );
            out.clear();
            self.reply = Reply::failure(Rcode::SERVFAIL, Why::Internal);
            let (query, signature) = (&self.query, &mut self.signature);
            let mut writer = Writer::default();
            writer.write_several(query, &self.reply, signature, &mut out);
        }
        self.octets += out.len();
        if self.reply.rest.is_some() {
            return (out, Some(self));
        }
        let written = Written {
            octets: self.octets,
            truncated: self.reply.truncated,
            took: self.query.received.elapsed(),
        };
        let (block, query) = (&self.block, &self.query);
        block.chain.wrote(block, query, &self.reply, written);
        (out, None)
    }

    fn write_part(&mut self, out: &mut Vec<u8>) {
        if let Some(rest) = self.reply.rest.take() {
            // As plugins saw it on its way out, without what they have made of it already.
            let mut part = Reply::failure(self.reply.rcode, self.reply.why);
            part.authoritative = self.reply.authoritative;
            part.recursion_available = self.reply.recursion_available;
            part.answered_by = self.reply.answered_by;
            part.rest = Some(rest);
            part.add_part();
            let context = Context {
                door: &self.door,
                block: &self.block,
            };
            self.block.chain.amend(&context, &self.query, &mut part);
            self.reply = part;
        }
        let (query, signature) = (&self.query, &mut self.signature);
        self.writer
            .write_several(query, &self.reply, signature, out);
    }
}
