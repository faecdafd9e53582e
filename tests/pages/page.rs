//! Sections, examples and metrics of a page.
//!
//! ````text
//! # NAME                        what it does
//! ## Syntax                     the grammar, then the options
//! ## Examples                   each one a block with the info word `corefile`: a whole Corefile
//! ## Metrics                    families in backticks, or "None of its own."
//! ## Differences from CoreDNS   where there are any
//! ````
//!
//! A `console` block after an example has commands `$ dig -p 1053 @127.0.0.1 ...`, each followed by its
//! output. A block with a file name as the second info word is a file in the working directory of the
//! page's examples.

use std::{fs, path::Path};

/// A page.
#[derive(Clone)]
pub struct Page {
    /// The directive, from the file's name.
    pub name: String,
    text: String,
}

/// A fenced block.
pub struct Fence {
    /// The info words.
    pub info: Vec<String>,
    /// The text between the fences.
    pub text: String,
    /// Line of the opening fence.
    pub line: usize,
}

/// A Corefile and its `console` block.
pub struct Example {
    /// The Corefile.
    pub corefile: String,
    /// Its line.
    pub line: usize,
    /// The `console` block after it.
    pub console: Option<Fence>,
}

/// The required sections of a page, in order.
const PARTS: [&str; 3] = ["Syntax", "Examples", "Metrics"];
/// The optional last section.
const DIFFERENCES: &str = "Differences from CoreDNS";

impl Page {
    /// All pages.
    pub fn all() -> Vec<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/plugins");
        let mut pages = Vec::new();
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if name != "README" && path.extension().is_some_and(|it| it == "md") {
                let text = fs::read_to_string(&path).unwrap();
                pages.push(Self { name, text });
            }
        }
        pages.sort_by(|one, other| other.name.cmp(&one.name));
        pages
    }

    /// A page made of `text`, for tests.
    #[cfg(test)]
    fn of(name: &str, text: &str) -> Self {
        Self {
            name: name.to_owned(),
            text: text.to_owned(),
        }
    }

    /// Panics if a section is missing, empty or out of order.
    pub fn check_parts(&self) {
        let file = format!("docs/plugins/{}.md", self.name);
        let heads = self.parts();
        let names: Vec<&str> = heads.iter().map(|(name, _)| name.as_str()).collect();
        let (title, parts) = names.split_first().unwrap_or((&"", &[]));
        assert_eq!(*title, self.name, "{file}: the title is the word");
        let expected = match parts {
            [.., DIFFERENCES] => [&PARTS[..], &[DIFFERENCES]].concat(),
            _ => PARTS.to_vec(),
        };
        assert_eq!(parts, expected, "{file}: the parts");
        for (name, text) in &heads {
            assert!(!text.trim().is_empty(), "{file}: '{name}' is empty");
        }
        assert!(
            !self.examples().is_empty(),
            "{file}: no block says `corefile`"
        );
        for fence in self.fences() {
            let first = fence.info.first().map(String::as_str);
            assert!(first.is_some(), "{file}, line {}: no info word", fence.line);
        }
    }

    /// The metric families that the page lists.
    pub fn metrics(&self) -> Vec<String> {
        let parts = self.parts();
        let Some((_, text)) = parts.iter().find(|(name, _)| name == "Metrics") else {
            return Vec::new();
        };
        let quoted = text.split('`').skip(1).step_by(2);
        quoted
            .map(|word| word.split('{').next().unwrap_or(word).trim())
            .filter(|word| word.starts_with("coredns_") || word.starts_with("lodestone_"))
            .map(str::to_owned)
            .collect()
    }

    /// The Corefiles.
    pub fn examples(&self) -> Vec<Example> {
        let mut examples: Vec<Example> = Vec::new();
        for fence in self.fences() {
            match fence.info.first().map(String::as_str) {
                Some("corefile") => examples.push(Example {
                    corefile: fence.text,
                    line: fence.line,
                    console: None,
                }),
                Some("console") => {
                    let example = examples.last_mut().filter(|it| it.console.is_none());
                    let example = example.unwrap_or_else(|| {
                        panic!(
                            "docs/plugins/{}.md, line {}: no example before it",
                            self.name, fence.line
                        )
                    });
                    example.console = Some(fence);
                }
                _ => {}
            }
        }
        examples
    }

    /// Names and texts of the files that its examples read.
    pub fn files(&self) -> Vec<(String, String)> {
        let named = self.fences().into_iter();
        named
            .filter_map(|fence| Some((fence.info.get(1)?.clone(), fence.text)))
            .collect()
    }

    /// Headings of the first and second level with the text below them.
    fn parts(&self) -> Vec<(String, String)> {
        let mut parts: Vec<(String, String)> = Vec::new();
        let mut fenced = false;
        for line in self.text.lines() {
            fenced ^= line.trim_start().starts_with("```");
            let head = line.strip_prefix("# ").or_else(|| line.strip_prefix("## "));
            match (head.filter(|_| !fenced), parts.last_mut()) {
                (Some(head), _) => parts.push((head.trim().to_owned(), String::new())),
                (None, Some((_, text))) => {
                    text.push_str(line);
                    text.push('\n');
                }
                (None, None) => {}
            }
        }
        parts
    }

    fn fences(&self) -> Vec<Fence> {
        let mut fences = Vec::new();
        let mut open: Option<Fence> = None;
        for (at, line) in self.text.lines().enumerate() {
            match (line.trim().strip_prefix("```"), open.as_mut()) {
                (Some(_), Some(_)) => fences.extend(open.take()),
                (Some(info), None) => {
                    open = Some(Fence {
                        info: info.split_whitespace().map(str::to_owned).collect(),
                        text: String::new(),
                        line: at + 1,
                    });
                }
                (None, Some(fence)) => {
                    fence.text.push_str(line);
                    fence.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(
            open.is_none(),
            "docs/plugins/{}.md: a fence is open",
            self.name
        );
        fences
    }
}

const PAGE: &str = "# x\n\nIt does.\n\n## Syntax\n\n```text\nx\n```\n\n## Examples\n\n\
    ```zone db.x\n@ IN NS a\n```\n\n```corefile\n. {\n}\n```\n\n```console\n$ dig a\n1\n```\n\n\
    ## Metrics\n\n* `coredns_x_total{server}`: all; see `x`.\n";

#[test]
fn sections_examples_and_metrics_are_parsed() {
    let page = Page::of("x", PAGE);
    page.check_parts();
    assert_eq!(page.metrics(), ["coredns_x_total"]);
    assert_eq!(
        page.files(),
        [("db.x".to_owned(), "@ IN NS a\n".to_owned())]
    );
    let examples = page.examples();
    assert_eq!(examples.len(), 1);
    assert_eq!(examples[0].corefile, ". {\n}\n");
    assert_eq!(examples[0].console.as_ref().unwrap().text, "$ dig a\n1\n");
    Page::of("x", &format!("{PAGE}## Differences from CoreDNS\n\nOne.\n")).check_parts();
}

#[test]
fn page_without_a_section_is_refused() {
    for part in ["# x", "## Syntax", "## Examples", "## Metrics"] {
        let without = Page::of("x", &PAGE.replace(part, "### y"));
        assert!(
            std::panic::catch_unwind(|| without.check_parts()).is_err(),
            "{part}"
        );
    }
}
