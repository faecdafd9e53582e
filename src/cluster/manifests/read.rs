//! Reads the documents of a manifest file. A fault costs what it concerns: a field, or a document
//! where that is not to be read at all.

use super::document::{
    ContainerPort, Contents, Declared, DeclaredPort, Document, Endpoints, Fault, Id, Labels, Lost,
    Running,
};
use super::locate::{self, Syntax};
use super::wire::{self as own, Head};
use crate::cluster::decode::field::Field;
use crate::cluster::decode::{self, Slim, wire};
use crate::cluster::endpoint::Endpoint;
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
            Field::Odd(value) => {
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
            let what = format!("metadata.name {name}, expected {expected}; the {kind} is left out");
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

    fn service(
        &self,
        labels: Labels,
        flaws: &mut Flaws,
    ) -> Result<Result<Document, String>, Syntax> {
        let wire = self.decode::<wire::Service<'_>>()?;
        let service = match wire.slim(flaws) {
            Ok(Some(Object::Service(service))) => service,
            Ok(_) => return Ok(Err("it is no Service".into())),
            Err(why) => return Ok(Err(why)),
        };
        let extra = self.decode::<own::ServiceExtra<'_>>()?;
        let none = own::ServiceSpec::default();
        // What is wrong with the parts that the Service itself has is known already.
        let spec = extra.spec.given().unwrap_or(&none);
        let policy = spec.ip_family_policy.get(&"spec.ipFamilyPolicy", flaws);
        let families = spec.ip_families.each(&"spec.ipFamilies", flaws);
        let families = families.map(|(_, family)| family.to_string()).collect();
        let not_ready = &spec.publish_not_ready_addresses;
        let not_ready = not_ready.get(&"spec.publishNotReadyAddresses", flaws);
        let mut ports = Vec::new();
        for (number, it) in spec.ports.each(&"spec.ports", &mut Flaws::default()) {
            let path = format_args!("spec.ports[{number}].targetPort");
            let target = it.target_port.get(&path, flaws);
            let Some(port) = it.port.given() else {
                continue;
            };
            if !matches!(it.target_port, Field::Odd(_)) {
                ports.push(DeclaredPort {
                    name: it.name.text().unwrap_or_default().to_owned(),
                    port: *port,
                    protocol: it.protocol.given().copied(),
                    target: target.cloned(),
                });
            }
        }
        let wire_spec = wire.spec.given();
        let is_address = |text: &str| !text.is_empty() && text != "None";
        let has_address = wire_spec.is_some_and(|spec| {
            let many = spec.cluster_ips.given().into_iter().flatten();
            let texts = many.chain([&spec.cluster_ip]);
            texts.filter_map(Field::text).any(is_address)
        });
        Ok(Ok(Document::Service(Box::new(Declared {
            service,
            labels,
            has_address,
            selector: spec.selector.selector(&"spec.selector", flaws),
            ports,
            families,
            dual: policy.is_some_and(|policy| **policy != *"SingleStack"),
            publish_not_ready: not_ready.copied().unwrap_or_default(),
        }))))
    }

    fn pod(
        &self,
        key: Key,
        labels: Labels,
        flaws: &mut Flaws,
    ) -> Result<Result<Document, String>, Syntax> {
        let pod = match self.slim::<wire::Pod<'_>>(flaws)? {
            Ok(Some(Object::Pod(pod))) => Some(pod),
            Ok(_) => None,
            Err(why) => return Ok(Err(why)),
        };
        let extra = self.decode::<own::PodExtra<'_>>()?;
        let (no_spec, no_status) = (own::PodSpec::default(), own::PodStatus::default());
        let spec = extra.spec.get(&"spec", flaws).unwrap_or(&no_spec);
        let status = extra.status.given().unwrap_or(&no_status);
        let conditions = status.conditions.each(&"status.conditions", flaws);
        let conditions: Vec<_> = conditions.map(|(_, condition)| condition).collect();
        let mut ready = conditions.iter();
        let ready = ready.find(|condition| condition.r#type.text() == Some("Ready"));
        let mut ports = Vec::new();
        for (number, container) in spec.containers.each(&"spec.containers", flaws) {
            let path = format_args!("spec.containers[{number}].ports");
            for (number, it) in container.ports.each(&path, flaws) {
                let port = format_args!("{path}[{number}].containerPort");
                let port = it.container_port.get(&port, flaws);
                let protocol = format_args!("{path}[{number}].protocol");
                let protocol = it.protocol.get(&protocol, flaws);
                let name = it.name.get(&format_args!("{path}[{number}].name"), flaws);
                ports.extend(port.zip(name).map(|(port, name)| ContainerPort {
                    name: name.to_string(),
                    number: *port,
                    protocol: protocol.copied(),
                }));
            }
        }
        Ok(Ok(Document::Pod(Box::new(Running {
            key,
            labels,
            pod,
            // A manifest written by hand has no conditions; that it has an address says enough.
            ready: conditions.is_empty()
                || ready.is_some_and(|it| it.status.text() == Some("True")),
            hostname: decode::label(&spec.hostname, &"spec.hostname", flaws).map(str::to_owned),
            subdomain: decode::label(&spec.subdomain, &"spec.subdomain", flaws).map(str::to_owned),
            ports,
        }))))
    }

    fn endpoints(&self, key: Key, labels: Labels, flaws: &mut Flaws) -> Result<Document, Syntax> {
        let wire = self.decode::<own::Endpoints<'_>>()?;
        let mut subsets = Vec::new();
        for (number, subset) in wire.subsets.each(&"subsets", flaws) {
            let at = format!("subsets[{number}]");
            let mut endpoints = Vec::new();
            for (list, ready, path) in [
                (&subset.addresses, true, "addresses"),
                (&subset.not_ready_addresses, false, "notReadyAddresses"),
            ] {
                let path = format!("{at}.{path}");
                for (number, it) in list.each(&path, flaws) {
                    let at = format!("{path}[{number}]");
                    let ip_path = format!("{at}.ip");
                    let ip = it.ip.get(&ip_path, flaws);
                    let ip = ip.and_then(|ip| decode::address(ip, &ip_path, flaws));
                    let hostname = decode::label(&it.hostname, &format!("{at}.hostname"), flaws);
                    let target = it.target_ref.get(&format!("{at}.targetRef"), flaws);
                    let target = target.filter(|target| target.kind.text() == Some("Pod"));
                    let pod = target.and_then(|target| target.name.text());
                    endpoints.extend(ip.map(|ip| Endpoint::new(ip, ready, hostname, pod, None)));
                }
            }
            let ports = decode::ports(&subset.ports, &format!("{at}.ports"), flaws);
            subsets.push((ports, endpoints));
        }
        Ok(Document::Endpoints(Box::new(Endpoints {
            key,
            labels,
            subsets,
        })))
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

/// The name of an object as a message shows it, and its key where the API server would take it.
fn key(head: &Head<'_>) -> (Box<str>, Option<Key>) {
    let none = || ("nothing".into(), None);
    let Field::Given(metadata) = &head.metadata else {
        return none();
    };
    let namespace = match &metadata.namespace {
        Field::Absent => "",
        Field::Given(namespace) => namespace,
        Field::Odd(value) => return (format!("(or metadata.namespace) {value}").into(), None),
    };
    match &metadata.name {
        Field::Absent => none(),
        Field::Odd(value) => (value.clone(), None),
        Field::Given(name) => (
            quote(name),
            is_name(name).then(|| (namespace, &**name).into()),
        ),
    }
}

/// The kind of a document that cannot be read, by the line that says it.
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
