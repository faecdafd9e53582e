//! `chaos`: answers queries of class CH for the server's version, authors and host name.
//!
//! ```text
//! chaos [VERSION] [AUTHORS...]
//! ```
//!
//! `version.bind` and `version.server` are its version, `authors.bind` its authors, `hostname.bind`
//! and `id.server` the machine's name (RFC 4892).

use super::{
    Build, BuildError, Context, Describe, OnQuery, ParseErrors, Parsing, Plugin, Properties, Setup,
    Step, host_name::host_name,
};
use crate::{
    corefile::{Diagnostic, Directive, Word},
    hooks,
    query::Query,
    reply::{Data, Reply, Why},
    wire::{Class, Name, NameError, Type},
};

/// The name of the plugin in a Corefile.
const NAME: &str = "chaos";

/// The default of `authors.bind`.
const AUTHORS: &str = "The Lodestone authors";

/// The options of the plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    version: String,
    authors: Vec<String>,
}

/// Reads the directive.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let directive = uses[0];
    let refuse = |error: Diagnostic| vec![error.in_plugin(NAME)];
    if let Some(line) = directive.properties().first() {
        let error = line
            .name()
            .error(format!("unknown property '{}'", line.name()));
        return Err(refuse(error.label("'chaos' has no properties")));
    }
    for word in directive.arguments.iter().filter(|word| word.len() > 255) {
        let warning = word.warning("only the first 255 bytes are used");
        parsing.warnings.push(warning.in_plugin(NAME));
    }
    let mut words = directive.arguments.iter().map(Word::as_str);
    let version = words.next().map(str::to_owned);
    let mut authors: Vec<_> = words.map(str::to_owned).collect();
    authors.sort_unstable();
    authors.dedup();
    if authors.is_empty() {
        authors.push(AUTHORS.to_owned());
    }
    let own = || format!("Lodestone-{}", env!("CARGO_PKG_VERSION"));
    Ok(Config {
        version: version.unwrap_or_else(own),
        authors,
    })
}

impl Setup for Config {
    fn build(&self, _: &mut Build<'_>) -> Result<Plugin, BuildError> {
        Ok(Plugin::from(self.open().map_err(|error| BuildError {
            plugin: NAME,
            action: "cannot make its names".to_owned(),
            source: Some(error.into()),
        })?))
    }
}

impl Config {
    fn open(&self) -> Result<Chaos, NameError> {
        let version = vec![self.version.clone()];
        let machine = vec![host_name()];
        let record = |name: &str, texts: &[String]| Ok((Name::parse(name)?, texts.to_vec()));
        Ok(Chaos {
            records: vec![
                record("version.bind", &version)?,
                record("version.server", &version)?,
                record("authors.bind", &self.authors)?,
                record("hostname.bind", &machine)?,
                record("id.server", &machine)?,
            ],
        })
    }
}

/// The plugin.
struct Chaos {
    /// Names, and the texts of their TXT records.
    records: Vec<(Name, Vec<String>)>,
}

hooks!(Chaos, NAME => on_query; properties);

impl OnQuery for Chaos {
    fn on_query(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        let question = &query.question;
        if question.class != Class::CH || question.rtype != Type::TXT {
            return Step::Pass;
        }
        let mut records = self.records.iter();
        let Some((_, texts)) = records.find(|(name, _)| *name == question.lower) else {
            return Step::Pass;
        };
        reply.why = Why::Synthesized;
        for text in texts {
            reply.answer(Type::TXT, 0, Data::Txt(text.as_bytes()));
        }
        for record in reply.records_mut() {
            record.class = Class::CH;
        }
        Step::Answer
    }
}

impl Describe for Chaos {
    fn properties(&self) -> Properties {
        Properties {
            other_classes: true,
            ..Properties::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plugin::testing::{self, TestBlock},
        reply::Section,
    };

    fn answer(text: &str, name: &str, rtype: Type, class: Class) -> Option<Vec<String>> {
        let (config, _) = testing::read(text, ".", parse).unwrap();
        let mut query = testing::query(name, rtype);
        query.question.class = class;
        let mut reply = Reply::default();
        let test_block = TestBlock::new(Vec::new());
        let plugin = config.open().unwrap();
        match plugin.on_query(&test_block.context(), &mut query, &mut reply) {
            Step::Answer => {}
            _ => return None,
        }
        let records = reply.section(Section::Answer).iter();
        let text = |record: &crate::reply::Record| {
            assert_eq!((record.class, record.ttl), (Class::CH, 0));
            let data = reply.data(record);
            assert_eq!(usize::from(data[0]), data.len() - 1);
            String::from_utf8_lossy(&data[1..]).into_owned()
        };
        Some(records.map(text).collect())
    }

    #[test]
    fn version_authors_and_host_name_are_answered() {
        let ask = |text, name| answer(text, name, Type::TXT, Class::CH).unwrap().join(" ");
        let own = concat!("Lodestone-", env!("CARGO_PKG_VERSION"));
        assert_eq!(ask("chaos", "Version.BIND"), own);
        assert_eq!(ask("chaos", "version.server"), own);
        assert_eq!(ask("chaos", "authors.bind"), AUTHORS);
        assert_eq!(ask("chaos", "hostname.bind"), host_name());
        assert_eq!(ask("chaos", "id.server"), host_name());
        assert_eq!(ask("chaos v1", "version.bind"), "v1");
        assert_eq!(ask("chaos v1", "authors.bind"), AUTHORS);
        assert_eq!(ask("chaos v1 bo al bo", "authors.bind"), "al bo");
        let long = format!("chaos {}", "v".repeat(300));
        assert_eq!(ask(&long, "version.bind").len(), 255);
    }

    #[test]
    fn other_questions_go_on() {
        for (name, rtype, class) in [
            ("version.bind", Type::TXT, Class::IN),
            ("version.bind", Type::A, Class::CH),
            ("other.bind", Type::TXT, Class::CH),
        ] {
            assert_eq!(answer("chaos", name, rtype, class), None, "{name}");
        }
    }

    #[test]
    fn invalid_arguments_are_rejected_or_add_a_warning() {
        let read = |text: &str| testing::read(text, ".", parse);
        let error = read("chaos {\nv1\n}").unwrap_err();
        assert!(error.contains("unknown property 'v1'"), "{error}");
        assert!(read("chaos {\n}").unwrap().1.is_empty());
        let long = read(&format!("chaos {}", "v".repeat(256))).unwrap();
        assert!(long.1[0].contains("255"));
    }
}
