//! A temporary directory of the lab's own, for files that whoever learns may edit: what was edited
//! outlives the lab, what was not goes with it.

use anyhow::Context;
use std::borrow::Cow;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// How many names are tried for the directory before giving up.
const ATTEMPTS: usize = 16;

/// The directory and what was written into it.
#[derive(Debug)]
pub struct Scratch {
    directory: PathBuf,
    files: Vec<(&'static str, Cow<'static, str>)>,
}

/// What became of the directory when the lab ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing had been changed in it: it is gone.
    Removed,
    /// It was edited, or could not be removed: it is still there.
    Kept,
}

impl Scratch {
    /// Makes a new directory below `parent` that only this user can read.
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

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a file of this name is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Takes the directory away if all is as it was written. Somebody's edits are never removed.
    pub fn leave(self) -> Left {
        if self.is_untouched() && fs::remove_dir_all(&self.directory).is_ok() {
            Left::Removed
        } else {
            Left::Kept
        }
    }

    fn is_untouched(&self) -> bool {
        let entries = fs::read_dir(&self.directory).map_or(0, Iterator::count);
        let same =
            |name, text: &str| fs::read(self.path(name)).is_ok_and(|it| it == text.as_bytes());
        entries == self.files.len() && self.files.iter().all(|(name, text)| same(name, text))
    }
}

/// Makes a directory that did not exist before: one found under its name, in a place where
/// everybody may write, could be somebody else's.
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

    fn scratch(parent: &Path) -> Scratch {
        let mut scratch = Scratch::make(parent).unwrap();
        scratch.write("one.yaml", "# 1").unwrap();
        scratch.write("two.yaml", "# 2".to_owned()).unwrap();
        scratch
    }

    #[test]
    fn what_is_untouched_leaves_nothing_behind() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = scratch(parent.path());
        assert!(scratch.path("two.yaml").is_file());
        assert_eq!(scratch.leave(), Left::Removed);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn edits_outlive_the_lab() {
        let parent = tempfile::tempdir().unwrap();
        let edited = scratch(parent.path());
        let path = edited.path("one.yaml");
        fs::write(&path, "# mine").unwrap();
        assert_eq!(edited.leave(), Left::Kept);
        assert!(path.is_file());

        let added = scratch(parent.path());
        fs::write(added.path("mine.yaml"), "").unwrap();
        assert_eq!(added.leave(), Left::Kept);
    }

    #[test]
    fn two_labs_do_not_share_a_directory() {
        let parent = tempfile::tempdir().unwrap();
        let (one, other) = (scratch(parent.path()), scratch(parent.path()));
        assert_ne!(one.directory(), other.directory());
    }
}
