//! Blocks that share a listener must agree on its TLS: which of them a connection is for is known
//! only once the connection is there, so what one of them demands of clients could be had from
//! another without it. As in CoreDNS.

use std::{collections::BTreeMap, fmt};

use super::{Place, bindings, label};
use crate::{
    config::{Config, ServerBlock},
    corefile::{Diagnostic, Key, Sources, Transport},
    tls::{Difference, Files, Presented, TlsError},
};

/// Two blocks of one listener that do not agree.
pub(super) struct Clash<'c> {
    listener: Place,
    first: &'c Key,
    second: &'c Key,
    what: Difference,
}

/// The first block of a listener, and what its files say, once they are read.
struct First<'c> {
    key: &'c Key,
    files: Option<&'c Files>,
    shown: Option<Presented>,
}

/// The first two blocks that do not agree, if any. Files that cannot be read are no clash: loading
/// them reports the error.
pub(super) fn find(config: &Config, default_port: u16) -> Option<Clash<'_>> {
    let mut listeners: BTreeMap<Place, First<'_>> = BTreeMap::new();
    for block in &config.blocks {
        for (place, key) in encrypted(block, default_port) {
            let files = block.settings.listening.tls.as_ref();
            let Some(first) = listeners.get_mut(&place) else {
                let first = First {
                    key,
                    files,
                    shown: None,
                };
                listeners.insert(place, first);
                continue;
            };
            if let Ok(Some(what)) = first.differs_from(files) {
                return Some(Clash {
                    listener: place,
                    first: first.key,
                    second: key,
                    what,
                });
            }
        }
    }
    None
}

/// The listeners of a block that can do with a certificate.
fn encrypted(block: &ServerBlock, default_port: u16) -> impl Iterator<Item = (Place, &Key)> {
    let keys = block.keys.iter();
    let keys = keys.filter(|key| key.transport != Transport::Dns);
    keys.flat_map(move |key| {
        let port = key.port_or(default_port);
        let bound = bindings(block).into_iter();
        bound.map(move |bound| ((key.transport, bound, port), key))
    })
}

impl First<'_> {
    fn differs_from(&mut self, other: Option<&Files>) -> Result<Option<Difference>, TlsError> {
        let (mine, other) = match (self.files, other) {
            (None, None) => return Ok(None),
            (Some(mine), Some(other)) => (mine, other),
            _ => return Ok(Some(Difference::Presence)),
        };
        if let Some(difference) = mine.differ_in_words(other) {
            return Ok(Some(difference));
        }
        if mine.certificate == other.certificate && mine.authority == other.authority {
            return Ok(None);
        }
        let shown = match self.shown.take() {
            Some(shown) => shown,
            None => Presented::read(mine)?,
        };
        let difference = shown.differs_from(&Presented::read(other)?);
        self.shown = Some(shown);
        Ok(difference)
    }
}

impl Clash<'_> {
    /// As a diagnostic with both places of the Corefile.
    pub(super) fn diagnostic(&self) -> Diagnostic {
        Diagnostic::error(self.to_string())
            .at(self.second.place)
            .label("this block")
            .also(self.first.place, "and this one share a listener")
            .help("let both say the same in 'tls', or give one of them another port or address")
    }

    /// In one line with the places of both blocks.
    pub(super) fn to_line(&self, sources: &Sources) -> String {
        let place = |key: &Key| sources.locate(key.place);
        format!("{self} ({} and {})", place(self.first), place(self.second))
    }
}

impl fmt::Display for Clash<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = (self.first.zone.as_str(), self.second.zone.as_str());
        write!(
            out,
            "conflicting TLS configuration for shared listener {} between zones \"{first}\" and \
             \"{second}\": {}",
            label(&self.listener),
            self.what
        )
    }
}
