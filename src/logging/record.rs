//! JSON log records (`-log-format json`): one object per line.

use std::{
    fmt::{self, Display},
    io::Write,
};

use jiff::Timestamp;
use tracing::Level;

/// Level of the error that ends the process; `tracing` has no level above ERROR.
pub(super) const FATAL: &str = "FATAL";

/// Writes one object into a buffer, key by key. The first keys are `time` (RFC 3339, UTC,
/// nanoseconds), `level` and `msg`, then `plugin` if a plugin logs.
pub struct LogRecord<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> LogRecord<'a> {
    /// Begins an object. Invalid UTF-8 in `message` is replaced.
    pub(super) fn begin(
        out: &'a mut Vec<u8>,
        level: &str,
        message: &[u8],
        plugin: Option<&str>,
    ) -> Self {
        // Writing to a vector cannot fail.
        let _ = write!(
            out,
            r#"{{"time":"{:.9}","level":"{level}""#,
            Timestamp::now()
        );
        let mut record = Self { out };
        record.key("msg");
        string(record.out, &String::from_utf8_lossy(message));
        if let Some(plugin) = plugin {
            record.text("plugin", plugin);
        }
        record
    }

    /// Adds a string.
    pub fn text(&mut self, key: &str, value: impl Display) {
        self.key(key);
        self.out.push(b'"');
        let _ = fmt::write(&mut Escaped(self.out), format_args!("{value}"));
        self.out.push(b'"');
    }

    /// Adds an unquoted value: a number, `true` or `false`.
    pub fn bare(&mut self, key: &str, value: impl Display) {
        self.key(key);
        let _ = write!(self.out, "{value}");
    }

    /// Adds a `null`, for a value known to be absent.
    pub fn null(&mut self, key: &str) {
        self.bare(key, "null");
    }

    /// Ends the object, without a newline.
    pub(super) fn end(self) {
        self.out.push(b'}');
    }

    fn key(&mut self, key: &str) {
        let _ = write!(self.out, r#","{key}":"#);
    }
}

/// Level names of records.
pub(super) fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        _ => "DEBUG",
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escape(out, text);
    out.push(b'"');
}

/// Escapes what is formatted into it as part of a JSON string.
struct Escaped<'a>(&'a mut Vec<u8>);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text);
        Ok(())
    }
}

/// RFC 8259 section 7: quotes, backslashes and control characters must be escaped. U+2028 and
/// U+2029 are escaped too, since some log readers treat them as line ends.
fn escape(out: &mut Vec<u8>, text: &str) {
    let must_be =
        |one: char| one.is_ascii_control() || matches!(one, '"' | '\\' | '\u{2028}' | '\u{2029}');
    let mut plain_from = 0;
    for (at, one) in text.match_indices(must_be) {
        out.extend_from_slice(&text.as_bytes()[plain_from..at]);
        plain_from = at + one.len();
        let _ = match one {
            "\"" | "\\" => write!(out, r"\{one}"),
            "\n" => out.write_all(br"\n"),
            "\r" => out.write_all(br"\r"),
            "\t" => out.write_all(br"\t"),
            other => write!(out, r"\u{:04x}", other.chars().next().map_or(0, u32::from)),
        };
    }
    out.extend_from_slice(&text.as_bytes()[plain_from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_single_lines_of_valid_json() {
        let odd = "a\"b\\c\nd\r\te\u{1}\u{7f}\u{2028}é";
        let mut out = Vec::new();
        let message = [odd.as_bytes(), &[0xFF]].concat();
        let mut record = LogRecord::begin(&mut out, level(Level::WARN), &message, Some("log"));
        record.text("name", odd);
        record.bare("number", 7);
        record.null("nothing");
        record.end();
        let text = String::from_utf8(out).unwrap();
        assert!(!text.contains(['\n', '\r', '\u{2028}']), "{text}");
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["msg"], format!("{odd}\u{fffd}"));
        assert_eq!(read["name"], odd);
        assert_eq!(read["number"], 7);
        assert!(read["nothing"].is_null());
        let begin = r#"","level":"WARN","msg":"a\"b"#;
        let time = &text[r#"{"time":""#.len()..text.find(begin).unwrap()];
        assert_eq!(time.len(), "2026-11-30T08:59:52.855661240Z".len(), "{time}");
        assert!(time.parse::<Timestamp>().is_ok(), "{time}");
    }
}
