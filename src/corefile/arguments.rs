//! What plugin parsers read their words with, so that none of them repeats a check.
//!
//! ```
//! # use lodestone::corefile::{Diagnostic, Directive, unknown_property};
//! # use std::time::Duration;
//! fn lameduck(health: &Directive) -> Result<Duration, Diagnostic> {
//!     let mut lameduck = Duration::ZERO;
//!     health.no_arguments()?;
//!     for line in health.properties() {
//!         let mut arguments = line.arguments();
//!         match line.name().as_str() {
//!             "lameduck" => lameduck = arguments.required("a duration")?.duration()?,
//!             _ => return Err(unknown_property(line.name(), &["lameduck"])),
//!         }
//!         arguments.none_left()?;
//!     }
//!     Ok(lameduck)
//! }
//! ```

use std::time::Duration;

use super::diagnostic::Diagnostic;
use super::nearest::nearest;
use super::source::Word;
use super::tree::{Directive, Line};
use super::value::{Listen, alternatives};

/// A cursor over the arguments of a directive or of a property line.
#[derive(Clone, Debug)]
pub struct Arguments<'a> {
    name: &'a Word,
    words: &'a [Word],
    position: usize,
}

impl Directive {
    /// The arguments on the directive's own line.
    pub fn arguments(&self) -> Arguments<'_> {
        Arguments {
            name: &self.name,
            words: &self.arguments,
            position: 0,
        }
    }

    /// Refuses any argument.
    pub fn no_arguments(&self) -> Result<(), Diagnostic> {
        self.arguments().none_left()
    }

    /// Refuses a body.
    pub fn no_body(&self) -> Result<(), Diagnostic> {
        self.body.as_ref().map_or(Ok(()), |body| {
            Err(
                Diagnostic::error("Unexpected token '{', expecting argument")
                    .at(body.open)
                    .label(format!("'{}' has no properties", self.name)),
            )
        })
    }

    /// The one argument there may be: where to listen.
    pub fn listen(&self) -> Result<Option<Listen>, Diagnostic> {
        let mut arguments = self.arguments();
        let word = arguments.next();
        arguments.none_left()?;
        word.map(Word::listen).transpose()
    }

    /// Refuses whatever is said: arguments first, then a body.
    pub fn bare(&self) -> Result<(), Diagnostic> {
        self.no_arguments().and_then(|()| self.no_body())
    }

    /// Refuses the second use of a plugin in one server block. Takes all uses in file order.
    pub fn only_once<'a>(uses: &[&'a Self]) -> Result<Option<&'a Self>, Diagnostic> {
        match uses {
            [] => Ok(None),
            [only] => Ok(Some(only)),
            [first, second, ..] => Err(second
                .name
                .error("this plugin can only be used once per Server Block")
                .label("the second use")
                .also(first.name.place, "first used here")),
        }
    }

    /// The last use of a plugin in one server block, which alone counts; the others get a warning.
    /// Takes all uses in file order.
    pub fn only_last<'a>(uses: &[&'a Self], warnings: &mut Vec<Diagnostic>) -> Option<&'a Self> {
        let (last, earlier) = uses.split_last()?;
        for unused in earlier {
            let message = format!("only the last '{}' counts", unused.name);
            let warning = unused.name.warning(message);
            warnings.push(warning.also(last.name.place, "this one"));
        }
        Some(last)
    }
}

impl Line {
    /// The words behind the property's name.
    pub fn arguments(&self) -> Arguments<'_> {
        Arguments {
            name: self.name(),
            words: &self.words[1..],
            position: 0,
        }
    }
}

impl<'a> Arguments<'a> {
    /// The directive or property that the arguments belong to.
    pub fn name(&self) -> &'a Word {
        self.name
    }

    /// The next argument, left in place.
    pub fn peek(&self) -> Option<&'a Word> {
        self.words.get(self.position)
    }

    /// How many are left.
    pub fn left(&self) -> usize {
        self.words.len() - self.position
    }

    /// The next argument; refused if there is none. `what` reads like "a duration".
    pub fn required(&mut self, what: &str) -> Result<&'a Word, Diagnostic> {
        self.next().ok_or_else(|| self.missing(what))
    }

    /// How often something is repeated; None for 0, which is never.
    pub fn interval(&mut self) -> Result<Option<Duration>, Diagnostic> {
        let interval = self.required("a duration, 0s for never")?.duration()?;
        Ok((!interval.is_zero()).then_some(interval))
    }

    /// All that are left, of which there must be one at least.
    pub fn at_least_one(&mut self, what: &str) -> Result<&'a [Word], Diagnostic> {
        if self.left() == 0 {
            Err(self.missing(what))
        } else {
            Ok(self.rest())
        }
    }

    /// Exactly `N` more arguments and nothing behind them: `exactly::<2>("a zone and a file")`.
    pub fn exactly<const N: usize>(&mut self, what: &str) -> Result<&'a [Word; N], Diagnostic> {
        let Some((words, _)) = self.words[self.position..].split_first_chunk() else {
            return Err(self.missing(what));
        };
        self.position += N;
        self.none_left()?;
        Ok(words)
    }

    /// All that are left, which may be none.
    pub fn rest(&mut self) -> &'a [Word] {
        let rest = &self.words[self.position..];
        self.position = self.words.len();
        rest
    }

    /// Passes over all that are left. None of it has an effect; the warning says why.
    pub fn without_effect(&mut self, why: &str) -> Diagnostic {
        self.rest();
        let warning = self.name.warning(format!("'{}' does nothing", self.name));
        warning.label(why).help("remove the line")
    }

    /// Refuses what has not been read.
    pub fn none_left(&self) -> Result<(), Diagnostic> {
        let Some(extra) = self.peek() else {
            return Ok(());
        };
        let label = match self.position {
            0 => format!("'{}' takes no argument", self.name),
            1 => format!("'{}' takes one argument", self.name),
            count => format!("'{}' takes {count} arguments", self.name),
        };
        let diagnostic = wrong_count(extra).at(extra.place).label(label);
        let is_brace = *extra == "}";
        Err(diagnostic
            .maybe_help(is_brace.then(|| "put the closing brace on its own line".to_owned())))
    }

    fn missing(&self, what: &str) -> Diagnostic {
        let last = self.words.last().unwrap_or(self.name);
        wrong_count(last).at(last.place.after()).expected(what)
    }
}

impl<'a> Iterator for Arguments<'a> {
    type Item = &'a Word;

    fn next(&mut self) -> Option<&'a Word> {
        let word = self.peek()?;
        self.position += 1;
        Some(word)
    }
}

/// The error for a property that a plugin does not have; `known` are those it has.
pub fn unknown_property(name: &Word, known: &[&str]) -> Diagnostic {
    let diagnostic = name.error(format!("unknown property '{name}'"));
    let near = nearest(name, known.iter().copied());
    diagnostic
        .expected(alternatives(known))
        .maybe_help(near.map(|near| format!("did you mean '{near}'?")))
}

/// CoreDNS's words; the word they name is the last one that was read.
fn wrong_count(last: &Word) -> Diagnostic {
    Diagnostic::error(format!(
        "Wrong argument count or unexpected line ending after '{last}'"
    ))
}
