//! `lodestone lab`: its printed guide, and the course in `docs/lab.md`, each command of which is run in a shell.
//!
//! Without `dig` the commands are skipped with a message.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod course;
#[path = "../dig/mod.rs"]
mod dig;
mod document;
mod guide;
mod running;
