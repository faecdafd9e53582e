//! The parser's access to the system: files, globs and environment variables.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::files::not_a_pipe;

/// Maximum file size in bytes. The largest known Corefiles, with inline hosts, have a few hundred
/// kilobytes.
pub const MAX_FILE: usize = 8 << 20;

/// Source of imported files and environment variables.
pub trait Loader {
    /// A file's text. Invalid UTF-8 becomes U+FFFD. Files above [`MAX_FILE`] are an error.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// The existing paths that match a pattern of `*` and `?`, sorted. Dot files are included.
    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>>;

    /// An environment variable; `None` if unset.
    fn env(&self, name: &str) -> Option<String>;
}

/// The file system and the process's environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Loader for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        not_a_pipe(path)?;
        let mut bytes = Vec::new();
        // One byte above the limit detects longer files, including pipes and devices, which report
        // no length.
        fs::File::open(path)?
            .take(MAX_FILE as u64 + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() > MAX_FILE {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let text = pattern.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        let matches = glob::glob(text)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.msg))?;
        // Unreadable directories are skipped, as in CoreDNS.
        let mut paths: Vec<_> = matches.filter_map(Result::ok).collect();
        paths.sort();
        Ok(paths)
    }

    fn env(&self, name: &str) -> Option<String> {
        // Such names cannot be set, and looking them up would panic.
        if name.is_empty() || name.contains(['=', '\0']) {
            return None;
        }
        std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    }
}

/// Files and variables in memory, for tests and for text without a file.
#[derive(Clone, Debug, Default)]
pub struct InMemory {
    /// Texts by path.
    pub files: BTreeMap<PathBuf, String>,
    /// Environment variables.
    pub variables: BTreeMap<String, String>,
}

impl InMemory {
    /// Adds a file.
    #[must_use]
    pub fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.into(), text.to_owned());
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }
}

impl Loader for InMemory {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.files
            .get(path)
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let text = pattern.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        let pattern = glob::Pattern::new(text)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.msg))?;
        let options = glob::MatchOptions {
            require_literal_separator: true,
            ..Default::default()
        };
        let matches = |path: &&PathBuf| pattern.matches_path_with(path, options);
        Ok(self.files.keys().filter(matches).cloned().collect())
    }

    fn env(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}
