//! The Corefile language: parses text into server blocks, with errors that point at the source.
//!
//! This layer knows words, lines, braces, snippets, imports and environment references, but no
//! plugin: the caller passes the directive names and reads arguments with [`Arguments`] and the
//! typed accessors of [`Word`]. Only [`Disk`] does I/O.
//!
//! ```text
//! lexer         text -> words with source spans
//! token_stream  words in reading order: expands snippets and imports, enforces limits
//! environment   {$NAME} and {%NAME%} within a word
//! parser        words -> server blocks, directives, bodies
//! address       [scheme://]ZONE[:PORT] -> keys; zone.rs: names and CIDR expansion
//! overlap       conflicts of two blocks with the same zone on the same socket
//! arguments     argument cursor of the plugin parsers; value.rs and duration.rs: typed values
//! diagnostic    errors and warnings; render.rs prints them with the source line and a caret
//! format        the canonical format (lodestone fmt)
//! ```
//!
//! Several mistakes that CoreDNS ignores are errors or warnings here: unset environment variables,
//! unclosed quotes, words after a closing brace, blocks without a key.

mod address;
mod arguments;
mod code;
mod diagnostic;
mod duration;
mod environment;
mod format;
mod lexer;
mod loader;
mod nearest;
mod overlap;
mod parser;
mod render;
mod source;
mod token_stream;
mod tree;
mod value;
mod zone;

pub use address::{Key, Keys, Transport};
pub use arguments::{Arguments, unknown_property};
pub use code::codes;
pub use diagnostic::{Diagnostic, Diagnostics, ErrorList, Severity};
pub use duration::{DurationError, parse_duration};
pub use format::format;
pub use loader::{Disk, InMemory, Loader, MAX_FILE};
pub use nearest::nearest;
pub use overlap::Overlaps;
pub use parser::{DirectiveNames, parse, parse_without_unknown};
pub use source::{SourceId, Sources, Span, Word};
pub use tree::{Body, Directive, File, Property, ServerBlock};
pub use value::{Listen, host_of, zones};
pub use zone::{ZoneError, ZoneName};

/// Configuration used when a Corefile has no server block: the root zone with `whoami` and `log` on
/// the default port.
pub const DEFAULT_COREFILE: &str = ".:53 {\n    whoami\n    log\n}\n";
