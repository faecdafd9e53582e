//! Parses the documents of a manifest file. An error affects only its field, or its document if
//! that cannot be parsed.

mod objects;

use super::document::{Document, Impact, ManifestError, ObjectId, ParsedFile};
use super::locate::{self, SyntaxError};
use super::wire::{LabelSet, ObjectHeader};
use crate::cluster::decode::field::ApiField;
use crate::cluster::decode::{ToObject, wire};
use crate::cluster::event::{Kind, Object, ObjectKey};
use crate::cluster::invalid::{InvalidFields, quote};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// The syntax of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ManifestFormat {
    Yaml,
    Json,
}

/// Parses all documents of a file.
pub(super) fn read(text: &str, format: ManifestFormat) -> ParsedFile {
    let mut contents = ParsedFile::default();
    match format {
        ManifestFormat::Yaml => {
            for (line, text) in split(text) {
                DocumentReader { text, format, line }.read(&mut contents);
            }
        }
        ManifestFormat::Json => {
            let mut parts = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
            while let Some(part) = parts.next() {
                let part = match part {
                    Ok(part) => part.get(),
                    Err(error) => {
                        contents.errors.push(ManifestError {
                            line: error.line(),
                            message: locate::json(&error, "; the rest of the file is skipped"),
                            impact: Impact::Unknown,
                            kind: None,
                        });
                        break;
                    }
                };
                let end = &text[..parts.byte_offset() - part.len()];
                let line = end.matches('\n').count();
                DocumentReader {
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

/// A document, and the number of lines before it in the file.
struct DocumentReader<'a> {
    text: &'a str,
    format: ManifestFormat,
    line: usize,
}

impl DocumentReader<'_> {
    fn read(&self, contents: &mut ParsedFile) {
        let before = contents.errors.len();
        let mut paths = Vec::new();
        let mut part = ObjectReader {
            text: self.text,
            format: self.format,
            at: String::new(),
            contents: &mut *contents,
            paths: &mut paths,
        };
        if let Err(syntax) = part.read(None) {
            let line = syntax.line.unwrap_or(1);
            part.error(Impact::Unknown, kind_in(self.text), "", syntax.message);
            contents.errors[before].line = self.line + line;
            return;
        }
        // Lines are only located if there are errors.
        let lines = locate::lines(self.text, &paths);
        let marker = usize::from(self.text.starts_with("---"));
        for (error, line) in contents.errors[before..].iter_mut().zip(lines) {
            error.line = self.line + line.unwrap_or(marker + 1);
        }
    }
}

/// A document, or an item of a list.
struct ObjectReader<'a, 'c> {
    text: &'a str,
    format: ManifestFormat,
    /// Its path in the document, as in `items[0].`
    at: String,
    contents: &'c mut ParsedFile,
    /// The path of each error of this document.
    paths: &'c mut Vec<String>,
}

impl<'a> ObjectReader<'a, '_> {
    /// Parses an object or a list. Items of a typed list may omit `apiVersion` and `kind`, which
    /// `of` supplies.
    fn read(&mut self, of: Option<(&str, &str)>) -> Result<(), SyntaxError> {
        let head = match self.decode::<ApiField<ObjectHeader<'_>>>()? {
            ApiField::Absent => return Ok(()),
            ApiField::Given(head) => head,
            ApiField::Invalid(value) => {
                let message = format!("{value}, expected a map of apiVersion, kind, metadata");
                self.error(Impact::Unknown, None, "", message);
                return Ok(());
            }
        };
        let stated = (
            head.api_version.text().unwrap_or_default(),
            head.kind.text().unwrap_or_default(),
        );
        let (version, kind) = match of {
            Some(of) if stated == ("", "") => of,
            _ => stated,
        };
        if version.is_empty() || kind.is_empty() {
            let message = "not a manifest: apiVersion and kind are required".to_owned();
            self.error(Impact::Unknown, None, "", message);
            return Ok(());
        }
        if let Some(item) = kind.strip_suffix("List")
            && head.items
        {
            return self.items((version, item));
        }
        self.object(version, kind, &head)
    }

    fn items(&mut self, of: (&str, &str)) -> Result<(), SyntaxError> {
        let ItemList { items } = self.decode()?;
        // Items of an untyped `List` have their own `apiVersion` and `kind`.
        let of = Some(of).filter(|(_, kind)| !kind.is_empty());
        let items = match items {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::Array(items)) => items,
            Some(_) => {
                let message = "expected a list of objects".to_owned();
                self.error(Impact::Unknown, None, "items", message);
                return Ok(());
            }
        };
        for (number, item) in items.into_iter().enumerate() {
            let text = item.to_string();
            let mut part = ObjectReader {
                text: &text,
                format: ManifestFormat::Json,
                at: format!("{}items[{number}].", self.at),
                contents: &mut *self.contents,
                paths: &mut *self.paths,
            };
            part.read(of)?;
        }
        Ok(())
    }

    fn object(
        &mut self,
        version: &str,
        kind: &str,
        head: &ObjectHeader<'_>,
    ) -> Result<(), SyntaxError> {
        let group = version.split_once('/').map_or("", |(group, _)| group);
        // The versions of a group do not differ in the fields used here.
        let known = match (group, kind) {
            ("", "Namespace") => Some(Kind::Namespace),
            ("", "Service") => Some(Kind::Service),
            ("", "Pod") => Some(Kind::Pod),
            ("", "Endpoints") => None,
            ("discovery.k8s.io", "EndpointSlice") => Some(Kind::EndpointSlice),
            ("multicluster.x-k8s.io", "ServiceImport") => Some(Kind::ServiceImport),
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
            let message = match name {
                Some(name) => {
                    format!("metadata.name {name}, expected {expected}; {kind} skipped")
                }
                None => format!("metadata.name is missing; {kind} skipped"),
            };
            self.error(Impact::Unknown, known, "metadata.name", message);
            return Ok(());
        };
        let mut invalid = InvalidFields::default();
        let labels = match &head.metadata {
            ApiField::Given(it) => it.labels.labels(&"metadata.labels", &mut invalid),
            _ => LabelSet::new(),
        };
        let read = match known {
            Some(Kind::Namespace) => self
                .convert::<wire::Namespace<'_>>(&mut invalid)?
                .map(|object| object.map(|object| Document::Namespace(object, labels))),
            Some(Kind::Service) => self.service(labels, &mut invalid)?.map(Some),
            Some(Kind::Pod) => self.pod(key.clone(), labels, &mut invalid)?.map(Some),
            Some(Kind::EndpointSlice) => self
                .convert::<wire::EndpointSlice<'_>>(&mut invalid)?
                .map(|object| Some(Document::EndpointSlice(object, labels))),
            Some(Kind::ServiceImport) => self
                .convert::<wire::ServiceImport<'_>>(&mut invalid)?
                .map(|object| object.map(Document::ServiceImport)),
            None => Ok(Some(self.endpoints(key.clone(), labels, &mut invalid)?)),
        };
        let which = format!("{kind} {key}");
        match read {
            Ok(document) => self.contents.documents.extend(document),
            Err(why) => {
                let impact = Impact::Object(ObjectId { kind: known, key });
                let message = format!("{which}: {why}; object skipped");
                self.error(impact, known, "", message);
                return Ok(());
            }
        }
        for field in invalid.iter() {
            let message = format!("{which}: {field}; field skipped");
            self.error(Impact::Fields(1), known, &field.path, message);
        }
        if invalid.more() > 0 {
            let message = format!("{which}: {} further fields skipped", invalid.more());
            self.error(Impact::Fields(invalid.more()), known, "", message);
        }
        Ok(())
    }

    /// The reduced object, or why it cannot be converted.
    fn convert<T: ToObject + Deserialize<'a>>(
        &self,
        invalid: &mut InvalidFields,
    ) -> Result<Result<Option<Object>, String>, SyntaxError> {
        Ok(self.decode::<T>()?.to_object(invalid))
    }

    fn decode<T: Deserialize<'a>>(&self) -> Result<T, SyntaxError> {
        match self.format {
            ManifestFormat::Json => serde_json::from_str(self.text).map_err(|error| SyntaxError {
                line: Some(error.line()),
                message: locate::json(&error, "; document skipped"),
            }),
            ManifestFormat::Yaml => locate::yaml(self.text),
        }
    }

    fn error(&mut self, impact: Impact, kind: Option<Kind>, path: &str, message: String) {
        let at = if path.is_empty() {
            self.at.trim_end_matches('.').to_owned()
        } else {
            format!("{}{path}", self.at)
        };
        let message = match self.at.trim_end_matches('.') {
            "" => message,
            item => format!("{item}: {message}"),
        };
        self.paths.push(at);
        self.contents.errors.push(ManifestError {
            line: 0,
            message,
            impact,
            kind,
        });
    }
}

/// A list of any kind.
#[derive(Deserialize)]
struct ItemList {
    items: Option<Value>,
}

/// The name of an object for messages, and its key if the API server would accept it.
fn key(head: &ObjectHeader<'_>) -> (Option<Box<str>>, Option<ObjectKey>) {
    let ApiField::Given(metadata) = &head.metadata else {
        return (None, None);
    };
    let namespace = match &metadata.namespace {
        ApiField::Absent => "",
        ApiField::Given(namespace) => namespace,
        ApiField::Invalid(value) => {
            let value = format!("(or metadata.namespace) {value}");
            return (Some(value.into()), None);
        }
    };
    match &metadata.name {
        ApiField::Absent => (None, None),
        ApiField::Invalid(value) => (Some(value.clone()), None),
        ApiField::Given(name) => (
            Some(quote(name)),
            is_name(name).then(|| (namespace, &**name).into()),
        ),
    }
}

/// The kind of an unparsable document, from its line `kind:`.
fn kind_in(text: &str) -> Option<Kind> {
    let kind = text.lines().find_map(|line| line.strip_prefix("kind:"))?;
    match kind.trim() {
        "Namespace" => Some(Kind::Namespace),
        "Service" => Some(Kind::Service),
        "Pod" => Some(Kind::Pod),
        "EndpointSlice" => Some(Kind::EndpointSlice),
        "ServiceImport" => Some(Kind::ServiceImport),
        _ => None,
    }
}

/// The documents of a YAML stream; see [`split`].
pub(super) fn texts(stream: &str) -> impl Iterator<Item = &str> {
    split(stream).map(|(_, text)| text)
}

/// The documents of a YAML stream, each with the number of lines before it. A line starting with
/// `---` starts a document (YAML 1.2 section 9.1.2).
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
