//! What comes of a walk through a chain.

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
