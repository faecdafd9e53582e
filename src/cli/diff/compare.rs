//! What two files of blocks say differently.
//!
//! A block is known by its keys. Blocks of both files are paired: those with the same keys first,
//! then those that have some in common. Within a pair the words are compared, each with itself: the
//! order of different words has no meaning, that of several uses of one word has, and that of option
//! lines only where a plugin tries them one by one.

use crate::{
    config::order::ORDER,
    corefile::{Directive, File, Line, ServerBlock, Word},
};

/// One difference.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Difference<'a> {
    /// A block that is new.
    Added(&'a ServerBlock),
    /// A block that is gone.
    Removed(&'a ServerBlock),
    /// A block that is in both.
    Changed(Changed<'a>),
}

/// What is different about a block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changed<'a> {
    pub(super) old: &'a ServerBlock,
    pub(super) new: &'a ServerBlock,
    /// Keys that it has no more.
    pub(super) without: Vec<Gone>,
    /// Keys that it has now.
    pub(super) with: Vec<String>,
    /// Whether it stands before another block that it stood behind, where that has a meaning.
    pub(super) moved: bool,
    /// Its words.
    pub(super) words: Vec<Change<'a>>,
}

/// A key that a block has no more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) key: String,
    /// Whether another block has it now.
    pub(super) elsewhere: bool,
}

/// What is different about a word.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change<'a> {
    /// A use that is new.
    Added(&'a Directive),
    /// A use that is gone.
    Removed(&'a Directive),
    /// A use that says something else.
    Changed {
        old: &'a Directive,
        new: &'a Directive,
        /// Whether what stands on its own line differs.
        head: bool,
        without: Vec<&'a Line>,
        with: Vec<&'a Line>,
        /// Whether its option lines are the same in another order, where that has a meaning.
        reordered: bool,
    },
    /// Its uses are the same in another order.
    Reordered(&'a Directive),
}

/// Words whose option lines are tried one by one, so that their order counts.
const ORDERED: [&str; 6] = ["acl", "errors", "header", "rewrite", "template", "view"];
/// Words whose uses make one list, in which order has no meaning.
const SETS: [&str; 2] = ["bind", "tsig"];

/// Everything that `new` says differently, in the order of `new`; what is gone comes last.
pub(super) fn compare<'a>(old: &'a File, new: &'a File, default_port: u16) -> Vec<Difference<'a>> {
    let old = blocks(old, default_port);
    let new = blocks(new, default_port);
    let pairs = pair(&old, &new);
    let mut differences = Vec::new();
    let mut last = None;
    for (place, block) in new.iter().enumerate() {
        let Some(of) = pairs[place] else {
            differences.push(Difference::Added(block.block));
            continue;
        };
        // Blocks are looked for by their zones; only where several have one is the first asked first.
        let moved = last.is_some_and(|last| of < last)
            && new[..place].iter().any(|other| other.shares(block));
        last = last.max(Some(of));
        let before = &old[of];
        let gone = before.keys.iter().filter(|key| !block.keys.contains(key));
        let changed = Changed {
            old: before.block,
            new: block.block,
            without: gone
                .map(|key| Gone {
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
    let kept = |place: usize| pairs.contains(&Some(place));
    let gone = (0..old.len()).filter(|place| !kept(*place));
    differences.extend(gone.map(|place| Difference::Removed(old[place].block)));
    differences
}

impl Changed<'_> {
    fn is_empty(&self) -> bool {
        self.without.is_empty() && self.with.is_empty() && self.words.is_empty() && !self.moved
    }
}

/// A block and what it is known by.
struct Known<'a> {
    block: &'a ServerBlock,
    /// `dns://ZONE:PORT`, sorted.
    keys: Vec<String>,
    /// What else tells it from others with the same keys.
    marks: Vec<&'a str>,
}

impl Known<'_> {
    fn shares(&self, other: &Self) -> bool {
        self.keys.iter().any(|key| other.keys.contains(key))
    }

    /// How well two blocks go together; nothing where they have no key in common.
    fn likeness(&self, other: &Self) -> Option<(bool, usize, bool)> {
        let shared = self.keys.iter().filter(|key| other.keys.contains(key));
        let shared = shared.count();
        let same = self.keys == other.keys;
        (shared > 0).then_some((same, shared, self.marks == other.marks))
    }
}

fn blocks(file: &File, default_port: u16) -> Vec<Known<'_>> {
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
            Known {
                block,
                keys,
                marks: marks.collect(),
            }
        })
        .collect()
}

/// For each new block the old one that it was: the best pairs are taken first.
fn pair(old: &[Known<'_>], new: &[Known<'_>]) -> Vec<Option<usize>> {
    let mut likely = Vec::new();
    for (from, before) in old.iter().enumerate() {
        for (to, block) in new.iter().enumerate() {
            likely.extend(before.likeness(block).map(|how| (how, from, to)));
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

/// What differs about the words of a block, in the order in which queries meet them.
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
    // Those that say the same are no change, wherever they stand.
    after.retain(|one| {
        let found = before.iter().position(|other| same(other, one));
        found.map(|place| before.remove(place)).is_none()
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

/// Whether all arguments of all uses are the same, in whatever order.
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

/// What one use says otherwise than another.
fn difference<'a>(name: &str, old: &'a Directive, new: &'a Directive) -> Option<Change<'a>> {
    let head = old.arguments != new.arguments;
    let (before, after) = (old.properties(), new.properties());
    let mut with: Vec<&Line> = after.iter().collect();
    let mut without = Vec::new();
    for line in before {
        match with.iter().position(|other| *other == line) {
            Some(place) => {
                with.remove(place);
            }
            None => without.push(line),
        }
    }
    let moved = without.is_empty() && with.is_empty() && before != after;
    // A line overrides another of its own name.
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

/// Lines in the order of their names; those of one name stay in theirs.
fn by_name(lines: &[Line]) -> Vec<&Line> {
    let mut lines: Vec<&Line> = lines.iter().collect();
    lines.sort_by(|one, other| one.name().as_str().cmp(other.name()));
    lines
}

/// Those of `some` that are not among `others`.
fn missing(some: &[String], others: &[String]) -> Vec<String> {
    let left = some.iter().filter(|one| !others.contains(one));
    left.cloned().collect()
}

#[cfg(test)]
mod tests;
