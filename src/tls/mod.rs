//! Certificates and keys: from their files to rustls's configurations.
//!
//! ```text
//! credentials certificates and keys of their files, and why they cannot be used
//! server     the files of a server, and whether its clients authenticate
//! identity   a server's certificate in use, reloaded when its files change
//! presented  what clients see of it: compared where blocks share a listener
//! client     the files of a client
//! unchecked  verifiers that accept any certificate
//! key_log    secrets of connections, for decrypting captured traffic
//! ```
//!
//! Which certificates are accepted from the peer is decided in `trust`.

mod client;
mod credentials;
mod identity;
mod key_log;
mod presented;
mod server;
mod unchecked;

pub use client::{ClientFiles, unchecked};
pub use credentials::TlsError;
pub use identity::{AlpnProtocol, INTERVAL, Identity};
pub use presented::{Presented, PresentedDifference};
pub use server::{ClientAuth, ServerFiles};
