//! Sort keys of the names in a zone.

use crate::wire::NameRef;

/// Maximum length in bytes: twice that of a name, as every byte may be escaped.
const MAX_KEY: usize = 510;

/// A name relative to the zone's apex, with the labels in reverse order. Compared bytewise, keys
/// are in the canonical order of names (RFC 4034 section 6.1), and the key of a name starts with
/// the keys of its ancestors.
///
/// Each label ends with a 0 byte; in labels, bytes 0 and 1 are escaped as 1 1 and 1 2.
pub struct SortKey {
    bytes: [u8; MAX_KEY],
    length: usize,
}

impl SortKey {
    /// The key of `name`, in any case; `None` if it is neither `apex` nor below it.
    pub fn new(name: NameRef<'_>, apex: NameRef<'_>) -> Option<Self> {
        let labels = name.strip(apex)?;
        let mut key = Self {
            bytes: [0; MAX_KEY],
            length: 0,
        };
        // A name has at most 127 labels.
        let mut order = [&[][..]; 128];
        let mut count = 0;
        for label in labels {
            order[count] = label;
            count += 1;
        }
        for label in order[..count].iter().rev() {
            key.push(label);
        }
        Some(key)
    }

    /// The key of `label` under `parent`.
    pub fn under(parent: &[u8], label: &[u8]) -> Option<Self> {
        // A longer key would not be that of a valid name.
        if parent.len() + 2 * label.len() + 1 > MAX_KEY {
            return None;
        }
        let mut key = Self {
            bytes: [0; MAX_KEY],
            length: parent.len(),
        };
        key.bytes[..parent.len()].copy_from_slice(parent);
        key.push(label);
        Some(key)
    }

    /// The bytes of the key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn push(&mut self, label: &[u8]) {
        for byte in label.iter().map(u8::to_ascii_lowercase) {
            match byte {
                0 | 1 => self.put(&[1, byte + 1]),
                _ => self.put(&[byte]),
            }
        }
        self.put(&[0]);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }
}

/// The key of the parent name; `None` for the apex, whose key is empty.
pub fn parent(key: &[u8]) -> Option<&[u8]> {
    let (_, labels) = key.split_last()?;
    let end = labels.iter().rposition(|byte| *byte == 0);
    Some(&key[..end.map_or(0, |end| end + 1)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Name;

    fn key(name: &str) -> Vec<u8> {
        let (name, apex) = (Name::parse(name).unwrap(), Name::parse("example.").unwrap());
        SortKey::new(name.as_ref(), apex.as_ref())
            .unwrap()
            .as_bytes()
            .to_vec()
    }

    #[test]
    fn keys_are_in_canonical_order() {
        // The example of RFC 4034 section 6.1, and names with escaped bytes.
        let names = [
            "example.",
            "a.example.",
            r"\000.a.example.",
            r"\001.a.example.",
            r"\001\000.a.example.",
            "yljkjljk.a.example.",
            "Z.a.example.",
            "zABC.a.EXAMPLE.",
            "z.example.",
            r"\001.z.example.",
            "*.z.example.",
            r"\200.z.example.",
        ];
        let keys = names.map(key);
        assert!(keys.is_sorted(), "{keys:?}");
        assert!(keys.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_key_starts_with_the_key_of_its_parent() {
        for name in ["a.example.", r"x.a\000b.example.", "one.two.three.example."] {
            let own = key(name);
            let above = name.split_once('.').unwrap().1;
            assert_eq!(parent(&own).unwrap(), key(above), "{name}");
            let label = Name::parse(name).unwrap();
            let label = label.as_ref().labels().next().unwrap();
            let joined = SortKey::under(&key(above), label).unwrap();
            assert_eq!(joined.as_bytes(), own);
        }
        assert!(parent(&key("example.")).is_none());
        let outside = Name::parse("xample.").unwrap();
        let apex = Name::parse("example.").unwrap();
        assert!(SortKey::new(outside.as_ref(), apex.as_ref()).is_none());
    }

    #[test]
    fn the_longest_name_has_a_key() {
        let text = format!("{}.", [r"\001"; 63].concat()).repeat(3);
        let name = Name::parse(&format!("{text}{}.", [r"\001"; 61].concat())).unwrap();
        let key = SortKey::new(name.as_ref(), Name::ROOT.as_ref()).unwrap();
        assert_eq!(key.as_bytes().len(), 2 * (3 * 63 + 61) + 4);
        assert!(SortKey::under(key.as_bytes(), b"*********").is_none());
    }
}
