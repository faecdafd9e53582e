//! The words of a zone file, entry by entry (RFC 1035 §5.1).

/// Entries of a zone file: lines, or several where parentheses hold them together.
pub struct Lexer<'t> {
    text: &'t [u8],
    at: usize,
    line: usize,
}

/// One entry.
#[derive(Debug, Default)]
pub struct Entry<'t> {
    /// The line that it begins on, counted from 1.
    pub line: usize,
    /// It begins with a blank: its owner is the one before.
    pub is_indented: bool,
    /// Its words.
    pub words: Vec<Word<'t>>,
}

/// One word, its escapes as they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'t> {
    /// Without the quotes around it.
    pub text: &'t [u8],
    /// It stood in quotes.
    pub is_quoted: bool,
}

/// What is wrong with the text, and on which line.
pub type Fault = (usize, &'static str);

impl<'t> Lexer<'t> {
    /// Begins at the first line.
    pub fn new(text: &'t [u8]) -> Self {
        Self {
            text,
            at: 0,
            line: 1,
        }
    }

    /// Reads the next entry that has words into `entry`; false at the end.
    pub fn next(&mut self, entry: &mut Entry<'t>) -> Result<bool, Fault> {
        loop {
            entry.words.clear();
            entry.line = self.line;
            let Some(first) = self.peek() else {
                return Ok(false);
            };
            entry.is_indented = matches!(first, b' ' | b'\t');
            self.entry(entry)?;
            if !entry.words.is_empty() {
                return Ok(true);
            }
        }
    }

    /// Whether nothing is left of the text.
    pub fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// Reads to the end of the line that is in no parentheses.
    fn entry(&mut self, entry: &mut Entry<'t>) -> Result<(), Fault> {
        let mut opened = None;
        while let Some(octet) = self.peek() {
            match octet {
                b'\n' => {
                    self.at += 1;
                    self.line += 1;
                    if opened.is_none() {
                        return Ok(());
                    }
                }
                b' ' | b'\t' | b'\r' => self.at += 1,
                b';' => self.comment(),
                b'(' if opened.is_some() => {
                    return Err((self.line, "a parenthesis within parentheses"));
                }
                b'(' => {
                    self.at += 1;
                    opened = Some(self.line);
                }
                b')' => {
                    self.at += 1;
                    if opened.take().is_none() {
                        return Err((self.line, "nothing is open that ')' closes"));
                    }
                }
                b'"' => {
                    let word = self.quoted()?;
                    entry.words.push(word);
                }
                _ => {
                    let word = self.plain()?;
                    entry.words.push(word);
                }
            }
        }
        opened.map_or(Ok(()), |line| Err((line, "a parenthesis is never closed")))
    }

    fn quoted(&mut self) -> Result<Word<'t>, Fault> {
        let (start, text) = (self.at + 1, self.text);
        self.skip_quoted()?;
        Ok(Word {
            text: &text[start..self.at - 1],
            is_quoted: true,
        })
    }

    /// Goes behind the closing quote. A line may end within quotes.
    fn skip_quoted(&mut self) -> Result<(), Fault> {
        let first = self.line;
        self.at += 1;
        while let Some(octet) = self.peek() {
            self.at += 1;
            match octet {
                b'"' => return Ok(()),
                b'\n' => self.line += 1,
                b'\\' => self.skip_escaped(),
                _ => {}
            }
        }
        Err((first, "a quote is never closed"))
    }

    /// A word without quotes around it; within it they may stand, as in `alpn="h2,h3"`.
    fn plain(&mut self) -> Result<Word<'t>, Fault> {
        let (start, text) = (self.at, self.text);
        while let Some(octet) = self.peek() {
            match octet {
                b' ' | b'\t' | b'\r' | b'\n' | b';' | b'(' | b')' => break,
                b'"' => self.skip_quoted()?,
                b'\\' => {
                    self.at += 1;
                    self.skip_escaped();
                }
                _ => self.at += 1,
            }
        }
        Ok(Word {
            text: &text[start..self.at],
            is_quoted: false,
        })
    }

    fn skip_escaped(&mut self) {
        if let Some(octet) = self.peek() {
            self.line += usize::from(octet == b'\n');
            self.at += 1;
        }
    }

    fn comment(&mut self) {
        let rest = &self.text[self.at..];
        let length = rest.iter().position(|octet| *octet == b'\n');
        self.at += length.unwrap_or(rest.len());
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
}

impl Word<'_> {
    /// Whether it is `text`, and not in quotes.
    pub fn is(&self, text: &str) -> bool {
        !self.is_quoted && self.text.eq_ignore_ascii_case(text.as_bytes())
    }

    /// Its octets, escapes resolved: `\DDD`, and `\X` for X itself.
    pub fn unescaped(&self) -> Result<Vec<u8>, &'static str> {
        let mut octets = Vec::with_capacity(self.text.len());
        let mut rest = self.text;
        while let Some((octet, behind)) = rest.split_first() {
            rest = behind;
            let octet = match octet {
                b'\\' => {
                    let (octet, length) = escaped(rest)?;
                    rest = &rest[length..];
                    octet
                }
                plain => *plain,
            };
            octets.push(octet);
        }
        Ok(octets)
    }
}

/// The octet that is written behind a backslash, and the length of what is written.
pub fn escaped(text: &[u8]) -> Result<(u8, usize), &'static str> {
    let wrong = "a backslash is followed by neither three digits up to 255 nor a character";
    match text {
        [first, ..] if !first.is_ascii_digit() => Ok((*first, 1)),
        [a, b, c, ..] if b.is_ascii_digit() && c.is_ascii_digit() => {
            let digits = [a, b, c].map(|digit| u32::from(digit - b'0'));
            let value = digits[0] * 100 + digits[1] * 10 + digits[2];
            Ok((u8::try_from(value).map_err(|_| wrong)?, 3))
        }
        _ => Err(wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Vec<(usize, bool, Vec<String>)>, Fault> {
        let mut lexer = Lexer::new(text.as_bytes());
        let mut entry = Entry::default();
        let mut entries = Vec::new();
        while lexer.next(&mut entry)? {
            let words = entry.words.iter();
            let words = words.map(|word| String::from_utf8_lossy(word.text).into_owned());
            entries.push((entry.line, entry.is_indented, words.collect()));
        }
        Ok(entries)
    }

    #[test]
    fn entries_are_lines_or_what_parentheses_hold() {
        let text = "; nothing\r\n\n@ SOA ( a ; one\n  b\n) c\n\tTXT \"a b\"\"c;\" d\\;e f;g\nx";
        let entries = words(text).unwrap();
        let entry = |line, indented, words: &[&str]| {
            (
                line,
                indented,
                words.iter().map(ToString::to_string).collect(),
            )
        };
        let wanted = [
            entry(3, false, &["@", "SOA", "a", "b", "c"]),
            entry(6, true, &["TXT", "a b", "c;", r"d\;e", "f"]),
            entry(7, false, &["x"]),
        ];
        assert_eq!(entries, wanted);
        assert_eq!(
            words("x k=\"a b\" c").unwrap()[0].2,
            ["x", "k=\"a b\"", "c"]
        );
        assert_eq!(words("a \"x\ny\"\nb").unwrap()[1].0, 3);
    }

    #[test]
    fn what_is_not_closed_is_told_where_it_begins() {
        assert_eq!(words("a\nb (\nc\n").unwrap_err().0, 2);
        assert_eq!(words("a\nb \"\nc\n").unwrap_err().0, 2);
        assert_eq!(words("a\nb )").unwrap_err().0, 2);
        assert_eq!(words("a ( (").unwrap_err().0, 1);
        assert_eq!(words("a \\").unwrap().len(), 1);
    }

    #[test]
    fn escapes_are_octets() {
        let unescaped = |text: &str| {
            let word = Word {
                text: text.as_bytes(),
                is_quoted: true,
            };
            word.unescaped()
        };
        assert_eq!(unescaped(r#"a\"\\\255\000b"#).unwrap(), b"a\"\\\xFF\x00b");
        for text in [r"\", r"\2", r"\25", r"\256", r"\2x5"] {
            assert!(unescaped(text).is_err(), "{text}");
        }
    }
}
