//! The cluster's answers compared with a model: plain maps and strings, written from the specification, slow,
//! and without the server's code.
//!
//! `PROPTEST_CASES=100000 cargo test --release --test model` runs that many sequences of events: six minutes on
//! one core, most recently without a difference.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod agreement;
mod ask;
mod atomicity;
mod generate;
mod large;
mod naive;
mod questions;
mod source;
mod within;
mod world;

#[path = "../apiserver/mod.rs"]
mod apiserver;
#[path = "../process/server.rs"]
#[allow(dead_code)] // used by the process tests
mod process;
