//! Reads the documents of a manifest file. A fault costs what it concerns: a field, or a document
//! where that is not to be read at all.

mod objects;

use super::document::{Contents, Document, Fault, Id, Labels, Lost};
use super::locate::{self, Syntax};
use super::wire::Head;
use crate::cluster::decode::field::Field;
use crate::cluster::decode::{Slim, wire};
use crate::cluster::event::{Key, Kind, Object};
use crate::cluster::flaw::{Flaws, quote};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// How a file is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Yaml,
    Json,
}

/// Reads all documents of a file.
pub(super) fn read(text: &str, format: Format) -> Contents {
    let mut contents = Contents::default();
    match format {
        Format::Yaml => {
            for (line, text) in split(text) {
                Root { text, format, line }.read(&mut contents);
            }
        }
        Format::Json => {
            let mut parts = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
            while let Some(part) = parts.next() {
                let part = match part {
                    Ok(part) => part.get(),
                    Err(error) => {
                        contents.faults.push(Fault {
                            line: error.line(),
                            what: locate::json(&error, "; what follows in the file is not read"),
                            lost: Lost::Unknown,
                            kind: None,
                        });
                        break;
                    }
                };
                let end = &text[..parts.byte_offset() - part.len()];
                let line = end.matches('\n').count();
                Root {
                    text: part,
                    format,
                    line,
                }
                .read(&mut contents);
            }
        }
    }
    contents
}

/// A document's text, and how many lines stand before it.
struct Root<'a> {
    text: &'a str,
    format: Format,
    line: usize,
}

impl Root<'_> {
    fn read(&self, contents: &mut Contents) {
        let before = contents.faults.len();
        let mut places = Vec::new();
        let mut part = Part {
            text: self.text,
            format: self.format,
            at: String::new(),
            contents: &mut *contents,
            places: &mut places,
        };
        if let Err(syntax) = part.read(None) {
            let line = syntax.line.unwrap_or(1);
            part.fault(Lost::Unknown, kind_in(self.text), "", syntax.what);
            contents.faults[before].line = self.line + line;
            return;
        }
        // Where each fault stands is looked for where there are any.
        let lines = locate::lines(self.text, &places);
        let marker = usize::from(self.text.starts_with("---"));
        for (fault, line) in contents.faults[before..].iter_mut().zip(lines) {
            fault.line = self.line + line.unwrap_or(marker + 1);
        }
    }
}

/// A document, or an item of a list.
struct Part<'a, 'c> {
    text: &'a str,
    format: Format,
    /// Where it is in the document, as in `items[0].`
    at: String,
    contents: &'c mut Contents,
    /// The place of each fault of this document.
    places: &'c mut Vec<String>,
}

impl<'a> Part<'a, '_> {
    /// Reads an object or a list of them. Items of a typed list need not say what they are.
    fn read(&mut self, of: Option<(&str, &str)>) -> Result<(), Syntax> {
        let head = match self.decode::<Field<Head<'_>>>()? {
            Field::Absent => return Ok(()),
            Field::Given(head) => head,
            Field::Invalid(value) => {
                let what = format!("{value}, expected a map of apiVersion, kind, metadata");
                self.fault(Lost::Unknown, None, "", what);
                return Ok(());
            }
        };
        let said = (
            head.api_version.text().unwrap_or_default(),
            head.kind.text().unwrap_or_default(),
        );
        let (version, kind) = match of {
            Some(of) if said == ("", "") => of,
            _ => said,
        };
        if version.is_empty() || kind.is_empty() {
            let what = "no manifest: expected text for apiVersion and kind".to_owned();
            self.fault(Lost::Unknown, None, "", what);
            return Ok(());
        }
        if let Some(item) = kind.strip_suffix("List")
            && head.items
        {
            return self.items((version, item));
        }
        self.object(version, kind, &head)
    }

    fn items(&mut self, of: (&str, &str)) -> Result<(), Syntax> {
        let List { items } = self.decode()?;
        // The items of a List say themselves what they are.
        let of = Some(of).filter(|(_, kind)| !kind.is_empty());
        let items = match items {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::Array(items)) => items,
            Some(_) => {
                let what = "not a list, expected a list of objects".to_owned();
                self.fault(Lost::Unknown, None, "items", what);
                return Ok(());
            }
        };
        for (number, item) in items.into_iter().enumerate() {
            let text = item.to_string();
            let mut part = Part {
                text: &text,
                format: Format::Json,
                at: format!("{}items[{number}].", self.at),
                contents: &mut *self.contents,
                places: &mut *self.places,
            };
            part.read(of)?;
        }
        Ok(())
    }

    fn object(&mut self, version: &str, kind: &str, head: &Head<'_>) -> Result<(), Syntax> {
        let group = version.split_once('/').map_or("", |(group, _)| group);
        // Versions of a group differ in nothing that is read here.
        let known = match (group, kind) {
            ("", "Namespace") => Some(Kind::Namespace),
            ("", "Service") => Some(Kind::Service),
            ("", "Pod") => Some(Kind::Pod),
            ("", "Endpoints") => None,
            ("discovery.k8s.io", "EndpointSlice") => Some(Kind::Slice),
            ("multicluster.x-k8s.io", "ServiceImport") => Some(Kind::Import),
            _ => {
                let metadata = head.metadata.given();
                let namespace = metadata.and_then(|it| it.namespace.text());
                let namespace = namespace.unwrap_or_default().to_owned();
                self.contents.documents.push(Document::Other(namespace));
                self.contents.ignored.insert(kind.to_owned());
                return Ok(());
            }
        };
        let (name, key) = key(head);
        let Some(key) = key else {
            let expected = "lower-case letters, digits, '-' and '.'";
            let what = match name {
                Some(name) => {
                    format!("metadata.name {name}, expected {expected}; the {kind} is left out")
                }
                None => format!("metadata.name is missing; the {kind} is left out"),
            };
            self.fault(Lost::Unknown, known, "metadata.name", what);
            return Ok(());
        };
        let mut flaws = Flaws::default();
        let labels = match &head.metadata {
            Field::Given(it) => it.labels.labels(&"metadata.labels", &mut flaws),
            _ => Labels::new(),
        };
        let read = match known {
            Some(Kind::Namespace) => self
                .slim::<wire::Namespace<'_>>(&mut flaws)?
                .map(|object| object.map(|object| Document::Namespace(object, labels))),
            Some(Kind::Service) => self.service(labels, &mut flaws)?.map(Some),
            Some(Kind::Pod) => self.pod(key.clone(), labels, &mut flaws)?.map(Some),
            Some(Kind::Slice) => self
                .slim::<wire::Slice<'_>>(&mut flaws)?
                .map(|object| Some(Document::Slice(object, labels))),
            Some(Kind::Import) => self
                .slim::<wire::Import<'_>>(&mut flaws)?
                .map(|object| object.map(Document::Import)),
            None => Ok(Some(self.endpoints(key.clone(), labels, &mut flaws)?)),
        };
        let which = format!("{kind} {key}");
        match read {
            Ok(document) => self.contents.documents.extend(document),
            Err(why) => {
                let lost = Lost::Object(Id { kind: known, key });
                let what = format!("{which}: {why}; it is left out");
                self.fault(lost, known, "", what);
                return Ok(());
            }
        }
        for flaw in flaws.iter() {
            let what = format!("{which}: {flaw}; left out");
            self.fault(Lost::Fields(1), known, &flaw.path, what);
        }
        if flaws.more() > 0 {
            let what = format!("{which}: {} further fields are left out", flaws.more());
            self.fault(Lost::Fields(flaws.more()), known, "", what);
        }
        Ok(())
    }

    /// The object as names need it, or why there is none.
    fn slim<T: Slim + Deserialize<'a>>(
        &self,
        flaws: &mut Flaws,
    ) -> Result<Result<Option<Object>, String>, Syntax> {
        Ok(self.decode::<T>()?.slim(flaws))
    }

    fn decode<T: Deserialize<'a>>(&self) -> Result<T, Syntax> {
        match self.format {
            Format::Json => serde_json::from_str(self.text).map_err(|error| Syntax {
                line: Some(error.line()),
                what: locate::json(&error, "; the document is left out"),
            }),
            Format::Yaml => locate::yaml(self.text),
        }
    }

    fn fault(&mut self, lost: Lost, kind: Option<Kind>, place: &str, what: String) {
        let at = if place.is_empty() {
            self.at.trim_end_matches('.').to_owned()
        } else {
            format!("{}{place}", self.at)
        };
        let what = match self.at.trim_end_matches('.') {
            "" => what,
            item => format!("{item}: {what}"),
        };
        self.places.push(at);
        self.contents.faults.push(Fault {
            line: 0,
            what,
            lost,
            kind,
        });
    }
}

/// A list of any kind of object.
#[derive(Deserialize)]
struct List {
    items: Option<Value>,
}

/// The name of an object as a message shows it, where it has one, and its key where the API server
/// would take it.
fn key(head: &Head<'_>) -> (Option<Box<str>>, Option<Key>) {
    let Field::Given(metadata) = &head.metadata else {
        return (None, None);
    };
    let namespace = match &metadata.namespace {
        Field::Absent => "",
        Field::Given(namespace) => namespace,
        Field::Invalid(value) => {
            let shown = format!("(or metadata.namespace) {value}");
            return (Some(shown.into()), None);
        }
    };
    match &metadata.name {
        Field::Absent => (None, None),
        Field::Invalid(value) => (Some(value.clone()), None),
        Field::Given(name) => (
            Some(quote(name)),
            is_name(name).then(|| (namespace, &**name).into()),
        ),
    }
}

/// The kind of a document that cannot be read, by its line `kind:`.
fn kind_in(text: &str) -> Option<Kind> {
    let kind = text.lines().find_map(|line| line.strip_prefix("kind:"))?;
    match kind.trim() {
        "Namespace" => Some(Kind::Namespace),
        "Service" => Some(Kind::Service),
        "Pod" => Some(Kind::Pod),
        "EndpointSlice" => Some(Kind::Slice),
        "ServiceImport" => Some(Kind::Import),
        _ => None,
    }
}

/// The documents of a YAML stream, as in [`split`].
pub(super) fn texts(stream: &str) -> impl Iterator<Item = &str> {
    split(stream).map(|(_, text)| text)
}

/// The documents of a YAML stream, each with the number of lines before it. A line that begins
/// with `---` at the margin begins a document wherever it stands (YAML 1.2, section 9.1.2).
fn split(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = text;
    let mut line = 0;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut length = 0;
        let mut lines = 0;
        for one in rest.split_inclusive('\n') {
            let marker = one
                .strip_prefix("---")
                .is_some_and(|it| it.trim_start() != it || it.is_empty());
            if marker && length > 0 {
                break;
            }
            length += one.len();
            lines += 1;
        }
        let (document, after) = rest.split_at(length);
        let before = line;
        (rest, line) = (after, line + lines);
        Some((before, document))
    })
}

fn is_name(name: &str) -> bool {
    let usual =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    !name.is_empty() && name.len() <= 253 && name.bytes().all(usual)
}

#[cfg(test)]
mod tests;
