//! Arbitrary text as a Corefile: see `oracle`.

#![no_main]

#[path = "../oracle.rs"]
mod oracle;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    oracle::examine(&String::from_utf8_lossy(bytes));
});
