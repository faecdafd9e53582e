//! What a Deployment's pod template gives the server: command line, environment, files from ConfigMaps.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::Value;

use super::objects::{Objects, array, label, text};
use crate::{
    cli::{Arguments, with_two_dashes},
    corefile::InMemory,
};

/// Value of a variable that only a running pod has, and that stands for an address.
const ANY_ADDRESS: &str = "192.0.2.1";

/// The container of the server.
pub struct Pod<'a> {
    /// The Deployment.
    pub deployment: &'a Value,
    /// Its pod's specification.
    pub spec: &'a Value,
    /// The container in it.
    pub container: &'a Value,
}

/// The command line of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// The program, if `command` replaces the image's.
    pub program: Option<String>,
    /// The Corefile's path.
    pub conf: String,
    /// Port of server blocks without one.
    pub port: u16,
    /// Why it is not accepted.
    pub error: Option<String>,
    /// All arguments.
    pub arguments: Vec<String>,
}

/// A file of a ConfigMap in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapFile {
    /// The ConfigMap.
    pub map: String,
    /// The key in it.
    pub key: String,
}

/// What the container's file system has of ConfigMaps.
#[derive(Debug, Default)]
pub struct Files {
    /// Files by their path.
    pub by_path: BTreeMap<PathBuf, MapFile>,
    /// Texts and variables, for the parser.
    pub loader: InMemory,
    /// Variables whose value only a running pod has.
    pub unknown_variables: Vec<String>,
    /// ConfigMaps that are mounted and not given, unless they are optional.
    pub missing: Vec<String>,
    /// Directories that ConfigMaps are mounted at, each with its ConfigMap.
    pub directories: Vec<(PathBuf, String)>,
}

impl<'a> Pod<'a> {
    /// The container that runs the server: the one of this name, one named `coredns`, one with a Corefile in its
    /// command line, or the only one.
    pub fn of(deployment: &'a Value, name: Option<&str>) -> Option<Self> {
        let spec = deployment.pointer("/spec/template/spec")?;
        let containers: Vec<&Value> = array(spec, "/containers").collect();
        let named = |name: &str| containers.iter().find(|it| text(it, "/name") == name);
        let container = match name {
            Some(name) => named(name),
            None => named("coredns")
                .or_else(|| containers.iter().find(|it| names_corefile(it)))
                .or(containers.first().filter(|_| containers.len() == 1)),
        }?;
        Some(Self {
            deployment,
            spec,
            container,
        })
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        text(self.container, "/name")
    }

    /// Its image.
    pub fn image(&self) -> &'a str {
        text(self.container, "/image")
    }

    /// Its command line, read as this program reads it.
    pub fn command_line(&self) -> CommandLine {
        let words = |pointer| array(self.container, pointer).filter_map(Value::as_str);
        let mut command = words("/command").map(str::to_owned);
        let program = command.next();
        let arguments: Vec<String> = command.chain(words("/args").map(str::to_owned)).collect();
        let line = ["lodestone".to_owned()]
            .into_iter()
            .chain(arguments.iter().cloned());
        let line = with_two_dashes(line.map(Into::into));
        let mut read = CommandLine {
            program,
            conf: "/Corefile".to_owned(),
            port: 53,
            error: None,
            arguments,
        };
        match <Arguments as clap::Parser>::try_parse_from(line) {
            Ok(parsed) => {
                if let Some(conf) = parsed.serve.conf {
                    let directory = match text(self.container, "/workingDir") {
                        "" => "/",
                        directory => directory,
                    };
                    read.conf = PathBuf::from(directory).join(conf).display().to_string();
                }
                read.port = parsed.serve.port;
                if parsed.verb.is_some() {
                    read.error = Some("it is a subcommand, which does not serve".to_owned());
                }
            }
            Err(error) => {
                let error = error.to_string();
                let first = error.lines().next().unwrap_or_default();
                let first = first.strip_prefix("error: ").unwrap_or(first);
                read.error = Some(first.to_owned());
            }
        }
        read
    }

    /// Files and variables of the container.
    pub fn files(&self, objects: &Objects) -> Files {
        let mut files = Files::default();
        let namespace = text(self.deployment, "/metadata/namespace");
        let maps: Vec<&Value> = objects.of_kind("ConfigMap").collect();
        let find = |name: &str| {
            let mut maps = maps.iter();
            maps.find(|map| {
                text(map, "/metadata/name") == name
                    && ["", namespace].contains(&text(map, "/metadata/namespace"))
            })
        };
        for mount in array(self.container, "/volumeMounts") {
            let (volume, path) = (text(mount, "/name"), text(mount, "/mountPath"));
            let sub_path = text(mount, "/subPath");
            let sources = array(self.spec, "/volumes").filter(|it| text(it, "/name") == volume);
            for (source, name) in sources.flat_map(map_sources) {
                files.directories.push((path.into(), name.to_owned()));
                let Some(map) = find(name) else {
                    if source.get("optional") != Some(&Value::Bool(true)) {
                        files.missing.push(name.to_owned());
                    }
                    continue;
                };
                for (key, file) in items(source, map) {
                    let path = match sub_path {
                        "" => PathBuf::from(path).join(&file),
                        _ if sub_path == file => PathBuf::from(path),
                        _ => continue,
                    };
                    let data = map.get("data").and_then(|data| data.get(&key));
                    let content = data.and_then(Value::as_str).unwrap_or_default();
                    files.loader.files.insert(path.clone(), content.to_owned());
                    let map = name.to_owned();
                    files.by_path.insert(path, MapFile { map, key });
                }
            }
        }
        // The kubelet gives these to every pod.
        for (name, value) in [
            ("KUBERNETES_SERVICE_HOST", ANY_ADDRESS),
            ("KUBERNETES_SERVICE_PORT", "443"),
            ("HOSTNAME", text(self.deployment, "/metadata/name")),
        ] {
            files
                .loader
                .variables
                .insert(name.to_owned(), value.to_owned());
        }
        for source in array(self.container, "/envFrom") {
            let map = find(text(source, "/configMapRef/name")).and_then(|map| map.get("data"));
            for (key, value) in map.and_then(Value::as_object).into_iter().flatten() {
                let name = format!("{}{key}", text(source, "/prefix"));
                let value = value.as_str().unwrap_or_default().to_owned();
                files.loader.variables.insert(name, value);
            }
        }
        for variable in array(self.container, "/env") {
            let name = text(variable, "/name").to_owned();
            let from = variable.get("valueFrom");
            let referred = from.map(|from| {
                let map = find(text(from, "/configMapKeyRef/name"));
                let data = map.and_then(|map| map.get("data"));
                let value = data.and_then(|data| data.get(text(from, "/configMapKeyRef/key")));
                value.and_then(Value::as_str)
            });
            let value = match referred {
                None => text(variable, "/value").to_owned(),
                Some(Some(value)) => value.to_owned(),
                Some(None) => {
                    files.unknown_variables.push(name.clone());
                    ANY_ADDRESS.to_owned()
                }
            };
            files.loader.variables.insert(name, value);
        }
        files
    }

    /// The value of a variable that is written in the pod template.
    pub fn variable(&self, name: &str) -> Option<&'a str> {
        let mut variables = array(self.container, "/env");
        variables
            .find(|it| text(it, "/name") == name)
            .map(|it| text(it, "/value"))
    }

    /// Whether the pod uses the node's network.
    pub fn is_host_network(&self) -> bool {
        self.spec.get("hostNetwork") == Some(&Value::Bool(true))
    }

    /// Whether the labels of its pods match a selector's `matchLabels`.
    pub fn is_selected(&self, selector: Option<&Value>) -> bool {
        let selector = selector.and_then(Value::as_object);
        let labels = "/spec/template/metadata/labels";
        selector.is_some_and(|selector| {
            let matches = |(key, value): (&String, &Value)| {
                value.as_str() == Some(label(self.deployment, labels, key))
            };
            !selector.is_empty() && selector.iter().all(matches)
        })
    }
}

/// Whether a Deployment runs a server with a Corefile.
pub fn has_corefile(deployment: &Value) -> bool {
    array(deployment, "/spec/template/spec/containers")
        .any(|container| text(container, "/name") == "coredns" || names_corefile(container))
}

fn names_corefile(container: &Value) -> bool {
    let words = array(container, "/args").chain(array(container, "/command"));
    words
        .filter_map(Value::as_str)
        .any(|word| word.ends_with("Corefile"))
}

/// The names of the ConfigMaps that the pods of a Deployment mount or take variables from.
pub fn config_maps(deployment: &Value) -> Vec<String> {
    let volumes = array(deployment, "/spec/template/spec/volumes").flat_map(map_sources);
    let mut names: Vec<String> = volumes.map(|(_, name)| name.to_owned()).collect();
    for container in array(deployment, "/spec/template/spec/containers") {
        let from = array(container, "/envFrom").map(|it| text(it, "/configMapRef/name"));
        let each = array(container, "/env").map(|it| text(it, "/valueFrom/configMapKeyRef/name"));
        names.extend(from.chain(each).map(str::to_owned));
    }
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    names.dedup();
    names
}

/// The ConfigMaps of a volume, each with its source.
fn map_sources(volume: &Value) -> Vec<(&Value, &str)> {
    let own = volume.get("configMap").into_iter();
    let projected = array(volume, "/projected/sources").filter_map(|it| it.get("configMap"));
    own.chain(projected)
        .map(|source| (source, text(source, "/name")))
        .collect()
}

/// Key and path of each file of a ConfigMap in a volume.
fn items(source: &Value, map: &Value) -> Vec<(String, String)> {
    if source.get("items").is_some() {
        let items = array(source, "/items");
        let pair = |item| {
            (
                text(item, "/key").to_owned(),
                text(item, "/path").to_owned(),
            )
        };
        let has = |key: &str| map.get("data").is_some_and(|data| data.get(key).is_some());
        return items.map(pair).filter(|(key, _)| has(key)).collect();
    }
    let data = map
        .get("data")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    data.map(|(key, _)| (key.clone(), key.clone())).collect()
}
