//! One Go template: read and checked at load, executed for a query. The only file that knows the
//! library which does both.
//!
//! The library looks fields and functions up only where an execution comes by, knows no methods,
//! and prints `<no value>` for a group that is not there where Go prints nothing. So a walk over
//! what it read checks every name, with what kind of thing it stands on, and turns the one method
//! there is, `.Meta "label"`, into a call of a function; and `index` is our own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    sync::Arc,
};

use gotmpl::{
    Template, TemplateError, Value,
    parse::{BranchNode, CommandNode, Expr, ListNode, Node, PipeNode, Pos},
};

use crate::corefile::{Diagnostic, Word, nearest};

/// The library's name for a template's own text.
const MAIN: &str = "record";
/// Octets of the longest template.
const LONGEST: usize = 10_000;
/// How many times the bodies of all loops may run, for one record.
const MOST_ITERATIONS: u64 = 1000;

/// Every function there is: Go's own, and `parseInt`.
const FUNCTIONS: [&str; 20] = [
    "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or",
    "parseInt", "print", "printf", "println", "slice", "urlquery",
];

/// The fields of the whole.
const ROOT: [(&str, Kind); 11] = [
    ("Zone", Kind::Scalar),
    ("Name", Kind::Scalar),
    ("Regex", Kind::Scalar),
    ("Match", Kind::List),
    ("Group", Kind::Groups),
    ("Class", Kind::Scalar),
    ("Type", Kind::Scalar),
    ("Message", Kind::Message),
    ("Question", Kind::Question),
    ("Remote", Kind::Scalar),
    ("Var", Kind::Variables),
];
/// The one method of the whole.
const META: &str = "Meta";
const QUESTION: [(&str, Kind); 3] = [
    ("Name", Kind::Scalar),
    ("Qtype", Kind::Scalar),
    ("Qclass", Kind::Scalar),
];
/// Without the records of a query: it has but an OPT record, of which these templates have no use.
const MESSAGE: [(&str, Kind); 13] = [
    ("Id", Kind::Scalar),
    ("Response", Kind::Scalar),
    ("Opcode", Kind::Scalar),
    ("Authoritative", Kind::Scalar),
    ("Truncated", Kind::Scalar),
    ("RecursionDesired", Kind::Scalar),
    ("RecursionAvailable", Kind::Scalar),
    ("Zero", Kind::Scalar),
    ("AuthenticatedData", Kind::Scalar),
    ("CheckingDisabled", Kind::Scalar),
    ("Rcode", Kind::Scalar),
    ("Compress", Kind::Scalar),
    ("Question", Kind::Questions),
];

/// What a value is, as far as that is known before there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Root,
    Message,
    Question,
    Questions,
    Groups,
    Variables,
    List,
    /// It has no fields.
    Scalar,
    /// Nothing is known of it.
    Any,
}

/// A template, ready to be executed.
pub struct Text {
    template: Template,
    source: String,
    uses: BTreeSet<&'static str>,
}

/// What a template may name.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The groups of the regular expressions: their numbers and names.
    pub groups: &'a BTreeSet<String>,
    /// The variables of lines `var`.
    pub variables: &'a [String],
}

impl Text {
    /// Reads a template.
    pub fn read(word: &Word, scope: Scope<'_>) -> Result<Self, Diagnostic> {
        if word.len() > LONGEST {
            let message = format!("the template is longer than {LONGEST} octets");
            return Err(word.error(message));
        }
        if word.trim().is_empty() {
            return Err(word
                .error("an empty template makes no record")
                .expected("a record, such as \"{{ .Name }} 60 IN A 192.0.2.1\""));
        }
        if let Some((place, what)) = unbalanced(word) {
            let error = Diagnostic::error(format!("could not compile template: {what}"));
            return Err(error.at(word.part(place)));
        }
        let read = Template::new(MAIN).parse(word);
        let read = read.map_err(|error| refuse(word, &error))?;
        let mut walk = Walk {
            word,
            scope,
            defined: read
                .templates()
                .iter()
                .map(|name| (*name).to_owned())
                .collect(),
            variables: BTreeSet::new(),
            uses: BTreeSet::new(),
        };
        let mut template = Template::new(MAIN)
            .func("index", index)
            .func("parseInt", parse_int)
            .max_range_iters(MOST_ITERATIONS);
        for name in walk.defined.clone() {
            let Some(mut tree) = read.lookup(&name).cloned() else {
                continue;
            };
            let dot = if name == MAIN { Kind::Root } else { Kind::Any };
            walk.list(&mut tree, dot)?;
            template = template.add_parse_tree(&name, tree);
        }
        Ok(Self {
            template,
            source: word.to_string(),
            uses: walk.uses,
        })
    }

    /// The template as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The fields of the whole that it names.
    pub fn uses(&self) -> impl Iterator<Item = &'static str> {
        self.uses.iter().copied()
    }

    /// Executes it: what it makes of `data`, the whole.
    pub fn execute(&self, data: &Value) -> Result<String, String> {
        let made = self.template.execute_template_to_string(MAIN, data);
        made.map_err(|error| error.to_string())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.source, out)
    }
}

/// What to say of a text that is no template.
fn refuse(word: &Word, error: &TemplateError) -> Diagnostic {
    let (TemplateError::Parse {
        line, col, message, ..
    }
    | TemplateError::Lex {
        line, col, message, ..
    }) = error
    else {
        return word.error(format!("could not compile template: {error}"));
    };
    let diagnostic = Diagnostic::error(format!("could not compile template: {message}"));
    let at = col.saturating_sub(1).min(word.len());
    let place = match line {
        1 => word.part(at..(at + 1).min(word.len())),
        _ => word.place,
    };
    diagnostic.at(place).label("here")
}

/// The word of a block that has no `{{end}}`, or an `{{end}}` of nothing, and what to say of it: the
/// library misses neither.
fn unbalanced(text: &str) -> Option<(Range<usize>, &'static str)> {
    let mut open = Vec::new();
    let mut at = 0;
    while let Some(found) = text[at..].find("{{") {
        at += found + 2;
        let action = &text[at..];
        let inner = action.trim_start_matches('-').trim_start();
        let start = at + action.len() - inner.len();
        let length = inner.bytes().take_while(u8::is_ascii_lowercase).count();
        match &inner[..length] {
            "if" | "range" | "with" | "define" | "block" => open.push(start..start + length),
            "end" if open.pop().is_none() => {
                return Some((start..start + length, "unexpected {{end}}"));
            }
            _ => {}
        }
        at += end_of_action(action);
    }
    let last = open.pop()?;
    Some((last, "this has no {{end}}"))
}

/// Where an action ends, by its first `}}` outside of quotes and comments.
fn end_of_action(action: &str) -> usize {
    let octets = action.as_bytes();
    let mut quote = None;
    let mut at = 0;
    while let Some(&octet) = octets.get(at) {
        match (quote, octet) {
            (Some(b'"' | b'\''), b'\\') => at += 1,
            (Some(open), _) if octet == open => quote = None,
            (None, b'"' | b'`' | b'\'') => quote = Some(octet),
            (None, b'/') if action[at..].starts_with("/*") => {
                at += action[at..].find("*/").unwrap_or(0);
            }
            (None, b'}') if action[at..].starts_with("}}") => return at,
            _ => {}
        }
        at += 1;
    }
    action.len()
}

/// The walk over a template that was read.
struct Walk<'a> {
    word: &'a Word,
    scope: Scope<'a>,
    /// The templates of `{{define}}`, and the text itself.
    defined: BTreeSet<String>,
    /// `$x`, as far as they were met.
    variables: BTreeSet<String>,
    uses: BTreeSet<&'static str>,
}

impl Walk<'_> {
    fn list(&mut self, list: &mut ListNode, dot: Kind) -> Result<(), Diagnostic> {
        for node in &mut list.nodes {
            match node {
                Node::List(list) => self.list(list, dot)?,
                Node::Action(action) => drop(self.pipe(&mut action.pipe, dot)?),
                Node::If(branch) => {
                    self.pipe(&mut branch.pipe, dot)?;
                    self.branches(branch, dot, dot)?;
                }
                Node::With(branch) => {
                    let inner = self.pipe(&mut branch.pipe, dot)?;
                    self.branches(branch, inner, dot)?;
                }
                Node::Range(branch) => {
                    let inner = match self.pipe(&mut branch.pipe, dot)? {
                        Kind::List | Kind::Groups => Kind::Scalar,
                        Kind::Questions => Kind::Question,
                        _ => Kind::Any,
                    };
                    self.branches(branch, inner, dot)?;
                }
                Node::Template(call) => {
                    if !self.defined.contains(call.name.as_str()) {
                        let message = format!("there is no template '{}'", call.name);
                        return Err(self.error(call.pos, &call.name, message));
                    }
                    if let Some(pipe) = &mut call.pipe {
                        self.pipe(pipe, dot)?;
                    }
                }
                Node::Define(define) => self.list(&mut define.body, Kind::Any)?,
                Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
            }
        }
        Ok(())
    }

    fn branches(
        &mut self,
        branch: &mut BranchNode,
        inner: Kind,
        outer: Kind,
    ) -> Result<(), Diagnostic> {
        self.list(&mut branch.body, inner)?;
        branch
            .else_body
            .as_mut()
            .map_or(Ok(()), |body| self.list(body, outer))
    }

    /// What comes out of a pipeline.
    fn pipe(&mut self, pipe: &mut PipeNode, dot: Kind) -> Result<Kind, Diagnostic> {
        let mut kind = Kind::Any;
        for (at, command) in pipe.commands.iter_mut().enumerate() {
            kind = self.command(command, dot, at > 0)?;
        }
        for name in &pipe.decl {
            self.variables.insert(name.to_string());
        }
        Ok(kind)
    }

    fn command(
        &mut self,
        command: &mut CommandNode,
        dot: Kind,
        is_piped: bool,
    ) -> Result<Kind, Diagnostic> {
        let whole = self.meta(command, dot, is_piped);
        let arguments = match (whole, command.args.first()) {
            (Some(()), _) => 2,
            (None, Some(Expr::Identifier(pos, name))) => {
                self.function(*pos, name)?;
                1
            }
            _ => 0,
        };
        let mut first = Kind::Any;
        for (at, argument) in command.args.iter_mut().skip(arguments).enumerate() {
            let kind = self.expression(argument, dot)?;
            if at == 0 {
                first = kind;
            }
        }
        Ok(match command.args.as_slice() {
            [_] if arguments == 0 => first,
            [Expr::Identifier(_, name), _, _] if name.as_str() == "index" => match first {
                Kind::Questions => Kind::Question,
                Kind::List | Kind::Groups => Kind::Scalar,
                _ => Kind::Any,
            },
            _ => Kind::Any,
        })
    }

    /// Turns `.Meta LABEL` into `call .Meta LABEL`, where that is what a command is.
    fn meta(&mut self, command: &mut CommandNode, dot: Kind, is_piped: bool) -> Option<()> {
        let pos = match command.args.first()? {
            Expr::Field(pos, chain) if dot == Kind::Root && is_meta(chain) => *pos,
            Expr::Variable(pos, name, chain) if name.as_str() == "$" && is_meta(chain) => *pos,
            _ => return None,
        };
        if command.args.len() == 1 && !is_piped {
            return None;
        }
        self.uses.insert(META);
        command.args.insert(0, Expr::Identifier(pos, "call".into()));
        Some(())
    }

    fn function(&self, pos: Pos, name: &str) -> Result<(), Diagnostic> {
        if FUNCTIONS.contains(&name) {
            return Ok(());
        }
        let near = nearest(name, FUNCTIONS);
        let error = self.error(pos, name, format!("function \"{name}\" not defined"));
        Err(error.maybe_help(near.map(|near| format!("did you mean '{near}'?"))))
    }

    fn expression(&mut self, expression: &mut Expr, dot: Kind) -> Result<Kind, Diagnostic> {
        match expression {
            Expr::Dot(_) => {
                self.use_whole(dot);
                Ok(dot)
            }
            Expr::Field(pos, chain) => {
                let names: Vec<String> = chain.iter().map(ToString::to_string).collect();
                self.fields(dot, *pos, &names)
            }
            Expr::Variable(pos, name, chain) => {
                let names: Vec<String> = chain.iter().map(ToString::to_string).collect();
                if name.as_str() == "$" {
                    // In a `{{define}}` it is whatever that is called with.
                    let is_main = self.defined.len() == 1;
                    let whole = if is_main { Kind::Root } else { Kind::Any };
                    if names.is_empty() || !is_main {
                        self.use_whole(Kind::Root);
                    }
                    return self.fields(whole, *pos, &names);
                }
                if !self.variables.contains(name.as_str()) {
                    let message = format!("undefined variable \"{name}\"");
                    return Err(self.error(*pos, name, message));
                }
                Ok(Kind::Any)
            }
            Expr::Identifier(pos, name) => self.function(*pos, name).map(|()| Kind::Any),
            Expr::Pipe(_, pipe) => self.pipe(pipe, dot),
            Expr::Chain(pos, inner, chain) => {
                let names: Vec<String> = chain.iter().map(ToString::to_string).collect();
                let kind = self.expression(inner, dot)?;
                self.fields(kind, *pos, &names)
            }
            Expr::String(..) | Expr::Number(..) | Expr::Bool(..) => Ok(Kind::Scalar),
            Expr::Nil(_) => Ok(Kind::Any),
        }
    }

    /// The whole is handed on, where everything may be asked of it.
    fn use_whole(&mut self, kind: Kind) {
        if kind == Kind::Root {
            self.uses.extend(ROOT.map(|(name, _)| name));
            self.uses.insert(META);
        }
    }

    /// What a chain of fields of a value of this kind leads to.
    fn fields(&mut self, of: Kind, pos: Pos, chain: &[String]) -> Result<Kind, Diagnostic> {
        let mut kind = of;
        for name in chain {
            if kind == Kind::Root && name == META {
                return Err(self
                    .error(pos, name, "not enough arguments for Meta")
                    .expected("a label, as in (.Meta \"view/name\")"));
            }
            let fields: &[(&'static str, Kind)] = match kind {
                Kind::Any => return Ok(Kind::Any),
                Kind::Root => &ROOT,
                Kind::Message => &MESSAGE,
                Kind::Question => &QUESTION,
                Kind::Groups => {
                    let known = self.scope.groups.iter().map(String::as_str);
                    self.known(pos, name, known, "group")?;
                    kind = Kind::Scalar;
                    continue;
                }
                Kind::Variables => {
                    let known = self.scope.variables.iter().map(String::as_str);
                    self.known(pos, name, known, "variable")?;
                    kind = Kind::Any;
                    continue;
                }
                Kind::Questions | Kind::List | Kind::Scalar => &[],
            };
            let Some((field, next)) = fields.iter().find(|(field, _)| field == name) else {
                self.known(pos, name, fields.iter().map(|(field, _)| *field), "field")?;
                return Ok(Kind::Any);
            };
            if kind == Kind::Root {
                self.uses.insert(field);
            }
            kind = *next;
        }
        Ok(kind)
    }

    fn known<'k>(
        &self,
        pos: Pos,
        name: &str,
        mut known: impl Iterator<Item = &'k str> + Clone,
        what: &str,
    ) -> Result<(), Diagnostic> {
        let near = nearest(name, known.clone());
        if known.any(|known| known == name) {
            return Ok(());
        }
        let error = self.error(pos, name, format!("there is no {what} '{name}' here"));
        Err(error.maybe_help(near.map(|near| format!("did you mean '{near}'?"))))
    }

    /// An error about a name that stands at this position or soon after it.
    fn error(&self, pos: Pos, name: &str, message: impl Into<String>) -> Diagnostic {
        let start = pos.offset.min(self.word.len());
        let found = self.word.get(start..).and_then(|rest| rest.find(name));
        let range: Range<usize> = match found {
            Some(found) => start + found..start + found + name.len(),
            None => 0..self.word.len(),
        };
        Diagnostic::error(message).at(self.word.part(range))
    }
}

fn is_meta(chain: &[impl AsRef<str>]) -> bool {
    matches!(chain, [only] if only.as_ref() == META)
}

/// Go's `index`. Of a map of texts (the groups, known by their first one, 0) it gives an empty
/// text where there is no such key.
fn index(arguments: &[Value]) -> gotmpl::Result<Value> {
    let Some((first, keys)) = arguments.split_first() else {
        return Err(TemplateError::Exec("index of nothing".to_owned()));
    };
    let mut value = first.clone();
    for key in keys {
        let is_groups = matches!(&value, Value::Map(map) if map.contains_key("0"));
        value = match value.index(key)? {
            Value::Nil if is_groups => Value::String("".into()),
            found => found,
        };
    }
    Ok(value)
}

/// Go's `strconv.ParseUint` of a text, a base and a number of bits.
fn parse_int(arguments: &[Value]) -> gotmpl::Result<Value> {
    let [Value::String(text), Value::Int(base), Value::Int(bits)] = arguments else {
        let message = "parseInt takes a text, a base and a number of bits";
        return Err(TemplateError::Exec(message.to_owned()));
    };
    parse_unsigned(text, *base, *bits)
        .map(Value::Uint)
        .ok_or_else(|| {
            let message = format!("parseInt: '{text}' is no number of base {base} and {bits} bits");
            TemplateError::Exec(message)
        })
}

fn parse_unsigned(text: &str, base: i64, bits: i64) -> Option<u64> {
    let (digits, base) = match base {
        0 => {
            let lower = text.to_ascii_lowercase();
            let base = match lower.get(..2) {
                Some("0x") => 16,
                Some("0b") => 2,
                Some("0o") => 8,
                _ => 10,
            };
            let octal = base == 10 && lower.len() > 1 && lower.starts_with('0');
            let digits = if base == 10 {
                lower
            } else {
                lower[2..].to_owned()
            };
            (digits.replace('_', ""), if octal { 8 } else { base })
        }
        2..=36 => (text.to_owned(), u32::try_from(base).ok()?),
        _ => return None,
    };
    // Rust takes a sign, Go does not.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let number = u64::from_str_radix(&digits, base).ok()?;
    let fits = match bits {
        0 | 64 => true,
        1..64 => number >> bits == 0,
        _ => return None,
    };
    fits.then_some(number)
}

/// A map of the library's.
pub fn map(entries: impl IntoIterator<Item = (Arc<str>, Value)>) -> Value {
    Value::Map(Arc::new(entries.into_iter().collect::<BTreeMap<_, _>>()))
}

/// A text of the library's.
pub fn text(text: &str) -> Value {
    Value::String(text.into())
}
