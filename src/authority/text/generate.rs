//! `$GENERATE`: one line that expands to many records (a BIND extension).

use super::{
    ZoneFileReader,
    lexer::{self, FileEntry, Lexer, Token},
};
use crate::wire::NameRef;

/// Maximum number of records per line.
const MAX_COUNT: u64 = 65_536;

impl ZoneFileReader<'_, '_> {
    /// `$GENERATE START-END[/STEP] RECORD`: expands `$` in RECORD to each number of the range.
    pub(super) fn generate(
        &mut self,
        entry: &FileEntry<'_>,
        origin: NameRef<'_>,
        file: &str,
    ) -> Result<(), String> {
        let [_, range, record @ ..] = entry.tokens.as_slice() else {
            return Err("expected $GENERATE RANGE RECORD".to_owned());
        };
        let (start, end, step) = self::range(range).ok_or_else(|| {
            let range = lexer::quote(range);
            format!("{range} is not a range: expected START-END or START-END/STEP")
        })?;
        if (end - start) / step >= MAX_COUNT {
            return Err(format!("a range has at most {MAX_COUNT} numbers"));
        }
        let mut number = start;
        while number <= end {
            let mut line = Vec::new();
            for token in record {
                expand(token, number, &mut line)?;
            }
            let mut expanded = FileEntry::default();
            let failed = |(_, message): (usize, &str)| message.to_owned();
            if !Lexer::new(&line).next(&mut expanded).map_err(failed)? {
                return Err("expected a record after the range".to_owned());
            }
            expanded.line = entry.line;
            self.record(&expanded, origin, file)?;
            number += step;
        }
        Ok(())
    }
}

fn range(token: &Token<'_>) -> Option<(u64, u64, u64)> {
    let text = std::str::from_utf8(token.text).ok()?;
    let (range, step) = text.split_once('/').unwrap_or((text, "1"));
    let (start, end) = range.split_once('-')?;
    let number = |text: &str| text.parse::<u32>().ok().map(u64::from);
    let (start, end, step) = (number(start)?, number(end)?, number(step)?);
    (start <= end && step > 0).then_some((start, end, step))
}

/// Expands a token: `$`, or `${OFFSET,WIDTH,BASE}`; `\$` is a literal `$`.
fn expand(token: &Token<'_>, number: u64, line: &mut Vec<u8>) -> Result<(), String> {
    let quote: &[u8] = if token.is_quoted { b"\"" } else { b"" };
    line.extend(quote);
    let mut rest = token.text;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match (byte, rest) {
            (b'\\', [next, behind @ ..]) => {
                line.extend([b'\\', *next]);
                rest = behind;
            }
            (b'$', [b'{', behind @ ..]) => {
                let end = behind.iter().position(|byte| *byte == b'}');
                let end = end.ok_or("unterminated '${'")?;
                let text = modified(&behind[..end], number);
                line.extend(text.ok_or("expected '${OFFSET,WIDTH,BASE}'")?.bytes());
                rest = &behind[end + 1..];
            }
            (b'$', _) => line.extend(number.to_string().bytes()),
            (plain, _) => line.push(*plain),
        }
        // Bounds the length of the expanded line.
        if line.len() > 0x2_0000 {
            return Err("the expanded record is too long".to_owned());
        }
    }
    line.extend(quote);
    line.push(b' ');
    Ok(())
}

/// Formats the number with a modifier.
fn modified(modifier: &[u8], number: u64) -> Option<String> {
    let text = std::str::from_utf8(modifier).ok()?;
    let mut parts = text.split(',');
    let offset: i64 = parts.next()?.parse().ok()?;
    let width: usize = parts.next().map_or(Some(0), |it| it.parse().ok())?;
    let base = parts.next().unwrap_or("d");
    let value = i64::try_from(number).ok()?.checked_add(offset)?;
    let value = u64::try_from(value).ok()?;
    if width > 255 || parts.next().is_some() {
        return None;
    }
    Some(match base {
        "d" => format!("{value:0width$}"),
        "o" => format!("{value:0width$o}"),
        "x" => format!("{value:0width$x}"),
        "X" => format!("{value:0width$X}"),
        _ => return None,
    })
}
