//! What comes of a walk through a chain.

/// The word of the plugin that keeps the replies of upstreams.
pub(super) const CACHE: &str = "cache";

/// The outcome of a walk, or of a part of it.
#[derive(Debug)]
pub enum Outcome<P> {
    /// The reply is complete.
    Done,
    /// Nothing is sent.
    Dropped,
    /// The walk is suspended at a plugin that waits for something.
    Pending(P),
}
