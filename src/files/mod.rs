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

pub use cached::Cached;
pub use changes::{Changes, directory_of};
pub use poll::{FileCheck, PolledFile, Stamp, poll};
