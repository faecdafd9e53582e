//! Typed access to the arguments of directives and properties, shared by all plugin parsers.
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
use super::tree::{Directive, Property};
use super::value::{Listen, alternatives};

/// Cursor over the arguments of a directive or property.
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

    /// The optional single argument: a listen address.
    pub fn listen(&self) -> Result<Option<Listen>, Diagnostic> {
        let mut arguments = self.arguments();
        let word = arguments.next();
        arguments.none_left()?;
        word.map(Word::listen).transpose()
    }

    /// Refuses arguments, then a body.
    pub fn bare(&self) -> Result<(), Diagnostic> {
        self.no_arguments().and_then(|()| self.no_body())
    }

    /// The only use of a plugin in a server block; refuses a second one. `uses` is in file order.
    pub fn only_once<'a>(uses: &[&'a Self]) -> Result<Option<&'a Self>, Diagnostic> {
        match uses {
            [] => Ok(None),
            [only] => Ok(Some(only)),
            [first, second, ..] => Err(second
                .name
                .error("this plugin can only be used once per Server Block")
                .label("the second use")
                .also(first.name.span, "first used here")),
        }
    }

    /// The last use of a plugin in a server block, which overrides earlier ones; each earlier one
    /// gets a warning. `uses` is in file order.
    pub fn only_last<'a>(uses: &[&'a Self], warnings: &mut Vec<Diagnostic>) -> Option<&'a Self> {
        let (last, earlier) = uses.split_last()?;
        for unused in earlier {
            let message = format!("only the last '{}' counts", unused.name);
            let warning = unused.name.warning(message);
            warnings.push(warning.also(last.name.span, "this one"));
        }
        Some(last)
    }
}

impl Property {
    /// The words after the property's name.
    pub fn arguments(&self) -> Arguments<'_> {
        Arguments {
            name: self.name(),
            words: &self.words[1..],
            position: 0,
        }
    }
}

impl<'a> Arguments<'a> {
    /// The directive or property to which the arguments belong.
    pub fn name(&self) -> &'a Word {
        self.name
    }

    /// The next argument, without consuming it.
    pub fn peek(&self) -> Option<&'a Word> {
        self.words.get(self.position)
    }

    /// Number of remaining arguments.
    pub fn left(&self) -> usize {
        self.words.len() - self.position
    }

    /// The next argument, or an error that expects `what`, for example "a duration".
    pub fn required(&mut self, what: &str) -> Result<&'a Word, Diagnostic> {
        self.next().ok_or_else(|| self.missing(what))
    }

    /// A repetition interval; `None` for 0, which means never.
    pub fn interval(&mut self) -> Result<Option<Duration>, Diagnostic> {
        let interval = self.required("a duration, 0s for never")?.duration()?;
        Ok((!interval.is_zero()).then_some(interval))
    }

    /// All remaining arguments; an error if there are none.
    pub fn at_least_one(&mut self, what: &str) -> Result<&'a [Word], Diagnostic> {
        if self.left() == 0 {
            Err(self.missing(what))
        } else {
            Ok(self.rest())
        }
    }

    /// Exactly `N` remaining arguments: `exactly::<2>("a zone and a file")`.
    pub fn exactly<const N: usize>(&mut self, what: &str) -> Result<&'a [Word; N], Diagnostic> {
        let Some((words, _)) = self.words[self.position..].split_first_chunk() else {
            return Err(self.missing(what));
        };
        self.position += N;
        self.none_left()?;
        Ok(words)
    }

    /// All remaining arguments, possibly none.
    pub fn rest(&mut self) -> &'a [Word] {
        let rest = &self.words[self.position..];
        self.position = self.words.len();
        rest
    }

    /// Consumes the remaining arguments and returns a warning that they have no effect, with the
    /// reason.
    pub fn without_effect(&mut self, why: &str) -> Diagnostic {
        self.rest();
        let warning = self.name.warning(format!("'{}' does nothing", self.name));
        warning.label(why).help("remove the line")
    }

    /// Refuses unread arguments.
    pub fn none_left(&self) -> Result<(), Diagnostic> {
        let Some(extra) = self.peek() else {
            return Ok(());
        };
        let label = match self.position {
            0 => format!("'{}' takes no argument", self.name),
            1 => format!("'{}' takes one argument", self.name),
            count => format!("'{}' takes {count} arguments", self.name),
        };
        let diagnostic = wrong_count(extra).at(extra.span).label(label);
        let is_brace = *extra == "}";
        Err(diagnostic
            .maybe_help(is_brace.then(|| "put the closing brace on its own line".to_owned())))
    }

    fn missing(&self, what: &str) -> Diagnostic {
        let last = self.words.last().unwrap_or(self.name);
        wrong_count(last).at(last.span.after()).expected(what)
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

/// The error for an unknown property; `known` are the plugin's properties.
pub fn unknown_property(name: &Word, known: &[&str]) -> Diagnostic {
    let diagnostic = name.error(format!("unknown property '{name}'"));
    let near = nearest(name, known.iter().copied());
    diagnostic
        .expected(alternatives(known))
        .maybe_help(near.map(|near| format!("did you mean '{near}'?")))
}

/// CoreDNS's message for a wrong number of arguments, which quotes the last word read.
fn wrong_count(last: &Word) -> Diagnostic {
    Diagnostic::error(format!(
        "Wrong argument count or unexpected line ending after '{last}'"
    ))
}
