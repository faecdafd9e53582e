//! What is counted about one upstream: the only place of `upstream` that knows metrics.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::wire::Rcode;

/// What a connection is made of, as metrics call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// `udp`
    Udp,
    /// `tcp`
    Tcp,
    /// `tcp-tls`
    Tls,
}

/// Counts of one upstream.
#[derive(Debug, Default)]
pub struct Meter {
    hits: [AtomicU64; 3],
    misses: [AtomicU64; 3],
    wrong_replies: AtomicU64,
    failed_checks: AtomicU64,
}

impl Meter {
    /// A question went over a socket that was open already.
    pub fn hit(&self, proto: Proto) {
        self.hits[proto as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A socket had to be opened for a question.
    pub fn miss(&self, proto: Proto) {
        self.misses[proto as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A reply came that nobody asked for or that cannot be believed.
    pub fn wrong_reply(&self) {
        self.wrong_replies.fetch_add(1, Ordering::Relaxed);
    }

    /// A health check failed.
    pub fn failed_check(&self) {
        self.failed_checks.fetch_add(1, Ordering::Relaxed);
    }

    /// An answer came after `elapsed`.
    pub fn answered(&self, _rcode: Rcode, _elapsed: Duration) {}

    /// How many questions found a socket open, over `proto`.
    pub fn hits(&self, proto: Proto) -> u64 {
        self.hits[proto as usize].load(Ordering::Relaxed)
    }

    /// How many questions had a socket opened, over `proto`.
    pub fn misses(&self, proto: Proto) -> u64 {
        self.misses[proto as usize].load(Ordering::Relaxed)
    }

    /// How many replies were not believed.
    pub fn wrong_replies(&self) -> u64 {
        self.wrong_replies.load(Ordering::Relaxed)
    }

    /// How many health checks failed.
    pub fn failed_checks(&self) -> u64 {
        self.failed_checks.load(Ordering::Relaxed)
    }
}
