//! `tsig`: verifies signed queries, signs the replies to them, and refuses what must be signed and
//! is not (TSIG, RFC 8945).
//!
//! How a message is signed is [`crate::tsig`]'s; here are the keys, and who must use them.

mod keys;
mod parse;

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
};

pub use parse::parse;

use super::{Build, BuildError, Context, Plugin, Setup, Step, ZoneList};
use crate::{
    query::Query,
    reply::{Reply, Why},
    tsig,
    wire::{Name, Opcode, Rcode, Type},
};

/// The Corefile's word.
pub(crate) const NAME: &str = "tsig";

/// What the directive says.
#[derive(Clone, Debug)]
pub struct Config {
    /// Only of names in these zones.
    pub zones: ZoneList,
    /// The keys, by name in lower case.
    pub keys: HashMap<Name, Secret>,
    /// Files with more of them.
    pub files: Vec<PathBuf>,
    /// Questions for which types must be signed.
    pub types: Required<Type>,
    /// Messages of which opcodes must be signed.
    pub opcodes: Required<u8>,
}

/// What must be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Required<T> {
    /// Everything.
    All,
    /// These.
    Only(BTreeSet<T>),
}

/// A secret that two share. It is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Arc<[u8]>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("...")
    }
}

impl<T: Ord> Required<T> {
    fn includes(&self, one: &T) -> bool {
        match self {
            Self::All => true,
            Self::Only(these) => these.contains(one),
        }
    }
}

impl<T> Default for Required<T> {
    fn default() -> Self {
        Self::Only(BTreeSet::new())
    }
}

impl Setup for Config {
    fn build(&self, _: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        let failed = |action: String, source: Option<anyhow::Error>| BuildError {
            plugin: NAME,
            action,
            source,
        };
        let mut config = self.clone();
        for path in &self.files {
            let shown = path.display();
            let text = keys::read(path)
                .map_err(|error| failed(format!("cannot read {shown}"), Some(error.into())))?;
            let listed = keys::parse(&text).map_err(|mistake| {
                failed(format!("{shown}:{}", mistake.line), Some(mistake.into()))
            })?;
            for (name, secret) in listed {
                if config.keys.insert(name, secret).is_some() {
                    let said = format!("{shown}: the key '{name}' is defined twice");
                    return Err(failed(said, None));
                }
            }
        }
        Ok(Arc::new(Tsig::new(config)))
    }
}

/// The plugin.
pub struct Tsig {
    config: Config,
}

impl Tsig {
    /// Does as `config` says, but for its files.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    fn requires(&self, rtype: Type, opcode: Opcode) -> bool {
        let Config { types, opcodes, .. } = &self.config;
        types.includes(&rtype) || opcodes.includes(&opcode.0)
    }
}

impl Plugin for Tsig {
    fn name(&self) -> &'static str {
        NAME
    }

    fn ask(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        let Some(objection) = self.objection(query) else {
            return Step::Pass;
        };
        let why = match objection.rcode {
            Rcode::FORMERR => Why::Malformed,
            _ => Why::Policy,
        };
        reply.fail(objection.rcode, why);
        reply.cause = Some(objection.cause);
        Step::Answer
    }

    fn notified(&self, query: &mut Query) -> Option<Rcode> {
        self.objection(query).map(|objection| objection.rcode)
    }

    fn verified(&self, query: &mut Query) -> Option<Rcode> {
        self.objection(query).map(|objection| objection.rcode)
    }
}

/// Why something is not done that is asked for.
struct Objection {
    rcode: Rcode,
    /// In words for the log.
    cause: Box<str>,
}

impl Tsig {
    /// Looks at a query's signature, and sees to that of its reply.
    fn objection(&self, query: &mut Query) -> Option<Objection> {
        let question = &query.question;
        // A sub-query of what was verified before needs no other signature.
        if query.signer.is_some() || !self.config.zones.covers(question.lower.as_ref()) {
            return None;
        }
        let Some(signed) = &query.signed else {
            let refused = || Objection {
                rcode: Rcode::REFUSED,
                cause: "it is not signed".into(),
            };
            let is_required = self.requires(question.rtype, query.opcode);
            return is_required.then(refused);
        };
        let secret = |name: &Name| {
            let Secret(secret) = self.config.keys.get(name)?;
            Some(Arc::clone(secret))
        };
        let verdict = match signed.verify(secret, tsig::now()) {
            Ok(verdict) => verdict,
            Err(error) => {
                return Some(Objection {
                    rcode: Rcode::FORMERR,
                    cause: error.to_string().into(),
                });
            }
        };
        let (error, key) = (verdict.error, *verdict.signer.key());
        query.signer = Some(Arc::new(verdict.signer));
        (error != Rcode::NOERROR).then(|| Objection {
            rcode: Rcode::NOTAUTH,
            cause: format!(
                "its signature by the key '{key}': {}",
                tsig::error_name(error)
            )
            .into(),
        })
    }
}

#[cfg(test)]
mod tests;
