//! Standard output and standard error of the command line.
//!
//! `println!` and `eprintln!` panic if the stream cannot be written, for example on a full disk or
//! a closed pipe (`lodestone check | head`).

use std::{
    fmt,
    io::{self, ErrorKind, Write},
};

use crate::error_text;

/// Prints to standard output. A closed pipe is not an error.
///
/// # Errors
/// The text cannot be written, for example to a full disk. The message is one line.
pub fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let why = error_text::io(&error);
            Err(format!("error: cannot write to standard output: {why}"))
        }
        _ => Ok(()),
    }
}

/// Prints a line to standard error and ignores failures, which cannot be reported.
pub fn print_error(text: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}
