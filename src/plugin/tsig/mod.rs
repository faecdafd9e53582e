//! `tsig`: verifies signed queries, signs the replies to them, and refuses unsigned queries that
//! must be signed (TSIG, RFC 8945).
//!
//! Signatures are computed in [`crate::tsig`]; this module has the keys, and the rules for queries
//! that must be signed.

mod keys;
mod parse;

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
};

pub use parse::parse;

use super::{
    Build, BuildError, Context, OnNotify, OnQuery, Plugin, Setup, Step, VerifySignature, ZoneList,
};
use crate::{
    hooks,
    query::Query,
    reply::{Reply, Why},
    tsig,
    wire::{Name, Opcode, Rcode, Type},
};

/// The directive's name.
pub(crate) const NAME: &str = "tsig";

/// The parsed directive.
#[derive(Clone, Debug)]
pub struct Config {
    /// The zones in which queries are verified.
    pub zones: ZoneList,
    /// The keys, by name in lower case.
    pub keys: HashMap<Name, Secret>,
    /// Files with further keys.
    pub files: Vec<PathBuf>,
    /// Question types that must be signed.
    pub types: Required<Type>,
    /// Opcodes that must be signed.
    pub opcodes: Required<u8>,
}

/// A set of values that must be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Required<T> {
    /// Everything.
    All,
    /// These.
    Only(BTreeSet<T>),
}

/// A shared secret. `Debug` does not print it.
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
    fn build(&self, _: &mut Build<'_>) -> Result<Plugin, BuildError> {
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
            let listed = keys::parse(&text)
                .map_err(|error| failed(format!("{shown}:{}", error.line), Some(error.into())))?;
            for (name, secret) in listed {
                if config.keys.insert(name, secret).is_some() {
                    let action = format!("{shown}: the key '{name}' is defined twice");
                    return Err(failed(action, None));
                }
            }
        }
        Ok(Plugin::from(Tsig::new(config)))
    }
}

/// The plugin.
pub struct Tsig {
    config: Config,
}

impl Tsig {
    /// A plugin with the keys of `config`; its files are not read.
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    fn requires(&self, rtype: Type, opcode: Opcode) -> bool {
        let Config { types, opcodes, .. } = &self.config;
        types.includes(&rtype) || opcodes.includes(&opcode.0)
    }
}

hooks!(Tsig, NAME => on_query, on_notify, verify_signature);

impl OnQuery for Tsig {
    fn on_query(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        let Some(rejection) = self.rejection(query) else {
            return Step::Pass;
        };
        let why = match rejection.rcode {
            Rcode::FORMERR => Why::Malformed,
            _ => Why::Policy,
        };
        reply.fail(rejection.rcode, why);
        reply.cause = Some(rejection.cause);
        Step::Answer
    }
}

impl OnNotify for Tsig {
    fn on_notify(&self, query: &mut Query) -> Option<Rcode> {
        self.rejection(query).map(|rejection| rejection.rcode)
    }
}

impl VerifySignature for Tsig {
    fn verify_signature(&self, query: &mut Query) -> Option<Rcode> {
        self.rejection(query).map(|rejection| rejection.rcode)
    }
}

/// The reason why a query is rejected.
struct Rejection {
    rcode: Rcode,
    /// The cause, for the log.
    cause: Box<str>,
}

impl Tsig {
    /// Verifies a query's signature, and sets the signer of its reply (RFC 8945 section 5.2).
    fn rejection(&self, query: &mut Query) -> Option<Rejection> {
        let question = &query.question;
        // A sub-query of a verified query needs no signature.
        if query.signer.is_some() || !self.config.zones.covers(question.lower.as_ref()) {
            return None;
        }
        let Some(signed) = &query.signed else {
            let refused = || Rejection {
                rcode: Rcode::REFUSED,
                cause: "the query is not signed".into(),
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
                return Some(Rejection {
                    rcode: Rcode::FORMERR,
                    cause: error.to_string().into(),
                });
            }
        };
        let (error, key) = (verdict.error, *verdict.signer.key());
        query.signer = Some(Arc::new(verdict.signer));
        (error != Rcode::NOERROR).then(|| Rejection {
            rcode: Rcode::NOTAUTH,
            cause: format!("signature with key '{key}': {}", tsig::error_name(error)).into(),
        })
    }
}

#[cfg(test)]
mod tests;
