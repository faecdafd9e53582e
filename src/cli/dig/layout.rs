//! A message in the layout of BIND's `dig`, which people and programs read.

use std::fmt::Write;

use super::{
    lookup::{Lookup, Show},
    options_text,
    parsed::Parsed,
};
use crate::{
    authority::presentation::{is_valid, presentation},
    wire::{Class, Header, Name, Opcode, RawRecord, Rcode, Type},
};

/// Columns of TTL, class, type and data.
type Columns = [usize; 4];

/// Whether a message is a reply, or the query that is sent (`+qr`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction<'q> {
    /// The query.
    Query,
    /// The reply to a query with this cookie.
    Reply(Option<&'q [u8]>),
}

/// Appends the header and the sections.
pub fn message(parsed: &Parsed<'_>, lookup: &Lookup, direction: Direction<'_>, out: &mut String) {
    let show = &lookup.show;
    let is_reply = direction != Direction::Query;
    if show.comments {
        header(parsed, is_reply, out);
    }
    let rcode = Rcode(parsed.rcode());
    let refuses_edns = matches!(rcode, Rcode::FORMERR | Rcode::NOTIMP);
    if is_reply
        && parsed.opt.is_none()
        && refuses_edns
        && let Some(edns) = &lookup.edns
    {
        let dnssec = if edns.dnssec { "+nodnssec " } else { "" };
        let _ = writeln!(
            out,
            "\n;; WARNING: EDNS query returned status {rcode} - retry with '{dnssec}+noedns'"
        );
    }
    if is_reply && parsed.extra > 0 && !parsed.is_malformed {
        let _ = writeln!(
            out,
            ";; WARNING: Message has {} extra bytes at end",
            parsed.extra
        );
    }
    if show.comments {
        out.push('\n');
        if let Some(opt) = &parsed.opt {
            out.push_str(";; OPT PSEUDOSECTION:\n");
            options_text::opt(opt, parsed.bytes, direction, out);
        }
    }
    if show.question && !parsed.questions.is_empty() {
        if show.comments {
            out.push_str(";; QUESTION SECTION:\n");
        }
        for (name, rtype, class) in &parsed.questions {
            question(name, *rtype, *class, show, out);
        }
        if show.comments {
            out.push('\n');
        }
    }
    let titles = ["ANSWER", "AUTHORITY", "ADDITIONAL"];
    let shown = [show.answer, show.authority, show.additional];
    for ((records, title), _) in parsed
        .sections
        .iter()
        .zip(titles)
        .zip(shown)
        .filter(|((records, _), shown)| *shown && !records.is_empty())
    {
        if show.comments {
            let _ = writeln!(out, ";; {title} SECTION:");
        }
        for one in records {
            record(one, parsed.bytes, show, out);
        }
        if show.comments {
            out.push('\n');
        }
    }
}

/// Whether a record of the message is malformed.
pub fn has_malformed_data(parsed: &Parsed<'_>) -> bool {
    let mut records = parsed.sections.iter().flatten();
    records.any(|record| {
        !is_valid(
            record.rtype,
            parsed.bytes,
            record.data_start..record.data_end,
        )
    })
}

fn header(parsed: &Parsed<'_>, is_reply: bool, out: &mut String) {
    let Header { id, flags, counts } = parsed.header;
    let has = |bit: u16| flags & bit != 0;
    let _ = writeln!(
        out,
        ";; ->>HEADER<<- opcode: {}, status: {}, id: {id}",
        opcode(parsed.header.opcode()),
        status(parsed.rcode())
    );
    out.push_str(";; flags:");
    for (bit, name) in [
        (Header::RESPONSE, " qr"),
        (Header::AUTHORITATIVE, " aa"),
        (Header::TRUNCATED, " tc"),
        (Header::RECURSION_DESIRED, " rd"),
        (Header::RECURSION_AVAILABLE, " ra"),
        (Header::AUTHENTIC, " ad"),
        (Header::CHECKING_DISABLED, " cd"),
    ] {
        if has(bit) {
            out.push_str(name);
        }
    }
    if has(0x0040) {
        out.push_str("; MBZ: 0x4");
    }
    let [questions, answers, authorities, additionals] = counts;
    let _ = writeln!(
        out,
        "; QUERY: {questions}, ANSWER: {answers}, AUTHORITY: {authorities}, ADDITIONAL: {additionals}"
    );
    if is_reply && has(Header::RECURSION_DESIRED) && !has(Header::RECURSION_AVAILABLE) {
        out.push_str(";; WARNING: recursion requested but not available\n");
    }
}

fn opcode(opcode: Opcode) -> String {
    match opcode.0 {
        0 => "QUERY".to_owned(),
        1 => "IQUERY".to_owned(),
        2 => "STATUS".to_owned(),
        4 => "NOTIFY".to_owned(),
        5 => "UPDATE".to_owned(),
        other => format!("RESERVED{other}"),
    }
}

fn status(rcode: u16) -> String {
    match Rcode(rcode).name() {
        Some(name) => name.to_owned(),
        None => format!("RESERVED{rcode}"),
    }
}

fn columns(show: &Show) -> Columns {
    match (show.ttl, show.class) {
        (true, true) => [24, 32, 40, 48],
        (false, false) => [24, 24, 24, 32],
        _ => [24, 24, 32, 40],
    }
}

/// A line of columns: tabs of eight up to the next one, or one space where the text is beyond it.
struct Line<'o> {
    out: &'o mut String,
    at: usize,
}

impl Line<'_> {
    fn text(&mut self, text: &str) {
        self.out.push_str(text);
        self.at += text.len();
    }

    fn indent(&mut self, column: usize) {
        let column = column.max(self.at + 1);
        let tabs = column / 8 - self.at / 8;
        if tabs > 0 {
            self.at = column / 8 * 8;
        }
        self.out.extend(std::iter::repeat_n('\t', tabs));
        let spaces = column - self.at;
        self.out.extend(std::iter::repeat_n(' ', spaces));
        self.at = column;
    }
}

fn question(name: &Name, rtype: Type, class: Class, show: &Show, out: &mut String) {
    let [_, class_column, type_column, _] = columns(show);
    // The semicolon is not counted.
    out.push(';');
    let mut line = Line { out, at: 0 };
    line.text(&name.to_string());
    line.indent(class_column);
    line.text(&class.to_string());
    line.indent(type_column);
    line.text(&rtype.to_string());
    out.push('\n');
}

/// Appends a record in one line.
pub fn record(record: &RawRecord, message: &[u8], show: &Show, out: &mut String) {
    let [ttl_column, class_column, type_column, data_column] = columns(show);
    let mut line = Line { out, at: 0 };
    line.text(&record.owner.to_string());
    if show.ttl {
        line.indent(ttl_column);
        let ttl = if show.ttl_units {
            with_units(record.ttl)
        } else {
            record.ttl.to_string()
        };
        line.text(&ttl);
    }
    if show.class {
        line.indent(class_column);
        line.text(&record.class.to_string());
    }
    line.indent(type_column);
    line.text(&record.rtype.to_string());
    let data = data(record, message, show);
    if !data.is_empty() {
        line.indent(data_column);
        line.text(&data);
    }
    out.push('\n');
}

/// The data of a record.
pub fn data(record: &RawRecord, message: &[u8], show: &Show) -> String {
    presentation(
        record.rtype,
        message,
        record.data_start..record.data_end,
        show.split,
    )
}

/// `1w2d3h4m5s`, without parts of zero.
fn with_units(seconds: u32) -> String {
    let mut rest = seconds;
    let mut text = String::new();
    for (unit, length) in [('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60)] {
        if rest >= length {
            let _ = write!(text, "{}{unit}", rest / length);
            rest %= length;
        }
    }
    if rest > 0 || text.is_empty() {
        let _ = write!(text, "{rest}s");
    }
    text
}
