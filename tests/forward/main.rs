//! `forward` through the library's public interface, with real sockets.
//!
//! `upstream` is a scripted upstream server; `served` is a server block with `loop` and `forward` lines.
//! All traffic is on loopback.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod answers;
mod authority;
mod budget;
mod choice;
mod dead;
mod health;
mod hickory;
mod hosts;
mod https;
#[cfg(target_os = "linux")]
mod icmp;
mod loops;
mod quic;
mod served;
mod sources;
mod streams;
mod trouble;
mod upstream;
