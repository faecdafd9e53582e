//! `bufsize`: limits the size of UDP replies, to avoid IP fragmentation.
//!
//! ```text
//! bufsize [SIZE]
//! ```
//!
//! It lowers the size that a client advertises, both for the reply to it and for queries to upstreams.
//! Without it replies have at most 1,232 bytes ([`Edns::OUR_UDP_PAYLOAD`]); a greater SIZE
//! permits more to clients that advertise more.

use super::{Build, BuildError, Context, OnQuery, ParseErrors, Parsing, Plugin, Setup, Step};
use crate::{
    corefile::{Diagnostic, Directive},
    hooks,
    query::{Edns, Query},
    reply::Reply,
};

/// The name of the plugin in a Corefile.
const NAME: &str = "bufsize";

/// The plugin, with its limit in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bufsize(pub u16);

/// Reads the directive.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Bufsize, ParseErrors> {
    let directive = uses[0];
    let read = || {
        directive.no_body()?;
        let mut arguments = directive.arguments();
        let size = match arguments.next() {
            Some(word) => word.integer(512..=4096)?,
            None => Edns::OUR_UDP_PAYLOAD,
        };
        arguments.none_left()?;
        Ok(Bufsize(size))
    };
    read().map_err(|error: Diagnostic| vec![error.in_plugin(NAME)])
}

impl Setup for Bufsize {
    fn build(&self, _: &mut Build<'_>) -> Result<Plugin, BuildError> {
        Ok(Plugin::from(*self))
    }
}

hooks!(Bufsize, NAME => on_query);

impl OnQuery for Bufsize {
    fn on_query(&self, _: &Context<'_>, query: &mut Query, _: &mut Reply) -> Step {
        if let Some(edns) = &mut query.edns {
            edns.udp_payload = edns.udp_payload.min(self.0);
        }
        query.udp_limit = self.0;
        Step::Pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plugin::testing::{self, TestBlock},
        wire::Type,
    };

    fn read(text: &str) -> Result<Bufsize, String> {
        testing::read(text, ".", parse).map(|(config, _)| config)
    }

    #[test]
    fn sizes_are_lowered_and_never_raised() {
        for (text, own, wanted) in [
            ("bufsize", 4096, 1232),
            ("bufsize", 600, 600),
            ("bufsize 512", 1232, 512),
            ("bufsize 4096", 4096, 4096),
            ("bufsize 4096", 0, 0),
        ] {
            let mut query = testing::query("example.org", Type::A);
            query.receive(|it| {
                it.edns = Some(Edns {
                    udp_payload: own,
                    version: 0,
                    dnssec_ok: false,
                    wants_nsid: false,
                    is_padded: false,
                });
            });
            let test_block = TestBlock::new(Vec::new());
            let plugin = read(text).unwrap();
            plugin.on_query(&test_block.context(), &mut query, &mut Reply::default());
            assert_eq!(query.edns.unwrap().udp_payload, wanted, "{text}");
            assert_eq!(query.reply_limit(), usize::from(wanted.max(512)));
            assert_eq!(query.payload(), usize::from(wanted.max(512)));
            query.receive(|it| it.edns = None);
            plugin.on_query(&test_block.context(), &mut query, &mut Reply::default());
            assert_eq!(query.edns, None);
        }
    }

    #[test]
    fn invalid_arguments_are_rejected() {
        for (text, words) in [
            ("bufsize 511", "512 to 4096"),
            ("bufsize 4097", "512 to 4096"),
            ("bufsize x", "512 to 4096"),
            ("bufsize 512 512", "takes one argument"),
            ("bufsize {\na\n}", "has no properties"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
