//! The files of a directory, and what each said when it could last be read.

use super::document::{Document, Fault, Id, Lost};
use super::read::{self, Format};
use crate::cluster::event::Event;
use crate::corefile::nearest;
use crate::plain;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::hash::BuildHasher;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::{info, warn};

/// Directories deeper than this are not read.
const DEEPEST: usize = 16;

/// Files beyond this are no manifests.
const LONGEST: u64 = 64 << 20;

/// What another kind may be a slip of the pen for. Without `ServiceImport`, which real kinds are near to.
const KINDS: [&str; 5] = ["Namespace", "Service", "EndpointSlice", "Endpoints", "Pod"];

/// So many faults of a file are logged one by one.
const LOGGED: usize = 20;

/// A directory with its sub-directories. Names that begin with a dot are left out: editors' and
/// git's own files, and the hidden parts of a ConfigMap's volume, which are linked to by the
/// names that count.
pub(super) struct Directory {
    path: PathBuf,
    files: BTreeMap<PathBuf, File>,
    hasher: foldhash::fast::RandomState,
    /// What was last complained of about the directory itself.
    complaint: Option<String>,
    /// Kinds of object that were found and have no use, and whether the log has them.
    ignored: BTreeMap<String, bool>,
    /// What was left out, to be counted.
    left_out: Vec<Event>,
}

#[derive(Default)]
struct File {
    /// Of the content when it was last looked at, readable or not.
    hash: u64,
    documents: Vec<Arc<Document>>,
}

impl Directory {
    /// Of which nothing has been read yet.
    pub(super) fn new(path: PathBuf) -> Self {
        let hasher = foldhash::fast::RandomState::default();
        Self {
            path,
            files: BTreeMap::new(),
            hasher,
            complaint: None,
            ignored: BTreeMap::new(),
            left_out: Vec::new(),
        }
    }

    /// Reads what has changed and returns all there is, file by file in the order of their names.
    /// None where the directory cannot be read: what was known of it stands.
    pub(super) fn read(&mut self) -> Option<Vec<Arc<Document>>> {
        let paths = match files(&self.path) {
            Ok(paths) => paths,
            Err(error) => {
                let complaint = reason(&error);
                if self.complaint.as_ref() != Some(&complaint) {
                    warn!(
                        "manifests: {}: {complaint}; what it said before is served on",
                        self.path.display()
                    );
                    self.complaint = Some(complaint);
                }
                return None;
            }
        };
        self.complaint = None;
        self.files
            .retain(|path, _| paths.binary_search(path).is_ok());
        for path in paths {
            match text(&path) {
                Ok(text) => self.take(path, &text),
                // Gone since the directory was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.files.remove(&path);
                }
                Err(error) => self.keep(&path, &error),
            }
        }
        self.report_ignored();
        let documents = self.files.values().flat_map(|file| &file.documents);
        Some(documents.cloned().collect())
    }

    /// What was left out of the files since this was last asked, to be counted.
    pub(super) fn left_out(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.left_out)
    }

    fn take(&mut self, path: PathBuf, text: &str) {
        let hash = self.hasher.hash_one(text);
        if self.files.get(&path).is_some_and(|file| file.hash == hash) {
            return;
        }
        let json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        let read = read::read(text, if json { Format::Json } else { Format::Yaml });
        let mut documents: Vec<_> = read.documents.into_iter().map(Arc::new).collect();
        let before = self.files.remove(&path).unwrap_or_default().documents;
        let mut kept = kept(&documents, before, &read.faults);
        self.report(&path, read.faults, kept.len());
        documents.append(&mut kept);
        for ignored in read.ignored {
            self.ignored.entry(ignored).or_insert(false);
        }
        self.files.insert(path, File { hash, documents });
    }

    /// Logs what cannot be used in a file, and has it counted.
    fn report(&mut self, path: &Path, mut faults: Vec<Fault>, kept: usize) {
        let path = path.display();
        faults.sort_by_key(|fault| fault.line);
        for Fault { line, what, .. } in faults.iter().take(LOGGED) {
            warn!("manifests: {path} line {line}: {what}");
        }
        if faults.len() > LOGGED {
            warn!("manifests: {path}: and {} more", faults.len() - LOGGED);
        }
        if kept > 0 {
            warn!("manifests: {path}: {kept} objects that it declared before are served on");
        }
        self.left_out.extend(faults.iter().filter_map(|fault| {
            let kind = fault.kind?;
            Some(match fault.lost {
                Lost::Fields(fields) => Event::LeftOut(kind, fields),
                Lost::Object(_) | Lost::Unknown => Event::Skip(kind, None),
            })
        }));
    }

    /// Logs each kind of object without use once: a directory of whole applications has some, and
    /// one that was meant to count is to be found.
    fn report_ignored(&mut self) {
        let new = self.ignored.iter_mut().filter(|(_, logged)| !**logged);
        let new: Vec<_> = new
            .map(|(kind, logged)| {
                *logged = true;
                shown(kind)
            })
            .collect();
        if !new.is_empty() {
            info!(
                "manifests: not read, as names have no use for them: {}",
                new.join(", ")
            );
        }
    }

    /// Complains of a file that cannot be opened, once for each reason, and keeps what it said
    /// before.
    fn keep(&mut self, path: &Path, error: &io::Error) {
        let hash = self.hasher.hash_one(error.to_string());
        let file = self.files.entry(path.to_owned()).or_default();
        if std::mem::replace(&mut file.hash, hash) == hash {
            return;
        }
        let kept = if file.documents.is_empty() {
            ""
        } else {
            "; what it said before is served on"
        };
        warn!("manifests: {}: {}{kept}", path.display(), reason(error));
    }
}

/// A kind without use, and what it may be a slip of the pen for.
fn shown(kind: &str) -> String {
    match nearest(kind, KINDS) {
        Some(near) => format!("{kind} (did you mean {near}?)"),
        None => kind.to_owned(),
    }
}

/// Why a file cannot be read.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::FileTooLarge => "it is longer than 64 MiB".into(),
        _ => plain::io(error),
    }
}

/// What a file declared before of the objects that it now has faults in. What a document without a
/// readable name declared is not known, so with such a fault all stays that is not declared anew.
fn kept(now: &[Arc<Document>], before: Vec<Arc<Document>>, faults: &[Fault]) -> Vec<Arc<Document>> {
    let all = faults.iter().any(|fault| fault.lost == Lost::Unknown);
    let objects = faults.iter().filter_map(|fault| match &fault.lost {
        Lost::Object(id) => Some(id.clone()),
        _ => None,
    });
    let lost: HashSet<Id> = objects.collect();
    if !all && lost.is_empty() {
        return Vec::new();
    }
    let declared: HashSet<Id> = now.iter().filter_map(|it| it.id()).collect();
    let stays = |it: &Arc<Document>| {
        let id = it.id();
        id.is_some_and(|id| !declared.contains(&id) && (all || lost.contains(&id)))
    };
    before.into_iter().filter(stays).collect()
}

/// The manifests below a directory, sorted. Fails only where the directory itself cannot be read.
pub(super) fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut walk = Walk::default();
    walk.enter(directory, DEEPEST)?;
    walk.found.sort();
    Ok(walk.found)
}

/// The manifests below a directory.
#[derive(Default)]
struct Walk {
    found: Vec<PathBuf>,
    /// Device and inode of the directories that were read. A link back into one of them brings
    /// nothing new, and may lead in circles.
    entered: HashSet<(u64, u64)>,
}

impl Walk {
    /// Adds those of one directory, and of those below it, so many deep.
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
            // Follows links. What is gone meanwhile, or leads nowhere, is not there.
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
        .take(LONGEST + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_in_a_kind_is_told_and_other_kinds_are_left_in_peace() {
        assert_eq!(shown("Servce"), "Servce (did you mean Service?)");
        assert_eq!(shown("endpoints"), "endpoints (did you mean Endpoints?)");
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
            assert_eq!(shown(kind), kind);
        }
    }
}
