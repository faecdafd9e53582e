//! What a cache is told to do: its options and their defaults.

use std::time::Duration;

use crate::plugin::ZoneList;

/// Seconds that a positive answer is kept at most, where nothing else is said.
pub const SUCCESS_TTL: u32 = 3600;
/// Seconds that a denial is kept at most, where nothing else is said.
pub const DENIAL_TTL: u32 = 1800;
/// Seconds that anything is kept at least, where nothing else is said.
pub const MIN_TTL: u32 = 5;
/// Entries of each kind, where nothing else is said; [`rounded`] makes 9984 of it.
pub const CAPACITY: usize = 10_000;

/// A cache's options.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The zones whose names are kept.
    pub zones: ZoneList,
    /// How positive answers are kept.
    pub success: Bounds,
    /// How denials and failures are kept.
    pub denial: Bounds,
    /// How long SERVFAIL and NOTIMP are kept; zero for not at all.
    pub servfail: Duration,
    /// Whether answers much asked for are fetched anew before they expire.
    pub prefetch: Option<Prefetch>,
    /// Whether expired answers are given while their upstream is silent.
    pub serve_stale: Option<ServeStale>,
    /// The zones whose positive answers are not kept.
    pub no_success: ZoneList,
    /// The zones whose denials are not kept.
    pub no_denial: ZoneList,
    /// TTLs are not counted down.
    pub keep_ttl: bool,
}

/// Limits for one kind of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Entries, as written.
    pub capacity: usize,
    /// Seconds that an entry is kept at most.
    pub max_ttl: u32,
    /// Seconds that an entry is kept at least.
    pub min_ttl: u32,
}

/// When to fetch an answer anew before it expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefetch {
    /// Hits that make an answer worth it.
    pub amount: u32,
    /// Hits this far apart begin the count anew.
    pub gap: Duration,
    /// The last part of an entry's time in which it happens, in percent.
    pub percent: u8,
}

/// How expired answers are given (RFC 8767).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServeStale {
    /// How long after its time an answer may be given.
    pub up_to: Duration,
    /// Whether the upstream is asked first.
    pub verify: Option<Verify>,
    /// The TTL that expired answers are given with, in seconds.
    pub ttl: u32,
    /// How long a failed refresh is not tried again; zero for no limit.
    pub recheck: Duration,
    /// A positive answer, fresh or expired, is preferred to any denial.
    pub prefer_positive: bool,
}

/// Asking the upstream before an expired answer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verify {
    /// How long to wait for it; nothing for as long as it takes to fail.
    pub timeout: Option<Duration>,
}

impl Config {
    /// The defaults, for the names in `zones`.
    pub fn new(zones: ZoneList) -> Self {
        Self {
            zones,
            success: Bounds::new(SUCCESS_TTL),
            denial: Bounds::new(DENIAL_TTL),
            servfail: Duration::from_secs(5),
            prefetch: None,
            serve_stale: None,
            no_success: ZoneList::none(),
            no_denial: ZoneList::none(),
            keep_ttl: false,
        }
    }
}

impl Bounds {
    fn new(max_ttl: u32) -> Self {
        Self {
            capacity: CAPACITY,
            max_ttl,
            min_ttl: MIN_TTL,
        }
    }

    /// `ttl` brought between the limits. Where they contradict each other, the upper one holds:
    /// an answer kept too short costs a question, one kept too long is wrong.
    pub fn clamp(self, ttl: u32) -> u32 {
        ttl.max(self.min_ttl).min(self.max_ttl)
    }
}

impl Default for Prefetch {
    fn default() -> Self {
        Self {
            amount: 0,
            gap: Duration::from_mins(1),
            percent: 10,
        }
    }
}

impl Default for ServeStale {
    fn default() -> Self {
        Self {
            up_to: Duration::from_hours(1),
            verify: None,
            ttl: 0,
            recheck: Duration::ZERO,
            prefer_positive: false,
        }
    }
}

/// Entries that a capacity stands for, counted as CoreDNS counts: down to a multiple of 256, and
/// 1024 at least.
pub fn rounded(capacity: usize) -> usize {
    (capacity / 256).max(4) * 256
}
