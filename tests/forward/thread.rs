//! Questions are driven by the runtime alone, as those of streams are; `tests/forward_by_thread` has
//! another one of these.

use futures_util::FutureExt;
use lodestone::{plugin::Waiting, reply::Reply};

/// Nothing but the runtime.
pub struct Driver;

impl Driver {
    pub fn new() -> Self {
        Self
    }

    /// Gives the wait for a question's reply.
    #[allow(clippy::unused_self, reason = "the other one has a thread")]
    pub fn drive(&self, waiting: Box<Waiting>) -> impl Future<Output = Reply> + Send + 'static {
        waiting.finish().map(|(_, reply)| reply.unwrap())
    }
}
