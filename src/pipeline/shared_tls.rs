//! Requires blocks that share a listener to have the same TLS settings, as in CoreDNS. The zone of
//! a connection is unknown during the handshake, so otherwise a client could avoid one block's
//! client authentication by connecting with another block's settings.

use std::{collections::BTreeMap, fmt};

use super::{ListenerKey, bindings, label};
use crate::{
    config::{Config, ServerBlock},
    corefile::{Diagnostic, Key, Sources, Transport},
    tls::{Presented, PresentedDifference, ServerFiles, TlsError},
};

/// Two blocks of one listener with different TLS settings.
pub(super) struct Conflict<'c> {
    listener: ListenerKey,
    first: &'c Key,
    second: &'c Key,
    what: PresentedDifference,
}

/// The first block of a listener, with its files once read.
struct First<'c> {
    key: &'c Key,
    files: Option<&'c ServerFiles>,
    shown: Option<Presented>,
}

/// Finds the first conflict. Unreadable files are not a conflict: loading them reports the error.
pub(super) fn find(config: &Config, default_port: u16) -> Option<Conflict<'_>> {
    let mut listeners: BTreeMap<ListenerKey, First<'_>> = BTreeMap::new();
    for block in &config.blocks {
        for (listener, key) in encrypted(block, default_port) {
            let files = block.settings.listening.tls.as_ref();
            let Some(first) = listeners.get_mut(&listener) else {
                let first = First {
                    key,
                    files,
                    shown: None,
                };
                listeners.insert(listener, first);
                continue;
            };
            if let Ok(Some(what)) = first.differs_from(files) {
                return Some(Conflict {
                    listener,
                    first: first.key,
                    second: key,
                    what,
                });
            }
        }
    }
    None
}

/// Encrypted listeners of a block.
fn encrypted(block: &ServerBlock, default_port: u16) -> impl Iterator<Item = (ListenerKey, &Key)> {
    let keys = block.keys.iter();
    let keys = keys.filter(|key| key.transport != Transport::Dns);
    keys.flat_map(move |key| {
        let port = key.port_or(default_port);
        let bound = bindings(block).into_iter();
        bound.map(move |bound| ((key.transport, bound, port), key))
    })
}

impl First<'_> {
    fn differs_from(
        &mut self,
        other: Option<&ServerFiles>,
    ) -> Result<Option<PresentedDifference>, TlsError> {
        let (mine, other) = match (self.files, other) {
            (None, None) => return Ok(None),
            (Some(mine), Some(other)) => (mine, other),
            _ => return Ok(Some(PresentedDifference::Presence)),
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

impl Conflict<'_> {
    /// As a diagnostic with the spans of both blocks.
    pub(super) fn diagnostic(&self) -> Diagnostic {
        Diagnostic::error(self.to_string())
            .at(self.second.span)
            .label("this block")
            .also(self.first.span, "and this one share a listener")
            .help("use the same 'tls' in both, or give one of them another port or address")
    }

    /// On one line, with the locations of both blocks.
    pub(super) fn to_line(&self, sources: &Sources) -> String {
        let location = |key: &Key| sources.locate(key.span);
        format!(
            "{self} ({} and {})",
            location(self.first),
            location(self.second)
        )
    }
}

impl fmt::Display for Conflict<'_> {
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
