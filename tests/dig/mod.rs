//! Runs `dig` commands of a page in a shell.

use std::process::Command;

/// Whether `dig` is installed; prints a message if not.
pub fn is_here() -> bool {
    let here = Command::new("dig").arg("-v").output().is_ok();
    if !here {
        eprintln!("skipped: there is no dig on this machine");
    }
    here
}

/// The output of a command.
pub fn shell(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
