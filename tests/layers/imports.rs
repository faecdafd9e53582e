//! Which file imports which, and under which names.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::tokens::{Token, without_tests};

/// A module: the words of its path behind `crate`.
pub(crate) type Module = Vec<String>;

/// The modules of a crate.
pub(crate) struct Tree {
    /// The file of each.
    files: HashMap<Module, String>,
    imports: Vec<Import>,
}

/// A name that a module uses of another one.
#[derive(Clone, Debug)]
pub(crate) struct Import {
    pub(crate) from: (Module, String),
    pub(crate) to: (Module, String),
    pub(crate) name: String,
}

/// The paths that a file writes.
#[derive(Default)]
struct Written {
    /// In `use` declarations, with the name that each declares.
    declared: Vec<(Module, String)>,
    elsewhere: Vec<Module>,
}

impl Tree {
    /// Reads the files, which are given by their paths (`src/...`).
    pub(crate) fn new(sources: &BTreeMap<String, String>) -> Self {
        let mut tree = Self {
            files: HashMap::new(),
            imports: Vec::new(),
        };
        let mut written = Vec::new();
        let mut only_tests = HashSet::new();
        for (file, source) in sources {
            let module = module_of(file);
            let (tokens, test_modules) = without_tests(source);
            for name in test_modules {
                only_tests.insert([module.clone(), vec![name.to_owned()]].concat());
            }
            tree.files.insert(module.clone(), file.clone());
            written.push((module, paths(&tokens)));
        }
        let of_a_test = |module: &[String]| {
            (1..=module.len()).any(|length| only_tests.contains(&module[..length]))
        };
        tree.files.retain(|module, _| !of_a_test(module));
        written.retain(|(module, _)| !of_a_test(module));

        // A name that a module declares is the same thing in its module and where it comes from.
        let mut declared = HashMap::new();
        for (module, paths) in &written {
            for (path, name) in &paths.declared {
                let path = tree.absolute(module, path);
                let name = [module.clone(), vec![name.clone()]].concat();
                declared.extend(path.map(|path| (name, path)));
            }
        }
        for (module, paths) in &written {
            let names = paths.declared.iter().map(|(path, _)| path);
            for path in names.chain(&paths.elsewhere) {
                let path = tree.absolute(module, path);
                tree.imports
                    .extend(path.and_then(|path| tree.import(module, path, &declared)));
            }
        }
        tree
    }

    /// All imports between modules.
    pub(crate) fn imports(&self) -> &[Import] {
        &self.imports
    }

    /// A path as `module` writes it, from the root of the crate; none for another crate's.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Module> {
        let above = path.iter().take_while(|word| *word == "super").count();
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([module, &path[1..]].concat()),
            "super" => {
                let above_it = module.len().checked_sub(above)?;
                Some([&module[..above_it], &path[above..]].concat())
            }
            first => {
                let child = [module, &[first.to_owned()]].concat();
                let known = self.files.contains_key(&child);
                known.then(|| [module, path].concat())
            }
        }
    }

    /// What `path` leads to from `module`, followed through names that modules on it declare.
    fn import(
        &self,
        module: &[String],
        mut path: Module,
        declared: &HashMap<Module, Module>,
    ) -> Option<Import> {
        const MOST: usize = 8;
        let known = |path: &[String]| self.files.contains_key(path);
        for _ in 0..MOST {
            let heads = (1..=path.len()).map(|length| &path[..length]);
            let mut heads = heads.filter(|head| !known(head));
            let Some((head, origin)) = heads.find_map(|it| Some((it, declared.get(it)?))) else {
                break;
            };
            path = [origin.as_slice(), &path[head.len()..]].concat();
        }
        let length = (1..=path.len())
            .rev()
            .find(|length| known(&path[..*length]))?;
        let (to, name) = path.split_at(length);
        let name = name.first().map_or("self", String::as_str).to_owned();
        let file = |module: &[String]| self.files.get(module).cloned();
        (to != module).then_some(Import {
            from: (module.to_vec(), file(module)?),
            to: (to.to_vec(), file(to)?),
            name,
        })
    }
}

/// `src/a/b.rs` and `src/a/b/mod.rs` are `a::b`.
fn module_of(file: &str) -> Module {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs");
    let mut module: Module = path.split('/').map(str::to_owned).collect();
    let is_root = module.len() == 1 && matches!(path, "lib" | "main");
    if is_root || module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

fn paths(tokens: &[Token<'_>]) -> Written {
    let mut written = Written::default();
    let mut rest = tokens;
    let mut before = [Token::Mark(';'); 2];
    while let Some((first, behind)) = rest.split_first() {
        let is_visibility = before == [Token::Mark('('), Token::Word("in")];
        match first {
            // Not `use<'a>`, which says what a type captures.
            Token::Word("use") if behind.first() != Some(&Token::Mark('<')) => {
                let end = behind.iter().position(|one| *one == Token::Mark(';'));
                let (declaration, after) = behind.split_at(end.unwrap_or(behind.len()));
                use_tree(declaration, &[], &mut written.declared);
                rest = after;
                before = [Token::Mark(';'); 2];
                continue;
            }
            Token::Word("crate" | "super" | "self")
                if before[1] != Token::Path && !is_visibility =>
            {
                let path = leading_path(rest);
                if path.len() > 1 {
                    written.elsewhere.push(path);
                }
            }
            _ => {}
        }
        before = [before[1], *first];
        rest = behind;
    }
    written
}

/// The words with `::` between them that `tokens` begin with.
fn leading_path(tokens: &[Token<'_>]) -> Module {
    let mut path = Vec::new();
    let mut rest = tokens;
    while let [Token::Word(word), behind @ ..] = rest {
        path.push((*word).to_owned());
        match behind {
            [Token::Path, behind @ ..] => rest = behind,
            _ => break,
        }
    }
    path
}

/// The paths of a `use` declaration, behind `prefix`.
fn use_tree(tokens: &[Token<'_>], prefix: &[String], found: &mut Vec<(Module, String)>) {
    let own = leading_path(tokens);
    let path = [prefix, &own].concat();
    let rest = &tokens[(2 * own.len()).min(tokens.len())..];
    match (tokens.get((2 * own.len()).saturating_sub(1)), rest) {
        // `a::{b, c}`, where the list may stand alone.
        (_, [Token::Mark('{'), list @ .., Token::Mark('}')]) => {
            for branch in branches(list) {
                use_tree(branch, &path, found);
            }
        }
        (Some(Token::Word("as")), [Token::Word(name), ..]) => {
            found.push((path, (*name).to_owned()));
        }
        _ => {
            let (last, above) = path
                .split_last()
                .map_or(("", &[][..]), |(last, above)| (last.as_str(), above));
            let name = match (last, above.last()) {
                ("self", Some(above)) => above.clone(),
                _ => last.to_owned(),
            };
            let path = if last == "self" && !above.is_empty() {
                above.to_vec()
            } else {
                path.clone()
            };
            found.push((path, name));
        }
    }
}

/// The branches of a list in braces.
fn branches<'t, 's>(list: &'t [Token<'s>]) -> Vec<&'t [Token<'s>]> {
    let mut depth = 0_usize;
    let branches = list.split(|token| {
        match token {
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => depth -= 1,
            _ => {}
        }
        depth == 0 && *token == Token::Mark(',')
    });
    branches.filter(|branch| !branch.is_empty()).collect()
}
