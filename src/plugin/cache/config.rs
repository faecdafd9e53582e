//! The options of a cache and their defaults.

use std::time::Duration;

use crate::plugin::ZoneList;

/// Default upper bound of the TTL of positive answers, in seconds.
pub const SUCCESS_TTL: u32 = 3600;
/// Default upper bound of the TTL of denials, in seconds.
pub const DENIAL_TTL: u32 = 1800;
/// Default lower bound of the TTL, in seconds.
pub const MIN_TTL: u32 = 5;
/// Default capacity in entries of each kind; [`rounded`] to 9984.
pub const CAPACITY: usize = 10_000;

/// A cache's options.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The zones whose names are cached.
    pub zones: ZoneList,
    /// Bounds of positive answers.
    pub success: Bounds,
    /// Bounds of denials and failures.
    pub denial: Bounds,
    /// How long SERVFAIL and NOTIMP are cached; zero for not at all.
    pub servfail: Duration,
    /// Whether popular entries are refreshed before they expire.
    pub prefetch: Option<Prefetch>,
    /// Whether expired answers are served (RFC 8767).
    pub serve_stale: Option<ServeStale>,
    /// The zones whose positive answers are not cached.
    pub no_success: ZoneList,
    /// The zones whose denials are not cached.
    pub no_denial: ZoneList,
    /// TTLs are not counted down.
    pub keep_ttl: bool,
    /// Names whose positive answers outlive a denial.
    pub keep_last_good: Option<KeepLastGood>,
}

/// Names whose positive answers are used on where an upstream denies them or fails.
#[derive(Clone, Debug, PartialEq)]
pub struct KeepLastGood {
    /// How long after its expiry an answer is used.
    pub up_to: Duration,
    /// The names.
    pub zones: ZoneList,
}

/// TTL in seconds of answers that are used on.
pub const KEPT_TTL: u32 = 5;

/// Bounds for one kind of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Capacity in entries, as written in the Corefile.
    pub capacity: usize,
    /// The largest TTL in seconds.
    pub max_ttl: u32,
    /// The smallest TTL in seconds.
    pub min_ttl: u32,
}

/// When an entry is refreshed before it expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefetch {
    /// The number of hits that it takes.
    pub amount: u32,
    /// A gap of this length between two hits resets the count.
    pub gap: Duration,
    /// The last part of the TTL in which entries are refreshed, in percent.
    pub percent: u8,
}

/// How expired answers are served (RFC 8767).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServeStale {
    /// How long after its expiry an answer may be served.
    pub up_to: Duration,
    /// Whether a refresh is tried before the expired answer is served.
    pub verify: Option<Verify>,
    /// The TTL of expired answers in seconds.
    pub ttl: u32,
    /// How long a failed refresh is not retried; zero for no limit.
    pub recheck: Duration,
    /// A positive answer, fresh or expired, is preferred to any denial.
    pub prefer_positive: bool,
}

/// A refresh before an expired answer is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verify {
    /// Timeout after which the expired answer is served; `None` for that of the refresh.
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
            keep_last_good: None,
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

    /// `ttl` within the bounds. If they contradict each other, the upper one applies: a TTL that is too
    /// short costs a query to the upstream, one that is too long yields outdated answers.
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

/// The effective capacity, as in CoreDNS: rounded down to a multiple of 256, and at least 1024.
pub fn rounded(capacity: usize) -> usize {
    (capacity / 256).max(4) * 256
}
