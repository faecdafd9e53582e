//! Files that are read again when they change.
//!
//! ```text
//! poll      a look every few seconds: hosts, zone files, weights, certificates
//! changes   notifications of the system: the Corefile, resolv.conf, manifests
//! cached    a look at use, once a minute: the token and the CA of the API server
//! ```
//!
//! A look follows the symbolic links that a mounted ConfigMap is made of and works on every file system;
//! a notification comes within milliseconds.

mod cached;
mod changes;
mod poll;

pub use cached::Cached;
pub use changes::{Changes, directory_of};
pub use poll::{Look, PolledFile, Stamp, poll};
