//! Standard output and standard error of the command line.
//!
//! `println!` and `eprintln!` panic where the stream cannot be written: a full disk, or a pipe whose
//! reader has ended (`lodestone check | head`).

use std::{
    fmt,
    io::{self, ErrorKind, Write},
};

use crate::plain;

/// Prints to standard output. A pipe without a reader is no error, since the reader has all that it
/// wanted.
///
/// # Errors
/// The text cannot be written, such as to a full disk. The message says so in one line.
pub fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let why = plain::io(&error);
            Err(format!("error: cannot write to standard output: {why}"))
        }
        _ => Ok(()),
    }
}

/// Prints a line to standard error. Where that fails, there is no other place to report it.
pub fn complain(text: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}
