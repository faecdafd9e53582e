//! The text of a reason: short, bounded, and safe to print.

/// A text of at most [`ReasonText::MAX`] bytes; what exceeds them is cut. Parts of names are escaped, since clients
/// choose them.
#[derive(Clone, Debug)]
pub struct ReasonText {
    bytes: [u8; Self::MAX],
    length: usize,
    is_cut: bool,
}

impl Default for ReasonText {
    fn default() -> Self {
        Self {
            bytes: [0; Self::MAX],
            length: 0,
            is_cut: false,
        }
    }
}

impl ReasonText {
    /// Maximum length in bytes. An extended DNS error (RFC 8914) of this length takes 106 bytes of a reply.
    pub const MAX: usize = 100;

    /// The end of a text that was cut.
    const CUT: &str = "...";

    /// The text.
    pub fn as_str(&self) -> &str {
        // Only whole characters are appended.
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Removes the text.
    pub fn clear(&mut self) {
        self.length = 0;
        self.is_cut = false;
    }

    /// Appends `part`. A text that is cut ends in `...`, so that a part of a name is not taken for
    /// the whole.
    pub fn push(&mut self, part: &str) {
        if self.is_cut {
            return;
        }
        let left = &mut self.bytes[self.length..];
        if let Some(left) = left.get_mut(..part.len()) {
            left.copy_from_slice(part.as_bytes());
            self.length += part.len();
            return;
        }
        let part = &part[..part.floor_char_boundary(left.len())];
        left[..part.len()].copy_from_slice(part.as_bytes());
        let text = std::str::from_utf8(&self.bytes[..self.length + part.len()]).unwrap_or_default();
        let end = text.floor_char_boundary(Self::MAX - Self::CUT.len());
        self.bytes[end..end + Self::CUT.len()].copy_from_slice(Self::CUT.as_bytes());
        self.length = end + Self::CUT.len();
        self.is_cut = true;
    }

    /// Appends a label of a name: see [`Self::name_bytes`].
    pub fn name(&mut self, part: &str) {
        self.name_bytes(part.as_bytes());
    }

    /// Appends a label of a name: bytes that are not printable ASCII, dots, quotes and backslashes as `\DDD`
    /// (RFC 1035 section 5.1).
    pub fn name_bytes(&mut self, part: &[u8]) {
        let is_plain =
            |byte: &u8| matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'\\' | b'.');
        for run in part.chunk_by(|a, b| is_plain(a) == is_plain(b)) {
            match std::str::from_utf8(run) {
                Ok(text) if is_plain(&run[0]) => self.push(text),
                _ => run
                    .iter()
                    .for_each(|byte| self.push(&format!("\\{byte:03}"))),
            }
        }
    }

    /// Appends a part of a name in quotes.
    pub fn quoted(&mut self, part: &str) {
        self.push("\"");
        self.name(part);
        self.push("\"");
    }

    /// Appends a decimal number.
    pub fn number(&mut self, number: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = number;
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(rest % 10).expect("a digit");
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.push(std::str::from_utf8(&digits[at..]).expect("digits are ASCII"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_bounded_and_escaped() {
        let mut text = ReasonText::default();
        text.push("service ");
        text.quoted("a\"b\u{e4}\n");
        text.push(" ");
        text.number(0);
        text.number(1204);
        assert_eq!(text.as_str(), r#"service "a\034b\195\164\010" 01204"#);
        text.name_bytes(b" \xc3(");
        assert!(text.as_str().ends_with(r"01204\032\195("));
        text.push(&"\u{e4}".repeat(200));
        assert!(
            text.as_str().len() <= ReasonText::MAX && text.as_str().len() > ReasonText::MAX - 2
        );
        text.clear();
        assert!(text.is_empty());
    }
}
