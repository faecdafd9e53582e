//! `dig` lines of a page, given to a shell as a person would.

use std::process::Command;

/// Whether this machine has `dig`; says so where it has none.
pub fn is_here() -> bool {
    let here = Command::new("dig").arg("-v").output().is_ok();
    if !here {
        eprintln!("skipped: there is no dig on this machine");
    }
    here
}

/// What a line shows.
pub fn shell(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
