//! The documents of a manifest file: objects, with what the controllers need of them.

use crate::cluster::decode::{Slim, wire};
use crate::cluster::event::Object;
use crate::cluster::object::{Pod, Protocol, Service};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;
use serde_saphyr::SnippetMode;
use std::collections::BTreeMap;

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

/// A Pod, with what makes it an endpoint.
pub(super) struct Running {
    pub namespace: String,
    pub name: String,
    pub labels: Labels,
    /// As it is served by address; None where it is over or has no address.
    pub pod: Option<Pod>,
    pub ready: bool,
    pub hostname: Option<String>,
    pub subdomain: Option<String>,
    /// Its containers' ports by name.
    pub ports: Vec<ContainerPort>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeclaredPort {
    #[serde(default)]
    pub name: String,
    pub port: u16,
    pub protocol: Option<Protocol>,
    pub target_port: Option<TargetPort>,
}

/// A port of a pod: by number, or by the name that a container gives it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum TargetPort {
    Number(u16),
    Name(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_field_names)] // the API's names
pub(super) struct ContainerPort {
    #[serde(default)]
    pub name: String,
    pub container_port: u16,
    pub protocol: Option<Protocol>,
}

/// How a file is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Yaml,
    Json,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: HeadMetadata,
    items: Option<Vec<IgnoredAny>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HeadMetadata {
    name: String,
    namespace: String,
    labels: Option<Labels>,
}

#[derive(Deserialize)]
struct List {
    items: Vec<Value>,
}

#[derive(Deserialize)]
struct ServiceExtra {
    spec: ServiceSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceSpec {
    selector: Option<Labels>,
    ports: Option<Vec<DeclaredPort>>,
    ip_families: Option<Vec<String>>,
    ip_family_policy: Option<String>,
    #[serde(default)]
    publish_not_ready_addresses: bool,
}

#[derive(Deserialize)]
struct PodExtra {
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodSpec {
    hostname: Option<String>,
    subdomain: Option<String>,
    containers: Option<Vec<Container>>,
}

#[derive(Deserialize)]
struct Container {
    ports: Option<Vec<ContainerPort>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    conditions: Option<Vec<Condition>>,
}

#[derive(Deserialize)]
struct Condition {
    r#type: String,
    status: String,
}

/// Reads all documents of a file; the error says where and what.
pub(super) fn read(text: &str, format: Format) -> Result<Vec<Document>, String> {
    let mut documents = Vec::new();
    match format {
        Format::Yaml => {
            for (line, text) in split(text) {
                Part { text, format, line }.read(&mut documents)?;
            }
        }
        Format::Json => {
            let mut parts = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
            while let Some(part) = parts.next() {
                let part = part.map_err(|error| error.to_string())?.get();
                let end = &text[..parts.byte_offset() - part.len()];
                let line = end.matches('\n').count();
                Part {
                    text: part,
                    format,
                    line,
                }
                .read(&mut documents)?;
            }
        }
    }
    Ok(documents)
}

/// A document's text, and how many lines stand before it.
struct Part<'a> {
    text: &'a str,
    format: Format,
    line: usize,
}

impl<'a> Part<'a> {
    fn read(&self, documents: &mut Vec<Document>) -> Result<(), String> {
        let Some(head) = self.decode::<Option<Head>>()? else {
            return Ok(());
        };
        if head.kind.is_empty() || head.api_version.is_empty() {
            return Err(self.at("it has no kind and apiVersion, so it is no manifest"));
        }
        if head.api_version == "v1" && head.kind.ends_with("List") && head.items.is_some() {
            let items = self.decode::<List>()?.items;
            for (number, item) in items.iter().enumerate() {
                let text = item.to_string();
                let part = Part {
                    text: &text,
                    format: Format::Json,
                    line: 0,
                };
                part.read(documents)
                    .map_err(|error| self.at(format!("item {}: {error}", number + 1)))?;
            }
            return Ok(());
        }
        documents.push(self.object(head)?);
        Ok(())
    }

    fn object(&self, head: Head) -> Result<Document, String> {
        let name = head.metadata.name;
        let labels = head.metadata.labels.unwrap_or_default();
        let known = match (&*head.api_version, &*head.kind) {
            ("v1", "Namespace") => {
                Document::Namespace(self.slim(&self.decode::<wire::Namespace<'_>>()?)?, labels)
            }
            ("v1", "Service") => self.service(labels)?,
            ("v1", "Pod") => self.pod(labels)?,
            ("discovery.k8s.io/v1", "EndpointSlice") => {
                let slice = self.decode::<wire::Slice<'_>>()?;
                Document::Slice(slice.slim().map_err(|why| self.at(why))?, labels)
            }
            ("multicluster.x-k8s.io/v1alpha1", "ServiceImport") => {
                Document::Import(self.slim(&self.decode::<wire::Import<'_>>()?)?)
            }
            _ => return Ok(Document::Other(head.metadata.namespace)),
        };
        if !is_name(&name) {
            return Err(self.at(format!(
                "metadata.name: {name:?} is not a name: lower-case letters, digits, '-' and '.'"
            )));
        }
        Ok(known)
    }

    fn service(&self, labels: Labels) -> Result<Document, String> {
        let wire = self.decode::<wire::Service<'_>>()?;
        let Object::Service(service) = self.slim(&wire)? else {
            return Err(self.at("it is no Service"));
        };
        let spec = self.decode::<ServiceExtra>()?.spec;
        Ok(Document::Service(Box::new(Declared {
            service,
            labels,
            selector: spec.selector.unwrap_or_default(),
            ports: spec.ports.unwrap_or_default(),
            families: spec.ip_families.unwrap_or_default(),
            dual: spec
                .ip_family_policy
                .is_some_and(|policy| policy != "SingleStack"),
            publish_not_ready: spec.publish_not_ready_addresses,
        })))
    }

    fn pod(&self, labels: Labels) -> Result<Document, String> {
        let wire = self.decode::<wire::Pod<'_>>()?;
        let pod = match wire.slim().map_err(|why| self.at(why))? {
            Some(Object::Pod(pod)) => Some(pod),
            _ => None,
        };
        let PodExtra { spec, status } = self.decode::<PodExtra>()?;
        let conditions = status.conditions.unwrap_or_default();
        let ready = conditions
            .iter()
            .find(|condition| condition.r#type == "Ready");
        let containers = spec.containers.into_iter().flatten();
        Ok(Document::Pod(Box::new(Running {
            namespace: wire.metadata.namespace.to_string(),
            name: wire.metadata.name.to_string(),
            labels,
            pod,
            // A manifest written by hand has no conditions; that it has an address says enough.
            ready: conditions.is_empty() || ready.is_some_and(|it| it.status == "True"),
            hostname: spec.hostname,
            subdomain: spec.subdomain,
            ports: containers
                .flat_map(|container| container.ports.unwrap_or_default())
                .collect(),
        })))
    }

    fn slim(&self, wire: &impl Slim) -> Result<Object, String> {
        let object = wire.slim().map_err(|why| self.at(why))?;
        object.ok_or_else(|| self.at("it is of no use"))
    }

    fn decode<T: Deserialize<'a>>(&self) -> Result<T, String> {
        match self.format {
            Format::Json => serde_json::from_str(self.text).map_err(|error| self.at(error)),
            Format::Yaml => {
                let options = serde_saphyr::options! {
                    // A List holds as many objects as a cluster has; the file's length is bounded.
                    budget: serde_saphyr::budget! { max_nodes: 5_000_000, max_events: 20_000_000 },
                };
                serde_saphyr::from_str_with_options(self.text, options).map_err(|error| {
                    error.render_with_options(serde_saphyr::render_options! {
                        line_offset: self.line as u64,
                        snippets: SnippetMode::Off,
                    })
                })
            }
        }
    }

    /// Says where this document begins.
    fn at(&self, why: impl std::fmt::Display) -> String {
        let marker = usize::from(self.text.starts_with("---"));
        format!("document at line {}: {why}", self.line + marker + 1)
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
        assert!(read(empty, Format::Yaml).unwrap().is_empty());
    }

    #[test]
    fn an_error_says_where_and_what() {
        let good = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n";
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n";
        for (bad, says) in [
            ("kind: [".to_owned(), "line 5"),
            ("a: b\n".to_owned(), "document at line 5: it has no kind"),
            ("- a\n".to_owned(), "line 5"),
            (format!("{service}  ports: [{{port: 99999}}]\n"), "line 9"),
            (
                format!("{service}  ports: [{{port: 1, protocol: TPC}}]\n"),
                "TPC",
            ),
            (
                format!("{service}  clusterIP: ten\n"),
                "document at line 5: \"ten\" is not an IP",
            ),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {name: A_B}\n".to_owned(),
                "\"A_B\" is not a name",
            ),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {}\n".to_owned(),
                "metadata.name",
            ),
            (
                "apiVersion: v1\nkind: List\nitems: [{}]\n".to_owned(),
                "line 5: item 1",
            ),
        ] {
            let Err(error) = read(&format!("{good}{bad}"), Format::Yaml) else {
                panic!("{bad} is read")
            };
            assert!(error.contains(says), "{error:?} does not say {says:?}");
        }
        let Err(error) = read("{\"kind\": \"a\"}\n{\"kind\": 7}", Format::Json) else {
            panic!()
        };
        assert!(error.contains("line 1"), "{error}");
    }
}
