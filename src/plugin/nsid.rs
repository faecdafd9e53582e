//! `nsid`: sends the server's identity to clients that request it (RFC 5001).
//!
//! ```text
//! nsid [DATA...]
//! ```

use super::{
    Build, BuildError, Context, OnResponse, ParseErrors, Parsing, Plugin, Setup,
    host_name::host_name,
};
use crate::{
    corefile::{Directive, Word},
    edns::Options,
    hooks,
    query::Query,
    reply::Reply,
};

/// The directive's name.
const NAME: &str = "nsid";

/// Maximum length of an identity in bytes: all options of a reply share one buffer.
const MAX_DATA: usize = 255;

/// The parsed directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The identity; by default the host name.
    pub data: Option<String>,
}

/// Parses the directive.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let directive = uses[0];
    let read = || {
        directive.no_body()?;
        let words: Vec<_> = directive.arguments.iter().map(Word::as_str).collect();
        let data = words.join(" ");
        if data.len() > MAX_DATA {
            let error = directive.name.error("the identity is too long");
            return Err(error.label(format!("at most {MAX_DATA} bytes")));
        }
        Ok(Config {
            data: (!words.is_empty()).then_some(data),
        })
    };
    read().map_err(|error| vec![error.in_plugin(NAME)])
}

impl Setup for Config {
    fn build(&self, _: &mut Build<'_>) -> Result<Plugin, BuildError> {
        let data = self.data.clone().unwrap_or_else(host_name);
        Ok(Plugin::from(Nsid(data)))
    }
}

/// The plugin.
struct Nsid(String);

hooks!(Nsid, NAME => on_response);

impl OnResponse for Nsid {
    fn on_response(&self, _: &Context<'_>, query: &Query, reply: &mut Reply) {
        if query.edns.is_some_and(|edns| edns.wants_nsid) {
            // Replaces the identity of an upstream (NSID is not transitive, RFC 5001 section 3.2).
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
        plugin::testing::{self, TestBlock},
        query::Edns,
        wire::Type,
    };

    fn nsid_options(text: &str, wants: bool, upstreams: &[u8]) -> Options {
        let config = testing::read(text, ".", parse).unwrap().0;
        let data = config.data.unwrap_or_else(host_name);
        let mut query = testing::query("example.org", Type::A);
        query.receive(|it| {
            it.edns = Some(Edns {
                udp_payload: 1232,
                version: 0,
                dnssec_ok: false,
                wants_nsid: wants,
                is_padded: false,
            });
        });
        let mut reply = Reply::default();
        if !upstreams.is_empty() {
            assert!(reply.options.push(Options::NSID, upstreams));
        }
        Nsid(data).on_response(&TestBlock::new(Vec::new()).context(), &query, &mut reply);
        reply.options
    }

    #[test]
    fn only_clients_that_request_it_get_the_identity() {
        let options = nsid_options("nsid node 7", true, b"");
        assert_eq!(options.iter().collect::<Vec<_>>(), [(3, &b"node 7"[..])]);
        let options = nsid_options("nsid ours", true, b"theirs");
        assert_eq!(options.iter().collect::<Vec<_>>(), [(3, &b"ours"[..])]);
        assert!(nsid_options("nsid ours", false, b"").is_empty());
        let machine = nsid_options("nsid", true, b"");
        assert_eq!(machine.get(3), Some(host_name().as_bytes()));
        assert!(!machine.get(3).unwrap().is_empty());
    }

    #[test]
    fn invalid_directives_are_rejected() {
        for text in [
            "nsid {\na\n}".to_owned(),
            format!("nsid {}", "a".repeat(256)),
        ] {
            let report = testing::read(&text, ".", parse).unwrap_err();
            assert!(report.contains("plugin/nsid"), "{report}");
        }
    }
}
