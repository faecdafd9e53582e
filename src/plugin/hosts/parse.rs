//! The properties of `hosts`.

use std::time::Duration;

use super::{
    Config,
    table::{HostsTable, TableRules, address},
};
use crate::{
    corefile::{Diagnostic, Directive, ErrorList, Property, Word, unknown_property},
    plugin::{ParseErrors, Parsing, ZoneList},
    wire::Name,
};

const PROPERTIES: [&str; 5] = [
    "ttl",
    "no_reverse",
    "reload",
    "fallthrough",
    "fallthrough_unsupported",
];

/// Default file.
const FILE: &str = "/etc/hosts";
/// Default of `ttl`, in seconds.
const TTL: u32 = 3600;
/// Default of `reload`.
const RELOAD: Duration = Duration::from_secs(5);

/// Parses the directive. Default zones: those of the block's keys.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let directive = uses[0];
    let mut errors = ErrorList::default();
    let mut arguments = directive.arguments();
    let file = parsing.path(arguments.next().map_or(FILE, Word::as_str).as_ref());
    let zones = errors.catch(ZoneList::read_or_block(arguments.rest(), parsing.zones));
    let mut reader = Reader {
        config: Config {
            file,
            rules: TableRules {
                // If the zones are invalid, no line is reported as outside of them.
                zones: zones.unwrap_or_else(ZoneList::all),
                reverse: true,
            },
            inline: Vec::new(),
            ttl: TTL,
            reload: Some(RELOAD),
            fallthrough: ZoneList::none(),
            unsupported_falls_through: false,
        },
        fallthrough: None,
        unsupported: None,
        table: HostsTable::default(),
        warnings: parsing.warnings,
    };
    for line in directive.properties() {
        errors.catch(reader.property(line));
    }
    if let (Some(word), None) = (reader.unsupported, reader.fallthrough) {
        errors.push(
            word.error("fallthrough_unsupported requires fallthrough")
                .help("add a line 'fallthrough'"),
        );
    }
    errors.into_result(reader.config)
}

struct Reader<'a> {
    config: Config,
    fallthrough: Option<&'a Word>,
    unsupported: Option<&'a Word>,
    table: HostsTable,
    warnings: &'a mut Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    fn property(&mut self, line: &'a Property) -> Result<(), Diagnostic> {
        let mut arguments = line.arguments();
        match line.name().as_str() {
            "ttl" => {
                let ttl = arguments.required("seconds")?;
                self.config.ttl = ttl.integer(1..=65_535)?;
            }
            "no_reverse" => self.config.rules.reverse = false,
            "reload" => self.config.reload = arguments.interval()?,
            "fallthrough" => {
                self.config.fallthrough = ZoneList::read_or_all(arguments.rest())?;
                self.fallthrough = Some(line.name());
            }
            "fallthrough_unsupported" => {
                self.config.unsupported_falls_through = true;
                self.unsupported = Some(line.name());
            }
            _ => return self.inline(line),
        }
        arguments.none_left()
    }

    /// Parses a line of the table. CoreDNS takes any unknown word for one and then finds no address
    /// in it, so that a misspelt option is silently ignored; here the line must begin with an
    /// address.
    fn inline(&mut self, line: &'a Property) -> Result<(), Diagnostic> {
        let first = line.name();
        let Some(address) = address(first) else {
            let error = unknown_property(first, &PROPERTIES);
            return Err(error.label("expected an option, or an IP address and its names"));
        };
        if let Some(fallthrough) = self.fallthrough {
            return Err(first
                .error(format!("unknown property '{first}'"))
                .label("a line of the hosts table stands here")
                .also(fallthrough.span, "below this line there are options only")
                .help("put the lines of the table above 'fallthrough'"));
        }
        for word in line.arguments().at_least_one("the names of this address")? {
            let name = Name::parse(word).map_err(|error| {
                word.error(format!("'{word}' is no name: {error}"))
                    .expected("a host name")
            })?;
            let rules = &self.config.rules;
            if rules.zones.covers(name.to_lower().as_ref()) {
                // Rejects entries beyond the table's limits here, where the word can be marked.
                let held = self.table.add(rules, address, &name);
                held.map_err(|why| word.error(why))?;
                self.config.inline.push((address, name));
            } else {
                let zones = rules.zones.label();
                self.warnings.push(
                    word.warning(format!("'{word}' is never answered"))
                        .label(format!("lies outside of the table's zones: {zones}")),
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::plugin::testing;

    fn read(text: &str) -> Result<(Config, Vec<String>), String> {
        testing::read(text, ".", parse)
    }

    #[test]
    fn the_default_is_the_systems_table() {
        let (config, _) = read("hosts").unwrap();
        assert_eq!(config.file, PathBuf::from("/etc/hosts"));
        assert_eq!(
            (config.ttl, config.reload),
            (3600, Some(Duration::from_secs(5)))
        );
        assert_eq!(config.rules.zones, ZoneList::all());
        assert!(config.rules.reverse && config.fallthrough == ZoneList::none());
    }

    #[test]
    fn every_option_is_read() {
        let (config, warnings) = read(
            "hosts /etc/coredns/NodeHosts example.org {
                192.168.65.254 host.example.org Other.example.org elsewhere.net
                ttl 60
                no_reverse
                reload 15s
                fallthrough in-addr.arpa example.org
                fallthrough_unsupported
            }",
        )
        .unwrap();
        assert_eq!(config.file, PathBuf::from("/etc/coredns/NodeHosts"));
        assert_eq!(
            (config.ttl, config.reload),
            (60, Some(Duration::from_secs(15)))
        );
        assert_eq!(config.rules.zones.label(), "example.org.");
        assert_eq!(config.fallthrough.label(), "in-addr.arpa.,example.org.");
        assert!(!config.rules.reverse && config.unsupported_falls_through);
        assert_eq!(config.inline.len(), 2);
        assert_eq!(warnings, ["'elsewhere.net' is never answered"]);
        assert_eq!(read("hosts {\nreload 0s\n}").unwrap().0.reload, None);
    }

    #[test]
    fn invalid_directives_are_rejected() {
        for (lines, words) in [
            ("ttl 0", "out of range"),
            ("ttl 65536", "out of range"),
            ("ttl 5s", "not a number"),
            ("ttl 5 6", "takes one argument"),
            ("reload 5", "write 5s"),
            ("no_reverse yes", "takes no argument"),
            ("falthrough", "did you mean 'fallthrough'?"),
            ("fallthrough_unsupported", "requires fallthrough"),
            ("fallthrough\n192.0.2.1 a", "above 'fallthrough'"),
            ("192.0.2.1", "expected the names of this address"),
            ("192.0.2.1 a..b", "is no name"),
            ("192.0.2.256 a", "an IP address and its names"),
        ] {
            let text = read(&format!("hosts {{\n{lines}\n}}")).unwrap_err();
            assert!(text.contains(words), "{lines}: {text}");
        }
    }
}
