//! Polling: files whose metadata is compared every few seconds.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Metadata that changes with the content of a file: modification time, length and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    modified: SystemTime,
    length: u64,
    inode: u64,
}

impl Stamp {
    /// The stamp of the file at `path`, if it exists; symbolic links are followed.
    pub fn of(path: &Path) -> Option<Self> {
        Self::read(&std::fs::metadata(path).ok()?).ok()
    }

    fn read(metadata: &Metadata) -> io::Result<Self> {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Ok(Self {
            modified: metadata.modified()?,
            length: metadata.len(),
            inode,
        })
    }
}

/// A file, and its state at the last check.
#[derive(Debug)]
pub struct PolledFile {
    path: PathBuf,
    limit: u64,
    seen: Seen,
    /// It had content before and was empty at the last check: it may be about to be written.
    is_emptied: bool,
}

/// The result of a check.
#[derive(Debug)]
pub enum FileCheck {
    /// Neither new content nor a new error.
    Unchanged,
    /// The new content and its modification time.
    Read(Vec<u8>, SystemTime),
    /// The file cannot be read. Returned once per error.
    Failed(io::Error),
}

#[derive(Debug, PartialEq)]
enum Seen {
    Nothing,
    File(Stamp),
    Trouble(String),
}

impl PolledFile {
    /// A file that is not read yet. A file of more than `limit` bytes is an error.
    pub fn new(path: &Path, limit: u64) -> Self {
        Self {
            path: path.to_owned(),
            limit,
            seen: Seen::Nothing,
            is_emptied: false,
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the next check read the file again.
    pub fn forget(&mut self) {
        self.seen = Seen::Nothing;
    }

    /// Reads the file if its [`Stamp`] has changed. A file that has become empty is reported at the second
    /// check only: many writers truncate a file first. Blocks.
    pub fn check(&mut self) -> FileCheck {
        match self.read() {
            Ok(None) => FileCheck::Unchanged,
            Ok(Some((bytes, stamp))) => {
                self.seen = Seen::File(stamp);
                FileCheck::Read(bytes, stamp.modified)
            }
            Err(error) => {
                let trouble = Seen::Trouble(error.to_string());
                if self.seen == trouble {
                    return FileCheck::Unchanged;
                }
                self.seen = trouble;
                FileCheck::Failed(error)
            }
        }
    }

    fn read(&mut self) -> io::Result<Option<(Vec<u8>, Stamp)>> {
        // Checked before opening: opening a FIFO would block until a writer opens it.
        let metadata = std::fs::metadata(&self.path)?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let stamp = Stamp::read(&metadata)?;
        if self.seen == Seen::File(stamp) {
            return Ok(None);
        }
        let was_filled = matches!(self.seen, Seen::File(Stamp { length: 1.., .. }));
        self.is_emptied = stamp.length == 0 && was_filled && !self.is_emptied;
        if self.is_emptied {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let mut file = File::open(&self.path)?.take(self.limit + 1);
        if file.read_to_end(&mut bytes)? as u64 > self.limit {
            let limit = self.limit;
            return Err(io::Error::other(format!("it has more than {limit} bytes")));
        }
        Ok(Some((bytes, stamp)))
    }
}

/// Calls `work`, which may block, after every `interval` until it returns false.
pub async fn poll(interval: Duration, mut work: impl FnMut() -> bool + Send + 'static) {
    loop {
        tokio::time::sleep(interval).await;
        let worked = tokio::task::spawn_blocking(move || work().then_some(work));
        match worked.await {
            Ok(Some(next)) => work = next,
            // `work` returned false, or the runtime is shutting down.
            Ok(None) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_read_and_an_error_is_returned_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut file = PolledFile::new(&path, 10);
        assert!(matches!(file.check(), FileCheck::Failed(_)));
        assert!(matches!(file.check(), FileCheck::Unchanged));
        std::fs::write(&path, "one").unwrap();
        assert!(matches!(file.check(), FileCheck::Read(text, _) if text == b"one"));
        assert!(matches!(file.check(), FileCheck::Unchanged));
        std::fs::write(&path, "longer").unwrap();
        assert!(matches!(file.check(), FileCheck::Read(text, _) if text == b"longer"));
        std::fs::write(&path, "longer than ten").unwrap();
        assert!(matches!(file.check(), FileCheck::Failed(_)));
        std::fs::write(&path, b"\xFF").unwrap();
        assert!(matches!(file.check(), FileCheck::Read(text, _) if text == b"\xFF"));
        file.forget();
        assert!(matches!(file.check(), FileCheck::Read(..)));
        // An emptied file is reported at the second check.
        for text in ["", "two"] {
            std::fs::write(&path, text).unwrap();
            let wanted = (!text.is_empty()).then(|| text.as_bytes().to_vec());
            let seen = match file.check() {
                FileCheck::Read(bytes, _) => Some(bytes),
                FileCheck::Unchanged => None,
                FileCheck::Failed(error) => panic!("{error}"),
            };
            assert_eq!(seen, wanted);
        }
        std::fs::write(&path, "").unwrap();
        assert!(matches!(file.check(), FileCheck::Unchanged));
        assert!(matches!(file.check(), FileCheck::Read(bytes, _) if bytes.is_empty()));
        assert!(matches!(file.check(), FileCheck::Unchanged));
        let mut directory = PolledFile::new(directory.path(), 10);
        assert!(matches!(directory.check(), FileCheck::Failed(_)));
    }
}
