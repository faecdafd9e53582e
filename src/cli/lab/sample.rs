//! The sample cluster: manifests inside the binary, laid out in a fresh directory so that they can
//! be edited while they are served.

use anyhow::Context;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The files of the sample cluster, by name. Their order is the order of the guide's examples.
pub const FILES: [(&str, &str); 6] = [
    ("10-payroll.yaml", include_str!("sample/10-payroll.yaml")),
    ("20-default.yaml", include_str!("sample/20-default.yaml")),
    ("30-myapp.yaml", include_str!("sample/30-myapp.yaml")),
    ("40-ingress.yaml", include_str!("sample/40-ingress.yaml")),
    ("50-shop.yaml", include_str!("sample/50-shop.yaml")),
    (
        "90-kube-system.yaml",
        include_str!("sample/90-kube-system.yaml"),
    ),
];

/// How many names are tried for the directory before giving up.
const ATTEMPTS: usize = 16;

/// The sample cluster's files in a directory of their own.
#[derive(Debug)]
pub struct Sample {
    directory: PathBuf,
}

/// What became of the directory when the lab ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing had been changed in it: it is gone.
    Removed,
    /// It was edited, or could not be removed: it is still there.
    Kept,
}

impl Sample {
    /// Writes the files into a new directory below `parent` that only this user can read.
    pub fn lay_out(parent: &Path) -> anyhow::Result<Self> {
        let directory = new_directory(parent)?;
        for (name, text) in FILES {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(Self { directory })
    }

    /// Where the files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Takes the directory away if it is as it was laid out. Somebody's edits are never removed.
    pub fn leave(self) -> Left {
        if self.is_untouched() && fs::remove_dir_all(&self.directory).is_ok() {
            Left::Removed
        } else {
            Left::Kept
        }
    }

    fn is_untouched(&self) -> bool {
        let entries = fs::read_dir(&self.directory).map_or(0, Iterator::count);
        entries == FILES.len()
            && FILES.iter().all(|(name, text)| {
                fs::read(self.directory.join(name)).is_ok_and(|found| found == text.as_bytes())
            })
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
                return Err(error).with_context(|| format!("cannot make {}", directory.display()));
            }
        }
    }
    anyhow::bail!(
        "no free name for the sample's directory in {}",
        parent.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untouched_sample_leaves_nothing_behind() {
        let parent = tempfile::tempdir().unwrap();
        let sample = Sample::lay_out(parent.path()).unwrap();
        assert!(sample.directory().join("50-shop.yaml").is_file());
        assert_eq!(sample.leave(), Left::Removed);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn edits_outlive_the_lab() {
        let parent = tempfile::tempdir().unwrap();
        let edited = Sample::lay_out(parent.path()).unwrap();
        let directory = edited.directory().to_owned();
        fs::write(directory.join("10-payroll.yaml"), "# mine").unwrap();
        assert_eq!(edited.leave(), Left::Kept);
        assert!(directory.join("10-payroll.yaml").is_file());

        let added = Sample::lay_out(parent.path()).unwrap();
        fs::write(added.directory().join("mine.yaml"), "").unwrap();
        assert_eq!(added.leave(), Left::Kept);
    }

    #[test]
    fn two_labs_do_not_share_a_directory() {
        let parent = tempfile::tempdir().unwrap();
        let one = Sample::lay_out(parent.path()).unwrap();
        let other = Sample::lay_out(parent.path()).unwrap();
        assert_ne!(one.directory(), other.directory());
    }
}
