//! Lints: checks of a whole configuration for legal settings that are probably mistakes.
//!
//! Only checks that hold for every query and on every machine, to avoid false warnings. Mistakes
//! visible in a single directive are reported by its parser; lints need several directives. They
//! examine the parsed words, not the plugins: which zones a directive answers is listed in
//! [`chain::ANSWERING_PLUGINS`].

mod chain;
mod labels;
mod listeners;

use super::ServerBlock;
use crate::corefile::{Diagnostic, Directive, ZoneName};

/// Maximum number of zones to check: the cost is quadratic.
const MAX_ZONES: usize = 300;

/// All lints of a configuration. Those with severity `Error` would make the start fail.
pub(super) fn lint(blocks: &[ServerBlock], default_port: u16) -> Vec<Diagnostic> {
    let mut lints = Vec::new();
    let small = |block: &&ServerBlock| block.keys.len() <= MAX_ZONES;
    for block in blocks.iter().filter(small) {
        chain::check(block, &mut lints);
        labels::check(block, &mut lints);
    }
    if blocks.iter().map(|block| block.keys.len()).sum::<usize>() <= MAX_ZONES {
        listeners::check(blocks, default_port, &mut lints);
    }
    lints
}

impl ServerBlock {
    /// Uses of a directive in file order.
    fn uses<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a Directive> {
        let uses = self.directives.iter();
        uses.filter(move |directive| directive.name == word)
    }

    fn has(&self, word: &str) -> bool {
        self.uses(word).next().is_some()
    }

    /// The intersection of `zones` with the block's zones.
    fn narrow(&self, zones: &[ZoneName]) -> Vec<ZoneName> {
        let mut left: Vec<ZoneName> = Vec::new();
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

/// Whether `zone` equals or is below `other`.
fn is_under(zone: &ZoneName, other: &ZoneName) -> bool {
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
