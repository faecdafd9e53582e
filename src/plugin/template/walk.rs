//! Checks the parse tree of a template: every name must exist in the kind of value that it is used
//! on. Replaces the only method, `.Meta "label"`, by a function call.

use std::{collections::BTreeSet, ops::Range};

use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, PipeNode, Pos};

use super::text::Scope;
use crate::corefile::{Diagnostic, Word, nearest};

/// All functions: those of Go, and `parseInt`.
const FUNCTIONS: [&str; 20] = [
    "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or",
    "parseInt", "print", "printf", "println", "slice", "urlquery",
];

/// The fields of the root value.
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
/// The only method of the root value.
const META: &str = "Meta";
const QUESTION: [(&str, Kind); 3] = [
    ("Name", Kind::Scalar),
    ("Qtype", Kind::Scalar),
    ("Qclass", Kind::Scalar),
];
/// Without the record sections: a query has only an OPT record, which is not available to
/// templates.
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

/// The kind of a value, as far as it is known without data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Root,
    Message,
    Question,
    Questions,
    Groups,
    Variables,
    List,
    /// A value without fields.
    Scalar,
    /// An unknown value.
    Any,
}

/// Checks one of the templates in `word` (`defined` are their names), and returns the fields of the
/// root value that it uses.
pub fn walk(
    word: &Word,
    scope: Scope<'_>,
    defined: &BTreeSet<String>,
    tree: &mut ListNode,
    is_main: bool,
) -> Result<BTreeSet<&'static str>, Diagnostic> {
    let mut walk = Walk {
        word,
        scope,
        defined,
        variables: BTreeSet::new(),
        uses: BTreeSet::new(),
    };
    let dot = if is_main { Kind::Root } else { Kind::Any };
    walk.list(tree, dot)?;
    Ok(walk.uses)
}

/// The state of a check.
struct Walk<'a> {
    word: &'a Word,
    scope: Scope<'a>,
    /// Names of the templates in `{{define}}`, and of the main one.
    defined: &'a BTreeSet<String>,
    /// The variables declared so far, such as `$x`.
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

    /// The kind of a pipeline's value.
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
        let is_meta = self.meta(command, dot, is_piped);
        let arguments = match (is_meta, command.args.first()) {
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

    /// Replaces a command `.Meta LABEL` by `call .Meta LABEL`.
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
                self.use_all_fields(dot);
                Ok(dot)
            }
            Expr::Field(pos, chain) => {
                let names: Vec<String> = chain.iter().map(ToString::to_string).collect();
                self.fields(dot, *pos, &names)
            }
            Expr::Variable(pos, name, chain) => {
                let names: Vec<String> = chain.iter().map(ToString::to_string).collect();
                if name.as_str() == "$" {
                    // In a `{{define}}`, `$` is the argument of the call.
                    let is_main = self.defined.len() == 1;
                    let root = if is_main { Kind::Root } else { Kind::Any };
                    if names.is_empty() || !is_main {
                        self.use_all_fields(Kind::Root);
                    }
                    return self.fields(root, *pos, &names);
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

    /// Records that the root value is passed on, so that all of its fields may be used.
    fn use_all_fields(&mut self, kind: Kind) {
        if kind == Kind::Root {
            self.uses.extend(ROOT.map(|(name, _)| name));
            self.uses.insert(META);
        }
    }

    /// The kind of a chain of fields on a value of this kind.
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

    /// An error that marks the next occurrence of a name from this position on.
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
