//! `$GENERATE`: one line that stands for many (an extension of BIND's).

use super::{
    Reader, data,
    lexer::{Entry, Lexer, Word},
};
use crate::wire::NameRef;

/// Records of one line at most.
const MAX_COUNT: u64 = 65_536;

impl Reader<'_, '_> {
    /// `$GENERATE START-END[/STEP] RECORD`: the record for every number, which `$` in it stands for.
    pub(super) fn generate(
        &mut self,
        entry: &Entry<'_>,
        origin: NameRef<'_>,
        file: &str,
    ) -> Result<(), String> {
        let [_, range, record @ ..] = entry.words.as_slice() else {
            return Err("$GENERATE is followed by a range and a record".to_owned());
        };
        let (start, end, step) = self::range(range).ok_or_else(|| {
            let range = data::shown(range);
            format!("{range} is no range: START-END or START-END/STEP is expected")
        })?;
        if (end - start) / step >= MAX_COUNT {
            return Err(format!("a range has at most {MAX_COUNT} numbers"));
        }
        let mut number = start;
        while number <= end {
            let mut line = Vec::new();
            for word in record {
                expand(word, number, &mut line)?;
            }
            let mut made = Entry::default();
            let failed = |(_, message): (usize, &str)| message.to_owned();
            if !Lexer::new(&line).next(&mut made).map_err(failed)? {
                return Err("a record is expected behind the range".to_owned());
            }
            made.line = entry.line;
            self.record(&made, origin, file)?;
            number += step;
        }
        Ok(())
    }
}

fn range(word: &Word<'_>) -> Option<(u64, u64, u64)> {
    let text = std::str::from_utf8(word.text).ok()?;
    let (range, step) = text.split_once('/').unwrap_or((text, "1"));
    let (start, end) = range.split_once('-')?;
    let number = |text: &str| text.parse::<u32>().ok().map(u64::from);
    let (start, end, step) = (number(start)?, number(end)?, number(step)?);
    (start <= end && step > 0).then_some((start, end, step))
}

/// Writes a word with the number put in: `$`, or `${OFFSET,WIDTH,BASE}`; `\$` stays a `$`.
fn expand(word: &Word<'_>, number: u64, line: &mut Vec<u8>) -> Result<(), String> {
    let quote: &[u8] = if word.is_quoted { b"\"" } else { b"" };
    line.extend(quote);
    let mut rest = word.text;
    while let Some((octet, behind)) = rest.split_first() {
        rest = behind;
        match (octet, rest) {
            (b'\\', [next, behind @ ..]) => {
                line.extend([b'\\', *next]);
                rest = behind;
            }
            (b'$', [b'{', behind @ ..]) => {
                let end = behind.iter().position(|octet| *octet == b'}');
                let end = end.ok_or("'${' is never closed")?;
                let text = modified(&behind[..end], number);
                line.extend(text.ok_or("'${OFFSET,WIDTH,BASE}' is expected")?.bytes());
                rest = &behind[end + 1..];
            }
            (b'$', _) => line.extend(number.to_string().bytes()),
            (plain, _) => line.push(*plain),
        }
        // A record's text is bounded, however often it has the number in it.
        if line.len() > 0x2_0000 {
            return Err("the record becomes too long".to_owned());
        }
    }
    line.extend(quote);
    line.push(b' ');
    Ok(())
}

/// The number as a modifier wants it.
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
