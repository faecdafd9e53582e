//! Semantic differences of two Corefiles.
//!
//! Blocks are identified by their keys. Blocks of both files are paired: first those with identical
//! keys, then those with common keys. Within a pair, directives are compared by name. The order of
//! different directives is irrelevant; the order of several uses of one directive is relevant; the
//! order of properties is relevant only for plugins that evaluate them in order.

use crate::{
    config::order::ORDER,
    corefile::{Directive, File, Property, ServerBlock, Word},
};

/// One difference.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Difference<'a> {
    /// A block of the new file only.
    Added(&'a ServerBlock),
    /// A block of the old file only.
    Removed(&'a ServerBlock),
    /// A block with changes.
    Changed(Changed<'a>),
}

/// Changes of a block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changed<'a> {
    pub(super) old: &'a ServerBlock,
    pub(super) new: &'a ServerBlock,
    /// Removed keys.
    pub(super) without: Vec<RemovedKey>,
    /// Added keys.
    pub(super) with: Vec<String>,
    /// Whether its position relative to another block changed, where that is relevant.
    pub(super) moved: bool,
    /// Changed directives.
    pub(super) words: Vec<Change<'a>>,
}

/// A removed key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RemovedKey {
    pub(super) key: String,
    /// Whether another block has the key now.
    pub(super) elsewhere: bool,
}

/// A changed directive.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change<'a> {
    /// An added use.
    Added(&'a Directive),
    /// A removed use.
    Removed(&'a Directive),
    /// A modified use.
    Changed {
        old: &'a Directive,
        new: &'a Directive,
        /// Whether its arguments differ.
        head: bool,
        without: Vec<&'a Property>,
        with: Vec<&'a Property>,
        /// Whether its properties were reordered, where order is relevant.
        reordered: bool,
    },
    /// The uses were reordered.
    Reordered(&'a Directive),
}

/// Directives whose properties are evaluated in order.
const ORDERED: [&str; 6] = ["acl", "errors", "header", "rewrite", "template", "view"];
/// Directives whose uses form one set, in which order is irrelevant.
const SETS: [&str; 2] = ["bind", "tsig"];

/// All differences, in the order of `new`; removed blocks come last.
pub(super) fn compare<'a>(old: &'a File, new: &'a File, default_port: u16) -> Vec<Difference<'a>> {
    let old = blocks(old, default_port);
    let new = blocks(new, default_port);
    let pairs = pair(&old, &new);
    let mut differences = Vec::new();
    let mut last = None;
    for (index, block) in new.iter().enumerate() {
        let Some(of) = pairs[index] else {
            differences.push(Difference::Added(block.block));
            continue;
        };
        // Blocks are selected by zone; order is relevant only among blocks with a common key.
        let moved = last.is_some_and(|last| of < last)
            && new[..index].iter().any(|other| other.shares(block));
        last = last.max(Some(of));
        let before = &old[of];
        let gone = before.keys.iter().filter(|key| !block.keys.contains(key));
        let changed = Changed {
            old: before.block,
            new: block.block,
            without: gone
                .map(|key| RemovedKey {
                    key: key.clone(),
                    elsewhere: new.iter().any(|other| other.keys.contains(key)),
                })
                .collect(),
            with: missing(&block.keys, &before.keys),
            moved,
            words: words(before.block, block.block),
        };
        if !changed.is_empty() {
            differences.push(Difference::Changed(changed));
        }
    }
    let kept = |index: usize| pairs.contains(&Some(index));
    let gone = (0..old.len()).filter(|index| !kept(*index));
    differences.extend(gone.map(|index| Difference::Removed(old[index].block)));
    differences
}

impl Changed<'_> {
    fn is_empty(&self) -> bool {
        self.without.is_empty() && self.with.is_empty() && self.words.is_empty() && !self.moved
    }
}

/// A block with its identity.
struct IdentifiedBlock<'a> {
    block: &'a ServerBlock,
    /// `dns://ZONE:PORT`, sorted.
    keys: Vec<String>,
    /// Attributes that distinguish blocks with the same keys.
    marks: Vec<&'a str>,
}

impl IdentifiedBlock<'_> {
    fn shares(&self, other: &Self) -> bool {
        self.keys.iter().any(|key| other.keys.contains(key))
    }

    /// Similarity of two blocks for pairing; `None` without a common key.
    fn similarity(&self, other: &Self) -> Option<(bool, usize, bool)> {
        let shared = self.keys.iter().filter(|key| other.keys.contains(key));
        let shared = shared.count();
        let same = self.keys == other.keys;
        (shared > 0).then_some((same, shared, self.marks == other.marks))
    }
}

fn blocks(file: &File, default_port: u16) -> Vec<IdentifiedBlock<'_>> {
    let blocks = file.blocks.iter();
    blocks
        .map(|block| {
            let keys = block.read_keys().map(|keys| keys.list).unwrap_or_default();
            let keys = keys.iter();
            let mut keys: Vec<String> = keys
                .map(|key| {
                    format!(
                        "{}://{}:{}",
                        key.transport,
                        key.zone,
                        key.port_or(default_port)
                    )
                })
                .collect();
            keys.sort_unstable();
            keys.dedup();
            let marks = block.directives.iter();
            let marks = marks.filter(|one| one.name == "bind" || one.name == "view");
            let marks = marks.flat_map(|one| one.arguments.iter().map(Word::as_str));
            IdentifiedBlock {
                block,
                keys,
                marks: marks.collect(),
            }
        })
        .collect()
}

/// Pairs each new block with an old one, best matches first.
fn pair(old: &[IdentifiedBlock<'_>], new: &[IdentifiedBlock<'_>]) -> Vec<Option<usize>> {
    let mut likely = Vec::new();
    for (from, before) in old.iter().enumerate() {
        for (to, block) in new.iter().enumerate() {
            likely.extend(before.similarity(block).map(|how| (how, from, to)));
        }
    }
    likely.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(&other.1)));
    let mut pairs = vec![None; new.len()];
    for (_, from, to) in likely {
        if pairs[to].is_none() && !pairs.contains(&Some(from)) {
            pairs[to] = Some(from);
        }
    }
    pairs
}

/// Changes of the directives of a block, in chain order.
fn words<'a>(old: &'a ServerBlock, new: &'a ServerBlock) -> Vec<Change<'a>> {
    let mut names: Vec<&str> = ORDER.iter().map(|word| word.name).collect();
    let directives = old.directives.iter().chain(&new.directives);
    for name in directives.map(|one| one.name.as_str()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let names = names.into_iter();
    names.flat_map(|name| uses(name, old, new)).collect()
}

fn uses<'a>(name: &str, old: &'a ServerBlock, new: &'a ServerBlock) -> Vec<Change<'a>> {
    let of = |block: &'a ServerBlock| -> Vec<&'a Directive> {
        let uses = block.directives.iter();
        uses.filter(|one| one.name == *name).collect()
    };
    let (mut before, mut after) = (of(old), of(new));
    if SETS.contains(&name) && same_set(&before, &after) {
        return Vec::new();
    }
    let same = |one: &Directive, other: &Directive| difference(name, one, other).is_none();
    let in_order = before.len() == after.len()
        && before
            .iter()
            .zip(&after)
            .all(|(one, other)| same(one, other));
    if in_order {
        return Vec::new();
    }
    let first = after.first().copied();
    // Identical uses are not a change, regardless of position.
    after.retain(|one| {
        let found = before.iter().position(|other| same(other, one));
        found.map(|index| before.remove(index)).is_none()
    });
    if let (Some(first), true, true) = (first, before.is_empty(), after.is_empty()) {
        let counts = !SETS.contains(&name);
        return counts
            .then_some(Change::Reordered(first))
            .into_iter()
            .collect();
    }
    let paired = before.len().min(after.len());
    let pairs = before.iter().zip(&after);
    let changed = pairs.filter_map(|(one, other)| difference(name, one, other));
    let mut changes: Vec<_> = changed.collect();
    changes.extend(before[paired..].iter().map(|one| Change::Removed(one)));
    changes.extend(after[paired..].iter().map(|one| Change::Added(one)));
    changes
}

/// Whether all arguments of all uses are equal as sets.
fn same_set(old: &[&Directive], new: &[&Directive]) -> bool {
    let words = |uses: &[&Directive]| {
        let words = uses.iter().flat_map(|one| &one.arguments);
        let mut words: Vec<String> = words.map(ToString::to_string).collect();
        words.sort_unstable();
        words.dedup();
        words
    };
    let no_body = |uses: &[&Directive]| uses.iter().all(|one| one.properties().is_empty());
    no_body(old) && no_body(new) && words(old) == words(new)
}

/// The change from one use to another.
fn difference<'a>(name: &str, old: &'a Directive, new: &'a Directive) -> Option<Change<'a>> {
    let head = old.arguments != new.arguments;
    let (before, after) = (old.properties(), new.properties());
    let mut with: Vec<&Property> = after.iter().collect();
    let mut without = Vec::new();
    for line in before {
        match with.iter().position(|other| *other == line) {
            Some(index) => {
                with.remove(index);
            }
            None => without.push(line),
        }
    }
    let moved = without.is_empty() && with.is_empty() && before != after;
    // A property overrides an earlier one of the same name.
    let reordered = moved && (ORDERED.contains(&name) || by_name(before) != by_name(after));
    let differs = head || reordered || !without.is_empty() || !with.is_empty();
    differs.then_some(Change::Changed {
        old,
        new,
        head,
        without,
        with,
        reordered,
    })
}

/// Properties sorted by name; those with the same name keep their order.
fn by_name(lines: &[Property]) -> Vec<&Property> {
    let mut lines: Vec<&Property> = lines.iter().collect();
    lines.sort_by(|one, other| one.name().as_str().cmp(other.name()));
    lines
}

/// Elements of `some` that are not in `others`.
fn missing(some: &[String], others: &[String]) -> Vec<String> {
    let left = some.iter().filter(|one| !others.contains(one));
    left.cloned().collect()
}

#[cfg(test)]
mod tests;
