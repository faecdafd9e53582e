//! Corefiles with random mistakes: each yields a configuration or errors with positions, within a time limit.
//!
//! The files are the examples of the repository and those in the directory `LODESTONE_COREFILES`, if set.
//! `LODESTONE_MUTANTS` sets the number of mutants, and `LODESTONE_SEED` the seed. Findings of a fuzzer are in
//! [`FOUND`].

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "fuzz/oracle.rs"]
mod oracle;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// Default number of mutants.
const MUTANTS: u64 = 10_000;

/// Time limit per mutant. Typical times are below a hundredth of it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Texts that failed once.
const FOUND: &[&str] = &[
    "    \u{feff}\n.:53 {\n}\n",
    "# all of this long comment is longer than the default\nimport /etc/coredns/cust/*.server\n",
];

/// Words that are inserted or replace others.
const PIECES: &[&str] = &[
    "{",
    "}",
    "{ }",
    "\"",
    "\\",
    "#",
    ",",
    ":",
    "\n",
    "\r",
    " ",
    "\t",
    "\u{a0}",
    "\u{feff}",
    "\0",
    "é",
    "0",
    "-1",
    "1",
    "30s",
    "99999999999999999999",
    "1.1.1.1",
    "::1",
    "127.0.0.1:53",
    "tls://",
    "https://",
    "10.0.0.0/9",
    "2001:db8::/29",
    "::/0",
    ".",
    "..",
    "*",
    "@",
    "@kubernetes",
    "%",
    "{$",
    "{$POD_IP}",
    "{%POD_IP%}",
    "{$SELF}",
    "{$NONE}",
    "import ",
    "import circle\n",
    "(s)",
    "import s\n",
    "fallthrough",
    "cluster.local",
    "in-addr.arpa",
    "/etc/hosts",
    "regex",
    "(",
    ")",
    "[",
    "(?P<a>.*)",
    "{{ .Name }}",
    "{{",
    "ANY",
    "NXDOMAIN",
    "5s",
    "1h",
    "a.example b.example",
];

#[test]
fn earlier_findings_do_not_fail() {
    for text in FOUND {
        oracle::examine(text);
    }
}

#[test]
fn mutants_give_a_configuration_or_errors_with_positions() {
    let samples = samples();
    for sample in &samples {
        oracle::examine(sample);
    }
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let mutants = number("LODESTONE_MUTANTS").unwrap_or(MUTANTS);
    let seed = number("LODESTONE_SEED").unwrap_or_default();
    let (send, receive) = channel();
    thread::spawn(move || {
        let mut random = SmallRng::seed_from_u64(seed);
        for _ in 0..mutants {
            let text = mutant(&samples, &mut random);
            if send.send(Some(text.clone())).is_err() {
                return;
            }
            let begun = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| oracle::examine(&text)));
            if outcome.is_err() || begun.elapsed() > PATIENCE {
                let _ = send.send(None);
                return;
            }
        }
    });
    let mut last = String::new();
    let mut count = 0;
    loop {
        match receive.recv_timeout(PATIENCE) {
            Ok(Some(text)) => {
                last = text;
                count += 1;
            }
            Ok(None) => panic!("this text fails, or takes long: {last:?}"),
            Err(error) => {
                assert_eq!(count, mutants, "{error}: no end of {last:?}");
                return;
            }
        }
    }
}

/// The original Corefiles.
fn samples() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut samples = vec![fs::read_to_string(root.join("Corefile.example")).unwrap()];
    for page in fs::read_dir(root.join("docs/plugins")).unwrap() {
        let text = fs::read_to_string(page.unwrap().path()).unwrap();
        let examples = text.split("```corefile\n").skip(1);
        samples.extend(examples.filter_map(|it| Some(it.split_once("```")?.0.to_owned())));
    }
    if let Some(directory) = std::env::var_os("LODESTONE_COREFILES") {
        let mut paths: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        let texts = paths.iter().filter_map(|path| fs::read(path).ok());
        samples.extend(texts.map(|text| String::from_utf8_lossy(&text).into_owned()));
    }
    samples
}

/// A sample with one to six mistakes.
fn mutant(samples: &[String], random: &mut SmallRng) -> String {
    let pick = |random: &mut SmallRng| samples[random.random_range(0..samples.len())].clone();
    let mut text = pick(random);
    for _ in 0..random.random_range(1..=6) {
        text = match random.random_range(0..9) {
            0..=2 => mutate_line(&text, &pick(random), random),
            3..=6 => mutate_word(&text, &pick(random), random),
            _ => mutate_letter(&text, random),
        };
    }
    text
}

fn mutate_line(text: &str, other: &str, random: &mut SmallRng) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let others: Vec<&str> = other.lines().collect();
    let at = random.random_range(0..=lines.len());
    match random.random_range(0..6) {
        0 if at < lines.len() => {
            lines.remove(at);
        }
        1 if at < lines.len() => lines.insert(at, lines[at]),
        2 if !others.is_empty() => {
            lines.insert(at, others[random.random_range(0..others.len())]);
        }
        3 => lines.truncate(at),
        4 if !lines.is_empty() => {
            let with = random.random_range(0..lines.len());
            let last = lines.len() - 1;
            lines.swap(at.min(last), with);
        }
        // Two lines become one.
        _ => {
            let (before, after) = lines.split_at(at);
            return format!("{} {}", before.join("\n"), after.join("\n"));
        }
    }
    lines.join("\n") + "\n"
}

fn mutate_word(text: &str, other: &str, random: &mut SmallRng) -> String {
    let words: Vec<(usize, &str)> = text
        .split(char::is_whitespace)
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
        .collect();
    if words.is_empty() {
        return PIECES[random.random_range(0..PIECES.len())].to_owned();
    }
    let (at, word) = words[random.random_range(0..words.len())];
    let others: Vec<&str> = other.split_whitespace().collect();
    let new = match random.random_range(0..4) {
        0 => String::new(),
        1 => PIECES[random.random_range(0..PIECES.len())].to_owned(),
        2 if !others.is_empty() => others[random.random_range(0..others.len())].to_owned(),
        _ => format!("{word} {}", PIECES[random.random_range(0..PIECES.len())]),
    };
    format!("{}{new}{}", &text[..at], &text[at + word.len()..])
}

fn mutate_letter(text: &str, random: &mut SmallRng) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    let at = random.random_range(0..=letters.len());
    let end = (at + random.random_range(0..3)).min(letters.len());
    let piece = PIECES[random.random_range(0..PIECES.len())];
    let with = match random.random_range(0..3) {
        0 => Vec::new(),
        1 => piece.chars().collect(),
        _ => vec![char::from(random.random_range(0..=127_u8))],
    };
    letters.splice(at..end, with);
    letters.into_iter().collect()
}
