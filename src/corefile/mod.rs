//! The Corefile language: text in, server blocks out, and an error that points at the word.
//!
//! This layer knows words, lines, braces, snippets, imports and environment references. It knows
//! no plugin: the caller passes the directive names it has, and reads the arguments itself with
//! [`Arguments`] and the typed reads of [`Word`]. Nothing here does I/O but [`Disk`].
//!
//! ```text
//! lexer        text -> words, each with its place
//! feed         words in reading order: snippets, imports and their limits
//! environment  {$NAME} and {%NAME%} inside a word
//! parser       words -> server blocks, directives, bodies
//! address      [scheme://]ZONE[:PORT] -> keys; zone.rs holds names and CIDR expansion
//! overlap      two blocks that want the same zone on the same socket
//! arguments    what plugin parsers read with; value.rs and duration.rs hold the types
//! diagnostic   errors and warnings, and all of one directive; drawing.rs shows them with the line and a
//!              caret
//! ```
//!
//! Where CoreDNS takes a mistake in silence this reader refuses it or warns: unset environment
//! variables, unclosed quotes, words behind a closing brace, blocks without a key.

mod address;
mod arguments;
mod code;
mod diagnostic;
mod drawing;
mod duration;
mod environment;
mod feed;
mod layout;
mod lexer;
mod loader;
mod nearest;
mod overlap;
mod parser;
mod source;
mod tree;
mod value;
mod zone;

pub use address::{Key, Keys, Transport};
pub use arguments::{Arguments, unknown_property};
pub use code::codes;
pub use diagnostic::{Diagnostic, Diagnostics, Problems, Severity};
pub use duration::{DurationError, parse_duration};
pub use layout::layout;
pub use loader::{Disk, Loader, MAX_FILE, Memory};
pub use nearest::nearest;
pub use overlap::Overlaps;
pub use parser::{Words, parse, parse_without_unknown};
pub use source::{Place, SourceId, Sources, Word};
pub use tree::{Body, Directive, File, Line, ServerBlock};
pub use value::{Listen, host_of, zones};
pub use zone::{Zone, ZoneError};

/// What is served when a Corefile has no server block at all: the root zone with `whoami` and
/// `log`, on the default port.
pub const DEFAULT_COREFILE: &str = ".:53 {\n    whoami\n    log\n}\n";
