//! The option lines of `tsig`.

use std::collections::{BTreeSet, HashMap};

use super::{Config, NAME, Required, keys};
use crate::{
    corefile::{Diagnostic, Directive, Line, Problems, Word, unknown_property},
    plugin::{ParseErrors, Parsing, ZoneList},
    wire::{Name, Opcode, Type},
};

const PROPERTIES: [&str; 4] = ["require", "require_opcode", "secret", "secrets"];

/// What messages can be for.
const OPCODES: [(&str, u8); 5] = [
    ("QUERY", Opcode::QUERY.0),
    ("NOTIFY", Opcode::NOTIFY.0),
    ("IQUERY", 1),
    ("STATUS", 2),
    ("UPDATE", Opcode::UPDATE.0),
];
/// How many of them are served, the first ones: NOTIFY where there is a `secondary`.
const SERVED: usize = 2;

/// Reads the directive. `block` are the zones of the block's keys. What is accepted although it
/// does nothing goes to `warnings`.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let directive = uses[0];
    let mut problems = Problems::default();
    let zones = problems.catch(ZoneList::read_or_block(&directive.arguments, parsing.zones));
    let mut reader = Reader {
        config: Config {
            zones: zones.unwrap_or_default(),
            keys: HashMap::new(),
            files: Vec::new(),
            types: Required::default(),
            opcodes: Required::default(),
        },
        said: HashMap::new(),
        parsing,
    };
    for line in directive.properties() {
        problems.catch(reader.read(line));
    }
    let Reader {
        config, parsing, ..
    } = reader;
    if problems.is_empty() && config.keys.is_empty() && config.files.is_empty() {
        let warning = directive
            .name
            .warning("no key is known: no signature is right");
        parsing
            .warnings
            .push(warning.help("'secret NAME KEY' or 'secrets FILE' tell of keys"));
    }
    problems.in_plugin(NAME).into_result(config)
}

struct Reader<'a, 'p> {
    config: Config,
    /// Where each key was told of.
    said: HashMap<Name, Word>,
    parsing: &'a mut Parsing<'p>,
}

impl Reader<'_, '_> {
    fn read(&mut self, line: &Line) -> Result<(), Diagnostic> {
        let mut arguments = line.arguments();
        match line.name().as_str() {
            "secret" => {
                let name = arguments.required("the name of a key")?;
                let secret = arguments.required("the secret in base64")?;
                arguments.none_left()?;
                self.key(name, secret)
            }
            "secrets" => {
                let file = arguments.required("a file of keys")?;
                arguments.none_left()?;
                self.config.files.push(self.parsing.path(&file.path()));
                Ok(())
            }
            "require" => {
                let words = arguments.at_least_one("types, 'all' or 'none'")?;
                self.config.types = required(words, |word| {
                    word.parse::<Type>().map_err(|error| {
                        word.error(error.to_string())
                            .expected("record types such as AXFR, 'all' or 'none'")
                    })
                })?;
                Ok(())
            }
            "require_opcode" => {
                let words = arguments.at_least_one("opcodes, 'all' or 'none'")?;
                self.config.opcodes = required(words, opcode)?;
                self.unserved(words);
                Ok(())
            }
            _ => Err(unknown_property(line.name(), &PROPERTIES)),
        }
    }

    fn key(&mut self, name: &Word, secret: &Word) -> Result<(), Diagnostic> {
        let key = Name::parse(name).map_err(|error| {
            name.error(format!("'{name}' is no name of a key: {error}"))
                .expected("a name such as transfer.example")
        })?;
        let Some(secret) = keys::secret(secret) else {
            return Err(secret
                .error("the secret is not base64")
                .expected("base64, such as 'tsig-keygen' prints"));
        };
        let key = key.to_lower();
        if let Some(first) = self.said.insert(key, name.clone()) {
            let error = name.error(format!("the key '{name}' is defined twice"));
            return Err(error.also(first.place, "here for the first time"));
        }
        self.config.keys.insert(key, secret);
        Ok(())
    }

    /// Messages that nothing is done with, signed or not.
    fn unserved(&mut self, words: &[Word]) {
        let unserved = words.iter().filter(|word| {
            OPCODES[SERVED..]
                .iter()
                .any(|(name, _)| word.eq_ignore_ascii_case(name))
        });
        for word in unserved {
            let warning = word.warning(format!("{word} is not served, signed or not"));
            self.parsing
                .warnings
                .push(warning.label("answered with NOTIMP"));
        }
    }
}

/// `all`, `none`, or each of the words.
fn required<T: Ord>(
    words: &[Word],
    read: impl Fn(&Word) -> Result<T, Diagnostic>,
) -> Result<Required<T>, Diagnostic> {
    let alone = |word: &Word| match words {
        [_] => Ok(()),
        _ => Err(word.error(format!("'{word}' stands alone"))),
    };
    let mut these = BTreeSet::new();
    for word in words {
        match word.as_str() {
            "all" => {
                alone(word)?;
                return Ok(Required::All);
            }
            "none" => alone(word)?,
            _ => drop(these.insert(read(word)?)),
        }
    }
    Ok(Required::Only(these))
}

fn opcode(word: &Word) -> Result<u8, Diagnostic> {
    let mut known = OPCODES.iter();
    let found = known.find(|(name, _)| word.eq_ignore_ascii_case(name));
    found.map(|(_, opcode)| *opcode).ok_or_else(|| {
        word.error(format!("'{word}' is no opcode"))
            .expected("QUERY, IQUERY, STATUS, NOTIFY, UPDATE, 'all' or 'none'")
    })
}
