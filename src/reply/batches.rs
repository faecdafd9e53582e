//! Replies that are generated in batches: zone transfers.

use std::{fmt, sync::Arc};

use super::Reply;

/// Approximate size of a batch in bytes: a few messages of a stream. The records of a single name
/// can exceed it.
const BATCH_BYTES: usize = 64 << 10;

/// A snapshot of all records of a zone transfer.
pub trait RecordSource: Send + Sync {
    /// Adds records to `reply`, which has none, starting at position `at` (0 for the first). Stops
    /// when [`Reply::is_batch_full`] is true. Returns the next position, greater than `at`, or
    /// `None` at the end.
    fn write(&self, at: usize, reply: &mut Reply) -> Option<usize>;
}

/// Records of a reply that are still to be written.
#[derive(Clone)]
pub struct RemainingRecords {
    source: Arc<dyn RecordSource>,
    at: usize,
}

impl RemainingRecords {
    /// All records of `source`.
    pub fn new(source: Arc<dyn RecordSource>) -> Self {
        Self { source, at: 0 }
    }
}

impl fmt::Debug for RemainingRecords {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("RemainingRecords")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Reply {
    /// Appends the next batch of [`Reply::remaining`].
    pub fn add_batch(&mut self) {
        if let Some(RemainingRecords { source, at }) = self.remaining.take() {
            let next = source.write(at, self);
            self.remaining = next.map(|at| RemainingRecords { source, at });
        }
    }

    /// Whether the reply has reached the size of a batch.
    pub fn is_batch_full(&self) -> bool {
        self.arena.len() >= BATCH_BYTES
    }

    /// Appends all remaining records, for transports with a single response message.
    pub fn complete(&mut self) {
        while let Some(RemainingRecords { source, at }) = self.remaining.take() {
            let mut part = Self::default();
            let next = source.write(at, &mut part);
            for section in super::Section::ALL {
                self.push_all_from(section, super::Owner::Question, &part);
            }
            self.remaining = next.map(|at| RemainingRecords { source, at });
        }
    }
}
