//! Zones of records that somebody wrote down, answered with authority: values and functions.
//!
//! The records come from a zone file ([`text`]) or from a transfer; [`Builder`] takes them one by
//! one and makes a [`Zone`] of them, which never changes: a reload makes another. The cluster's own
//! zones are made of other things, and are [`crate::zone`]'s.

mod additional;
mod answer;
mod builder;
mod denial;
mod format;
mod key;
pub mod text;
mod whole;
mod zone;

pub use answer::{Outcome, Want};
pub use builder::{Builder, Refusal};
pub use zone::{Timers, Zone};
