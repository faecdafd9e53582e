//! A sorted multiset with one writer: chunks of up to 512 keys behind a list of pointers. A change
//! copies the affected chunks and the pointers to the others. Readers, which are few, lock only to
//! clone an `Arc`; the writer replaces the list under the lock.

use parking_lot::RwLock;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Maximum number of keys in a chunk.
const MAX_CHUNK: usize = 512;

/// Keys with their number of occurrences. An empty set is one null pointer.
pub(super) struct SortedMultiset<K>(RwLock<Option<Arc<Chunks<K>>>>);

/// Sorted; no chunk is empty.
type Chunks<K> = Box<[Chunk<K>]>;

type Chunk<K> = Arc<[(K, u32)]>;

impl<K> Default for SortedMultiset<K> {
    fn default() -> Self {
        Self(RwLock::new(None))
    }
}

impl<K: Copy + Ord> SortedMultiset<K> {
    /// Adds one occurrence per key in `add` and removes one per key in `remove`; both are sorted,
    /// and removed keys must be present. Only the writer calls this. Returns the number of keys
    /// copied.
    pub(super) fn change(&self, add: &[K], remove: &[K]) -> usize {
        if add.is_empty() && remove.is_empty() {
            return 0;
        }
        let before = self.0.read().clone();
        let before = before.as_deref().map_or(&[][..], |chunks| chunks);
        let mut after: Vec<Chunk<K>> = Vec::with_capacity(before.len() + 1);
        let (mut add, mut remove) = (add, remove);
        let mut copied = 0;
        let none: Chunk<K> = Arc::new([]);
        let chunks = if before.is_empty() {
            std::slice::from_ref(&none)
        } else {
            before
        };
        for (at, chunk) in chunks.iter().enumerate() {
            // A key between two chunks belongs to the first.
            let next = chunks.get(at + 1).map(|next| next[0].0);
            let here =
                |keys: &[K]| next.map_or(keys.len(), |next| keys.partition_point(|it| *it < next));
            let (added, more) = add.split_at(here(add));
            let (removed, rest) = remove.split_at(here(remove));
            (add, remove) = (more, rest);
            if added.is_empty() && removed.is_empty() {
                after.push(Arc::clone(chunk));
                continue;
            }
            let mut merged = merge(chunk, added, removed);
            copied += merged.len();
            // Merges neighbours that together fill at most half a chunk.
            if let Some(last) = after.pop_if(|last| last.len() + merged.len() <= MAX_CHUNK / 2) {
                copied += last.len();
                merged.splice(..0, last.iter().copied());
            }
            let parts = merged.len().div_ceil(MAX_CHUNK).max(1);
            let part = merged.len().div_ceil(parts).max(1);
            after.extend(merged.chunks(part).map(Arc::from));
        }
        let after = (!after.is_empty()).then(|| Arc::new(after.into()));
        *self.0.write() = after;
        copied
    }

    /// The keys in a range, sorted: a consistent snapshot.
    pub(super) fn range(&self, range: RangeInclusive<K>) -> impl Iterator<Item = K> {
        let chunks = self.0.read().clone();
        let (first, last) = range.into_inner();
        let all = |chunks: &Option<Arc<Chunks<K>>>| chunks.as_deref().map_or(0, |it| it.len());
        let mut at = chunks.as_deref().map_or(0, |chunks| {
            // The last chunk that starts at or before the range may overlap it.
            chunks
                .partition_point(|chunk| chunk[0].0 <= first)
                .saturating_sub(1)
        });
        let mut within = chunks
            .as_deref()
            .and_then(|chunks| chunks.get(at))
            .map_or(0, |chunk| chunk.partition_point(|(key, _)| *key < first));
        std::iter::from_fn(move || {
            while at < all(&chunks) {
                let chunk = &chunks.as_deref()?[at];
                if let Some((key, _)) = chunk.get(within) {
                    within += 1;
                    return (*key <= last).then_some(*key);
                }
                (at, within) = (at + 1, 0);
            }
            None
        })
    }

    /// Whether the set is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.0.read().is_none()
    }
}

/// The keys of a chunk after a change.
fn merge<K: Copy + Ord>(chunk: &[(K, u32)], add: &[K], remove: &[K]) -> Vec<(K, u32)> {
    let mut merged: Vec<(K, u32)> = Vec::with_capacity(chunk.len() + add.len());
    let mut add = add.iter().copied().peekable();
    let mut remove = remove.iter().copied().peekable();
    let mut there = chunk.iter().copied().peekable();
    loop {
        let next = match (there.peek(), add.peek()) {
            (Some((key, _)), Some(other)) => (*key).min(*other),
            (Some((key, _)), None) | (None, Some(key)) => *key,
            (None, None) => return merged,
        };
        let mut count = there
            .next_if(|(key, _)| *key == next)
            .map_or(0, |(_, count)| count);
        while add.next_if_eq(&next).is_some() {
            count += 1;
        }
        // Removing an absent key would be a bug in the writer; it is ignored.
        while remove.next_if(|key| *key <= next).is_some() {
            count = count.saturating_sub(1);
        }
        if count > 0 {
            merged.push((next, count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn agrees_with_a_sorted_map(changes in prop::collection::vec((any::<bool>(), prop::collection::vec(0..4000_u32, 0..900)), 0..12)) {
            let ordered = SortedMultiset::default();
            let mut map: BTreeMap<u32, u32> = BTreeMap::new();
            for (add, mut keys) in changes {
                keys.sort_unstable();
                if add {
                    ordered.change(&keys, &[]);
                    for key in keys {
                        *map.entry(key).or_default() += 1;
                    }
                } else {
                    let mut gone = Vec::new();
                    for key in keys {
                        if let Some(count) = map.get_mut(&key) {
                            gone.push(key);
                            *count -= 1;
                            if *count == 0 {
                                map.remove(&key);
                            }
                        }
                    }
                    ordered.change(&[], &gone);
                }
                for range in [0..=4000, 17..=1000, 3000..=3000, 3999..=4000] {
                    let expected: Vec<_> = map.range(range.clone()).map(|(key, _)| *key).collect();
                    prop_assert_eq!(ordered.range(range).collect::<Vec<_>>(), expected);
                }
                prop_assert_eq!(ordered.is_empty(), map.is_empty());
            }
        }
    }

    #[test]
    fn a_change_copies_only_the_affected_chunks() {
        let ordered = SortedMultiset::default();
        let all: Vec<u32> = (0..200_000).map(|it| it * 2).collect();
        ordered.change(&all, &[]);
        for key in [1, 199_999, 399_999] {
            assert!(ordered.change(&[key], &[]) <= 2 * MAX_CHUNK);
            assert!(ordered.change(&[], &[key]) <= 2 * MAX_CHUNK);
        }
        // All 1,000 endpoints of a slice are replaced.
        let (old, new): (Vec<u32>, Vec<u32>) = (
            (0..1000).map(|it| it * 2).collect(),
            (0..1000).map(|it| it * 2 + 1).collect(),
        );
        assert!(ordered.change(&new, &old) <= 8 * MAX_CHUNK);
        assert!(ordered.range(0..=1).eq([1]));
        ordered.change(&[], &new);
        ordered.change(&[], &all[1000..]);
        assert!(ordered.is_empty());
    }
}
