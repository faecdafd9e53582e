//! Certificates and keys, from their files to rustls's configurations.
//!
//! ```text
//! pem        certificates and keys in PEM files, and why they cannot be used
//! server     the files of a server, and what it asks of its clients
//! identity   a server's certificate in use, reloaded when its files change
//! shown      what clients see of it: compared where blocks share a listener
//! client     the files of a client
//! unchecked  certificates of the other side that are not checked
//! key_log    the secrets of connections, for captured traffic
//! ```
//!
//! Which certificates are accepted from the other side is [`crate::trust`]'s.

mod client;
mod identity;
mod key_log;
mod pem;
mod server;
mod shown;
mod unchecked;

pub use client::{ClientFiles, unchecked};
pub use identity::{INTERVAL, Identity, Protocol};
pub use pem::TlsError;
pub use server::{ClientAuth, ServerFiles};
pub use shown::{Difference, Shown};
