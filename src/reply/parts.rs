//! A reply that is written part by part, because it is a whole zone.

use std::{fmt, sync::Arc};

use super::Reply;

/// Bytes of records in a part, about: some messages of a stream. A single name may have more.
const PART: usize = 64 << 10;

/// What has all records of a reply, as they stand at one moment.
pub trait RecordSource: Send + Sync {
    /// Adds records to `reply`, which has none, beginning at number `at` of whatever it counts; at
    /// 0 with the first ones. Stops where [`Reply::is_part`] is true. Returns the number to go on with,
    /// which is greater than `at`, or nothing at the end.
    fn write(&self, at: usize, reply: &mut Reply) -> Option<usize>;
}

/// The records of a reply that are still to be written.
#[derive(Clone)]
pub struct Rest {
    source: Arc<dyn RecordSource>,
    at: usize,
}

impl Rest {
    /// All of them.
    pub fn new(source: Arc<dyn RecordSource>) -> Self {
        Self { source, at: 0 }
    }
}

impl fmt::Debug for Rest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Rest")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Reply {
    /// Puts the next part of [`Reply::rest`] behind the records that there are.
    pub fn add_part(&mut self) {
        if let Some(Rest { source, at }) = self.rest.take() {
            let next = source.write(at, self);
            self.rest = next.map(|at| Rest { source, at });
        }
    }

    /// Whether it has as many records as a part of it should.
    pub fn is_part(&self) -> bool {
        self.arena.len() >= PART
    }

    /// Puts everything behind the records that there are: for transports that send one message.
    pub fn complete(&mut self) {
        while let Some(Rest { source, at }) = self.rest.take() {
            let mut part = Self::default();
            let next = source.write(at, &mut part);
            for section in super::Section::ALL {
                self.push_all_from(section, super::Owner::Question, &part);
            }
            self.rest = next.map(|at| Rest { source, at });
        }
    }
}
