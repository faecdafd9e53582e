//! The file of a snapshot: magic, format (4 bytes, big endian), a header and the objects as messages with their
//! length before them, and the SHA-256 of all that.
//!
//! It is verified as a whole before anything of it is used, and read and written in parts: a large cluster has
//! tens of megabytes.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use prost::Message;
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN, digest};

use super::{SnapshotError, format::SnapshotObject};
use crate::cluster::Object;

/// The first bytes.
const MAGIC: &[u8] = b"lodestone-snapshot\n";
/// The format of this version. Fields and kinds are added without a new one.
pub(super) const FORMAT: u32 = 1;
/// Maximum size in bytes: 100,000 Services with a million endpoints and as many pods.
pub(super) const MAX_SIZE: u64 = 512 << 20;
/// Maximum size of a message in bytes: etcd limits objects to 1.5 MiB.
const MAX_MESSAGE: usize = 16 << 20;
/// End of the name of a file that is being written.
pub(super) const TEMPORARY: &str = ".snapshot-new";

/// The first message.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Header {
    /// Cluster and settings: see [`super::fingerprint`].
    #[prost(string, tag = "1")]
    pub(super) fingerprint: String,
    /// Serial of the zones.
    #[prost(uint32, tag = "2")]
    pub(super) serial: u32,
    /// The last serial that a secondary may have.
    #[prost(uint32, tag = "3")]
    pub(super) published_serial: u32,
    /// Version of the program that wrote it.
    #[prost(string, tag = "4")]
    pub(super) version: String,
}

/// The SHA-256 of a text in hexadecimal.
pub(super) fn hexadecimal(text: &[u8]) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    for byte in digest(&SHA256, text).as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// Writes a file under a temporary name.
pub(super) struct Writer {
    path: PathBuf,
    temporary: PathBuf,
    out: BufWriter<File>,
    digest: Context,
    size: u64,
    message: Vec<u8>,
    is_finished: bool,
}

impl Writer {
    /// Creates the temporary file beside `path`.
    pub(super) fn create(path: &Path, header: &Header) -> Result<Self, SnapshotError> {
        let temporary = path.with_extension(TEMPORARY.trim_start_matches('.'));
        let mut options = File::options();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut writer = Self {
            path: path.to_owned(),
            out: BufWriter::with_capacity(64 << 10, options.open(&temporary)?),
            temporary,
            digest: Context::new(&SHA256),
            size: 0,
            message: Vec::new(),
            is_finished: false,
        };
        writer.write(MAGIC)?;
        writer.write(&FORMAT.to_be_bytes())?;
        writer.add_message(header)?;
        Ok(writer)
    }

    /// Adds an object.
    pub(super) fn add(&mut self, object: &SnapshotObject) -> Result<(), SnapshotError> {
        self.add_message(object)
    }

    fn add_message(&mut self, message: &impl Message) -> Result<(), SnapshotError> {
        let mut bytes = std::mem::take(&mut self.message);
        bytes.clear();
        let encoded = message.encode_length_delimited(&mut bytes);
        encoded.map_err(|error| SnapshotError::Malformed(error.to_string()))?;
        self.write(&bytes)?;
        self.message = bytes;
        if self.size > MAX_SIZE {
            return Err(SnapshotError::TooLarge);
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.size += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Completes the file and puts it in the place of the former one. Returns its size.
    pub(super) fn finish(mut self, modified: SystemTime) -> Result<u64, SnapshotError> {
        let digest = self.digest.clone().finish();
        self.out.write_all(digest.as_ref())?;
        self.out.flush()?;
        let file = self.out.get_ref();
        file.set_modified(modified)?;
        file.sync_all()?;
        fs::rename(&self.temporary, &self.path)?;
        self.is_finished = true;
        if let Some(directory) = self.path.parent() {
            // Without it, a crash of the machine may leave the former file, which is valid too.
            let _ = File::open(directory).and_then(|directory| directory.sync_all());
        }
        Ok(self.size + SHA256_OUTPUT_LEN as u64)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.is_finished {
            // A full disk needs the room.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Reads a verified file.
pub(super) struct Reader {
    path: PathBuf,
    input: io::Take<BufReader<File>>,
    message: Vec<u8>,
}

impl Reader {
    /// Opens and verifies a file, and reads its header.
    pub(super) fn open(path: &Path) -> Result<(Self, Header), SnapshotError> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        if size > MAX_SIZE + SHA256_OUTPUT_LEN as u64 {
            return Err(SnapshotError::TooLarge);
        }
        let mut input = BufReader::with_capacity(64 << 10, file);
        let prefix = MAGIC.len() as u64 + 4;
        let content = size.checked_sub(SHA256_OUTPUT_LEN as u64);
        let Some(content) = content.filter(|content| *content >= prefix) else {
            return Err(SnapshotError::NotSnapshot);
        };
        let mut magic = [0; MAGIC.len()];
        input.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(SnapshotError::NotSnapshot);
        }
        let mut format = [0; 4];
        input.read_exact(&mut format)?;
        let format = u32::from_be_bytes(format);
        if format != FORMAT {
            return Err(SnapshotError::Format(format));
        }
        verify(&mut input, content)?;
        input.seek(SeekFrom::Start(prefix))?;
        let mut reader = Self {
            path: path.to_owned(),
            input: input.take(content - prefix),
            message: Vec::new(),
        };
        let header = reader.next_message()?;
        let header = header.ok_or_else(|| SnapshotError::Malformed("no header".to_owned()))?;
        Ok((reader, header))
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The next object; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Object>, SnapshotError> {
        while let Some(message) = self.next_message::<SnapshotObject>()? {
            if let Some(object) = message.into_object().map_err(SnapshotError::Malformed)? {
                return Ok(Some(object));
            }
        }
        Ok(None)
    }

    fn next_message<M: Message + Default>(&mut self) -> Result<Option<M>, SnapshotError> {
        let malformed = |why: &str| SnapshotError::Malformed(why.to_owned());
        if self.input.limit() == 0 {
            return Ok(None);
        }
        let mut length = 0_u64;
        for shift in (0..).step_by(7) {
            let mut byte = [0];
            self.input.read_exact(&mut byte)?;
            length |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                break;
            }
            if shift >= 28 {
                return Err(malformed("the length of a message"));
            }
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MAX_MESSAGE {
            return Err(malformed("a message is too long"));
        }
        self.message.resize(length, 0);
        self.input.read_exact(&mut self.message)?;
        let decoded = M::decode(&*self.message);
        decoded
            .map(Some)
            .map_err(|error| malformed(&error.to_string()))
    }
}

/// Compares the checksum at the end of the file with that of the `content` bytes before it.
fn verify(input: &mut BufReader<File>, content: u64) -> Result<(), SnapshotError> {
    input.seek(SeekFrom::Start(0))?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 << 10];
    let mut left = content;
    while left > 0 {
        let wanted = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        input.read_exact(&mut buffer[..wanted])?;
        context.update(&buffer[..wanted]);
        left -= wanted as u64;
    }
    let mut checksum = [0; SHA256_OUTPUT_LEN];
    input.read_exact(&mut checksum)?;
    if context.finish().as_ref() == checksum {
        Ok(())
    } else {
        Err(SnapshotError::Damaged)
    }
}
