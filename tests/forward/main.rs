//! Forwarding through the library's public face: a Corefile in, real sockets, real octets.
//!
//! `upstream` is the server that is asked, which does as its script says; `served` is a block of
//! the Corefile's `loop` and `forward` lines, built as a server would. Nothing leaves loopback.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod answers;
mod authority;
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
mod thread;
mod trouble;
mod upstream;
