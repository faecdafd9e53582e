//! A temporary directory for files that the user may edit: removed at the end if unchanged.

use anyhow::Context;
use std::borrow::Cow;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Maximum number of attempts to create the directory.
const ATTEMPTS: usize = 16;

/// The directory and the files written to it.
#[derive(Debug)]
pub struct ScratchDirectory {
    directory: PathBuf,
    files: Vec<(&'static str, Cow<'static, str>)>,
}

/// Whether the directory was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// Unchanged, removed.
    Removed,
    /// Edited, or not removable: it still exists.
    Kept,
}

impl ScratchDirectory {
    /// Creates a new directory below `parent`, readable only by this user.
    pub fn make(parent: &Path) -> anyhow::Result<Self> {
        let directory = std::path::absolute(new_directory(parent)?)?;
        let files = Vec::new();
        Ok(Self { directory, files })
    }

    /// Writes a file.
    pub fn write(
        &mut self,
        name: &'static str,
        text: impl Into<Cow<'static, str>>,
    ) -> anyhow::Result<()> {
        let text = text.into();
        let path = self.path(name);
        fs::write(&path, &*text).with_context(|| format!("cannot write {}", path.display()))?;
        self.files.push((name, text));
        Ok(())
    }

    /// Path of the directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Path of a file.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Removes the directory if its files are unchanged.
    pub fn clean_up(self) -> Cleanup {
        if self.is_untouched() && fs::remove_dir_all(&self.directory).is_ok() {
            Cleanup::Removed
        } else {
            Cleanup::Kept
        }
    }

    fn is_untouched(&self) -> bool {
        let entries = fs::read_dir(&self.directory).map_or(0, Iterator::count);
        let same =
            |name, text: &str| fs::read(self.path(name)).is_ok_and(|it| it == text.as_bytes());
        entries == self.files.len() && self.files.iter().all(|(name, text)| same(name, text))
    }
}

/// Creates a directory that must not exist: in a world-writable parent, an existing one could
/// belong to another user.
fn new_directory(parent: &Path) -> anyhow::Result<PathBuf> {
    for _ in 0..ATTEMPTS {
        let directory = parent.join(format!("lodestone-lab-{:06x}", rand::random::<u32>() >> 8));
        match DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => return Ok(directory),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => {
                let parent = parent.display();
                return Err(error).with_context(|| {
                    format!("cannot make a directory in {parent} (TMPDIR names another place)")
                });
            }
        }
    }
    anyhow::bail!("no free name for a directory in {}", parent.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(parent: &Path) -> ScratchDirectory {
        let mut scratch = ScratchDirectory::make(parent).unwrap();
        scratch.write("one.yaml", "# 1").unwrap();
        scratch.write("two.yaml", "# 2".to_owned()).unwrap();
        scratch
    }

    #[test]
    fn unchanged_directories_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = scratch(parent.path());
        assert!(scratch.path("two.yaml").is_file());
        assert_eq!(scratch.clean_up(), Cleanup::Removed);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn edited_files_are_kept() {
        let parent = tempfile::tempdir().unwrap();
        let edited = scratch(parent.path());
        let path = edited.path("one.yaml");
        fs::write(&path, "# mine").unwrap();
        assert_eq!(edited.clean_up(), Cleanup::Kept);
        assert!(path.is_file());

        let added = scratch(parent.path());
        fs::write(added.path("mine.yaml"), "").unwrap();
        assert_eq!(added.clean_up(), Cleanup::Kept);
    }

    #[test]
    fn concurrent_labs_use_different_directories() {
        let parent = tempfile::tempdir().unwrap();
        let (one, other) = (scratch(parent.path()), scratch(parent.path()));
        assert_ne!(one.directory(), other.directory());
    }
}
