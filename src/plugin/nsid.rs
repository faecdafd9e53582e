//! `nsid`: tells clients that ask for it which server answers (RFC 5001).
//!
//! ```text
//! nsid [DATA...]
//! ```

use std::sync::Arc;

use super::{
    Build, BuildError, Context, ParseErrors, Parsing, Plugin, Setup, host_name::host_name,
};
use crate::{
    corefile::{Directive, Word},
    edns::Options,
    query::Query,
    reply::Reply,
};

/// The Corefile's word.
const NAME: &str = "nsid";

/// Octets of an identity at most: it shares the room of all options of a reply.
const MAX_DATA: usize = 255;

/// What the directive says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The identity; the machine's name without one.
    pub data: Option<String>,
}

/// Reads the directive.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let directive = uses[0];
    let read = || {
        directive.no_body()?;
        let words: Vec<_> = directive.arguments.iter().map(Word::as_str).collect();
        let data = words.join(" ");
        if data.len() > MAX_DATA {
            let error = directive.name.error("the identity is too long");
            return Err(error.label(format!("at most {MAX_DATA} octets")));
        }
        Ok(Config {
            data: (!words.is_empty()).then_some(data),
        })
    };
    read().map_err(|error| vec![error.in_plugin(NAME)])
}

impl Setup for Config {
    fn build(&self, _: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        let data = self.data.clone().unwrap_or_else(host_name);
        Ok(Arc::new(Nsid(data)))
    }
}

/// The plugin.
struct Nsid(String);

impl Plugin for Nsid {
    fn name(&self) -> &'static str {
        NAME
    }

    fn amend(&self, _: &Context<'_>, query: &Query, reply: &mut Reply) {
        if query.edns.is_some_and(|edns| edns.wants_nsid) {
            // An upstream may have told its own.
            reply.options.remove(Options::NSID);
            if !reply.options.push(Options::NSID, self.0.as_bytes()) {
                reply.options.clear();
                reply.options.push(Options::NSID, self.0.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plugin::testing::{self, Place},
        query::Edns,
        wire::Type,
    };

    fn told(text: &str, wants: bool, upstreams: &[u8]) -> Options {
        let config = testing::read(text, ".", parse).unwrap().0;
        let data = config.data.unwrap_or_else(host_name);
        let mut query = testing::query("example.org", Type::A);
        query.edns = Some(Edns {
            udp_payload: 1232,
            version: 0,
            dnssec_ok: false,
            wants_nsid: wants,
            is_padded: false,
        });
        let mut reply = Reply::default();
        if !upstreams.is_empty() {
            assert!(reply.options.push(Options::NSID, upstreams));
        }
        Nsid(data).amend(&Place::new(Vec::new()).context(), &query, &mut reply);
        reply.options
    }

    #[test]
    fn whoever_asks_is_told_and_nobody_else() {
        let options = told("nsid node 7", true, b"");
        assert_eq!(options.iter().collect::<Vec<_>>(), [(3, &b"node 7"[..])]);
        let options = told("nsid ours", true, b"theirs");
        assert_eq!(options.iter().collect::<Vec<_>>(), [(3, &b"ours"[..])]);
        assert!(told("nsid ours", false, b"").is_empty());
        let machine = told("nsid", true, b"");
        assert_eq!(machine.get(3), Some(host_name().as_bytes()));
        assert!(!machine.get(3).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "nsid {\na\n}".to_owned(),
            format!("nsid {}", "a".repeat(256)),
        ] {
            let told = testing::read(&text, ".", parse).unwrap_err();
            assert!(told.contains("plugin/nsid"), "{told}");
        }
    }
}
