//! Names of a zone as octets that sort as the names do.

use crate::wire::NameRef;

/// Twice the longest name: every octet may have to be escaped.
const LONGEST: usize = 510;

/// A name of a zone, relative to its apex, its labels from right to left: compared octet by octet,
/// keys stand in the canonical order of names (RFC 4034 §6.1), and the key of a name begins with
/// that of each name above it.
///
/// A label ends with an octet 0; within it 0 and 1 are written as 1 1 and 1 2.
pub struct Key {
    octets: [u8; LONGEST],
    length: usize,
}

impl Key {
    /// The key of `name`, in whatever case; nothing where it is neither `apex` nor below it.
    pub fn new(name: NameRef<'_>, apex: NameRef<'_>) -> Option<Self> {
        let labels = name.strip(apex)?;
        let mut key = Self {
            octets: [0; LONGEST],
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
        // No name is longer than its key, and the new one must be a name's.
        if parent.len() + 2 * label.len() + 1 > LONGEST {
            return None;
        }
        let mut key = Self {
            octets: [0; LONGEST],
            length: parent.len(),
        };
        key.octets[..parent.len()].copy_from_slice(parent);
        key.push(label);
        Some(key)
    }

    /// Its octets.
    pub fn as_octets(&self) -> &[u8] {
        &self.octets[..self.length]
    }

    fn push(&mut self, label: &[u8]) {
        for octet in label.iter().map(u8::to_ascii_lowercase) {
            match octet {
                0 | 1 => self.put(&[1, octet + 1]),
                _ => self.put(&[octet]),
            }
        }
        self.put(&[0]);
    }

    fn put(&mut self, octets: &[u8]) {
        self.octets[self.length..self.length + octets.len()].copy_from_slice(octets);
        self.length += octets.len();
    }
}

/// The key of the name above, which that of the apex (no octets) does not have.
pub fn parent(key: &[u8]) -> Option<&[u8]> {
    let (_, labels) = key.split_last()?;
    let end = labels.iter().rposition(|octet| *octet == 0);
    Some(&key[..end.map_or(0, |end| end + 1)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Name;

    fn key(name: &str) -> Vec<u8> {
        let (name, apex) = (Name::parse(name).unwrap(), Name::parse("example.").unwrap());
        Key::new(name.as_ref(), apex.as_ref())
            .unwrap()
            .as_octets()
            .to_vec()
    }

    #[test]
    fn keys_are_in_canonical_order() {
        // The example of RFC 4034 §6.1, and names with octets that need care.
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
    fn a_key_begins_with_that_of_the_name_above() {
        for name in ["a.example.", r"x.a\000b.example.", "one.two.three.example."] {
            let own = key(name);
            let above = name.split_once('.').unwrap().1;
            assert_eq!(parent(&own).unwrap(), key(above), "{name}");
            let label = Name::parse(name).unwrap();
            let label = label.as_ref().labels().next().unwrap();
            let joined = Key::under(&key(above), label).unwrap();
            assert_eq!(joined.as_octets(), own);
        }
        assert!(parent(&key("example.")).is_none());
        let outside = Name::parse("xample.").unwrap();
        let apex = Name::parse("example.").unwrap();
        assert!(Key::new(outside.as_ref(), apex.as_ref()).is_none());
    }

    #[test]
    fn the_longest_name_has_a_key() {
        let text = format!("{}.", [r"\001"; 63].concat()).repeat(3);
        let name = Name::parse(&format!("{text}{}.", [r"\001"; 61].concat())).unwrap();
        let key = Key::new(name.as_ref(), Name::ROOT.as_ref()).unwrap();
        assert_eq!(key.as_octets().len(), 2 * (3 * 63 + 61) + 4);
        assert!(Key::under(key.as_octets(), b"*********").is_none());
    }
}
