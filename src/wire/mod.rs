//! Names and messages as octets (RFC 1035), for the way every query goes.
//!
//! Nothing here allocates for a name, trusts a count, or knows a plugin.

mod calendar;
mod code;
mod name;
mod reader;
mod serial;

pub use calendar::days_since_1970;
pub use code::{Class, Opcode, Rcode, Type};
pub use name::{Labels, Name, NameError, NameRef};
pub use reader::{Header, MalformedMessage, RawRecord, Reader};
pub use serial::is_later;

/// Octets of a message header (RFC 1035 §4.1.1).
pub const HEADER_LENGTH: usize = 12;

/// The largest message that any transport carries: lengths are 16 bits (RFC 1035 §4.2.2).
pub const MAX_MESSAGE: usize = 65_535;

/// What a UDP client without EDNS can take (RFC 1035 §4.2.1).
pub const MIN_UDP_PAYLOAD: usize = 512;
