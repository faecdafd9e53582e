//! Values that cannot be decoded: left out, and each reported once.

use std::{collections::HashSet, hash::BuildHasher};

use parking_lot::Mutex;
use prometheus::IntCounter;
use serde_json::error::Category;

use super::client::KeyValue;

/// Bound on the remembered values; beyond it, none is reported.
const MAX_REPORTED: usize = 1000;

/// The values reported so far.
pub(super) struct Unreadable {
    /// Hashes of keys with their values, so that another value of a key is reported again.
    reported: Mutex<HashSet<u64>>,
    hasher: foldhash::fast::RandomState,
    left_out: IntCounter,
}

impl Unreadable {
    /// Counts each value in `left_out`.
    pub(super) fn new(left_out: IntCounter) -> Self {
        Self {
            reported: Mutex::default(),
            hasher: foldhash::fast::RandomState::default(),
            left_out,
        }
    }

    /// Reports a value and why it cannot be used, unless that was done before.
    pub(super) fn report(&self, pair: &KeyValue, why: &str) {
        let hash = self.hasher.hash_one((&pair.key, &pair.value));
        let mut reported = self.reported.lock();
        if reported.len() >= MAX_REPORTED || !reported.insert(hash) {
            return;
        }
        self.left_out.inc();
        tracing::warn!("left out: {why}");
    }
}

/// Describes why a value is not a service.
pub(super) fn explain(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        Category::Data => "a field is of another type than documented",
        Category::Syntax | Category::Eof | Category::Io => "it is not JSON",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}
