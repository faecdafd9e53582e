//! What is legal and surely not meant: found by looking at a whole configuration.
//!
//! Only what holds whatever is asked and on whatever machine: a warning that is sometimes wrong is
//! soon no longer read. What one directive alone shows is told by its own parser; here is what needs
//! its neighbours. Everything is judged from the words, so that a plugin takes no part in it: what a
//! word does with its zones is told once, in [`chain::ANSWERERS`].

mod chain;
mod labels;
mod listeners;

use super::ServerBlock;
use crate::corefile::{Diagnostic, Directive, Zone};

/// Zones that a block may have to be looked at: the effort grows with their square.
const MOST_ZONES: usize = 300;

/// Everything that is odd about a configuration. ParseErrors among it would fail a start for certain.
pub(super) fn doubts(blocks: &[ServerBlock], default_port: u16) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let small = |block: &&ServerBlock| block.keys.len() <= MOST_ZONES;
    for block in blocks.iter().filter(small) {
        chain::look(block, &mut found);
        labels::look(block, &mut found);
    }
    if blocks.iter().map(|block| block.keys.len()).sum::<usize>() <= MOST_ZONES {
        listeners::look(blocks, default_port, &mut found);
    }
    found
}

impl ServerBlock {
    /// The uses of a word, in file order.
    fn uses<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a Directive> {
        let uses = self.directives.iter();
        uses.filter(move |directive| directive.name == word)
    }

    fn has(&self, word: &str) -> bool {
        self.uses(word).next().is_some()
    }

    /// What is left of `zones` for the names that come to this block.
    fn narrow(&self, zones: &[Zone]) -> Vec<Zone> {
        let mut left: Vec<Zone> = Vec::new();
        for key in &self.keys {
            for zone in zones {
                let narrower = if is_under(&key.zone, zone) {
                    &key.zone
                } else if is_under(zone, &key.zone) {
                    zone
                } else {
                    continue;
                };
                if !left.contains(narrower) {
                    left.push(narrower.clone());
                }
            }
        }
        left
    }
}

/// Whether every name of `zone` is one of `other`.
fn is_under(zone: &Zone, other: &Zone) -> bool {
    if other.is_root() {
        return true;
    }
    let Some(front) = zone.strip_suffix(other.as_str()) else {
        return false;
    };
    front.is_empty() || front.ends_with('.')
}

#[cfg(test)]
mod tests;
