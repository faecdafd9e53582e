//! Whole messages: octets to a query or a reply, a reply or an upstream's query to octets.
//!
//! This is the codec of the way that every query goes. Record data that only a person writes or
//! reads (zone files, templates) is hickory-proto's matter.

mod ask;
mod read;
mod write;

pub use ask::write_query;
pub use read::{Parsed, read_query, read_reply};
pub use write::{Writer, write_bare};
