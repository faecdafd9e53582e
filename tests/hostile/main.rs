//! Hostile input: each file of the corpus, and mutants of them, through every parser of input of others.
//!
//! The targets are those of the fuzzer (`tests/fuzz`), with a fixed number of runs and a fixed seed.
//! `LODESTONE_HOSTILE_RUNS` multiplies the number, and `LODESTONE_SEED` sets the seed. What a fuzzer finds
//! becomes a file of the corpus.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../fuzz/targets/mod.rs"]
mod targets;

mod mutate;

use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    time::Instant,
};

use lodestone::{
    message::{read_reply, read_signature},
    reply::Reply,
    wire::{Header, Name},
};
use rand::{SeedableRng, rngs::SmallRng};

use self::{
    mutate::mutant,
    targets::{TARGETS, Target},
};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

/// The files of a target, by name.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut seeds: Vec<_> = fs::read_dir(corpus().join(target))
        .unwrap_or_else(|error| panic!("no corpus of {target}: {error}"))
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect();
    seeds.sort();
    seeds
}

/// Runs a target; what fails it is shown as a literal of Rust.
fn run(target: &Target, what: &str, bytes: &[u8]) {
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
    if let Err(panic) = outcome {
        eprintln!(
            "{} fails for {what}: b\"{}\"",
            target.name,
            bytes.escape_ascii()
        );
        resume_unwind(panic);
    }
}

fn run_all(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = seeds(name);
    assert!(seeds.len() >= 3, "{name}: {} seeds", seeds.len());
    for (file, bytes) in &seeds {
        run(target, file, bytes);
        for cut in [0, 1, bytes.len() / 2, bytes.len().saturating_sub(1)] {
            run(target, "a prefix", &bytes[..cut.min(bytes.len())]);
        }
    }
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    let factor = number("LODESTONE_HOSTILE_RUNS").unwrap_or(1);
    let seed = number("LODESTONE_SEED").unwrap_or_default();
    let mut random = SmallRng::seed_from_u64(seed.into());
    for count in 0..target.runs * factor {
        let bytes = mutant(&seeds, &mut random);
        run(target, &format!("mutant {count} of seed {seed}"), &bytes);
    }
}

#[test]
fn every_target_has_a_corpus_a_fuzzer_and_a_test() {
    let names: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    let folders = fs::read_dir(corpus()).unwrap();
    let folders: BTreeSet<String> = folders
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert!(folders.iter().map(String::as_str).eq(names.iter().copied()));
    let manifest = corpus().with_file_name("Cargo.toml");
    let manifest = fs::read_to_string(manifest).unwrap();
    let source = include_str!("main.rs");
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}");
        assert!(source.contains(&format!("run_all(\"{name}\");")), "{name}");
    }
}

/// A message with a chain of 8,000 pointers, and the last of them.
fn chained(counts: [u16; 4]) -> (Vec<u8>, [u8; 2]) {
    let mut message = vec![0, 0, 0x81, 0x80];
    message.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
    message.extend(b"\x03www\x07example\x03org\0\0\x01\0\x01");
    let chain = 8_000_u16;
    if counts[1] > 0 {
        // A TXT record of pointers, each to the one before it, the first to the question.
        message.extend(b"\0\0\x10\0\x01\0\0\0\0");
        message.extend((2 * chain).to_be_bytes());
    }
    let mut last = 12_u16;
    for _ in 0..chain {
        let here = u16::try_from(message.len()).unwrap();
        message.extend((0xC000 | last).to_be_bytes());
        last = here;
    }
    (message, (0xC000 | last).to_be_bytes())
}

/// In 64 KiB there is room for a long chain of pointers once, and for thousands of names that begin with it.
#[test]
fn chains_of_compression_pointers_are_refused() {
    let (mut message, last) = chained([1, 3_001, 0, 0]);
    for _ in 0..3_000 {
        message.extend(last);
        message.extend(b"\0\x06\0\x01\0\0\0\0\0\x04");
        message.extend([last, last].concat());
    }
    assert!(message.len() <= 65_535);
    let begun = Instant::now();
    let read = read_reply(&message, &mut Reply::default());
    assert!(read.is_err(), "read in {:?}", begun.elapsed());

    // Of a malformed query, questions and records are still read in search of a signature.
    let (mut message, last) = chained([8_000, 0, 0, 0]);
    // The chain is read as questions too, so their number is limited by its end.
    for _ in 0..8_000 {
        message.extend(last);
        message.extend([0, 1, 0, 1]);
    }
    assert!(message.len() <= 65_535);
    let header = Header::read(&message).unwrap();
    let begun = Instant::now();
    let read = read_signature(&message, &header);
    assert!(read.is_err(), "read in {:?}", begun.elapsed());

    // As many pointers as a name can have labels are followed.
    let mut message = b"\0".to_vec();
    let mut last = 0_u16;
    for _ in 0..127 {
        let here = u16::try_from(message.len()).unwrap();
        message.extend(b"\x01a");
        message.extend((0xC000 | last).to_be_bytes());
        last = here;
    }
    let (name, _) = Name::read(&message, last.into()).unwrap();
    assert_eq!(name.as_ref().label_count(), 127);
}

#[test]
fn queries_get_a_reply_within_their_limit() {
    run_all("query");
}

#[test]
fn streams_get_complete_replies() {
    run_all("framing");
}

#[test]
fn names_round_trip() {
    run_all("names");
}

#[test]
fn options_are_bounded_and_round_trip() {
    run_all("edns");
}

#[test]
fn proxy_headers_are_bounded() {
    run_all("proxy");
}

#[test]
fn replies_of_upstreams_are_bounded_and_round_trip() {
    run_all("reply");
}

#[test]
fn corefiles_give_a_configuration_or_errors_with_positions() {
    run_all("corefile");
}

#[test]
fn zone_files_round_trip() {
    run_all("zone");
}

#[test]
fn manifests_give_objects_that_can_be_looked_up() {
    run_all("manifests");
}

#[test]
fn snapshots_round_trip() {
    run_all("snapshot");
}

#[test]
fn objects_can_be_looked_up() {
    run_all("objects");
}

#[test]
fn lists_are_split_alike_in_parts_of_any_size() {
    run_all("list");
}
