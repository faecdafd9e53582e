//! A reply of several messages, written part by part: a zone is never in memory as one reply, and is not
//! built on a thread that reads queries.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    message::Writer,
    metrics::Metrics,
    plugin::{Block, Context, SubQueryHandler, Written},
    query::Query,
    reply::{Reply, Why},
    wire::Rcode,
};

/// Bytes that the transfers being written hold at a time: some 0.25 MiB each, with the order of 10,000 Services.
pub(crate) const TRANSFER_BYTES: usize = MAX_TRANSFERS << 18;

/// Transfers of the process that are written at a time, to bound their memory; others wait for one of them.
const MAX_TRANSFERS: usize = 16;

static TRANSFERS: Semaphore = Semaphore::const_new(MAX_TRANSFERS);

/// A zone transfer in progress (RFC 5936, RFC 1995), or an error reply.
pub struct Transfer {
    query: Query,
    reply: Reply,
    block: Arc<Block>,
    metrics: Arc<Metrics>,
    sub_queries: Arc<dyn SubQueryHandler>,
    writer: Writer,
    /// The signature of the last message, which the next one covers (RFC 8945 section 5.3.1).
    signature: Option<Vec<u8>>,
    /// Held from the first part to the last.
    permit: Option<SemaphorePermit<'static>>,
    bytes: usize,
}

impl Transfer {
    /// The reply to `query`, followed by [`Reply::remaining`], if there is any.
    pub(super) fn new(
        query: Query,
        reply: Reply,
        block: &Arc<Block>,
        metrics: &Arc<Metrics>,
        sub_queries: &Arc<dyn SubQueryHandler>,
    ) -> Self {
        Self {
            query,
            reply,
            block: Arc::clone(block),
            metrics: Arc::clone(metrics),
            sub_queries: Arc::clone(sub_queries),
            writer: Writer::default(),
            signature: None,
            permit: None,
            bytes: 0,
        }
    }

    /// The next messages, each preceded by its length, and the transfer itself if more follow. The first
    /// part is built on a blocking thread, since it copies and sorts the state of a large cluster.
    pub async fn next(mut self: Box<Self>) -> (Vec<u8>, Option<Box<Self>>) {
        if self.permit.is_some() || self.reply.remaining.is_none() {
            // Other tasks run between two parts.
            tokio::task::yield_now().await;
            return self.write();
        }
        // The semaphore is never closed.
        self.permit = TRANSFERS.acquire().await.ok();
        let written = tokio::task::spawn_blocking(move || self.write()).await;
        // It fails when the runtime shuts down.
        written.unwrap_or_default()
    }

    /// Writes the next part: see [`Self::next`].
    fn write(mut self: Box<Self>) -> (Vec<u8>, Option<Box<Self>>) {
        let mut out = Vec::new();
        let part = AssertUnwindSafe(|| self.write_part(&mut out));
        if catch_unwind(part).is_err() {
            // The client must not accept the partial transfer as complete.
            self.metrics.panics_total.inc();
            tracing::error!(
                server = %self.block.server,
                "a zone transfer made the server panic; it was aborted"
            );
            out.clear();
            self.reply = Reply::failure(Rcode::SERVFAIL, Why::Internal);
            let (query, signature) = (&self.query, &mut self.signature);
            let mut writer = Writer::default();
            writer.write_stream(query, &self.reply, signature, &mut out);
        }
        self.bytes += out.len();
        if self.reply.remaining.is_some() {
            return (out, Some(self));
        }
        let written = Written {
            size: self.bytes,
            truncated: self.reply.truncated,
            took: self.query.received.elapsed(),
        };
        let (block, query) = (&self.block, &self.query);
        block.chain.wrote(block, query, &self.reply, written);
        (out, None)
    }

    fn write_part(&mut self, out: &mut Vec<u8>) {
        if let Some(rest) = self.reply.remaining.take() {
            // The header as the response hooks saw it, without the records that were sent already.
            let mut part = Reply::failure(self.reply.rcode, self.reply.why);
            part.authoritative = self.reply.authoritative;
            part.recursion_available = self.reply.recursion_available;
            part.answered_by = self.reply.answered_by;
            part.remaining = Some(rest);
            part.add_batch();
            let context = Context {
                sub_queries: &self.sub_queries,
                block: &self.block,
            };
            self.block.chain.amend(&context, &self.query, &mut part);
            self.reply = part;
        }
        let (query, signature) = (&self.query, &mut self.signature);
        self.writer.write_stream(query, &self.reply, signature, out);
    }
}
