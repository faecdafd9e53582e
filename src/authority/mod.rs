//! Authoritative zones loaded from zone files or transfers. Pure data and functions: no I/O.
//!
//! Records come from a zone file ([`text`]) or from a transfer; [`ZoneBuilder`] collects them and
//! builds an immutable [`Zone`]: a reload builds another. The cluster's zones are derived from
//! objects instead, in [`crate::zone`].

mod additional;
mod answer;
mod builder;
mod denial;
mod format;
mod key;
pub mod presentation;
pub mod text;
mod transfer;
mod zone;

pub use answer::{AnswerOptions, AnswerOutcome};
pub use builder::{InvalidRecord, ZoneBuilder};
pub use zone::{SoaFields, Zone};
