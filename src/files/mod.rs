//! Files that are reread when they change.
//!
//! ```text
//! poll      metadata compared every few seconds: hosts, zone files, weights, certificates
//! changes   notifications of the system: the Corefile, resolv.conf, manifests
//! cached    checked at use, once a minute: the token and the CA of the API server
//! ```
//!
//! Polling follows the symbolic links of a mounted ConfigMap and works on every file system; notifications
//! arrive within milliseconds.

mod cached;
mod changes;
mod poll;

use std::{io, os::unix::fs::FileTypeExt, path::Path};

pub use cached::Cached;
pub use changes::{Changes, directory_of};
pub use poll::{FileCheck, PolledFile, Stamp, poll};

/// Refuses a named pipe in place of a file: opening one blocks until there is a writer.
///
/// # Errors
/// It is a pipe, or the path does not exist.
pub fn not_a_pipe(path: impl AsRef<Path>) -> io::Result<()> {
    if std::fs::metadata(path)?.file_type().is_fifo() {
        return Err(io::Error::other("it is a pipe, not a file"));
    }
    Ok(())
}
