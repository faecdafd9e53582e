//! Files that are reread when they change.
//!
//! ```text
//! poll metadata compared every few seconds: hosts, zone files, weights, certificates changes notifications
//! of the system: the Corefile, resolv.conf, manifests
//! ```
//!
//! Polling follows the symbolic links of a mounted ConfigMap and works on every file system; notifications
//! arrive within milliseconds.

mod changes;
mod poll;

pub use changes::{Changes, directory_of};
pub use poll::{FileCheck, PolledFile, Stamp, poll};
