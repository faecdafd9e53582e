//! The manifest files of a directory, with their last valid content.

use super::document::{Document, Impact, ManifestError, ObjectId};
use super::read::{self, ManifestFormat};
use crate::cluster::event::Event;
use crate::corefile::nearest;
use crate::error_text;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::hash::BuildHasher;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::{info, warn};

/// Maximum depth of subdirectories.
const MAX_DEPTH: usize = 16;

/// Maximum size of a file in bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Kinds suggested for misspelled ones. Without `ServiceImport`, which resembles other real kinds.
const KINDS: [&str; 5] = ["Namespace", "Service", "EndpointSlice", "Endpoints", "Pod"];

/// Maximum number of errors logged per file.
const MAX_LOGGED: usize = 20;

/// A directory with its subdirectories. Names that begin with a dot are ignored: files of editors
/// and git, and the hidden directories of a ConfigMap volume, whose visible names link to them.
pub(super) struct ManifestDirectory {
    path: PathBuf,
    files: BTreeMap<PathBuf, ManifestFile>,
    hasher: foldhash::fast::RandomState,
    /// The last logged error of the directory itself.
    last_error: Option<String>,
    /// Kinds without use for DNS, and whether they have been logged.
    ignored: BTreeMap<String, bool>,
    /// Events for skipped objects and fields.
    skipped: Vec<Event>,
}

#[derive(Default)]
struct ManifestFile {
    /// Hash of the content when it was last read, valid or not.
    hash: u64,
    documents: Vec<Arc<Document>>,
}

impl ManifestDirectory {
    /// A directory that has not been read yet.
    pub(super) fn new(path: PathBuf) -> Self {
        let hasher = foldhash::fast::RandomState::default();
        Self {
            path,
            files: BTreeMap::new(),
            hasher,
            last_error: None,
            ignored: BTreeMap::new(),
            skipped: Vec::new(),
        }
    }

    /// Reads changed files and returns all documents, ordered by file name. `None` if the directory
    /// cannot be read: the previous documents stay in use.
    pub(super) fn read(&mut self) -> Option<Vec<Arc<Document>>> {
        let paths = match files(&self.path) {
            Ok(paths) => paths,
            Err(error) => {
                let message = reason(&error);
                if self.last_error.as_ref() != Some(&message) {
                    warn!(
                        "manifests: {}: {message}; still serving the previous objects",
                        self.path.display()
                    );
                    self.last_error = Some(message);
                }
                return None;
            }
        };
        self.last_error = None;
        self.files
            .retain(|path, _| paths.binary_search(path).is_ok());
        for path in paths {
            match text(&path) {
                Ok(text) => self.parse(path, &text),
                // Deleted since the directory was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.files.remove(&path);
                }
                Err(error) => self.read_failed(&path, &error),
            }
        }
        self.report_ignored();
        let documents = self.files.values().flat_map(|file| &file.documents);
        Some(documents.cloned().collect())
    }

    /// Returns the events for skipped objects and fields since the last call.
    pub(super) fn take_skipped(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.skipped)
    }

    fn parse(&mut self, path: PathBuf, text: &str) {
        let hash = self.hasher.hash_one(text);
        if self.files.get(&path).is_some_and(|file| file.hash == hash) {
            return;
        }
        let json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        let read = read::read(
            text,
            if json {
                ManifestFormat::Json
            } else {
                ManifestFormat::Yaml
            },
        );
        let mut documents: Vec<_> = read.documents.into_iter().map(Arc::new).collect();
        let before = self.files.remove(&path).unwrap_or_default().documents;
        let mut kept = kept(&documents, before, &read.errors);
        self.report(&path, read.errors, kept.len());
        documents.append(&mut kept);
        for ignored in read.ignored {
            self.ignored.entry(ignored).or_insert(false);
        }
        self.files.insert(path, ManifestFile { hash, documents });
    }

    /// Logs and counts the errors of a file.
    fn report(&mut self, path: &Path, mut errors: Vec<ManifestError>, kept: usize) {
        let path = path.display();
        errors.sort_by_key(|error| error.line);
        for ManifestError { line, message, .. } in errors.iter().take(MAX_LOGGED) {
            warn!("manifests: {path} line {line}: {message}");
        }
        if errors.len() > MAX_LOGGED {
            warn!("manifests: {path}: and {} more", errors.len() - MAX_LOGGED);
        }
        if kept > 0 {
            warn!("manifests: {path}: still serving {kept} objects that it declared before");
        }
        self.skipped.extend(errors.iter().filter_map(|error| {
            let kind = error.kind?;
            Some(match error.impact {
                Impact::Fields(fields) => Event::SkippedFields(kind, fields),
                Impact::Object(_) | Impact::Unknown => Event::SkippedObject(kind, None),
            })
        }));
    }

    /// Logs each kind without use once: a directory of complete applications has some, but a
    /// misspelled one must be noticeable.
    fn report_ignored(&mut self) {
        let new = self.ignored.iter_mut().filter(|(_, logged)| !**logged);
        let new: Vec<_> = new
            .map(|(kind, logged)| {
                *logged = true;
                with_suggestion(kind)
            })
            .collect();
        if !new.is_empty() {
            info!(
                "manifests: ignored kinds, which DNS does not use: {}",
                new.join(", ")
            );
        }
    }

    /// Logs a file that cannot be opened, once per reason, and keeps its previous documents.
    fn read_failed(&mut self, path: &Path, error: &io::Error) {
        let hash = self.hasher.hash_one(error.to_string());
        let file = self.files.entry(path.to_owned()).or_default();
        if std::mem::replace(&mut file.hash, hash) == hash {
            return;
        }
        let kept = if file.documents.is_empty() {
            ""
        } else {
            "; still serving its previous objects"
        };
        warn!("manifests: {}: {}{kept}", path.display(), reason(error));
    }
}

/// An unused kind, with a suggestion if it may be misspelled.
fn with_suggestion(kind: &str) -> String {
    match nearest(kind, KINDS) {
        Some(near) => format!("{kind} (did you mean {near}?)"),
        None => kind.to_owned(),
    }
}

/// Why a file cannot be read.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::FileTooLarge => "it is longer than 64 MiB".into(),
        _ => error_text::io(error),
    }
}

/// The previous documents to keep: those of objects that now have errors. An error in a document
/// without a readable key may concern any object, so all previous documents that are not declared
/// again are kept.
fn kept(
    now: &[Arc<Document>],
    before: Vec<Arc<Document>>,
    errors: &[ManifestError],
) -> Vec<Arc<Document>> {
    let all = errors.iter().any(|error| error.impact == Impact::Unknown);
    let objects = errors.iter().filter_map(|error| match &error.impact {
        Impact::Object(id) => Some(id.clone()),
        _ => None,
    });
    let impact: HashSet<ObjectId> = objects.collect();
    if !all && impact.is_empty() {
        return Vec::new();
    }
    let declared: HashSet<ObjectId> = now.iter().filter_map(|it| it.id()).collect();
    let stays = |it: &Arc<Document>| {
        let id = it.id();
        id.is_some_and(|id| !declared.contains(&id) && (all || impact.contains(&id)))
    };
    before.into_iter().filter(stays).collect()
}

/// The manifests below a directory, sorted. Fails only if the directory itself cannot be read.
pub(super) fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut walk = DirectoryWalk::default();
    walk.enter(directory, MAX_DEPTH)?;
    walk.found.sort();
    Ok(walk.found)
}

/// A recursive directory listing.
#[derive(Default)]
struct DirectoryWalk {
    found: Vec<PathBuf>,
    /// Device and inode of the visited directories. A symlink to one of them would add nothing new
    /// and may be circular.
    entered: HashSet<(u64, u64)>,
}

impl DirectoryWalk {
    /// Adds the manifests of a directory and its subdirectories, up to `deepest` levels.
    fn enter(&mut self, directory: &Path, deepest: usize) -> io::Result<()> {
        let identity = fs::metadata(directory)?;
        if !self.entered.insert((identity.dev(), identity.ino())) {
            return Ok(());
        }
        let mut names = fs::read_dir(directory)?
            .map(|it| Ok(it?.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = directory.join(name);
            // Follows symlinks. Deleted files and dangling links are ignored.
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            let extension = path.extension().and_then(|extension| extension.to_str());
            if metadata.is_dir() {
                if deepest > 0
                    && let Err(error) = self.enter(&path, deepest - 1)
                {
                    warn!("manifests: {}: {}", path.display(), reason(&error));
                }
            } else if metadata.is_file() && matches!(extension, Some("yaml" | "yml" | "json")) {
                self.found.push(path);
            }
        }
        Ok(())
    }
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_kind_gets_a_suggestion_and_other_kinds_none() {
        assert_eq!(with_suggestion("Servce"), "Servce (did you mean Service?)");
        assert_eq!(
            with_suggestion("endpoints"),
            "endpoints (did you mean Endpoints?)"
        );
        for kind in [
            "Deployment",
            "ServiceAccount",
            "ServiceMonitor",
            "ServiceEntry",
            "ServiceExport",
            "Node",
            "PodMonitor",
            "PodDisruptionBudget",
            "Ingress",
            "Job",
            "Role",
            "Secret",
            "ConfigMap",
            "NetworkPolicy",
            "StatefulSet",
        ] {
            assert_eq!(with_suggestion(kind), kind);
        }
    }
}
