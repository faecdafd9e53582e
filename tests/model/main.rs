//! The cluster's names against a model of them: plain maps and texts, written from the
//! specification, slow and without any of the server's own means.
//!
//! `PROPTEST_CASES=100000 cargo test --release --test model` tries as many sequences of events:
//! six minutes of one core, last without a difference.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod agreement;
mod ask;
mod generate;
mod halves;
mod large;
mod naive;
mod questions;
mod told;
mod within;
mod world;

#[path = "../apiserver/mod.rs"]
mod apiserver;
#[path = "../process/server.rs"]
#[allow(dead_code)] // the tests of the process need the rest
mod process;
