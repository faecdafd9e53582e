//! Mistakes that people make with cluster DNS, and what the server says about each: the extended DNS error (RFC
//! 8914), and the TXT record of `NAME.why.ZONE`. Through sockets, from a process that serves manifests.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod client;
mod explain;
mod mistakes;
mod rare;
mod reports;
#[path = "../process/server.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod server;
mod upstream;
mod world;
