//! Snippets and imports: expansion and its errors.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use smol_str::SmolStr;

use super::{Frame, MAX_FILES, MAX_SNIPPETS, MAX_TEXT, Origin, Snippet, TokenStream, too_large};
use crate::corefile::diagnostic::Diagnostic;
use crate::corefile::lexer::Token;
use crate::corefile::loader::MAX_FILE;
use crate::corefile::source::{SourceId, Word};
use crate::error_text;

impl TokenStream<'_> {
    /// Defines the snippet `name`; `key` is the word with its parentheses.
    pub(in crate::corefile) fn define(&mut self, key: &Word, name: SmolStr, tokens: Vec<Token>) {
        if let Some(first) = self.snippets.get(&name) {
            let diagnostic = key
                .error(format!(
                    "redeclaration of previously declared snippet {name}"
                ))
                .label("the name is taken")
                .also(first.span, "first defined here");
            return self.report(diagnostic);
        }
        let own = |pair: &[Token]| {
            pair[0].new_line && pair[0].is("import") && pair[1].is(&name) && !pair[1].new_line
        };
        if let Some(pair) = tokens.windows(2).find(|pair| own(pair)) {
            let diagnostic = endless_snippet(&pair[1].word, "a snippet cannot import itself");
            return self.report(diagnostic);
        }
        self.snippets.insert(
            name,
            Snippet {
                tokens: tokens.into(),
                span: key.span,
            },
        );
    }

    /// Expands an import; `import` is the directive word, already consumed.
    pub(in crate::corefile) fn import(&mut self, import: &Word) {
        let Some(argument) = self.peek_same_line() else {
            let message = "Wrong argument count or unexpected line ending after 'import'";
            let diagnostic = Diagnostic::error(message)
                .at(import.span.after())
                .expected("the name of a snippet, a file or a glob pattern");
            return self.report(diagnostic);
        };
        self.next();
        if let Some(extra) = self.peek_same_line() {
            let message = "Import takes only one argument (glob pattern or file)";
            let mut diagnostic = extra.word.error(message).label("one too many");
            if extra.is("}") {
                diagnostic = diagnostic.help("put the closing brace on its own line");
            }
            self.report(diagnostic);
            // Braces are left to the parser, to keep the end of the block intact.
            while self
                .peek_same_line()
                .is_some_and(|extra| !extra.is("}") && !extra.is("{"))
            {
                self.next();
            }
            return;
        }
        let Some(pattern) = self.resolve(argument) else {
            return;
        };
        if pattern.is_empty() {
            let diagnostic = pattern
                .error("Import requires a non-empty filepath")
                .expected("the name of a snippet, a file or a glob pattern");
            return self.report(diagnostic);
        }
        let outcome = if self.snippets.contains_key(&pattern.text) {
            self.import_snippet(&pattern)
        } else {
            self.import_files(&pattern)
        };
        if let Err(diagnostic) = outcome {
            self.report(diagnostic);
        }
    }

    fn import_snippet(&mut self, name: &Word) -> Result<(), Diagnostic> {
        let origin = Origin::Snippet(name.text.clone());
        if self.is_open(&origin) {
            return Err(endless_snippet(
                name,
                "this snippet is being imported already",
            ));
        }
        if self.snippets_left == 0 {
            return Err(self.stop(endless_snippet(name, "one import too many")));
        }
        self.snippets_left -= 1;
        let Some(snippet) = self.snippets.get(&name.text) else {
            return Ok(());
        };
        self.frames.push(Frame {
            tokens: Rc::clone(&snippet.tokens),
            position: 0,
            origin,
        });
        Ok(())
    }

    fn import_files(&mut self, pattern: &Word) -> Result<(), Diagnostic> {
        let path = self.directory(pattern.span.source).join(pattern.as_str());
        let text = path.to_string_lossy();
        let has_wildcard = text.contains(['*', '?', '[']);
        let paths = if has_wildcard {
            check_glob(pattern, &text)?;
            self.imported.push(fixed_part(&path));
            let found = self.loader.glob(&path);
            found.map_err(|error| not_imported(pattern, &path, &error))?
        } else {
            vec![path.clone()]
        };
        if paths.is_empty() {
            self.report(
                pattern
                    .warning(format!("No files matching import glob pattern: {pattern}"))
                    .label("nothing is imported"),
            );
        }
        // Files are read in order, so that the first bad one is reported, and pushed in reverse, so
        // that the first one is on top of the stack.
        let mut frames = Vec::with_capacity(paths.len());
        for path in paths {
            let origin = Origin::File(path.clone());
            if self.is_open(&origin) {
                return Err(endless_file(pattern, "this file is being imported already"));
            }
            if self.files_left == 0 {
                let diagnostic = endless_file(pattern, "one import too many");
                return Err(self.stop(diagnostic));
            }
            self.files_left -= 1;
            let tokens = self.file(pattern, path)?;
            frames.push(Frame {
                tokens,
                position: 0,
                origin,
            });
        }
        self.frames.extend(frames.into_iter().rev());
        Ok(())
    }

    /// The tokens of a file, read at its first import.
    fn file(&mut self, pattern: &Word, path: PathBuf) -> Result<Rc<[Token]>, Diagnostic> {
        if let Some(tokens) = self.files.get(&path) {
            return Ok(Rc::clone(tokens));
        }
        self.imported.push(path.clone());
        let text = self
            .loader
            .read(&path)
            .map_err(|error| not_imported(pattern, &path, &error))?;
        if text.len() > MAX_FILE {
            let error = io::ErrorKind::FileTooLarge.into();
            return Err(not_imported(pattern, &path, &error));
        }
        if text.len() > self.text_left {
            let message = format!("the imported files have more than {} MiB", MAX_TEXT >> 20);
            return Err(self.stop(pattern.error(message).label("stopped here")));
        }
        let tokens = self.lex(&path.to_string_lossy(), &text);
        self.files.insert(path, Rc::clone(&tokens));
        Ok(tokens)
    }

    /// Whether a list is on the stack: importing it again would recurse forever.
    fn is_open(&self, origin: &Origin) -> bool {
        self.frames.iter().any(|frame| frame.origin == *origin)
    }

    /// Base directory of relative paths: the directory of the file, or the working directory for
    /// standard input.
    fn directory(&self, source: SourceId) -> PathBuf {
        match self.sources.name(source) {
            None | Some("/dev/stdin") => PathBuf::new(),
            Some(name) => Path::new(name)
                .parent()
                .map(Path::to_path_buf)
                .unwrap_or_default(),
        }
    }
}

/// CoreDNS's limits on glob patterns, applied to the whole path.
fn check_glob(pattern: &Word, path: &str) -> Result<(), Diagnostic> {
    let count = |rune| path.matches(rune).count();
    if count('*') > 1 || count('?') > 1 || path.contains('[') && path.contains(']') {
        let message =
            format!("Glob pattern may only contain one wildcard (*), but has others: {pattern}");
        return Err(pattern.error(message).expected("at most one * and one ?"));
    }
    if path.contains('[') {
        let message = format!("Failed to use import pattern {pattern}: syntax error in pattern");
        return Err(pattern.error(message).label("the [ is not closed"));
    }
    Ok(())
}

/// The directory in which a glob pattern is searched.
fn fixed_part(pattern: &Path) -> PathBuf {
    let is_fixed =
        |part: &Component<'_>| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    let fixed: PathBuf = pattern.components().take_while(is_fixed).collect();
    if fixed.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        fixed
    }
}

fn not_imported(pattern: &Word, path: &Path, error: &io::Error) -> Diagnostic {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => pattern
            .error(format!("File to import not found: {pattern}"))
            .label(format!(
                "no snippet of this name above, and no file {shown}"
            )),
        io::ErrorKind::IsADirectory => pattern
            .error(format!("Could not import {pattern}: is a directory"))
            .expected("files")
            .help("name the files with a pattern such as DIRECTORY/*.override"),
        io::ErrorKind::FileTooLarge => too_large(&shown.to_string()).at(pattern.span),
        _ => pattern
            .error(format!(
                "Could not import {pattern}: {}",
                error_text::io(error)
            ))
            .label(format!("reading {shown} failed")),
    }
}

fn endless_snippet(name: &Word, label: &str) -> Diagnostic {
    name.error(format!(
        "maximum snippet import depth ({MAX_SNIPPETS}) exceeded"
    ))
    .label(label)
}

fn endless_file(name: &Word, label: &str) -> Diagnostic {
    name.error(format!("maximum file import depth ({MAX_FILES}) exceeded"))
        .label(label)
}
