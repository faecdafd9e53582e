//! The format of log lines: compiled once, written for each query.

use std::{
    fmt::{self, Display},
    io::{self, Write},
    net::IpAddr,
    time::Duration,
};

use crate::{
    plugin::Written,
    query::Query,
    reply::Reply,
    wire::{Name, Rcode},
};

/// The default format.
pub const COMMON: &str = "{remote}:{port} - {>id} \"{type} {class} {name} {proto} {size} {>do} {>bufsize}\" {rcode} {>rflags} {rsize} {duration}";

/// [`COMMON`] with the opcode.
const COMBINED: &str = "{common} \"{>opcode}\"";

/// The outcome of a logged query.
#[derive(Clone, Copy)]
pub enum LoggedOutcome<'a> {
    /// This reply was sent.
    Sent(&'a Reply, Written),
    /// The query was dropped after this time.
    Dropped(Duration),
    /// The query is still pending.
    Pending,
}

/// A compiled format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    pieces: Box<[Piece]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Field(Field),
    /// The value of a metadata label.
    Metadata(Box<str>),
}

/// A field of a query. Fields of the question are those of the original one, the name in lower
/// case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Type,
    Name,
    Class,
    Protocol,
    Remote,
    Local,
    Port,
    Size,
    ReplySize,
    Duration,
    Rcode,
    Flags,
    BufferSize,
    DnssecOk,
    Id,
    Opcode,
}

const FIELDS: [(&str, Field); 16] = [
    ("type", Field::Type),
    ("name", Field::Name),
    ("class", Field::Class),
    ("proto", Field::Protocol),
    ("remote", Field::Remote),
    ("local", Field::Local),
    ("port", Field::Port),
    ("size", Field::Size),
    ("rsize", Field::ReplySize),
    ("duration", Field::Duration),
    ("rcode", Field::Rcode),
    (">rflags", Field::Flags),
    (">bufsize", Field::BufferSize),
    (">do", Field::DnssecOk),
    (">id", Field::Id),
    (">opcode", Field::Opcode),
];

impl Format {
    /// Compiles a format. Braces without a known field are literal, so that a line can be written
    /// as JSON.
    pub fn new(text: &str) -> Self {
        let text = text
            .replace("{combined}", COMBINED)
            .replace("{common}", COMMON);
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text.as_str();
        // Matches innermost braces: a closing one and the last opening one before it.
        while let Some(close) = rest.find('}') {
            let inner = rest[..close].rfind('{').map(|open| (open, open + 1));
            let field = inner.and_then(|(_, start)| placeholder(&rest[start..close]));
            if let (Some(field), Some((open, _))) = (field, inner) {
                literal.push_str(&rest[..open]);
                if !literal.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut literal).into()));
                }
                pieces.push(field);
            } else {
                literal.push_str(&rest[..=close]);
            }
            rest = &rest[close + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal.into()));
        }
        Self {
            pieces: pieces.into(),
        }
    }

    /// Writes the line of a query and its outcome. `metadata` returns the value of a label.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        query: &Query,
        outcome: LoggedOutcome<'_>,
        metadata: impl Fn(&str) -> Option<String>,
    ) {
        for piece in &self.pieces {
            // Writing to a vector cannot fail.
            let _ = match piece {
                Piece::Text(text) => out.write_all(text.as_bytes()),
                Piece::Field(field) => field.write(out, query, outcome),
                Piece::Metadata(label) => match metadata(label) {
                    // Escaped where it was made.
                    Some(value) if **label == *super::REASON => out.write_all(value.as_bytes()),
                    Some(value) => plain(out, &value),
                    None => out.write_all(b"-"),
                },
            };
        }
    }
}

fn placeholder(name: &str) -> Option<Piece> {
    if let Some(label) = name.strip_prefix('/') {
        return Some(Piece::Metadata(label.into()));
    }
    let found = FIELDS.iter().find(|(known, _)| *known == name);
    found.map(|(_, field)| Piece::Field(*field))
}

/// Writes a metadata value with special characters escaped: values may contain parts of the queried
/// name, which must not break the line.
fn plain(out: &mut Vec<u8>, value: &str) -> io::Result<()> {
    for byte in value.bytes() {
        match byte {
            b' '..=b'~' if byte != b'"' && byte != b'\\' => out.push(byte),
            _ => write!(out, "\\{byte:03}")?,
        }
    }
    Ok(())
}

impl Field {
    fn write(self, out: &mut Vec<u8>, query: &Query, outcome: LoggedOutcome<'_>) -> io::Result<()> {
        match self {
            Self::Type => write!(out, "{}", query.original.rtype),
            Self::Name => name(out, &query.original.lower),
            Self::Class => write!(out, "{}", query.original.class),
            Self::Protocol => write!(out, "{}", query.transport.label()),
            Self::Remote => address(out, query.client.ip()),
            Self::Local => address(out, query.local.ip()),
            Self::Port => write!(out, "{}", query.client.port()),
            Self::Size => write!(out, "{}", query.size),
            Self::BufferSize => write!(out, "{}", query.payload()),
            Self::DnssecOk => write!(out, "{}", query.dnssec_ok()),
            Self::Id => write!(out, "{}", query.id),
            Self::Opcode => write!(out, "{}", query.opcode.0),
            Self::ReplySize | Self::Duration | Self::Rcode | Self::Flags => {
                self.write_outcome(out, query, outcome)
            }
        }
    }

    fn write_outcome(
        self,
        out: &mut Vec<u8>,
        query: &Query,
        outcome: LoggedOutcome<'_>,
    ) -> io::Result<()> {
        match (self, outcome) {
            (Self::Rcode, LoggedOutcome::Sent(reply, _)) => write!(out, "{}", Code(reply.rcode)),
            (Self::Flags, LoggedOutcome::Sent(reply, written)) => {
                flags(out, query, reply, written.truncated)
            }
            (Self::ReplySize, LoggedOutcome::Sent(_, written)) => write!(out, "{}", written.size),
            (Self::ReplySize, LoggedOutcome::Dropped(_)) => out.write_all(b"0"),
            (
                Self::Duration,
                LoggedOutcome::Sent(_, Written { took, .. }) | LoggedOutcome::Dropped(took),
            ) => {
                write!(out, "{}s", Seconds(took))
            }
            _ => out.write_all(b"-"),
        }
    }
}

/// A response code as CoreDNS logs it: codes without a mnemonic are numbers.
pub(super) struct Code(pub(super) Rcode);

impl Display for Code {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.name() {
            Some(name) => out.write_str(name),
            None => write!(out, "{}", self.0.0),
        }
    }
}

/// Fast path for the longest field: labels of letters, digits, `-` and `_` are copied unescaped.
fn name(out: &mut Vec<u8>, name: &Name) -> io::Result<()> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let labels = || name.as_ref().labels();
    if name.as_ref().is_root() || !labels().all(|label| label.iter().all(plain)) {
        return write!(out, "{name}");
    }
    for label in labels() {
        out.extend_from_slice(label);
        out.push(b'.');
    }
    Ok(())
}

/// Writes an IPv6 address in brackets, and an IPv4-mapped one as IPv4.
fn address(out: &mut Vec<u8>, address: IpAddr) -> io::Result<()> {
    match address.to_canonical() {
        IpAddr::V4(address) => write!(out, "{address}"),
        IpAddr::V6(address) => write!(out, "[{address}]"),
    }
}

/// Seconds with up to nine decimals, without trailing zeros.
pub(super) struct Seconds(pub(super) Duration);

impl Display for Seconds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, mut fraction) = (self.0.as_secs(), self.0.subsec_nanos());
        if fraction == 0 {
            return write!(out, "{seconds}");
        }
        let mut digits = 9;
        while fraction.is_multiple_of(10) {
            fraction /= 10;
            digits -= 1;
        }
        write!(out, "{seconds}.{fraction:0digits$}")
    }
}

fn flags(out: &mut Vec<u8>, query: &Query, reply: &Reply, truncated: bool) -> io::Result<()> {
    out.write_all(b"qr")?;
    for (set, flag) in [
        (reply.authoritative, ",aa"),
        (truncated, ",tc"),
        (
            reply.recursion_desired.unwrap_or(query.recursion_desired),
            ",rd",
        ),
        (reply.recursion_available, ",ra"),
        (reply.authentic && query.takes_authentic(), ",ad"),
        (query.checking_disabled, ",cd"),
    ] {
        if set {
            out.write_all(flag.as_bytes())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
