//! Whole messages: octets to a query or a reply, a reply or an upstream's query to octets.
//!
//! This is the codec of the way that every query goes. Record data that a person writes (zone
//! files, templates) is read by [`authority::text`](crate::authority::text).

mod ask;
mod cut;
mod option;
mod read;
mod write;

pub use ask::write_query;
pub use option::has_option;
pub use read::{Beside, Parsed, read_query, read_query_into, read_reply, read_signature};
pub use write::{Writer, write_bare};
