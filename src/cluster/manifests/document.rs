//! The documents of a manifest file: objects, with what the controllers need of them. A fault costs
//! what it concerns: a field, or a document where that is not to be read at all.

use super::locate::{self, Syntax};
use super::wire::{self as own, Head, TargetPort};
use crate::cluster::decode::field::Field;
use crate::cluster::decode::{self, Slim, wire};
use crate::cluster::endpoint::Endpoint;
use crate::cluster::event::{Key, Kind, Object};
use crate::cluster::flaw::{Flaws, quote};
use crate::cluster::object::{Pod, Port, Protocol, Service};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Labels, sorted by name.
pub(super) type Labels = BTreeMap<String, String>;

/// What a document declares.
pub(super) enum Document {
    /// A Namespace.
    Namespace(Object, Labels),
    /// A Service.
    Service(Box<Declared>),
    /// An EndpointSlice that some Service owns; or none, where names have no use for it.
    Slice(Option<Object>, Labels),
    /// Endpoints.
    Endpoints(Box<Endpoints>),
    /// A Pod.
    Pod(Box<Running>),
    /// A ServiceImport.
    Import(Object),
    /// Anything else that lives in this namespace: a Deployment, a ConfigMap.
    Other(String),
}

/// A Service as it was declared.
pub(super) struct Declared {
    pub service: Service,
    pub labels: Labels,
    /// It names cluster addresses, usable or not.
    pub has_address: bool,
    /// `spec.selector`; empty where it has none.
    pub selector: Labels,
    pub ports: Vec<DeclaredPort>,
    /// `spec.ipFamilies`, `IPv4` or `IPv6`.
    pub families: Vec<String>,
    /// `spec.ipFamilyPolicy` asks for both families.
    pub dual: bool,
    /// `spec.publishNotReadyAddresses`
    pub publish_not_ready: bool,
}

/// A port of a Service, and where it leads.
pub(super) struct DeclaredPort {
    pub name: String,
    pub port: u16,
    pub protocol: Option<Protocol>,
    pub target: Option<TargetPort>,
}

/// Endpoints as they were declared, in parts that share their ports.
pub(super) struct Endpoints {
    pub key: Key,
    pub labels: Labels,
    pub subsets: Vec<(Arc<[Port]>, Vec<Endpoint>)>,
}

/// A Pod, with what makes it an endpoint.
pub(super) struct Running {
    pub key: Key,
    pub labels: Labels,
    /// As it is served by address; None where it is over or has no address.
    pub pod: Option<Pod>,
    pub ready: bool,
    pub hostname: Option<String>,
    pub subdomain: Option<String>,
    /// Its containers' ports by name.
    pub ports: Vec<ContainerPort>,
}

/// A port of a container.
pub(super) struct ContainerPort {
    pub name: String,
    pub number: u16,
    pub protocol: Option<Protocol>,
}

impl Document {
    /// Which object it is, by its kind and its name; None of those that names have no use for.
    pub(super) fn id(&self) -> Option<Id> {
        let (kind, key) = match self {
            Self::Namespace(object, _) | Self::Slice(Some(object), _) | Self::Import(object) => {
                (Some(object.kind()), object.key())
            }
            Self::Service(it) => {
                let Service {
                    namespace, name, ..
                } = &it.service;
                (Some(Kind::Service), (&**namespace, &**name).into())
            }
            Self::Pod(it) => (Some(Kind::Pod), it.key.clone()),
            Self::Endpoints(it) => (None, it.key.clone()),
            Self::Slice(None, _) | Self::Other(_) => return None,
        };
        Some(Id { kind, key })
    }
}

/// Which object a document is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id {
    /// None of Endpoints.
    kind: Option<Kind>,
    key: Key,
}

/// How a file is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Yaml,
    Json,
}

/// What a file says.
#[derive(Default)]
pub(super) struct Contents {
    pub documents: Vec<Document>,
    pub faults: Vec<Fault>,
    /// Kinds of object that names have no use for.
    pub ignored: BTreeSet<String>,
}

/// Something in a file that cannot be used.
#[derive(Debug)]
pub(super) struct Fault {
    /// Counted from 1.
    pub line: usize,
    pub what: String,
    pub lost: Lost,
    /// The kind of object that it concerns, where it is one that is kept.
    pub kind: Option<Kind>,
}

/// What a fault costs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// So many fields.
    Fields(u32),
    /// This object.
    Object(Id),
    /// A document that does not say which object it is, or all that follows in the file.
    Unknown,
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
            part.fault(
                Lost::Unknown,
                kind_in(self.text),
                String::new(),
                syntax.what,
            );
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
                self.fault(Lost::Unknown, None, String::new(), what);
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
            self.fault(Lost::Unknown, None, String::new(), what);
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
                self.fault(Lost::Unknown, None, "items".into(), what);
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
            let what = format!("{name}, expected {expected}; the {kind} is left out");
            self.fault(Lost::Unknown, known, "metadata.name".into(), what);
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
                self.fault(lost, known, String::new(), what);
                return Ok(());
            }
        }
        for flaw in flaws.iter() {
            let what = format!("{which}: {flaw}; left out");
            self.fault(Lost::Fields(1), known, flaw.path.clone(), what);
        }
        if flaws.more() > 0 {
            let what = format!("{which}: {} further fields are left out", flaws.more());
            self.fault(Lost::Fields(flaws.more()), known, String::new(), what);
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

    fn fault(&mut self, lost: Lost, kind: Option<Kind>, place: String, what: String) {
        let at = if place.is_empty() {
            self.at.trim_end_matches('.').to_owned()
        } else {
            format!("{}{place}", self.at)
        };
        let what = match (&*self.at, &lost) {
            ("", _) => what,
            (items, _) => format!("{}: {what}", items.trim_end_matches('.')),
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
        Field::Odd(value) => return (format!("namespace {value}").into(), None),
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
mod tests {
    use super::*;

    #[test]
    fn documents_are_split_where_a_line_begins_with_three_dashes() {
        let text = "# a\n---\na: 1\n--- # b\nb: |\n  ---\n  x---\n---\n";
        let lines: Vec<_> = split(text).map(|(line, _)| line).collect();
        assert_eq!(lines, [0, 1, 3, 7]);
        let empty = "\n---\n# only words\n---\n---\n";
        let contents = read(empty, Format::Yaml);
        assert!(contents.documents.is_empty() && contents.faults.is_empty());
    }

    #[test]
    fn a_fault_says_where_and_what_and_costs_itself() {
        let good = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n";
        let after = "\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n";
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n";
        let pod = "apiVersion: v1\nkind: Pod\n";
        // A document, the line of its fault, what is said, and how many documents there are.
        for (bad, line, says, documents) in [
            ("kind: [".to_owned(), 5, "no YAML; look for", 2),
            ("kind: a: b\n".into(), 5, "no YAML", 2),
            ("kind: a\n\tb: c\n".into(), 6, "a tab in the indentation", 2),
            (
                "kind: a\nb: {{ include \"c\" . }}-d\n".into(),
                6,
                "a template",
                2,
            ),
            (
                "a: 1\na: 2\n".into(),
                6,
                "the key \"a\" for a second time",
                2,
            ),
            ("a: *b\n".into(), 5, "an alias", 2),
            (
                "a: b\n".into(),
                5,
                "no manifest: expected text for apiVersion",
                2,
            ),
            ("- a\n".into(), 5, "a list, expected a map", 2),
            ("words\n".into(), 5, "\"words\", expected a map", 2),
            (
                format!("{service}  ports: [{{port: 99999}}]\n"),
                9,
                "Service a: spec.ports[0].port 99999",
                3,
            ),
            (
                format!("{service}  ports:\n  - port: 1\n    protocol: TPC\n"),
                11,
                "\"TPC\", expected TCP, UDP",
                3,
            ),
            (
                format!("{service}  ports: [{{port: 1, targetPort: 70000}}]\n"),
                9,
                "targetPort 70000",
                3,
            ),
            (
                format!("{service}  clusterIP: ten\n"),
                9,
                "\"ten\", expected an IP address",
                3,
            ),
            (
                format!("{service}  selector: {{a: [b]}}\n"),
                9,
                "spec.selector.a a list",
                3,
            ),
            (
                service.replace("{name: a}", "{name: a, labels: {x.y/z: [1]}}") + "  {}\n",
                7,
                "metadata.labels.x.y/z a list",
                3,
            ),
            (
                service.replace("spec:", "spec: 7"),
                5,
                "Service a: it has no spec",
                2,
            ),
            (
                format!("{pod}metadata: {{name: A_B}}\n"),
                7,
                "\"A_B\", expected lower-case",
                2,
            ),
            (
                format!("{pod}metadata: {{}}\n"),
                7,
                "nothing, expected lower-case",
                2,
            ),
            (
                "apiVersion: v1\nkind: List\nitems:\n- {}\n".into(),
                8,
                "items[0]: no manifest",
                2,
            ),
            (
                format!("{pod}metadata: {{name: p}}\nstatus: {{podIP: x}}\n"),
                8,
                "status.podIP \"x\"",
                3,
            ),
        ] {
            let contents = read(&format!("{good}{bad}{after}"), Format::Yaml);
            let faults: Vec<_> = contents
                .faults
                .iter()
                .map(|it| (it.line, &*it.what))
                .collect();
            let [(at, what)] = faults[..] else {
                panic!("{bad}: {faults:?}")
            };
            assert!(what.contains(says), "{what:?} does not say {says:?}");
            assert_eq!(at, line, "{bad}: {what}");
            assert_eq!(contents.documents.len(), documents, "{bad}");
        }
        let contents = read("{\"kind\": \"a\"}\n{\"kind\": 7}\n{", Format::Json);
        let lines: Vec<_> = contents.faults.iter().map(|it| it.line).collect();
        assert_eq!(lines, [1, 2, 3], "{:?}", contents.faults);
    }

    #[test]
    fn null_is_as_absent() {
        let text = "
apiVersion: v1
kind: Service
metadata: {name: a, namespace: null, labels: {x: null, y: 1, z: true}}
spec: {selector: {app: web, other: null}, ports: [{name: null, port: 80}], clusterIP: null}
---
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: ~, labels: null}
spec: {containers: [{ports: [{name: null, containerPort: 80}, null]}, null], hostname: null}
status: {podIP: 10.0.0.1, conditions: null}
---
apiVersion: v1
kind: List
items: null
";
        let contents = read(text, Format::Yaml);
        assert!(contents.faults.is_empty(), "{:?}", contents.faults);
        let [Document::Service(service), Document::Pod(pod)] = &contents.documents[..] else {
            panic!()
        };
        let labels = |labels: &[(&str, &str)]| -> Labels {
            let labels = labels.iter();
            labels
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect()
        };
        assert_eq!(service.labels, labels(&[("y", "1"), ("z", "true")]));
        assert_eq!(service.selector, labels(&[("app", "web")]));
        assert_eq!(service.ports.len(), 1);
        assert!(pod.ready && pod.pod.is_some() && pod.labels.is_empty());
    }
}
