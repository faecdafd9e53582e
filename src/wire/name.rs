//! Domain names in wire format: length-prefixed labels, ending with the root label (RFC 1035
//! section 3.1).

mod text;

/// Maximum length of a name in bytes, including the root label (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 255;
/// Maximum length of a label in bytes.
const MAX_LABEL: usize = 63;
/// Maximum number of compression pointers in a name: one before each label and the root label. A message
/// can hold thousands behind each other, and begin each of its names with the last of them.
const MAX_POINTERS: usize = 128;
/// Names up to this length, nearly all, are copied and folded as so many bytes: a fixed number takes a few
/// vector instructions, any other a call or a loop.
const SHORT: usize = 64;

/// Why bytes or text are not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // each variant's message
pub enum NameError {
    #[error("a name has at most 255 bytes")]
    TooLong,
    #[error("a label has at most 63 bytes")]
    LabelTooLong,
    #[error("a name has no empty label but its last")]
    EmptyLabel,
    #[error("the name ends before its last label")]
    Truncated,
    #[error("a compression pointer does not point backwards, or follows 128 others")]
    BadPointer,
    #[error("a label type other than plain and pointer")]
    BadLabelType,
    #[error("a backslash is followed by neither three digits up to 255 nor a character")]
    BadEscape,
}

/// A name stored inline: copying takes a few nanoseconds and no allocation.
///
/// Spelling is preserved; each comparison states whether it is case-sensitive.
#[derive(Clone, Copy)]
pub struct Name {
    length: u8,
    bytes: [u8; MAX_NAME],
}

/// A borrowed name.
#[derive(Clone, Copy)]
pub struct NameRef<'a>(&'a [u8]);

impl Name {
    /// The root, `.`.
    pub const ROOT: Self = Self {
        length: 1,
        bytes: [0; MAX_NAME],
    };

    /// Reads an uncompressed name from the start of `bytes`.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, NameError> {
        Ok(NameRef::from_wire(bytes)?.to_name())
    }

    /// Reads the name at offset `at` of a message, following compression pointers (RFC 1035 section
    /// 4.1.4), and returns the offset after it. Pointers must point strictly backwards, and no more
    /// are followed than a name has labels, which bounds the work.
    pub fn read(message: &[u8], at: usize) -> Result<(Self, usize), NameError> {
        let mut name = Self::ROOT;
        let behind = name.read_from(message, at)?;
        Ok((name, behind))
    }

    /// Like [`Name::read`], into this name. Writes only as many bytes as the name has. After an
    /// error this is the root.
    pub fn read_from(&mut self, message: &[u8], at: usize) -> Result<usize, NameError> {
        match self.fill(message, at) {
            Ok((length, behind)) => {
                self.length = length;
                Ok(behind)
            }
            Err(error) => {
                (self.length, self.bytes[0]) = (1, 0);
                Err(error)
            }
        }
    }

    /// Fills the buffer; returns the name's length and the offset after it.
    fn fill(&mut self, message: &[u8], at: usize) -> Result<(u8, usize), NameError> {
        let mut length = 0;
        let mut position = at;
        let mut behind = None;
        let mut lowest = at;
        let mut pointers = 0;
        // Consecutive labels are copied at once.
        let mut run = at;
        loop {
            let size = usize::from(*message.get(position).ok_or(NameError::Truncated)?);
            match size {
                0 => {
                    let last = &message[run..=position];
                    let end = length + last.len();
                    self.bytes
                        .get_mut(length..end)
                        .ok_or(NameError::TooLong)?
                        .copy_from_slice(last);
                    let length = u8::try_from(end).map_err(|_| NameError::TooLong)?;
                    return Ok((length, behind.unwrap_or(position + 1)));
                }
                1..=MAX_LABEL => {
                    position += size + 1;
                    if position > message.len() {
                        return Err(NameError::Truncated);
                    }
                    if length + position - run > MAX_NAME {
                        return Err(NameError::TooLong);
                    }
                }
                0xC0.. => {
                    let low = *message.get(position + 1).ok_or(NameError::Truncated)?;
                    let target = (size & 0x3F) << 8 | usize::from(low);
                    pointers += 1;
                    if target >= lowest || pointers > MAX_POINTERS {
                        return Err(NameError::BadPointer);
                    }
                    let labels = &message[run..position];
                    self.bytes[length..length + labels.len()].copy_from_slice(labels);
                    length += labels.len();
                    behind.get_or_insert(position + 2);
                    lowest = target;
                    position = target;
                    run = target;
                }
                _ => return Err(NameError::BadLabelType),
            }
        }
    }

    /// Copies `other`, writing only as many bytes as it has, rounded up.
    pub fn copy_from(&mut self, other: &Self) {
        self.length = other.length;
        if self.is_short() {
            self.bytes[..SHORT].copy_from_slice(&other.bytes[..SHORT]);
        } else {
            self.bytes = other.bytes;
        }
    }

    /// Like [`Self::copy_from`], in lower case.
    pub fn copy_lower(&mut self, other: &Self) {
        self.length = other.length;
        // Label lengths are at most 63 and thus not letters: all bytes can be folded alike.
        let fold = |lower: &mut [u8], bytes: &[u8]| {
            for (lower, byte) in lower.iter_mut().zip(bytes) {
                *lower = byte.to_ascii_lowercase();
            }
        };
        if self.is_short() {
            fold(&mut self.bytes[..SHORT], &other.bytes[..SHORT]);
        } else {
            fold(&mut self.bytes, &other.bytes);
        }
    }

    /// Whether it is copied as [`SHORT`] bytes.
    fn is_short(&self) -> bool {
        usize::from(self.length) <= SHORT
    }

    /// Borrows the name.
    pub fn as_ref(&self) -> NameRef<'_> {
        NameRef(self.as_wire())
    }

    /// The name in wire format, including the root label.
    pub fn as_wire(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The name in lower case (ASCII letters, RFC 4343).
    #[must_use]
    pub fn to_lower(&self) -> Self {
        let mut lower = Self::ROOT;
        lower.copy_lower(self);
        lower
    }

    /// This name followed by `suffix`, as `labels.suffix`; `self` loses its root label.
    pub fn join(&self, suffix: NameRef<'_>) -> Result<Self, NameError> {
        let own = usize::from(self.length) - 1;
        let length = own + suffix.0.len();
        if length > MAX_NAME {
            return Err(NameError::TooLong);
        }
        let mut joined = *self;
        joined.bytes[own..length].copy_from_slice(suffix.0);
        joined.length = u8::try_from(length).map_err(|_| NameError::TooLong)?;
        Ok(joined)
    }

    /// The name consisting of `labels`, leftmost first, and `suffix`.
    pub fn from_labels<'l>(
        labels: impl IntoIterator<Item = &'l [u8]>,
        suffix: NameRef<'_>,
    ) -> Result<Self, NameError> {
        let mut builder = Builder::new();
        for label in labels {
            for byte in label {
                builder.byte(*byte)?;
            }
            builder.end_label()?;
        }
        builder.finish()?.join(suffix)
    }
}

impl<'a> NameRef<'a> {
    /// Borrows an uncompressed name from the start of `bytes`; ignores the rest.
    pub fn from_wire(bytes: &'a [u8]) -> Result<Self, NameError> {
        let mut position = 0;
        loop {
            let size = usize::from(*bytes.get(position).ok_or(NameError::Truncated)?);
            position += size + 1;
            if position > MAX_NAME {
                return Err(NameError::TooLong);
            }
            match size {
                0 => return Ok(Self(&bytes[..position])),
                1..=MAX_LABEL => {}
                _ => return Err(NameError::BadLabelType),
            }
        }
    }

    /// The name in wire format, including the root label.
    pub fn as_wire(self) -> &'a [u8] {
        self.0
    }

    /// An owned copy.
    pub fn to_name(self) -> Name {
        let mut name = Name::ROOT;
        name.bytes[..self.0.len()].copy_from_slice(self.0);
        name.length = u8::try_from(self.0.len()).expect("a NameRef holds at most 255 bytes");
        name
    }

    /// Whether this is the root.
    pub fn is_root(self) -> bool {
        self.0.len() == 1
    }

    /// The labels from left to right, without the root label.
    pub fn labels(self) -> Labels<'a> {
        Labels(self.0)
    }

    /// Number of labels, without the root label.
    pub fn label_count(self) -> usize {
        self.labels().count()
    }

    /// The name without its leftmost label; `None` for the root.
    pub fn parent(self) -> Option<Self> {
        let size = usize::from(self.0[0]);
        (size > 0).then(|| Self(&self.0[size + 1..]))
    }

    /// Case-insensitive equality (RFC 4343).
    pub fn eq_ignore_case(self, other: NameRef<'_>) -> bool {
        self.0.eq_ignore_ascii_case(other.0)
    }

    /// Whether this is `zone` or below it, ignoring case.
    pub fn is_under(self, zone: NameRef<'_>) -> bool {
        self.strip(zone).is_some()
    }

    /// The labels left of `zone`; `None` if this name is not at or below `zone`.
    pub fn strip(self, zone: NameRef<'_>) -> Option<Labels<'a>> {
        let cut = self.0.len().checked_sub(zone.0.len())?;
        if !self.0[cut..].eq_ignore_ascii_case(zone.0) {
            return None;
        }
        // The split must be at a label boundary: `xample.org` ends like `ample.org` but is not
        // below it.
        let mut position = 0;
        while position < cut {
            position += usize::from(self.0[position]) + 1;
        }
        (position == cut).then(|| Labels(&self.0[..cut]))
    }
}

/// Labels of a name, leftmost first.
#[derive(Clone, Debug)]
pub struct Labels<'a>(&'a [u8]);

impl Labels<'_> {
    /// Whether no label is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (&size, rest) = self.0.split_first()?;
        if size == 0 {
            return None;
        }
        let (label, rest) = rest.split_at(usize::from(size));
        self.0 = rest;
        Some(label)
    }
}

impl PartialEq for Name {
    /// Byte for byte: case-sensitive.
    fn eq(&self, other: &Self) -> bool {
        self.as_wire() == other.as_wire()
    }
}

impl Eq for Name {}

impl std::hash::Hash for Name {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_wire().hash(state);
    }
}

impl std::borrow::Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        self.as_wire()
    }
}

/// Builds a name byte by byte.
struct Builder {
    name: Name,
    label_start: usize,
    length: usize,
}

impl Builder {
    fn new() -> Self {
        Self {
            name: Name::ROOT,
            label_start: 0,
            length: 1,
        }
    }

    fn label_length(&self) -> usize {
        self.length - self.label_start - 1
    }

    fn byte(&mut self, byte: u8) -> Result<(), NameError> {
        if self.label_length() == MAX_LABEL {
            return Err(NameError::LabelTooLong);
        }
        *self
            .name
            .bytes
            .get_mut(self.length)
            .ok_or(NameError::TooLong)? = byte;
        self.length += 1;
        Ok(())
    }

    fn end_label(&mut self) -> Result<(), NameError> {
        let size = self.label_length();
        if size == 0 {
            return Err(NameError::EmptyLabel);
        }
        self.name.bytes[self.label_start] =
            u8::try_from(size).map_err(|_| NameError::LabelTooLong)?;
        self.label_start = self.length;
        *self
            .name
            .bytes
            .get_mut(self.length)
            .ok_or(NameError::TooLong)? = 0;
        self.length += 1;
        Ok(())
    }

    fn finish(mut self) -> Result<Name, NameError> {
        self.name.length = u8::try_from(self.length).map_err(|_| NameError::TooLong)?;
        Ok(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presentation_and_wire_format_round_trip() {
        for text in [
            ".",
            "a.",
            "web.shop.svc.cluster.local.",
            r"a\.b.c\032d.",
            r"\255.x.",
        ] {
            let name = Name::parse(text).unwrap();
            assert_eq!(name.to_string(), text);
            assert_eq!(Name::from_wire(name.as_wire()).unwrap(), name);
        }
        assert_eq!(Name::parse("a.b").unwrap(), Name::parse("a.b.").unwrap());
    }

    #[test]
    fn malformed_text_is_refused() {
        let long = format!("{}.", "a".repeat(64));
        let longer = "abcdefgh.".repeat(29);
        for (text, error) in [
            ("a..b", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            (long.as_str(), NameError::LabelTooLong),
            (longer.as_str(), NameError::TooLong),
            (r"a\", NameError::BadEscape),
            (r"a\25", NameError::BadEscape),
            (r"a\256", NameError::BadEscape),
        ] {
            assert_eq!(Name::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn the_longest_name_fits() {
        let text = format!("{0}.{0}.{0}.{1}.", "a".repeat(63), "b".repeat(61));
        let name = Name::parse(&text).unwrap();
        assert_eq!(name.as_wire().len(), 255);
        assert_eq!(Name::read(name.as_wire(), 0).unwrap(), (name, 255));
    }

    #[test]
    fn compression_pointers_must_point_backwards() {
        let message = b"\x01a\x00\x01b\xC0\x00";
        let (name, behind) = Name::read(message, 3).unwrap();
        assert_eq!((name.to_string().as_str(), behind), ("b.a.", 7));
        for loops in [&b"\xC0\x00"[..], b"\x01a\xC0\x00", b"\x01a\xC0\x05\x00"] {
            assert_eq!(Name::read(loops, 0), Err(NameError::BadPointer));
        }
        assert_eq!(Name::read(b"\x41a", 0), Err(NameError::BadLabelType));
        assert_eq!(Name::read(b"\x02a", 0), Err(NameError::Truncated));
    }

    #[test]
    fn a_name_is_parsed_into_an_existing_one() {
        let longest = format!("{0}.{0}.{0}.{1}.", "A".repeat(63), "b".repeat(61));
        let mut name = Name::parse(&longest).unwrap();
        let message = b"\x03WwW\x00\x01b\xC0\x00\x02x";
        assert_eq!(name.read_from(message, 5), Ok(9));
        assert_eq!(name, Name::parse("b.WwW").unwrap());
        let mut lower = Name::parse(&longest).unwrap();
        lower.copy_lower(&name);
        assert_eq!(lower, Name::parse("b.www").unwrap());
        assert_eq!(lower, name.to_lower());
        name.copy_from(&lower);
        assert_eq!(name, lower);
        assert_eq!(name.read_from(message, 9), Err(NameError::Truncated));
        assert_eq!(name, Name::ROOT);
        for text in [longest.as_str(), "."] {
            let long = Name::parse(text).unwrap();
            lower.copy_lower(&long);
            assert_eq!(lower.to_string(), text.to_lowercase());
            name.copy_from(&long);
            assert_eq!(name, long);
        }
    }

    /// Reads label by label, without optimizations.
    fn read_plainly(message: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
        let (mut bytes, mut behind, mut lowest) = (Vec::new(), None, at);
        loop {
            let size = *message.get(at)?;
            match size {
                0..=63 => {
                    bytes.extend(message.get(at..=at + usize::from(size))?);
                    at += usize::from(size) + 1;
                    if size == 0 {
                        let fits = bytes.len() <= MAX_NAME;
                        return fits.then(|| (bytes, behind.unwrap_or(at)));
                    }
                    if bytes.len() > MAX_NAME {
                        return None;
                    }
                }
                192.. => {
                    let to = usize::from(size - 192) << 8 | usize::from(*message.get(at + 1)?);
                    behind.get_or_insert(at + 2);
                    (at, lowest) = (to < lowest).then_some((to, to))?;
                }
                _ => return None,
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn names_are_parsed_like_the_plain_implementation(
            pieces in proptest::collection::vec((0..6u8, 0..64u8, 0..40u8), 0..24),
            at in 0..40usize,
        ) {
            let mut message = Vec::new();
            for (kind, size, low) in pieces {
                match kind {
                    0 => message.push(0),
                    1 => message.extend([0xC0, low]),
                    2 => message.push(size),
                    _ => message.extend([vec![size % 20], vec![b'A'; usize::from(size % 20)]].concat()),
                }
            }
            let mut name = Name::parse(&"x.".repeat(100)).unwrap();
            let read = name.read_from(&message, at).ok();
            let read = read.map(|behind| (name.as_wire().to_vec(), behind));
            proptest::prop_assert_eq!(&read, &read_plainly(&message, at));
            let mut lower = Name::parse(&"Y.".repeat(100)).unwrap();
            lower.copy_lower(&name);
            proptest::prop_assert_eq!(lower.as_wire(), name.as_wire().to_ascii_lowercase());
        }
    }

    #[test]
    fn names_that_are_too_long_are_refused() {
        let labels = |sizes: &[u8]| -> Vec<u8> {
            let label = |size: &u8| [vec![*size], vec![b'a'; usize::from(*size)]].concat();
            sizes.iter().flat_map(label).collect()
        };
        for sizes in [&[63, 63, 63, 62][..], &[63, 63, 63, 63], &[1; 128]] {
            let bytes = [labels(sizes), vec![0]].concat();
            assert_eq!(Name::read(&bytes, 0), Err(NameError::TooLong), "{sizes:?}");
        }
        // Two halves joined by a pointer.
        let half = [labels(&[63, 63]), vec![0]].concat();
        for (rest, fits) in [
            (&[63, 61][..], true),
            (&[63, 62], false),
            (&[63, 63], false),
        ] {
            let bytes = [half.clone(), labels(rest), vec![0xC0, 0]].concat();
            assert_eq!(Name::read(&bytes, half.len()).is_ok(), fits, "{rest:?}");
        }
        let whole = [labels(&[1; 127]), vec![0]].concat();
        assert_eq!(Name::read(&whole, 0).unwrap().1, 255);
    }

    #[test]
    fn suffixes_match_at_label_boundaries() {
        let name = Name::parse("Web.Shop.SVC.cluster.local").unwrap();
        let zone = Name::parse("svc.CLUSTER.local").unwrap();
        let labels: Vec<_> = name.as_ref().strip(zone.as_ref()).unwrap().collect();
        assert_eq!(labels, [b"Web".as_slice(), b"Shop"]);
        assert!(name.as_ref().is_under(Name::ROOT.as_ref()));
        let near = Name::parse("xcluster.local").unwrap();
        assert!(
            !near
                .as_ref()
                .is_under(Name::parse("cluster.local").unwrap().as_ref())
        );
    }

    #[test]
    fn names_join() {
        let zone = Name::parse("cluster.local").unwrap();
        let labels = [b"a".as_slice(), b"b"];
        let name = Name::from_labels(labels, zone.as_ref()).unwrap();
        assert_eq!(name.to_string(), "a.b.cluster.local.");
        assert_eq!(Name::ROOT.join(zone.as_ref()).unwrap(), zone);
    }
}
