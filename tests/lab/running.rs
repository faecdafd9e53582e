//! A running lab.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A lab on free ports, killed on drop.
pub struct Lab {
    child: Child,
    /// Parent of the lab's directory.
    parent: tempfile::TempDir,
    /// The printed guide.
    pub page: String,
    log: Arc<Log>,
}

/// Output after the guide.
#[derive(Default)]
struct Log {
    text: Mutex<String>,
    changed: Condvar,
}

impl Lab {
    /// Starts the lab and reads its guide.
    pub fn start() -> Self {
        let parent = tempfile::tempdir().unwrap();
        Self::start_in(parent, &["--port", "0"]).unwrap()
    }

    /// Starts a lab with these arguments and a directory for temporary files. The error is what it printed.
    pub fn start_in(parent: tempfile::TempDir, arguments: &[&str]) -> Result<Self, String> {
        let mut child = command(parent.path())
            .arg("lab")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut page = String::new();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        // The last line of the guide.
        while !page.contains("unshare") {
            if reader.read_line(&mut page).unwrap() == 0 {
                let output = child.wait_with_output().unwrap();
                return Err(page + &String::from_utf8(output.stderr).unwrap());
            }
        }
        let log = Arc::new(Log::default());
        // Also drains the output, so that the lab does not block.
        let into = Arc::clone(&log);
        thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                *into.text.lock().unwrap() += &(line + "\n");
                into.changed.notify_all();
            }
        });
        Ok(Self {
            child,
            parent,
            page,
            log,
        })
    }

    /// Waits until the log fulfils a condition; the log otherwise.
    pub fn wait(&self, patience: Duration, is_met: impl Fn(&str) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        let mut text = self.log.text.lock().unwrap();
        while !is_met(&text) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(text.clone());
            }
            text = self.log.changed.wait_timeout(text, left).unwrap().0;
        }
        Ok(())
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.log.text.lock().unwrap().clone()
    }

    /// Parent of the lab's directory: the directory for temporary files.
    pub fn parent(&self) -> &Path {
        self.parent.path()
    }

    /// The lab's directory.
    pub fn directory(&self) -> PathBuf {
        let entry = self.parent.path().read_dir().unwrap().next().unwrap();
        entry.unwrap().path()
    }

    /// Common prefix of the guide's commands.
    pub fn dig(&self) -> String {
        let mut lines = self.page.lines();
        let line = lines.find(|line| line.starts_with("  dig ")).unwrap();
        let words: Vec<&str> = line.split_whitespace().take(4).collect();
        words.join(" ")
    }

    /// The output and exit code of a command of the program, with the lab's directory for temporary files.
    pub fn run(&self, arguments: &[&str]) -> (String, i32) {
        let output = command(self.parent()).args(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            String::from_utf8(text).unwrap(),
            output.status.code().unwrap(),
        )
    }

    /// Ends the lab like Ctrl-C; returns the parent of its directory.
    pub fn interrupt(mut self) -> tempfile::TempDir {
        let pid = self.child.id().to_string();
        let kill = Command::new("kill").args(["-INT", &pid]).status().unwrap();
        assert!(kill.success());
        assert!(self.child.wait().unwrap().success());
        std::mem::replace(&mut self.parent, tempfile::tempdir().unwrap())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The process may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, with this directory for temporary files.
fn command(temporary: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lodestone"));
    command.env("TMPDIR", temporary);
    command
}
