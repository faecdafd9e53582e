//! Mutants of files: flipped bits, other bytes, cuts, repetitions, and parts of other files.

use rand::{RngExt, rngs::SmallRng};

/// Bytes at the limits of what parsers compare: label lengths and types, signs, brackets, quotes.
const BYTES: &[u8] = b"\0\x01\x3F\x40\x7F\x80\xBF\xC0\xFE\xFF\n\t \"\\{}[],:;().*$#-";

/// Sequences that are inserted.
const PIECES: &[&[u8]] = &[
    b"\xC0\x0C",
    b"\xFF\xFF",
    b"\0\0\0\0",
    b"\xFF\xFF\xFF\xFF",
    b"\0\0\x29\x10\0\0\0\x80\0\0\0",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"18446744073709551616",
    b"-1",
    b"1e400",
    b"{{",
    b"\\255",
    b"\\u0000",
    b"\xEF\xBB\xBF",
    b"\xF0\x9F\x98\x80",
    b"\r\n",
    b"---\n",
    b"null",
    b"[[[[[[[[[[[[[[[[",
    b"$INCLUDE a\n",
    b"&a [*a]",
];

/// Maximum length of a mutant.
const LONGEST: usize = 70_000;

/// One of the files, with one to five changes, mostly few.
pub fn mutant(seeds: &[(String, Vec<u8>)], random: &mut SmallRng) -> Vec<u8> {
    let mut bytes = pick(seeds, random).clone();
    let most = random.random_range(1..=5);
    for _ in 0..random.random_range(1..=most) {
        let other = pick(seeds, random);
        change(&mut bytes, other, random);
        bytes.truncate(LONGEST);
    }
    bytes
}

fn pick<'s>(seeds: &'s [(String, Vec<u8>)], random: &mut SmallRng) -> &'s Vec<u8> {
    &seeds[random.random_range(0..seeds.len())].1
}

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut SmallRng) {
    let at = random.random_range(0..=bytes.len());
    let end = (at + random.random_range(0..=16)).min(bytes.len());
    match random.random_range(0..10) {
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
        2 if at < bytes.len() => bytes[at] = random.random(),
        3 | 4 if at < bytes.len() => bytes[at] = BYTES[random.random_range(0..BYTES.len())],
        5 => drop(bytes.drain(at..end)),
        6 => {
            let piece = PIECES[random.random_range(0..PIECES.len())];
            bytes.splice(at..at, piece.iter().copied());
        }
        7 => {
            // A part again, up to 40 times.
            let part = bytes[at..end].to_vec();
            let times = random.random_range(1..=40);
            bytes.splice(at..at, part.repeat(times));
        }
        8 if !other.is_empty() => {
            // A part of another file.
            let from = random.random_range(0..other.len());
            let to = (from + random.random_range(1..=64)).min(other.len());
            bytes.splice(at..end, other[from..to].iter().copied());
        }
        _ => {
            // Cuts are rarer than they seem: half of them are near the end.
            let keep = if random.random() {
                at
            } else {
                end.max(bytes.len().saturating_sub(8))
            };
            bytes.truncate(keep);
        }
    }
}
