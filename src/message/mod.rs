//! DNS messages: parses queries and replies, writes replies and upstream queries.
//!
//! This codec handles every query. Record data in presentation format (zone files, templates) is
//! parsed by [`authority::text`](crate::authority::text).

mod option;
mod read;
mod truncation;
mod upstream_query;
mod write;

pub use option::has_option;
pub use read::{Parsed, QueryExtras, read_query, read_query_into, read_reply, read_signature};
pub use upstream_query::write_query;
pub use write::{Writer, write_header_only};
