//! Names as text: their presentation form (RFC 1035 §5.1).

use std::fmt;

use super::{Builder, Name, NameError, NameRef};

impl Name {
    /// Reads presentation form (`www.example.org.`); the final dot is optional. `\.` and `\DDD`
    /// escape as in RFC 1035 §5.1.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let mut builder = Builder::new();
        if text == "." {
            return Ok(Self::ROOT);
        }
        let mut octets = text.bytes();
        while let Some(octet) = octets.next() {
            match octet {
                b'.' => builder.end_label()?,
                b'\\' => builder.octet(unescape(&mut octets)?)?,
                plain => builder.octet(plain)?,
            }
        }
        if builder.label_length() > 0 {
            builder.end_label()?;
        }
        builder.finish()
    }
}

fn unescape(octets: &mut std::str::Bytes<'_>) -> Result<u8, NameError> {
    let first = octets.next().ok_or(NameError::BadEscape)?;
    if !first.is_ascii_digit() {
        return Ok(first);
    }
    let mut value = u16::from(first - b'0');
    for _ in 0..2 {
        let digit = octets
            .next()
            .filter(u8::is_ascii_digit)
            .ok_or(NameError::BadEscape)?;
        value = value * 10 + u16::from(digit - b'0');
    }
    u8::try_from(value).map_err(|_| NameError::BadEscape)
}

impl fmt::Display for NameRef<'_> {
    /// Presentation form with its final dot, escaped as in RFC 1035 §5.1.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        if self.is_root() {
            return out.write_char('.');
        }
        for label in self.labels() {
            for &octet in label {
                match octet {
                    b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => {
                        write!(out, "\\{}", char::from(octet))?;
                    }
                    0x21..=0x7E => out.write_char(char::from(octet))?,
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
