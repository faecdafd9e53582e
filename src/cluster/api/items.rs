//! Incremental splitting of a list response into items, so that a page is never held in memory.

/// Splits the JSON of a list: the elements of the top-level `items` are emitted one by one,
/// everything around them is kept as the list's frame. Tracks only strings and brackets; other
/// syntax is checked by the decoders.
#[derive(Default)]
pub(super) struct ItemSplitter {
    /// The list without its items.
    frame: Vec<u8>,
    item: Vec<u8>,
    depth: u32,
    position: Position,
    in_string: bool,
    escaped: bool,
    /// The current item is too long and is discarded.
    dropping: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Position {
    #[default]
    Frame,
    Items,
}

/// Maximum size of the frame in bytes: it has a resource version, a continue token and little else.
const MAX_FRAME_BYTES: usize = 1 << 20;

/// An item of the list.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ListItem<'a> {
    /// Its JSON.
    Text(&'a [u8]),
    /// It exceeded the limit and was discarded.
    TooLong,
}

impl ItemSplitter {
    /// Consumes the next part of the list and calls `each` for each completed item. Stops at the
    /// first error of `each`; returns false if the frame is too long.
    pub(super) fn feed<E>(
        &mut self,
        part: &[u8],
        longest: usize,
        mut each: impl FnMut(ListItem<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        for &byte in part {
            match self.position {
                Position::Frame => self.frame_byte(byte),
                Position::Items => {
                    if self.item_byte(byte, longest) {
                        let dropped = std::mem::take(&mut self.dropping);
                        each(if dropped {
                            ListItem::TooLong
                        } else {
                            ListItem::Text(&self.item)
                        })?;
                        self.item.clear();
                    }
                }
            }
            if self.frame.len() > MAX_FRAME_BYTES {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The frame, with an empty `items`; `None` if the list is incomplete.
    pub(super) fn frame(&self) -> Option<&[u8]> {
        (self.depth == 0 && !self.frame.is_empty()).then_some(&self.frame)
    }

    fn frame_byte(&mut self, byte: u8) {
        if !self.in_string && byte == b'[' && self.depth == 1 && self.at_items() {
            self.position = Position::Items;
        }
        self.track(byte);
        self.frame.push(byte);
    }

    /// Whether the frame ends with the key `items` and its colon.
    fn at_items(&self) -> bool {
        let frame = self
            .frame
            .trim_ascii_end()
            .strip_suffix(b":")
            .unwrap_or_default();
        frame.trim_ascii_end().ends_with(b"\"items\"")
    }

    /// Consumes a byte of the items; returns whether it completes one.
    fn item_byte(&mut self, byte: u8, longest: usize) -> bool {
        let outside = self.depth == 2 && !self.in_string;
        if outside && (byte == b',' || byte == b']' || byte.is_ascii_whitespace()) {
            if byte == b']' {
                self.position = Position::Frame;
                self.track(byte);
                self.frame.push(byte);
            }
            // A scalar has no closing bracket: the separator completes it.
            return !self.item.is_empty();
        }
        self.track(byte);
        if self.dropping || self.item.len() >= longest {
            self.dropping = true;
            self.item.truncate(1);
        } else {
            self.item.push(byte);
        }
        byte == b'}' && self.depth == 2 && !self.in_string
    }

    fn track(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// The items and the frame, the same for parts of every size.
    fn split(text: &str, longest: usize) -> (Vec<String>, Option<String>) {
        let mut all = Vec::new();
        for size in 1..=text.len() {
            let mut items = ItemSplitter::default();
            let mut found = Vec::new();
            for part in text.as_bytes().chunks(size) {
                let is_ok = items.feed(part, longest, |item| {
                    found.push(match item {
                        ListItem::Text(text) => String::from_utf8_lossy(text).into_owned(),
                        ListItem::TooLong => "(too long)".into(),
                    });
                    Ok::<_, Infallible>(())
                });
                assert_eq!(is_ok, Ok(true));
            }
            all.push((
                found,
                items
                    .frame()
                    .map(|it| String::from_utf8_lossy(it).into_owned()),
            ));
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
        all.swap_remove(0)
    }

    #[test]
    fn a_list_is_split_into_items_and_frame() {
        let text =
            r#"{"items":[{"a":"]}\"items\":["}, {"b":[{},[1]]} ,7],"metadata":{"items":[1]}}"#;
        let (items, frame) = split(text, 100);
        assert_eq!(
            items,
            [r#"{"a":"]}\"items\":["}"#, r#"{"b":[{},[1]]}"#, "7"]
        );
        assert_eq!(frame.unwrap(), r#"{"items":[],"metadata":{"items":[1]}}"#);
    }

    #[test]
    fn a_truncated_list_has_no_frame() {
        assert_eq!(
            split(r#"{"metadata":{},"items":[{"a":1},{"b""#, 100),
            (vec![r#"{"a":1}"#.into()], None)
        );
        assert_eq!(
            split(r#"{"items": null}"#, 100),
            (vec![], Some(r#"{"items": null}"#.into()))
        );
    }

    #[test]
    fn an_oversized_item_is_discarded_and_the_others_are_kept() {
        let (items, frame) = split(r#"{"items":[{"long":"xxxxxxxxxxxxxxxx"},{"b":1}]}"#, 10);
        assert_eq!(items, ["(too long)", r#"{"b":1}"#]);
        assert!(frame.is_some());
    }
}
