//! Arbitrary bytes for the target that the binary is named after: see `targets`.

#![no_main]

#[path = "targets/mod.rs"]
mod targets;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    targets::run(env!("CARGO_BIN_NAME"), bytes);
});
