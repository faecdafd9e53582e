//! Wire format of names, codes and record headers (RFC 1035).
//!
//! No allocations for names, no trust in counts, no knowledge of plugins.

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

/// Length of the message header (RFC 1035 section 4.1.1).
pub const HEADER_LENGTH: usize = 12;

/// Maximum message size of all transports: lengths have 16 bits (RFC 1035 section 4.2.2).
pub const MAX_MESSAGE: usize = 65_535;

/// UDP payload size of clients without EDNS (RFC 1035 section 4.2.1).
pub const MIN_UDP_PAYLOAD: usize = 512;
