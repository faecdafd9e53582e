//! Polling: files whose metadata is compared every few seconds.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// What changes with the content of a file: its modification time, its length, and which file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    modified: SystemTime,
    length: u64,
    inode: u64,
}

impl Stamp {
    /// The stamp of the file at `path`, if there is one; links are followed.
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

/// A file, and what was last seen of it.
#[derive(Debug)]
pub struct PolledFile {
    path: PathBuf,
    limit: u64,
    seen: Seen,
    /// It had content and was empty at the last look: it may be about to be written.
    is_emptied: bool,
}

/// What a look shows.
#[derive(Debug)]
pub enum Look {
    /// Nothing new: neither content nor trouble.
    Unchanged,
    /// The content, and when it was written.
    Read(Vec<u8>, SystemTime),
    /// It cannot be read; once for each reason.
    Failed(io::Error),
}

#[derive(Debug, PartialEq)]
enum Seen {
    Nothing,
    File(Stamp),
    Trouble(String),
}

impl PolledFile {
    /// A file that is not read yet. Larger than `limit` bytes, it will not be.
    pub fn new(path: &Path, limit: u64) -> Self {
        Self {
            path: path.to_owned(),
            limit,
            seen: Seen::Nothing,
            is_emptied: false,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Forgets what was seen, so that the next look reads the file again.
    pub fn forget(&mut self) {
        self.seen = Seen::Nothing;
    }

    /// Reads the file if its [`Stamp`] has changed. One that has become empty is taken for empty
    /// at the second look only: many writers truncate a file first. Blocks.
    pub fn look(&mut self) -> Look {
        match self.read() {
            Ok(None) => Look::Unchanged,
            Ok(Some((bytes, stamp))) => {
                self.seen = Seen::File(stamp);
                Look::Read(bytes, stamp.modified)
            }
            Err(error) => {
                let trouble = Seen::Trouble(error.to_string());
                if self.seen == trouble {
                    return Look::Unchanged;
                }
                self.seen = trouble;
                Look::Failed(error)
            }
        }
    }

    fn read(&mut self) -> io::Result<Option<(Vec<u8>, Stamp)>> {
        // Looked at before it is opened: opening a pipe would wait for its writer.
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
            return Err(io::Error::other(format!("it has more than {limit} octets")));
        }
        Ok(Some((bytes, stamp)))
    }
}

/// Calls `work`, which may block, after every `interval` until it says false.
pub async fn poll(interval: Duration, mut work: impl FnMut() -> bool + Send + 'static) {
    loop {
        tokio::time::sleep(interval).await;
        let worked = tokio::task::spawn_blocking(move || work().then_some(work));
        match worked.await {
            Ok(Some(next)) => work = next,
            // Nothing is left to do, or the runtime is shutting down.
            Ok(None) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_when_it_has_changed_and_trouble_is_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut file = PolledFile::new(&path, 10);
        assert!(matches!(file.look(), Look::Failed(_)));
        assert!(matches!(file.look(), Look::Unchanged));
        std::fs::write(&path, "one").unwrap();
        assert!(matches!(file.look(), Look::Read(text, _) if text == b"one"));
        assert!(matches!(file.look(), Look::Unchanged));
        std::fs::write(&path, "longer").unwrap();
        assert!(matches!(file.look(), Look::Read(text, _) if text == b"longer"));
        std::fs::write(&path, "longer than ten").unwrap();
        assert!(matches!(file.look(), Look::Failed(_)));
        std::fs::write(&path, b"\xFF").unwrap();
        assert!(matches!(file.look(), Look::Read(text, _) if text == b"\xFF"));
        file.forget();
        assert!(matches!(file.look(), Look::Read(..)));
        // A writer that empties the file first is given until the next look.
        for text in ["", "two"] {
            std::fs::write(&path, text).unwrap();
            let wanted = (!text.is_empty()).then(|| text.as_bytes().to_vec());
            let seen = match file.look() {
                Look::Read(octets, _) => Some(octets),
                Look::Unchanged => None,
                Look::Failed(error) => panic!("{error}"),
            };
            assert_eq!(seen, wanted);
        }
        std::fs::write(&path, "").unwrap();
        assert!(matches!(file.look(), Look::Unchanged));
        assert!(matches!(file.look(), Look::Read(octets, _) if octets.is_empty()));
        assert!(matches!(file.look(), Look::Unchanged));
        let mut directory = PolledFile::new(directory.path(), 10);
        assert!(matches!(directory.look(), Look::Failed(_)));
    }
}
