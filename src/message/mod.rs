//! Whole messages: octets to a query or a reply, and a reply to octets.
//!
//! This is the codec of the way that every query goes. Record data that only a person writes or
//! reads (zone files, templates) is hickory-proto's matter.

mod read;
mod write;

pub use read::{Parsed, read_query, read_reply};
pub use write::{Writer, write_bare};
