//! The words of a command line: servers, names, types, classes and options, in any order, as BIND's `dig`
//! reads them. What stands before the first name applies to all queries, what follows a name to that query.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use super::{
    lookup::{Family, Globals, Lookup, Show, number},
    options::PlusOption,
};
use crate::{
    upstream::read_nameservers,
    wire::{Class, Name, Type},
};

/// Flags with a value.
const VALUED: &[char] = &['b', 'c', 'f', 'k', 'p', 'q', 't', 'x', 'y'];

/// Largest line of a file of queries (`-f`), and largest number of queries.
const MAX_QUERIES: usize = 65_536;

/// Why a command line cannot be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Invalid words: exit code 1.
    Usage(String),
    /// A name that is not a domain name: exit code 10.
    Name(String),
    /// A file that cannot be read: exit code 8.
    File(String),
}

/// A parsed command line.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// The queries in order.
    pub lookups: Vec<Lookup>,
    /// What applies to all of them, wherever it stands.
    pub globals: Globals,
    /// The servers before the first name.
    pub servers: Vec<String>,
    /// Warnings for standard error.
    pub warnings: Vec<String>,
    /// What is to be printed in place of queries.
    pub only: Option<Only>,
}

/// Something else than queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// `-h`
    Help,
    /// `-v`
    Version,
}

/// State of the parser.
struct State {
    arguments: Arguments,
    /// The options before the first name.
    defaults: Lookup,
    files: usize,
}

impl Arguments {
    /// Parses the words after `dig`.
    pub fn parse(words: &[String]) -> Result<Self, Refusal> {
        let mut state = State {
            arguments: Self {
                lookups: Vec::new(),
                globals: Globals::default(),
                servers: Vec::new(),
                warnings: Vec::new(),
                only: None,
            },
            defaults: Lookup::default(),
            files: 0,
        };
        state.words(words)?;
        let State {
            mut arguments,
            defaults,
            files,
        } = state;
        arguments.servers.clone_from(&defaults.servers);
        if arguments.lookups.is_empty() && files == 0 {
            // Without a name: the name servers of the root.
            arguments.lookups.push(Lookup {
                rtype: defaults.rtype.or(Some(Type::NS)),
                ..defaults
            });
        }
        Ok(arguments)
    }
}

impl State {
    fn words(&mut self, words: &[String]) -> Result<(), Refusal> {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if let Some(server) = word.strip_prefix('@') {
                if server.is_empty() {
                    return Err(Refusal::Usage("Missing server after @".to_owned()));
                }
                let inherited = self.defaults.servers.clone();
                let servers = match self.arguments.lookups.last_mut() {
                    Some(lookup) if lookup.servers == inherited => {
                        lookup.servers.clear();
                        &mut lookup.servers
                    }
                    Some(lookup) => &mut lookup.servers,
                    None => &mut self.defaults.servers,
                };
                servers.push(server.to_owned());
            } else if let Some(option) = word.strip_prefix('+') {
                let option = PlusOption::parse(option).map_err(Refusal::Usage)?;
                self.plus(option).map_err(Refusal::Usage)?;
            } else if let Some(flag) = word.strip_prefix('-').filter(|flag| !flag.is_empty()) {
                self.flag(flag, &mut words)?;
                if self.arguments.only.is_some() {
                    return Ok(());
                }
            } else {
                self.word(word)?;
            }
        }
        Ok(())
    }

    /// The query that options apply to.
    fn current(&mut self) -> &mut Lookup {
        self.arguments
            .lookups
            .last_mut()
            .unwrap_or(&mut self.defaults)
    }

    /// A word without a prefix: a type, a class or a name.
    fn word(&mut self, word: &str) -> Result<(), Refusal> {
        let lower = word.to_ascii_lowercase();
        if let Some(serial) = lower.strip_prefix("ixfr=") {
            let serial = serial.parse();
            self.current().serial = serial
                .map_err(|_| Refusal::Usage(format!("'{word}': a serial number is a number")))?;
            self.set_type(Type::IXFR);
        } else if let Ok(rtype) = word.parse::<Type>() {
            self.set_type(rtype);
        } else if let Ok(class) = word.parse::<Class>() {
            self.set_class(class);
        } else {
            self.name(word)?;
        }
        Ok(())
    }

    fn name(&mut self, name: &str) -> Result<(), Refusal> {
        Name::parse(name)
            .map_err(|error| Refusal::Name(format!("'{name}' is not a legal name ({error})")))?;
        if self.arguments.lookups.len() >= MAX_QUERIES {
            let text = format!("more than {MAX_QUERIES} queries");
            return Err(Refusal::Usage(text));
        }
        self.arguments.lookups.push(Lookup {
            name: name.to_owned(),
            ..self.defaults.clone()
        });
        Ok(())
    }

    fn set_type(&mut self, rtype: Type) {
        let lookup = self.current();
        let twice = lookup.rtype.replace(rtype).is_some();
        if twice {
            self.warn("extra type option");
        }
    }

    fn set_class(&mut self, class: Class) {
        let lookup = self.current();
        let twice = lookup.class.replace(class).is_some();
        if twice {
            self.warn("extra class option");
        }
    }

    fn warn(&mut self, text: &str) {
        self.arguments.warnings.push(format!(";; Warning, {text}"));
    }

    /// An option of one letter, whose value is the rest of its word or the next word.
    fn flag(
        &mut self,
        flag: &str,
        words: &mut std::slice::Iter<'_, String>,
    ) -> Result<(), Refusal> {
        let usage = |text: String| Err(Refusal::Usage(text));
        if let Some(path) = flag.strip_prefix("-resolv-conf") {
            let path = match path.strip_prefix('=') {
                Some(path) => Some(path),
                None if path.is_empty() => words.next().map(String::as_str),
                None => None,
            };
            let Some(path) = path else {
                return usage(format!("Invalid option: -{flag}\nWrite --resolv-conf FILE"));
            };
            let path = PathBuf::from(path);
            if let Err(error) = read_nameservers(&path) {
                let (path, why) = (path.display(), crate::error_text::io(&error));
                let text = format!("{path}: {why}\ndig: couldn't read the file of --resolv-conf");
                return Err(Refusal::File(text));
            }
            self.arguments.globals.resolv_conf = path;
            return Ok(());
        }
        if let Some(option) = plus_option(flag) {
            return usage(format!("Invalid option: -{flag}\nDid you mean +{option}?"));
        }
        let mut letters = flag.chars();
        let (Some(letter), rest) = (letters.next(), letters.as_str()) else {
            return Ok(());
        };
        let globals = &mut self.arguments.globals;
        if rest.is_empty() {
            match letter {
                '4' | '6' => {
                    let family = if letter == '4' {
                        Family::V4
                    } else {
                        Family::V6
                    };
                    if globals.family.is_some_and(|before| before != family) {
                        return usage("only one of -4 and -6 allowed".to_owned());
                    }
                    globals.family = Some(family);
                    return Ok(());
                }
                'h' => self.arguments.only = Some(Only::Help),
                'v' => self.arguments.only = Some(Only::Version),
                'u' => globals.microseconds = true,
                // BIND's dig reads ~/.digrc without it; this one never does.
                'r' => {}
                _ => return self.valued(letter, flag, words.next().map(String::as_str)),
            }
            return Ok(());
        }
        self.valued(letter, flag, Some(rest))
    }

    fn valued(&mut self, letter: char, flag: &str, value: Option<&str>) -> Result<(), Refusal> {
        let invalid = |why: &str| Err(Refusal::Usage(format!("Invalid option: -{flag}{why}")));
        if !VALUED.contains(&letter) {
            return invalid("");
        }
        if "ky".contains(letter) {
            return invalid("\nBIND's dig has this option; this one does not.");
        }
        let Some(value) = value else {
            return invalid("\nIt needs a value");
        };
        match letter {
            'b' => {
                let (address, port) = value.split_once('#').unwrap_or((value, "0"));
                let (Ok(address), Ok(port)) = (address.parse(), port.parse()) else {
                    return Err(Refusal::Usage(format!("invalid address {value}")));
                };
                self.arguments.globals.source = Some((address, port));
            }
            'c' => match value.parse() {
                Ok(class) => self.set_class(class),
                Err(_) => self.warn(&format!("ignoring invalid class {value}")),
            },
            'f' => self.file(value)?,
            'p' => {
                let port = value.parse();
                let wrong =
                    |_| Refusal::Usage(format!("invalid port number '{value}': 0 to 65535"));
                self.arguments.globals.port = port.map_err(wrong)?;
            }
            'q' => self.name(value)?,
            't' => {
                let lower = value.to_ascii_lowercase();
                if lower.starts_with("ixfr=") {
                    self.word(value)?;
                } else {
                    match value.parse() {
                        Ok(rtype) => self.set_type(rtype),
                        Err(_) => self.warn(&format!("ignoring invalid type {value}")),
                    }
                }
            }
            _ => {
                self.name(&reverse(value))?;
                self.current().is_reverse = true;
            }
        }
        Ok(())
    }

    /// Queries of a file: one command line on each line; empty lines and comments are skipped.
    fn file(&mut self, path: &str) -> Result<(), Refusal> {
        let text = std::fs::read(path).map_err(|error| {
            let why = crate::error_text::io(&error);
            Refusal::File(format!(
                "{path}: {why}\ndig: couldn't open specified batch file"
            ))
        })?;
        let defaults = self.defaults.clone();
        for line in String::from_utf8_lossy(&text).lines() {
            if line.starts_with([';', '#']) {
                continue;
            }
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            if words.iter().any(|word| word.starts_with("-f")) {
                return Err(Refusal::Usage(format!("{path}: -f within a file")));
            }
            // Each line begins with the options of the command line before its first name.
            let mut one = Self {
                arguments: Arguments {
                    lookups: Vec::new(),
                    ..self.arguments.clone()
                },
                defaults: defaults.clone(),
                files: 1,
            };
            one.words(&words)?;
            if self.arguments.lookups.len() + one.arguments.lookups.len() > MAX_QUERIES {
                let text = format!("more than {MAX_QUERIES} queries");
                return Err(Refusal::Usage(text));
            }
            let before = std::mem::take(&mut self.arguments.lookups);
            let lookups = [before, one.arguments.lookups].concat();
            self.arguments = Arguments {
                lookups,
                ..one.arguments
            };
        }
        self.files += 1;
        Ok(())
    }

    fn plus(&mut self, option: PlusOption<'_>) -> Result<(), String> {
        let PlusOption { name, on, value } = option;
        let globals = &mut self.arguments.globals;
        match name {
            "cmd" => globals.cmd = on,
            "all" => {
                globals.cmd = on;
                return self.current().plus(option);
            }
            "search" | "defname" => globals.search = on,
            "showsearch" => {
                globals.show_search = on;
                globals.search = on;
            }
            "domain" => {
                let domain = value.unwrap_or_default();
                let domain = Name::parse(domain)
                    .map_err(|error| format!("'{domain}' is not a legal name ({error})"))?;
                globals.domain = Some(domain);
                globals.search = true;
            }
            "ndots" => globals.ndots = Some(number(name, value, 0, 255)?),
            "time" | "timeout" => {
                let seconds: u64 = number(name, value, 0, 3600)?;
                // As in BIND, at least a second.
                globals.time = Some(Duration::from_secs(seconds.max(1)));
            }
            "short" => {
                globals.short = on;
                if on {
                    globals.cmd = false;
                    let show = &mut self.current().show;
                    *show = Show {
                        additional: false,
                        answer: true,
                        authority: false,
                        question: false,
                        comments: false,
                        stats: false,
                        ..*show
                    };
                }
            }
            _ => return self.current().plus(option),
        }
        Ok(())
    }
}

/// The name that holds the PTR records of an address; of anything else, its labels in reverse order in
/// `in-addr.arpa` (`10.1` for a network).
fn reverse(text: &str) -> String {
    if let Ok(IpAddr::V6(address)) = text.parse() {
        let digits = address.octets().into_iter().rev();
        let digits = digits.flat_map(|byte| [byte & 15, byte >> 4]);
        let digits: Vec<String> = digits.map(|digit| format!("{digit:x}")).collect();
        return format!("{}.ip6.arpa.", digits.join("."));
    }
    let labels: Vec<&str> = text.trim_end_matches('.').rsplit('.').collect();
    format!("{}.in-addr.arpa.", labels.join("."))
}

/// The option that a word with dashes was meant for: `-short` or `--short` for `+short`. After one dash, the
/// letters of flags with a value begin no such word: `-tcp` is `-t cp`, as in BIND.
fn plus_option(flag: &str) -> Option<&str> {
    let word = flag.strip_prefix('-');
    let is_flag = word.is_none() && flag.starts_with(VALUED);
    let word = word.unwrap_or(flag);
    let is_option = word.len() > 1 && PlusOption::parse(word).is_ok();
    (is_option && !is_flag).then_some(word)
}

#[cfg(test)]
mod tests;
