//! Domain names in wire form: length-prefixed labels, the root label last (RFC 1035 §3.1).

mod text;

/// Octets that a name takes at most, its root label included (RFC 1035 §2.3.4).
const MAX_NAME: usize = 255;
/// Octets of one label at most.
const MAX_LABEL: usize = 63;

/// Why octets or text are no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // each says it
pub enum NameError {
    #[error("a name has at most 255 octets")]
    TooLong,
    #[error("a label has at most 63 octets")]
    LabelTooLong,
    #[error("a name has no empty label but its last")]
    EmptyLabel,
    #[error("the name ends before its last label")]
    Truncated,
    #[error("a compression pointer does not point backwards")]
    BadPointer,
    #[error("a label type other than plain and pointer")]
    BadLabelType,
    #[error("a backslash is followed by neither three digits up to 255 nor a character")]
    BadEscape,
}

/// A name, held in place: copying one costs a few nanoseconds and never an allocation.
///
/// Spelling is kept; comparisons say whether they mind it.
#[derive(Clone, Copy)]
pub struct Name {
    length: u8,
    octets: [u8; MAX_NAME],
}

/// A name that lives in somebody else's octets.
#[derive(Clone, Copy)]
pub struct NameRef<'a>(&'a [u8]);

impl Name {
    /// The root, `.`.
    pub const ROOT: Self = Self {
        length: 1,
        octets: [0; MAX_NAME],
    };

    /// Takes an uncompressed name from the start of `octets`.
    pub fn from_wire(octets: &[u8]) -> Result<Self, NameError> {
        Ok(NameRef::from_wire(octets)?.to_name())
    }

    /// Reads the name at `at` of a whole message, following compression pointers (RFC 1035
    /// §4.1.4), and gives the position behind it. Pointers must point strictly backwards, which
    /// bounds the work by the message.
    pub fn read(message: &[u8], at: usize) -> Result<(Self, usize), NameError> {
        let mut name = Self::ROOT;
        let behind = name.read_from(message, at)?;
        Ok((name, behind))
    }

    /// Becomes the name at `at`, as [`Name::read`] reads it, and gives the position behind it. No more
    /// octets are written than it has. After an error this is the root.
    pub fn read_from(&mut self, message: &[u8], at: usize) -> Result<usize, NameError> {
        match self.fill(message, at) {
            Ok((length, behind)) => {
                self.length = length;
                Ok(behind)
            }
            Err(error) => {
                (self.length, self.octets[0]) = (1, 0);
                Err(error)
            }
        }
    }

    /// Puts octets in place; how many they are, and the position behind the name.
    fn fill(&mut self, message: &[u8], at: usize) -> Result<(u8, usize), NameError> {
        let mut length = 0;
        let mut position = at;
        let mut behind = None;
        let mut lowest = at;
        // Labels that stand one behind the other are copied together.
        let mut run = at;
        loop {
            let size = usize::from(*message.get(position).ok_or(NameError::Truncated)?);
            match size {
                0 => {
                    let last = &message[run..=position];
                    let end = length + last.len();
                    self.octets
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
                    if target >= lowest {
                        return Err(NameError::BadPointer);
                    }
                    let labels = &message[run..position];
                    self.octets[length..length + labels.len()].copy_from_slice(labels);
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

    /// Becomes `other`. No more octets are written than it has, rounded up.
    pub fn copy_from(&mut self, other: &Self) {
        self.length = other.length;
        let end = self.rounded();
        self.octets[..end].copy_from_slice(&other.octets[..end]);
    }

    /// Becomes `other` in lower case, in the same way.
    pub fn copy_lower(&mut self, other: &Self) {
        self.length = other.length;
        let end = self.rounded();
        // A label's length is at most 63 and so never a letter: all octets can be folded alike.
        for (lower, octet) in self.octets[..end].iter_mut().zip(&other.octets[..end]) {
            *lower = octet.to_ascii_lowercase();
        }
    }

    /// Its octets, and some behind them where that makes a number that can be copied or folded with
    /// less ado.
    fn rounded(&self) -> usize {
        usize::from(self.length).next_multiple_of(16).min(MAX_NAME)
    }

    /// The same name as a reference.
    pub fn as_ref(&self) -> NameRef<'_> {
        NameRef(self.as_wire())
    }

    /// Its octets, root label included.
    pub fn as_wire(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }

    /// The same name in lower case (ASCII letters, RFC 4343).
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
        joined.octets[own..length].copy_from_slice(suffix.0);
        joined.length = u8::try_from(length).map_err(|_| NameError::TooLong)?;
        Ok(joined)
    }

    /// The name made of `labels`, leftmost first, under `suffix`.
    pub fn from_labels<'l>(
        labels: impl IntoIterator<Item = &'l [u8]>,
        suffix: NameRef<'_>,
    ) -> Result<Self, NameError> {
        let mut builder = Builder::new();
        for label in labels {
            for octet in label {
                builder.octet(*octet)?;
            }
            builder.end_label()?;
        }
        builder.finish()?.join(suffix)
    }
}

impl<'a> NameRef<'a> {
    /// Takes an uncompressed name from the start of `octets`; what follows it is left out.
    pub fn from_wire(octets: &'a [u8]) -> Result<Self, NameError> {
        let mut position = 0;
        loop {
            let size = usize::from(*octets.get(position).ok_or(NameError::Truncated)?);
            position += size + 1;
            if position > MAX_NAME {
                return Err(NameError::TooLong);
            }
            match size {
                0 => return Ok(Self(&octets[..position])),
                1..=MAX_LABEL => {}
                _ => return Err(NameError::BadLabelType),
            }
        }
    }

    /// Its octets, root label included.
    pub fn as_wire(self) -> &'a [u8] {
        self.0
    }

    /// A copy that owns its octets.
    pub fn to_name(self) -> Name {
        let mut name = Name::ROOT;
        name.octets[..self.0.len()].copy_from_slice(self.0);
        name.length = u8::try_from(self.0.len()).expect("a NameRef holds at most 255 octets");
        name
    }

    /// Whether this is `.`.
    pub fn is_root(self) -> bool {
        self.0.len() == 1
    }

    /// The labels from left to right, the root label left out.
    pub fn labels(self) -> Labels<'a> {
        Labels(self.0)
    }

    /// How many labels, the root label not counted.
    pub fn label_count(self) -> usize {
        self.labels().count()
    }

    /// The name without its leftmost label; nothing above the root.
    pub fn parent(self) -> Option<Self> {
        let size = usize::from(self.0[0]);
        (size > 0).then(|| Self(&self.0[size + 1..]))
    }

    /// Equality that does not mind case (RFC 4343).
    pub fn eq_ignore_case(self, other: NameRef<'_>) -> bool {
        self.0.eq_ignore_ascii_case(other.0)
    }

    /// Whether this is `zone` or below it, whatever the case.
    pub fn is_under(self, zone: NameRef<'_>) -> bool {
        self.strip(zone).is_some()
    }

    /// The labels left of `zone`, as octets without a root label, or nothing where this name is
    /// not at or under `zone`.
    pub fn strip(self, zone: NameRef<'_>) -> Option<Labels<'a>> {
        let cut = self.0.len().checked_sub(zone.0.len())?;
        if !self.0[cut..].eq_ignore_ascii_case(zone.0) {
            return None;
        }
        // The cut must fall between labels: `xample.org` ends like `ample.org` but is not under it.
        let mut position = 0;
        while position < cut {
            position += usize::from(self.0[position]) + 1;
        }
        (position == cut).then(|| Labels(&self.0[..cut]))
    }
}

/// The labels of a name, leftmost first; can be walked from the right too by collecting.
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
    /// Octet for octet: spelling counts.
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

/// Puts a name together octet by octet.
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

    fn octet(&mut self, octet: u8) -> Result<(), NameError> {
        if self.label_length() == MAX_LABEL {
            return Err(NameError::LabelTooLong);
        }
        *self
            .name
            .octets
            .get_mut(self.length)
            .ok_or(NameError::TooLong)? = octet;
        self.length += 1;
        Ok(())
    }

    fn end_label(&mut self) -> Result<(), NameError> {
        let size = self.label_length();
        if size == 0 {
            return Err(NameError::EmptyLabel);
        }
        self.name.octets[self.label_start] =
            u8::try_from(size).map_err(|_| NameError::LabelTooLong)?;
        self.label_start = self.length;
        *self
            .name
            .octets
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
    fn text_and_octets_round_trip() {
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
    fn bad_text_is_refused() {
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
    fn pointers_go_backwards_only() {
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
    fn a_name_is_read_over_another() {
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

    /// Reads label by label, and knows nothing of what it could save.
    fn read_plainly(message: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
        let (mut octets, mut behind, mut lowest) = (Vec::new(), None, at);
        loop {
            let size = *message.get(at)?;
            match size {
                0..=63 => {
                    octets.extend(message.get(at..=at + usize::from(size))?);
                    at += usize::from(size) + 1;
                    if size == 0 {
                        let fits = octets.len() <= MAX_NAME;
                        return fits.then(|| (octets, behind.unwrap_or(at)));
                    }
                    if octets.len() > MAX_NAME {
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
        fn names_are_read_as_plainly(
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
            let octets = [labels(sizes), vec![0]].concat();
            assert_eq!(Name::read(&octets, 0), Err(NameError::TooLong), "{sizes:?}");
        }
        // Two halves that a pointer joins.
        let half = [labels(&[63, 63]), vec![0]].concat();
        for (rest, fits) in [
            (&[63, 61][..], true),
            (&[63, 62], false),
            (&[63, 63], false),
        ] {
            let octets = [half.clone(), labels(rest), vec![0xC0, 0]].concat();
            assert_eq!(Name::read(&octets, half.len()).is_ok(), fits, "{rest:?}");
        }
        let whole = [labels(&[1; 127]), vec![0]].concat();
        assert_eq!(Name::read(&whole, 0).unwrap().1, 255);
    }

    #[test]
    fn zones_are_left_at_label_boundaries() {
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
