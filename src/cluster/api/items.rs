//! A list cut into its items as it arrives, so that a page is never held whole.

/// Splits the JSON of a list: the elements of the top level's `items` are handed out one by one,
/// everything around them is kept as the list's frame. It follows strings and brackets and leaves
/// all other syntax to those who read the parts.
#[derive(Default)]
pub(super) struct Items {
    /// The list without its items.
    frame: Vec<u8>,
    item: Vec<u8>,
    depth: u32,
    within: Within,
    in_string: bool,
    escaped: bool,
    /// The item being read is too long, and is dropped.
    dropping: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Within {
    #[default]
    Frame,
    Items,
}

/// The list's frame may not be longer than this: it is a version, a continuation and little else.
const LONGEST_FRAME: usize = 1 << 20;

/// What became of an item.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// Its JSON.
    Text(&'a [u8]),
    /// It was longer than is allowed, and has been dropped.
    TooLong,
}

impl Items {
    /// Takes the next part of the list; hands out each item that it completes. Stops at the first
    /// error of `each`, or when the frame is too long.
    pub(super) fn feed<E>(
        &mut self,
        part: &[u8],
        longest: usize,
        mut each: impl FnMut(Item<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        for &byte in part {
            match self.within {
                Within::Frame => self.frame_byte(byte),
                Within::Items => {
                    if self.item_byte(byte, longest) {
                        let dropped = std::mem::take(&mut self.dropping);
                        each(if dropped {
                            Item::TooLong
                        } else {
                            Item::Text(&self.item)
                        })?;
                        self.item.clear();
                    }
                }
            }
            if self.frame.len() > LONGEST_FRAME {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The list's frame, with an empty `items`; None where the list is not whole.
    pub(super) fn frame(&self) -> Option<&[u8]> {
        (self.depth == 0 && !self.frame.is_empty()).then_some(&self.frame)
    }

    fn frame_byte(&mut self, byte: u8) {
        if !self.in_string && byte == b'[' && self.depth == 1 && self.at_items() {
            self.within = Within::Items;
        }
        self.follow(byte);
        self.frame.push(byte);
    }

    /// Whether the frame ends in the key `items` and its colon.
    fn at_items(&self) -> bool {
        let frame = self
            .frame
            .trim_ascii_end()
            .strip_suffix(b":")
            .unwrap_or_default();
        frame.trim_ascii_end().ends_with(b"\"items\"")
    }

    /// Takes a byte of the items; says whether it completes one.
    fn item_byte(&mut self, byte: u8, longest: usize) -> bool {
        let outside = self.depth == 2 && !self.in_string;
        if outside && (byte == b',' || byte == b']' || byte.is_ascii_whitespace()) {
            if byte == b']' {
                self.within = Within::Frame;
                self.follow(byte);
                self.frame.push(byte);
            }
            // Something that is no object has no bracket to close it: this does.
            return !self.item.is_empty();
        }
        self.follow(byte);
        if self.dropping || self.item.len() >= longest {
            self.dropping = true;
            self.item.truncate(1);
        } else {
            self.item.push(byte);
        }
        byte == b'}' && self.depth == 2 && !self.in_string
    }

    fn follow(&mut self, byte: u8) {
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

    /// The items and the frame, fed in parts of every size.
    fn split(text: &str, longest: usize) -> (Vec<String>, Option<String>) {
        let mut all = Vec::new();
        for size in 1..=text.len() {
            let mut items = Items::default();
            let mut found = Vec::new();
            for part in text.as_bytes().chunks(size) {
                let whole = items.feed(part, longest, |item| {
                    found.push(match item {
                        Item::Text(text) => String::from_utf8_lossy(text).into_owned(),
                        Item::TooLong => "(too long)".into(),
                    });
                    Ok::<_, Infallible>(())
                });
                assert_eq!(whole, Ok(true));
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
    fn items_are_what_stands_between_the_brackets() {
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
    fn a_list_that_is_cut_off_has_no_frame() {
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
    fn an_item_that_is_too_long_is_dropped_alone() {
        let (items, frame) = split(r#"{"items":[{"long":"xxxxxxxxxxxxxxxx"},{"b":1}]}"#, 10);
        assert_eq!(items, ["(too long)", r#"{"b":1}"#]);
        assert!(frame.is_some());
    }
}
