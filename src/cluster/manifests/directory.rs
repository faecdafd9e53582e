//! The files of a directory, and what each said when it could last be read.

use super::document::{self, Document, Format};
use std::collections::BTreeMap;
use std::fs;
use std::hash::BuildHasher;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::warn;

/// Links may lead in circles; directories this deep are taken for one.
const DEEPEST: usize = 16;

/// Files beyond this are no manifests.
const LONGEST: u64 = 64 << 20;

/// A directory with its sub-directories. Names that begin with a dot are left out: editors' and
/// git's own files, and the hidden parts of a ConfigMap's volume, which are linked to by the
/// names that count.
pub(super) struct Directory {
    path: PathBuf,
    files: BTreeMap<PathBuf, File>,
    hasher: foldhash::fast::RandomState,
    /// What was last complained of about the directory itself.
    complaint: Option<String>,
}

struct File {
    /// Of the content when it was last looked at, readable or not.
    hash: u64,
    documents: Arc<Vec<Document>>,
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
        }
    }

    /// Reads what has changed and returns all there is, file by file in the order of their names.
    /// None where the directory cannot be read: what was known of it stands.
    pub(super) fn read(&mut self) -> Option<Vec<Arc<Vec<Document>>>> {
        let paths = match files(&self.path) {
            Ok(paths) => paths,
            Err(error) => {
                let complaint = error.to_string();
                if self.complaint.as_ref() != Some(&complaint) {
                    warn!(
                        "manifests: cannot read {}: {complaint}",
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
                Err(error) => {
                    let hash = self.hasher.hash_one(error.to_string());
                    self.keep(path, hash, &error.to_string());
                }
            }
        }
        Some(
            self.files
                .values()
                .map(|file| Arc::clone(&file.documents))
                .collect(),
        )
    }

    fn take(&mut self, path: PathBuf, text: &str) {
        let hash = self.hasher.hash_one(text);
        if self.files.get(&path).is_some_and(|file| file.hash == hash) {
            return;
        }
        let json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        match document::read(text, if json { Format::Json } else { Format::Yaml }) {
            Ok(documents) => {
                self.files.insert(
                    path,
                    File {
                        hash,
                        documents: Arc::new(documents),
                    },
                );
            }
            Err(error) => self.keep(path, hash, &error),
        }
    }

    /// Complains, once for each content, and keeps what the file said before.
    fn keep(&mut self, path: PathBuf, hash: u64, error: &str) {
        let file = self.files.get(&path);
        if file.is_some_and(|file| file.hash == hash) {
            return;
        }
        let documents = file
            .map(|file| Arc::clone(&file.documents))
            .unwrap_or_default();
        let kept = if documents.is_empty() {
            ""
        } else {
            "; what it said before stands"
        };
        warn!("manifests: {}: {error}{kept}", path.display());
        self.files.insert(path, File { hash, documents });
    }
}

/// The manifests below a directory, sorted. Fails only where the directory itself cannot be read.
pub(super) fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    walk(directory, DEEPEST, &mut found)?;
    found.sort();
    Ok(found)
}

/// Adds the manifests below a directory, so many directories deep.
fn walk(directory: &Path, deepest: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
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
                && let Err(error) = walk(&path, deepest - 1, found)
            {
                warn!("manifests: cannot read {}: {error}", path.display());
            }
        } else if metadata.is_file() && matches!(extension, Some("yaml" | "yml" | "json")) {
            found.push(path);
        }
    }
    Ok(())
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?
        .take(LONGEST + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::other("it is longer than 64 MiB"));
    }
    Ok(text)
}
