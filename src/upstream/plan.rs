//! How the upstreams of one forward are tried: its configuration.

use std::time::Duration;

use super::policy::SelectionPolicy;
use crate::{reply::Reply, wire::Rcode};

/// How attempts are made for one query: order, timeouts, number, failover.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// How the first upstream is chosen.
    pub policy: SelectionPolicy,
    /// Timeout of one attempt, after which the next starts; `None` for the default.
    pub read_timeout: Option<Duration>,
    /// Maximum number of attempts; `None` for the default, 0 for no limit.
    pub max_attempts: Option<usize>,
    /// Rcodes of replies after which the next upstream is tried.
    pub failover: Box<[Rcode]>,
    /// Whether to answer SERVFAIL at once while all upstreams are down.
    pub failfast: bool,
}

impl Plan {
    /// Whether a reply has a failover rcode and another upstream is left after `attempts`.
    pub(super) fn fails_over(&self, reply: &Reply, attempts: usize, upstreams: usize) -> bool {
        self.failover.contains(&reply.rcode) && attempts < upstreams
    }
}
