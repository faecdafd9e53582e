//! The weights of addresses, from a file of blocks: a line with a name, then one line for each of
//! its addresses with the weight.
//!
//! ```text
//! # a comment
//! www.example.org
//! 192.0.2.1 3
//! 192.0.2.2 1
//! ```

use std::{
    collections::HashMap,
    net::IpAddr,
    path::Path,
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;

use super::NAME;
use crate::{
    files::{FileCheck, PolledFile},
    plugin::BuildError,
    wire::{Name, NameRef},
};

/// Maximum size of a file in bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// The weight of an address that is not in the file.
const DEFAULT: u8 = 1;

/// Weights, keyed by lower-case name and address.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Weights(HashMap<Box<[u8]>, HashMap<IpAddr, u8>>);

/// The first invalid line of a file; such a file is rejected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct BadLine {
    line: usize,
    what: String,
}

impl Weights {
    /// The weight of an address of a name in lower case.
    pub fn of(&self, lower: NameRef<'_>, address: IpAddr) -> u8 {
        let weights = self.0.get(lower.as_wire());
        let weight = weights.and_then(|weights| weights.get(&address));
        weight.copied().unwrap_or(DEFAULT)
    }

    /// Reads the text of a file.
    pub fn parse(text: &str) -> Result<Self, BadLine> {
        let mut weights = Self::default();
        let mut block = None;
        for (line, content) in (1..).zip(text.lines()) {
            weights
                .line(content, &mut block)
                .map_err(|what| BadLine { line, what })?;
        }
        Ok(weights)
    }

    fn line(&mut self, line: &str, block: &mut Option<Box<[u8]>>) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            [name] => {
                if name.parse::<IpAddr>().is_ok() {
                    return Err(format!("'{name}' has no weight"));
                }
                let name =
                    Name::parse(name).map_err(|error| format!("'{name}' is no name: {error}"))?;
                *block = Some(name.to_lower().as_wire().into());
                Ok(())
            }
            [address, weight] => {
                let address = address
                    .parse()
                    .map_err(|_| format!("'{address}' is no IP address"))?;
                let weight = weight.parse().ok().filter(|weight| *weight > 0);
                let weight = weight.ok_or("a weight is a number from 1 to 255")?;
                let name = block.clone().ok_or("an address before the first name")?;
                self.0.entry(name).or_default().insert(address, weight);
                Ok(())
            }
            _ => Err("neither a name nor an address and its weight".to_owned()),
        }
    }
}

/// A polled file of weights, and the weights that are rebuilt from it.
pub struct Watched {
    file: PolledFile,
    weights: Weak<ArcSwap<Weights>>,
}

impl Watched {
    /// Watches a file for `weights`, without reading it yet.
    pub fn new(path: &Path, weights: &Arc<ArcSwap<Weights>>) -> Self {
        Self {
            file: PolledFile::new(path, MAX_FILE),
            weights: Arc::downgrade(weights),
        }
    }

    /// Reads the file for the first time. A missing file is not an error if `may_come_later`; an
    /// invalid one is.
    pub fn start(&mut self, may_come_later: bool) -> Result<(), BuildError> {
        match self.read() {
            Ok(()) => Ok(()),
            Err(Trouble::Unreadable(error)) if may_come_later => {
                let path = self.file.path().display();
                let weights = self.weights.upgrade();
                let known = weights.is_some_and(|weights| !weights.load().0.is_empty());
                let stand = if known {
                    "the weights are unchanged".to_owned()
                } else {
                    format!("all weights are {DEFAULT}")
                };
                let why = crate::error_text::io(&error);
                tracing::warn!("cannot read {path}, {stand}: {why}");
                Ok(())
            }
            Err(trouble) => Err(BuildError {
                plugin: NAME,
                action: format!("read the weights in {}", self.file.path().display()),
                source: Some(trouble.into()),
            }),
        }
    }

    /// Reloads the file if it has changed. Returns false once the weights are no longer used. An
    /// error is logged once, and the weights are unchanged.
    pub fn look(&mut self) -> bool {
        if let Err(trouble) = self.read() {
            let path = self.file.path().display();
            tracing::error!("{path}: {trouble}; the weights are unchanged");
        }
        self.weights.strong_count() > 0
    }

    fn read(&mut self) -> Result<(), Trouble> {
        let text = match self.file.check() {
            FileCheck::Unchanged => return Ok(()),
            FileCheck::Read(bytes, _) => String::from_utf8_lossy(&bytes).into_owned(),
            FileCheck::Failed(error) => return Err(Trouble::Unreadable(error)),
        };
        let weights = Weights::parse(&text)?;
        if let Some(published) = self.weights.upgrade() {
            published.store(Arc::new(weights));
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Unreadable(std::io::Error),
    #[error(transparent)]
    Bad(#[from] BadLine),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_give_weights() {
        let text = "# all\n\nWWW.example.org\n192.0.2.1 3\r\n 2001:db8::1\t255\n\nb.org.\n192.0.2.1 2\n\
                    www.example.org\n192.0.2.9 4\n";
        let weights = Weights::parse(text).unwrap();
        for (name, address, weight) in [
            ("www.example.org", "192.0.2.1", 3),
            ("www.example.org", "2001:db8::1", 255),
            ("www.example.org", "192.0.2.9", 4),
            ("www.example.org", "192.0.2.2", 1),
            ("b.org", "192.0.2.1", 2),
            ("c.org", "192.0.2.1", 1),
        ] {
            let name = Name::parse(name).unwrap();
            assert_eq!(weights.of(name.as_ref(), address.parse().unwrap()), weight);
        }
    }

    #[test]
    fn an_invalid_line_is_reported() {
        for (text, line, words) in [
            ("a.org\n192.0.2.1 0", 2, "from 1 to 255"),
            ("a.org\n192.0.2.1 256", 2, "from 1 to 255"),
            ("a.org\n192.0.2.1", 2, "has no weight"),
            ("a.org\n192.0.2 1", 2, "is no IP address"),
            ("\n192.0.2.1 1", 2, "before the first name"),
            ("a..b", 1, "is no name"),
            ("a.org\n192.0.2.1 1 2", 2, "neither"),
        ] {
            let bad = Weights::parse(text).unwrap_err();
            assert_eq!(bad.line, line, "{text}");
            assert!(bad.what.contains(words), "{text}: {bad}");
        }
    }

    #[test]
    fn a_missing_file_may_come_and_a_bad_one_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weights");
        let weights = Arc::default();
        assert!(Watched::new(&path, &weights).start(false).is_err());
        let mut watched = Watched::new(&path, &weights);
        watched.start(true).unwrap();
        std::fs::write(&path, "a.org\n192.0.2.1 7\n").unwrap();
        assert!(watched.look());
        let good = weights.load_full();
        assert_ne!(*good, Weights::default());
        std::fs::write(&path, "bad line here").unwrap();
        assert!(watched.look());
        assert!(Arc::ptr_eq(&good, &weights.load()));
        assert!(Watched::new(&path, &weights).start(true).is_err());
        drop((good, weights));
        assert!(!watched.look());
    }
}
