//! The Corefile of a cluster, read as the server in the pod will read it: with the files of its ConfigMaps and the
//! variables of its container.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    differences::{self, Difference},
    objects::{Objects, array, text},
    pod::{CommandLine, Files, MapFile, Pod},
};
use crate::{
    cli::doctor::report::Finding,
    config::{self, Config, Source, order::ORDER},
    corefile::{Diagnostic, Diagnostics, File, Severity},
    interfaces::Interfaces,
};

const CONFIG_MAP: &str = "configmap";
const IMPORT: &str = "import";

/// The result of reading a Corefile.
pub struct ReadCorefile {
    /// Where it comes from: the ConfigMap and its key.
    pub origin: String,
    /// The configuration; `None` if it is refused.
    pub config: Option<Config>,
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
    /// Its directives, without the refused ones, that no row of the table of differences is about.
    pub same: Vec<String>,
    /// What differs.
    pub differences: Vec<Difference>,
    /// About the ConfigMaps.
    pub findings: Vec<Finding>,
    /// All words of its directives.
    words: Vec<String>,
}

impl ReadCorefile {
    /// Whether a server would not start with it.
    pub fn is_refused(&self) -> bool {
        self.config.is_none()
    }

    /// Whether a directive is used with a word, such as an upstream's address.
    pub fn has_word(&self, word: &str) -> bool {
        self.words.iter().any(|it| it == word)
    }

    /// Reads the file that the command line names.
    pub fn of_pod(
        pod: &Pod<'_>,
        command: &CommandLine,
        objects: &Objects,
    ) -> Result<Self, Finding> {
        let files = pod.files(objects);
        let path = Path::new(&command.conf);
        let Some(MapFile { map, key }) = files.by_path.get(path) else {
            let detail = match &files.missing[..] {
                [] => format!("no ConfigMap is mounted at {}", command.conf),
                missing => format!(
                    "{} is in none of the given ConfigMaps; not given: {}",
                    command.conf,
                    missing.join(", ")
                ),
            };
            let remedy = "Give the ConfigMap too (-f), or mount one with the Corefile";
            return Err(Finding::fail(CONFIG_MAP, "", detail, remedy));
        };
        let origin = format!("ConfigMap {map}, key {key}");
        let text = files.loader.files.get(path).cloned().unwrap_or_default();
        let mut read = Self::read(
            origin,
            &command.conf,
            &text,
            command.port,
            &files,
            pod.is_host_network(),
            pod.variable("GOMEMLIMIT").is_some(),
        );
        read.check_files(&files, path);
        Ok(read)
    }

    /// Reads the ConfigMap `coredns`, or the only one with a Corefile, without a Deployment.
    pub fn of_map(objects: &Objects, namespace: &str) -> Option<Self> {
        let has = |map: &&Value| map.pointer("/data/Corefile").is_some();
        let named = objects.find("ConfigMap", namespace, "coredns").filter(has);
        let map = named.or_else(|| {
            let mut all = objects.of_kind("ConfigMap").filter(has);
            all.next().filter(|_| all.next().is_none())
        })?;
        let name = text(map, "/metadata/name");
        let mut files = Files::default();
        let directory = PathBuf::from("/etc/coredns");
        let data = map
            .get("data")
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        for (key, value) in data {
            let content = value.as_str().unwrap_or_default().to_owned();
            let path = directory.join(key);
            let file = MapFile {
                map: name.to_owned(),
                key: key.clone(),
            };
            files.by_path.insert(path.clone(), file);
            files.loader.files.insert(path, content);
        }
        // Of AKS and k3s.
        if let Some(custom) = objects.find("ConfigMap", namespace, "coredns-custom") {
            let data = custom
                .get("data")
                .and_then(Value::as_object)
                .into_iter()
                .flatten();
            for (key, value) in data {
                let path = directory.join("custom").join(key);
                let content = value.as_str().unwrap_or_default().to_owned();
                let file = MapFile {
                    map: "coredns-custom".to_owned(),
                    key: key.clone(),
                };
                files.by_path.insert(path.clone(), file);
                files.loader.files.insert(path, content);
            }
        }
        files.directories = vec![(directory, name.to_owned())];
        let origin = format!("ConfigMap {name}, key Corefile");
        let text = text(map, "/data/Corefile");
        let mut read = Self::read(
            origin,
            "/etc/coredns/Corefile",
            text,
            53,
            &files,
            false,
            false,
        );
        read.check_files(&files, Path::new("/etc/coredns/Corefile"));
        Some(read)
    }

    fn read(
        origin: String,
        path: &str,
        text: &str,
        port: u16,
        files: &Files,
        is_host_network: bool,
        has_memory_variable: bool,
    ) -> Self {
        let source = Source {
            name: path,
            text,
            loader: &files.loader,
            interfaces: &Interfaces {
                addresses: Vec::new(),
                elsewhere: true,
            },
            default_port: port,
        };
        // The words alone, for what can be said about a refused file too.
        let file = config::parse(&source).unwrap_or_else(|_| empty());
        let (config, diagnostics) = match Config::read(&source) {
            Ok(mut config) => {
                let warnings = std::mem::take(&mut config.warnings);
                (Some(config), warnings)
            }
            Err(diagnostics) => (None, diagnostics),
        };
        let known = differences::Facts {
            file: &file,
            is_host_network,
            has_memory_variable,
        };
        let differences = known.differences();
        let used = |name: &str| {
            let mut directives = file.blocks.iter().flat_map(|block| &block.directives);
            directives.any(|directive| directive.name == *name)
        };
        let is_supported = |word: &&config::order::DirectiveSpec| {
            !matches!(
                word.kind,
                config::order::Kind::Absent(_) | config::order::Kind::NotBuilt(_)
            )
        };
        let words = ORDER.iter().filter(is_supported).map(|word| word.name);
        let same = words
            .filter(|name| used(name) && !known.is_in_table(name))
            .map(str::to_owned);
        let same = same.collect();
        let mut findings = imports(&file, files);
        findings.extend(own_options(&known));
        let directives = file.blocks.iter().flat_map(|block| &block.directives);
        let words = directives.flat_map(|directive| {
            let lines = directive.properties().iter().flat_map(|line| &line.words);
            directive
                .arguments
                .iter()
                .chain(lines)
                .map(ToString::to_string)
        });
        Self {
            origin,
            words: words.collect(),
            config,
            diagnostics,
            same,
            differences,
            findings,
        }
    }

    /// Keys and files of the ConfigMaps that the Corefile does not use, or names and does not get.
    fn check_files(&mut self, files: &Files, corefile: &Path) {
        let mut further: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (path, MapFile { map, key }) in &files.by_path {
            let shown = path.display().to_string();
            let is_imported = self.findings.iter().any(|it| it.subject == shown);
            if path == corefile || is_imported {
                continue;
            }
            let use_ = if self.has_word(&shown) {
                "a file that the Corefile names"
            } else {
                "not used by the Corefile"
            };
            let keys = further.entry(map).or_default();
            keys.push(format!("{key} ({use_})"));
        }
        for (map, keys) in further {
            let detail = format!("further keys, which stay as they are: {}", keys.join(", "));
            self.findings.push(Finding::ok(CONFIG_MAP, map, detail));
        }
        for word in &self.words {
            let path = Path::new(word);
            let mut mounts = files.directories.iter();
            let mount =
                mounts.find(|(mount, _)| path.is_absolute() && path.parent() == Some(mount));
            if let Some((_, map)) = mount
                && !files.by_path.contains_key(path)
                && !files.missing.contains(map)
            {
                let detail =
                    format!("the Corefile names {word}, for which the ConfigMap has no key");
                let remedy = "Check that the file is not needed: a plugin that cannot read it starts without it, or \
                              not at all";
                self.findings
                    .push(Finding::warn(CONFIG_MAP, map, detail, remedy));
            }
        }
        for map in &files.missing {
            let detail = "it is mounted by the Deployment, and was not given";
            let remedy = "Give it too, for a complete report: kubectl get configmap -o yaml";
            self.findings
                .push(Finding::warn(CONFIG_MAP, map, detail, remedy));
        }
        if !files.unknown_variables.is_empty() {
            let names = files.unknown_variables.join(", ");
            let detail = format!("read with 192.0.2.1 in place of their values: {names}");
            self.findings.push(Finding::ok("variables", "", detail));
        }
    }

    /// Number of errors and of warnings.
    pub fn counts(&self) -> (usize, usize) {
        let count = |severity| {
            let list = self.diagnostics.list.iter();
            list.filter(|one: &&Diagnostic| one.severity == severity)
                .count()
        };
        (count(Severity::Error), count(Severity::Warning))
    }
}

/// What the Corefile imports, from ConfigMaps such as `coredns-custom`.
fn imports(file: &File, files: &Files) -> Vec<Finding> {
    let imported = file
        .imported
        .iter()
        .filter(|path| files.by_path.contains_key(*path));
    imported
        .map(|path| {
            let MapFile { map, key } = &files.by_path[path];
            let detail = format!(
                "imported from ConfigMap {map}, key {key}, which is checked with the Corefile"
            );
            Finding::ok(IMPORT, path.display().to_string(), detail)
        })
        .collect()
}

/// Options that a CoreDNS refuses to start with: a Corefile that has them has to be changed before it goes back.
const OWN_OPTIONS: [&str; 7] = [
    "cache/keep_last_good",
    "forward/max_pps",
    "health/quiet",
    "kubernetes/audit",
    "kubernetes/hints",
    "kubernetes/manifests",
    "kubernetes/snapshot",
];

fn own_options(facts: &differences::Facts<'_>) -> Option<Finding> {
    let used = OWN_OPTIONS.iter().filter_map(|term| {
        let line = facts.line_of(term)?;
        Some(format!("{} ({line})", term.replace('/', " { ") + " }"))
    });
    let used: Vec<String> = used.collect();
    let detail = format!("CoreDNS does not know {}", used.join(", "));
    let remedy = "Remove this from the Corefile before you go back: CoreDNS would not start";
    (!used.is_empty()).then(|| Finding::warn("way-back", "", detail, remedy))
}

fn empty() -> File {
    File {
        blocks: Vec::new(),
        unclosed: false,
        warnings: Vec::new(),
        sources: crate::corefile::Sources::default(),
        imported: Vec::new(),
    }
}

/// The ports of a container that are named `name`.
pub fn port_named(pod: &Pod<'_>, name: &str) -> Option<u64> {
    let mut ports = array(pod.container, "/ports");
    let port = ports.find(|port| text(port, "/name") == name)?;
    port.get("containerPort")?.as_u64()
}
