//! Whether queries to an upstream return to this server, as far as is known.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
};

use parking_lot::Mutex;

/// The loop state of an upstream in one group. An upstream that is left out gets no queries except probes.
#[derive(Debug, Default)]
pub struct LoopState {
    is_left_out: AtomicBool,
    /// How many probes have come back to this server.
    returned: AtomicU32,
    is_watched: AtomicBool,
    /// Why it is left out.
    why: Mutex<Arc<str>>,
}

impl LoopState {
    /// Whether it gets no queries.
    pub fn is_left_out(&self) -> bool {
        self.is_left_out.load(Relaxed)
    }

    /// Why it is left out; empty if it never was.
    pub fn why(&self) -> Arc<str> {
        Arc::clone(&self.why.lock())
    }

    /// Leaves it out; whether it was not before, or for another reason.
    pub fn leave_out(&self, why: &str) -> bool {
        let mut known = self.why.lock();
        let is_other = **known != *why;
        if is_other {
            *known = why.into();
        }
        !self.is_left_out.swap(true, Relaxed) || is_other
    }

    /// Uses it again; whether it was left out.
    pub fn use_again(&self) -> bool {
        self.is_left_out.swap(false, Relaxed)
    }

    /// Records that a probe has come back.
    pub fn probe_returned(&self) {
        self.returned.fetch_add(1, Relaxed);
    }

    /// How many probes have come back.
    pub fn returned(&self) -> u32 {
        self.returned.load(Relaxed)
    }

    /// Marks it as watched; whether it was not before.
    pub fn watch(&self) -> bool {
        !self.is_watched.swap(true, Relaxed)
    }
}
