//! Lexer of zone files (RFC 1035 section 5.1): entries of tokens.

/// Iterates over entries: lines, or several lines joined by parentheses.
pub struct Lexer<'t> {
    text: &'t [u8],
    at: usize,
    line: usize,
}

/// An entry.
#[derive(Debug, Default)]
pub struct FileEntry<'t> {
    /// The 1-based number of its first line.
    pub line: usize,
    /// Starts with a blank: the owner is that of the previous record.
    pub is_indented: bool,
    /// The tokens.
    pub tokens: Vec<Token<'t>>,
}

/// A token, with unresolved escapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'t> {
    /// The text, without surrounding quotes.
    pub text: &'t [u8],
    /// Whether it was quoted.
    pub is_quoted: bool,
}

/// A syntax error: line number and message.
pub type LexError = (usize, &'static str);

impl<'t> Lexer<'t> {
    /// Starts at the first line.
    pub fn new(text: &'t [u8]) -> Self {
        Self {
            text,
            at: 0,
            line: 1,
        }
    }

    /// Reads the next non-empty entry into `entry`; returns false at the end.
    pub fn next(&mut self, entry: &mut FileEntry<'t>) -> Result<bool, LexError> {
        loop {
            entry.tokens.clear();
            entry.line = self.line;
            let Some(first) = self.peek() else {
                return Ok(false);
            };
            entry.is_indented = matches!(first, b' ' | b'\t');
            self.entry(entry)?;
            if !entry.tokens.is_empty() {
                return Ok(true);
            }
        }
    }

    /// Whether the end of the text is reached.
    pub fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// Reads up to a line end outside parentheses.
    fn entry(&mut self, entry: &mut FileEntry<'t>) -> Result<(), LexError> {
        let mut opened = None;
        while let Some(byte) = self.peek() {
            match byte {
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
                    return Err((self.line, "nested parentheses"));
                }
                b'(' => {
                    self.at += 1;
                    opened = Some(self.line);
                }
                b')' => {
                    self.at += 1;
                    if opened.take().is_none() {
                        return Err((self.line, "')' without '('"));
                    }
                }
                b'"' => {
                    let token = self.quoted()?;
                    entry.tokens.push(token);
                }
                _ => {
                    let token = self.plain()?;
                    entry.tokens.push(token);
                }
            }
        }
        opened.map_or(Ok(()), |line| Err((line, "unterminated '('")))
    }

    fn quoted(&mut self) -> Result<Token<'t>, LexError> {
        let (start, text) = (self.at + 1, self.text);
        self.skip_quoted()?;
        Ok(Token {
            text: &text[start..self.at - 1],
            is_quoted: true,
        })
    }

    /// Skips past the closing quote. Quoted text may contain line ends.
    fn skip_quoted(&mut self) -> Result<(), LexError> {
        let first = self.line;
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'"' => return Ok(()),
                b'\n' => self.line += 1,
                b'\\' => self.skip_escaped(),
                _ => {}
            }
        }
        Err((first, "unterminated quote"))
    }

    /// Reads a token without surrounding quotes; it may contain quotes, as in `alpn="h2,h3"`.
    fn plain(&mut self) -> Result<Token<'t>, LexError> {
        let (start, text) = (self.at, self.text);
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b';' | b'(' | b')' => break,
                b'"' => self.skip_quoted()?,
                b'\\' => {
                    self.at += 1;
                    self.skip_escaped();
                }
                _ => self.at += 1,
            }
        }
        Ok(Token {
            text: &text[start..self.at],
            is_quoted: false,
        })
    }

    fn skip_escaped(&mut self) {
        if let Some(byte) = self.peek() {
            self.line += usize::from(byte == b'\n');
            self.at += 1;
        }
    }

    fn comment(&mut self) {
        let rest = &self.text[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n');
        self.at += length.unwrap_or(rest.len());
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
}

impl Token<'_> {
    /// Whether it is `text`, case-insensitive and unquoted.
    pub fn is(&self, text: &str) -> bool {
        !self.is_quoted && self.text.eq_ignore_ascii_case(text.as_bytes())
    }

    /// The bytes with escapes resolved: `\DDD`, and `\X` for X itself.
    pub fn unescaped(&self) -> Result<Vec<u8>, &'static str> {
        let mut bytes = Vec::with_capacity(self.text.len());
        let mut rest = self.text;
        while let Some((byte, behind)) = rest.split_first() {
            rest = behind;
            let byte = match byte {
                b'\\' => {
                    let (byte, length) = escaped(rest)?;
                    rest = &rest[length..];
                    byte
                }
                plain => *plain,
            };
            bytes.push(byte);
        }
        Ok(bytes)
    }
}

/// The byte of an escape after its backslash, and the length of the escape.
pub fn escaped(text: &[u8]) -> Result<(u8, usize), &'static str> {
    let wrong =
        "invalid escape: expected three digits up to 255 or a character after the backslash";
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

/// A token for messages, escaped and truncated.
pub fn quote(token: &Token<'_>) -> String {
    let text = &token.text[..token.text.len().min(60)];
    format!("'{}'", text.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Vec<(usize, bool, Vec<String>)>, LexError> {
        let mut lexer = Lexer::new(text.as_bytes());
        let mut entry = FileEntry::default();
        let mut entries = Vec::new();
        while lexer.next(&mut entry)? {
            let tokens = entry.tokens.iter();
            let tokens = tokens.map(|token| String::from_utf8_lossy(token.text).into_owned());
            entries.push((entry.line, entry.is_indented, tokens.collect()));
        }
        Ok(entries)
    }

    #[test]
    fn entries_are_lines_or_parenthesized() {
        let text = "; nothing\r\n\n@ SOA ( a ; one\n  b\n) c\n\tTXT \"a b\"\"c;\" d\\;e f;g\nx";
        let entries = tokens(text).unwrap();
        let entry = |line, indented, tokens: &[&str]| {
            (
                line,
                indented,
                tokens.iter().map(ToString::to_string).collect(),
            )
        };
        let wanted = [
            entry(3, false, &["@", "SOA", "a", "b", "c"]),
            entry(6, true, &["TXT", "a b", "c;", r"d\;e", "f"]),
            entry(7, false, &["x"]),
        ];
        assert_eq!(entries, wanted);
        assert_eq!(
            tokens("x k=\"a b\" c").unwrap()[0].2,
            ["x", "k=\"a b\"", "c"]
        );
        assert_eq!(tokens("a \"x\ny\"\nb").unwrap()[1].0, 3);
    }

    #[test]
    fn unterminated_constructs_are_reported_at_their_start() {
        assert_eq!(tokens("a\nb (\nc\n").unwrap_err().0, 2);
        assert_eq!(tokens("a\nb \"\nc\n").unwrap_err().0, 2);
        assert_eq!(tokens("a\nb )").unwrap_err().0, 2);
        assert_eq!(tokens("a ( (").unwrap_err().0, 1);
        assert_eq!(tokens("a \\").unwrap().len(), 1);
    }

    #[test]
    fn escapes_are_bytes() {
        let unescaped = |text: &str| {
            let token = Token {
                text: text.as_bytes(),
                is_quoted: true,
            };
            token.unescaped()
        };
        assert_eq!(unescaped(r#"a\"\\\255\000b"#).unwrap(), b"a\"\\\xFF\x00b");
        for text in [r"\", r"\2", r"\25", r"\256", r"\2x5"] {
            assert!(unescaped(text).is_err(), "{text}");
        }
    }
}
