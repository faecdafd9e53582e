//! A set of objects with their versions, in 8 bytes each.

use std::hash::BuildHasher;

/// Bits of a fingerprint that identify the object: with 150,000 objects, the probability that any two
/// are the same is below 0.001.
const KEY: u64 = !0 << 20;

/// Bit of a fingerprint for the current comparison: the object has been seen.
const SEEN: u64 = 1 << 19;

/// Bits of a fingerprint for the version: two versions are the same in one of 500,000 cases.
const VERSION: u64 = SEEN - 1;

/// Mean number of fingerprints in a bucket above which the number of buckets is doubled.
const MAX_MEAN: usize = 128;

/// The identity of an object in the table: `KEY` bits of a hash of its namespace and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct KeyHash(u64);

/// Fingerprints in buckets by their first bits. A bucket is searched linearly, and grows in steps of
/// a sixteenth, so that little of its memory is unused.
pub(super) struct FingerprintTable {
    /// A power of two.
    buckets: Vec<Vec<u64>>,
    len: usize,
    /// Randomly seeded, so that replicas do not share a collision.
    hasher: foldhash::quality::RandomState,
}

/// Whether the table has a listed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// With another version.
    Differs,
    /// With this version, or seen before.
    Agrees,
    /// It does not.
    Missing,
}

impl Default for FingerprintTable {
    fn default() -> Self {
        Self {
            buckets: vec![Vec::new()],
            len: 0,
            hasher: foldhash::quality::RandomState::default(),
        }
    }
}

impl FingerprintTable {
    /// The identity of an object.
    pub(super) fn key(&self, namespace: &str, name: &str) -> KeyHash {
        KeyHash(self.hasher.hash_one((namespace, name)) & KEY)
    }

    /// Inserts an object or replaces its version, and marks it as seen.
    pub(super) fn put(&mut self, key: KeyHash, version: Option<u64>) {
        let fingerprint = key.0 | SEEN | version_bits(version);
        let bucket = self.bucket(key);
        if let Some(known) = bucket.iter_mut().find(|it| **it & KEY == key.0) {
            *known = fingerprint;
            return;
        }
        if bucket.len() == bucket.capacity() {
            bucket.reserve_exact((bucket.len() / 16).max(8));
        }
        bucket.push(fingerprint);
        self.len += 1;
        if self.len > self.buckets.len() * MAX_MEAN {
            self.grow();
        }
    }

    /// Removes an object.
    pub(super) fn remove(&mut self, key: KeyHash) {
        let bucket = self.bucket(key);
        if let Some(at) = bucket.iter().position(|it| it & KEY == key.0) {
            bucket.swap_remove(at);
            self.len -= 1;
        }
    }

    /// Compares a listed object, and marks it as seen.
    pub(super) fn compare(&mut self, key: KeyHash, version: Option<u64>) -> Found {
        let found = self.bucket(key).iter_mut().find(|it| **it & KEY == key.0);
        let Some(known) = found else {
            return Found::Missing;
        };
        let is_seen = *known & SEEN != 0;
        *known |= SEEN;
        if is_seen || *known & VERSION == version_bits(version) {
            Found::Agrees
        } else {
            Found::Differs
        }
    }

    /// Marks all objects as not seen.
    pub(super) fn begin_comparison(&mut self) {
        self.buckets
            .iter_mut()
            .flatten()
            .for_each(|it| *it &= !SEEN);
    }

    /// The objects that are not marked as seen.
    pub(super) fn unseen(&self) -> impl Iterator<Item = KeyHash> {
        let all = self.buckets.iter().flatten();
        all.filter(|it| *it & SEEN == 0).map(|it| KeyHash(it & KEY))
    }

    /// Removes all objects, and keeps their memory for as many.
    pub(super) fn clear(&mut self) {
        self.buckets.iter_mut().for_each(Vec::clear);
        self.len = 0;
    }

    fn bucket(&mut self, key: KeyHash) -> &mut Vec<u64> {
        let at = index(key.0, self.buckets.len());
        &mut self.buckets[at]
    }

    fn grow(&mut self) {
        let count = self.buckets.len() * 2;
        let mut buckets: Vec<Vec<u64>> = Vec::with_capacity(count);
        for bucket in std::mem::take(&mut self.buckets) {
            // The next bit of the key decides: buckets 2n and 2n + 1 follow from bucket n.
            let at = buckets.len();
            for at in [at, at + 1] {
                let is_here = |it: &&u64| index(**it, count) == at;
                let here = bucket.iter().filter(is_here);
                let mut half = Vec::with_capacity(here.clone().count());
                half.extend(here);
                buckets.push(half);
            }
        }
        self.buckets = buckets;
    }
}

/// The bucket of a fingerprint: its first bits.
fn index(fingerprint: u64, buckets: usize) -> usize {
    let bits = buckets.trailing_zeros();
    // Two shifts: with one bucket it is all 64 bits. The result is below `buckets`.
    #[allow(clippy::cast_possible_truncation)]
    let at = (fingerprint >> 1 >> (63 - bits)) as usize;
    at
}

/// A hash of a version. Kubernetes only issues numbers; other versions are all the same.
fn version_bits(version: Option<u64>) -> u64 {
    // 2^64 divided by the golden ratio: versions next to each other get different first bits.
    let hash = version
        .unwrap_or_default()
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash >> (64 - VERSION.count_ones())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    #[test]
    fn the_table_is_a_map_from_keys_to_versions() {
        let mut table = FingerprintTable::default();
        let mut model: HashMap<u64, u64> = HashMap::new();
        let mut random = 1_u64;
        for step in 0..40_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let object = (random >> 33) % 5_000;
            let key = table.key("ns", &object.to_string());
            if random >> 61 == 0 {
                table.remove(key);
                model.remove(&object);
            } else {
                table.put(key, Some(step));
                model.insert(object, step);
            }
        }
        assert_eq!(table.len, model.len());
        assert!(table.buckets.len() > 16);
        table.begin_comparison();
        assert_eq!(table.unseen().count(), model.len());
        for object in 0..5_000 {
            let key = table.key("ns", &object.to_string());
            let version = model.get(&object).copied();
            let wanted = match version {
                None => Found::Missing,
                Some(version) if version % 2 == 0 => Found::Differs,
                Some(_) => Found::Agrees,
            };
            let asked = version.map(|version| {
                if version % 2 == 0 {
                    version + 1
                } else {
                    version
                }
            });
            assert_eq!(table.compare(key, asked), wanted, "{object}");
        }
        assert_eq!(table.unseen().count(), 0);
        table.clear();
        assert_eq!(
            (table.len, table.compare(table.key("ns", "1"), None)),
            (0, Found::Missing)
        );
    }

    #[test]
    fn objects_are_seen_once_they_are_put() {
        let mut table = FingerprintTable::default();
        let [a, b, c] = ["a", "b", "c"].map(|name| table.key("", name));
        for key in [a, b, c] {
            table.put(key, Some(1));
        }
        table.begin_comparison();
        table.put(a, Some(3));
        // An older version is no difference: the list was read before the change.
        assert_eq!(table.compare(a, Some(2)), Found::Agrees);
        assert_eq!(table.compare(b, Some(2)), Found::Differs);
        assert_eq!(table.unseen().collect::<Vec<_>>(), [c]);
    }

    #[test]
    fn keys_of_150_000_objects_differ() {
        let table = FingerprintTable::default();
        let keys = (0..150_000).map(|number| table.key("ns", &format!("pod-{number}")));
        let keys: HashSet<_> = keys.collect();
        assert!(keys.len() >= 149_999, "{}", keys.len());
    }

    #[test]
    fn an_object_takes_9_bytes() {
        for count in [1_000, 10_000, 11_000, 14_000, 16_000, 150_000] {
            let mut table = FingerprintTable::default();
            for number in 0..count {
                let key = table.key("ns", &number.to_string());
                table.put(key, Some(7));
            }
            let buckets = table.buckets.iter();
            let bytes: usize = buckets
                .map(|it| it.capacity() * 8 + size_of::<Vec<u64>>())
                .sum();
            let each = bytes as f64 / f64::from(count);
            assert!(each < 9.5, "{count}: {each}");
        }
    }
}
