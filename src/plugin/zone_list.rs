//! The zones of a directive, and of its `fallthrough [ZONES...]`.

use std::collections::HashMap;

use crate::{
    corefile::{self, Diagnostic, Word},
    wire::{Name, NameRef},
};

/// A list of zones in lower case, in the order of the Corefile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZoneList(Vec<Name>);

impl ZoneList {
    /// A list that covers every name.
    pub fn all() -> Self {
        Self(vec![Name::ROOT])
    }

    /// A list that covers no name.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Parses zones; a network is converted to its reverse zones.
    pub fn read(words: &[Word]) -> Result<Self, Diagnostic> {
        let mut list = Vec::new();
        for word in words {
            for zone in corefile::zones(std::slice::from_ref(word))? {
                let name = Name::parse(zone.as_str()).map_err(|error| {
                    word.error(format!("'{zone}' is not a zone: {error}"))
                        .expected("a domain name or a network")
                })?;
                if !list.contains(&name) {
                    list.push(name);
                }
            }
        }
        Ok(Self(list))
    }

    /// Parses zones; without any, the list covers every name.
    pub fn read_or_all(words: &[Word]) -> Result<Self, Diagnostic> {
        if words.is_empty() {
            return Ok(Self::all());
        }
        Self::read(words)
    }

    /// Parses zones; the default is those of the block's keys.
    pub fn read_or_block(words: &[Word], block: &[String]) -> Result<Self, Diagnostic> {
        if words.is_empty() {
            // Keys were checked before; an invalid name cannot be queried.
            let names = block.iter().filter_map(|zone| Name::parse(zone).ok());
            return Ok(Self(names.map(|name| name.to_lower()).collect()));
        }
        Self::read(words)
    }

    /// Whether `name` is in one of these zones.
    pub fn covers(&self, name: NameRef<'_>) -> bool {
        self.0.iter().any(|zone| name.is_under(zone.as_ref()))
    }

    /// Number of labels of the longest zone that contains `name`, if any.
    pub fn longest_over(&self, name: NameRef<'_>) -> Option<usize> {
        let zones = self.0.iter().map(Name::as_ref);
        zones
            .filter(|zone| name.is_under(*zone))
            .map(NameRef::label_count)
            .max()
    }

    /// The zones, in the order of the file.
    pub fn names(&self) -> &[Name] {
        &self.0
    }

    /// The zones joined by commas, as a metric label.
    pub fn label(&self) -> String {
        let names: Vec<String> = self.0.iter().map(Name::to_string).collect();
        names.join(",")
    }
}

/// The zones of a block's directives so far, to detect duplicates.
#[derive(Default)]
pub struct SeenZones<'a>(HashMap<Name, &'a Word>);

impl<'a> SeenZones<'a> {
    /// Adds the zones of the directive `name`. Returns a warning for each zone that an earlier
    /// directive has too: the later one applies. `twice` completes the message, such as "has two
    /// files".
    pub fn add(&mut self, zones: &ZoneList, name: &'a Word, twice: &str) -> Vec<Diagnostic> {
        let mut warnings = Vec::new();
        for zone in zones.names() {
            if let Some(first) = self.0.insert(*zone, name) {
                let warning = name.warning(format!("zone {zone} {twice}"));
                let warning = warning.label("this one is served");
                warnings.push(warning.also(first.span, "this one is not"));
            }
        }
        warnings
    }
}

impl FromIterator<Name> for ZoneList {
    fn from_iter<I: IntoIterator<Item = Name>>(names: I) -> Self {
        Self(names.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(texts: &[&str]) -> Vec<Word> {
        texts.iter().map(|text| Word::detached(text)).collect()
    }

    #[test]
    fn names_and_networks_are_zones() {
        let list = ZoneList::read(&words(&["Example.ORG", "10.0.0.0/8", "example.org."])).unwrap();
        assert_eq!(list.label(), "example.org.,10.in-addr.arpa.");
        let inside = Name::parse("a.EXAMPLE.org").unwrap();
        assert!(list.covers(inside.as_ref()));
        assert!(!list.covers(Name::ROOT.as_ref()));
        assert!(ZoneList::read(&words(&["a..b"])).is_err());
    }

    #[test]
    fn defaults_are_the_block_or_every_name() {
        let block = ["Example.org.".to_owned()];
        assert_eq!(
            ZoneList::read_or_block(&[], &block).unwrap().label(),
            "example.org."
        );
        assert_eq!(ZoneList::read_or_all(&[]).unwrap(), ZoneList::all());
        assert!(!ZoneList::none().covers(Name::ROOT.as_ref()));
    }
}
