//! Files that are read again when they change.
//!
//! ```text
//! poll      a look every few seconds: hosts, zone files, weights, certificates
//! changes   notifications of the system: the Corefile, resolv.conf, manifests
//! ```
//!
//! A look follows the symbolic links that a mounted ConfigMap is made of and works on every file system;
//! a notification comes within milliseconds.

mod changes;
mod poll;

pub use changes::{Changes, directory_of};
pub use poll::{Look, PolledFile, Stamp, poll};
