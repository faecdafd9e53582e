//! Presentation format of names (RFC 1035 section 5.1).

use std::fmt;

use super::{Builder, Name, NameError, NameRef};

impl Name {
    /// Parses presentation format (`www.example.org.`); the trailing dot is optional. `\.` and
    /// `\DDD` are escapes as in RFC 1035 section 5.1.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let mut builder = Builder::new();
        if text == "." {
            return Ok(Self::ROOT);
        }
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'.' => builder.end_label()?,
                b'\\' => builder.byte(unescape(&mut bytes)?)?,
                plain => builder.byte(plain)?,
            }
        }
        if builder.label_length() > 0 {
            builder.end_label()?;
        }
        builder.finish()
    }
}

fn unescape(bytes: &mut std::str::Bytes<'_>) -> Result<u8, NameError> {
    let first = bytes.next().ok_or(NameError::BadEscape)?;
    if !first.is_ascii_digit() {
        return Ok(first);
    }
    let mut value = u16::from(first - b'0');
    for _ in 0..2 {
        let digit = bytes
            .next()
            .filter(u8::is_ascii_digit)
            .ok_or(NameError::BadEscape)?;
        value = value * 10 + u16::from(digit - b'0');
    }
    u8::try_from(value).map_err(|_| NameError::BadEscape)
}

impl fmt::Display for NameRef<'_> {
    /// Presentation format with a trailing dot, escaped as in RFC 1035 section 5.1.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        if self.is_root() {
            return out.write_char('.');
        }
        for label in self.labels() {
            for &byte in label {
                match byte {
                    b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => {
                        write!(out, "\\{}", char::from(byte))?;
                    }
                    0x21..=0x7E => out.write_char(char::from(byte))?,
                    other => write!(out, "\\{other:03}")?,
                }
            }
            out.write_char('.')?;
        }
        Ok(())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(out)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

impl fmt::Debug for NameRef<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}
