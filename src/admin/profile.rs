//! `pprof`: resource usage of the process for `go tool pprof`. A setting, not a plugin.
//!
//! ```text
//! pprof [ADDRESS] {
//!     block [RATE]
//! }
//! ```
//!
//! The page is [`Page::Profile`](crate::http_page::Page::Profile). Figures are read from `/proc` on
//! request, without interrupting threads. They distinguish threads and mappings, not functions; use
//! `perf` for those.

mod encoding;

use std::{collections::HashMap, fmt::Write, time::Duration};

use axum::{
    Router,
    extract::Query,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use procfs::{
    ProcResult,
    process::{MMapPath, Process},
};
use prost::Message;
use serde::Deserialize;

use self::encoding::Profile;
use crate::corefile::{Diagnostic, Directive, Listen, unknown_property};

/// Parses `pprof`. Default address: `localhost:6053`.
pub fn parse(directive: &Directive, warnings: &mut Vec<Diagnostic>) -> Result<Listen, Diagnostic> {
    let mut arguments = directive.arguments();
    let listen = match arguments.next() {
        None => Listen {
            host: "localhost".into(),
            port: 6053,
        },
        Some(word) => word.listen()?,
    };
    arguments.none_left()?;
    for line in directive.properties() {
        if *line.name() != "block" {
            return Err(unknown_property(line.name(), &["block"]));
        }
        let mut arguments = line.arguments();
        if let Some(rate) = arguments.next() {
            rate.integer(1..=i64::MAX)?;
        }
        arguments.none_left()?;
        let warning = line.name().warning("there is no profile of blocking here");
        warnings.push(
            warning
                .help("remove the line: nothing in this process waits for a lock for long")
                .in_plugin("pprof"),
        );
    }
    Ok(listen)
}

/// Routes below `/debug/pprof/`.
pub(super) fn pages() -> Router {
    Router::new()
        .route("/debug/pprof", get(index))
        .route("/debug/pprof/", get(index))
        .route("/debug/pprof/cmdline", get(command_line))
        .route("/debug/pprof/profile", get(cpu))
        .route("/debug/pprof/heap", get(memory))
        .route("/debug/pprof/threads", get(threads))
        .route("/debug/pprof/{other}", get(other))
}

const INDEX: &str = "\
/debug/pprof/

profile?seconds=N  CPU time of each thread during N seconds (default 30, at most 50), for 'go tool pprof'
heap               resident memory of each mapping, for 'go tool pprof'
threads            each thread with its state and its CPU time so far
cmdline            the command line

Profiles by function are not available here: use 'perf record -g -p PID' (the binary has symbols).
";

async fn index() -> &'static str {
    INDEX
}

async fn other() -> (StatusCode, String) {
    let text = format!("There is no such profile of this process.\n\n{INDEX}");
    (StatusCode::NOT_FOUND, text)
}

/// The arguments separated by NUL bytes, as in Go.
async fn command_line() -> String {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    words.collect::<Vec<_>>().join("\0")
}

#[derive(Deserialize)]
struct CpuQuery {
    #[serde(default = "default_seconds")]
    seconds: u8,
}

fn default_seconds() -> u8 {
    30
}

/// Below the maximum connection lifetime of one minute.
const MAX_SECONDS: u8 = 50;

async fn cpu(Query(CpuQuery { seconds }): Query<CpuQuery>) -> Response {
    if !(1..=MAX_SECONDS).contains(&seconds) {
        let text = format!("seconds is a number from 1 to {MAX_SECONDS}\n");
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    let span = Duration::from_secs(seconds.into());
    let before = match CpuTimes::read() {
        Ok(times) => times,
        Err(error) => return unreadable(&error),
    };
    tokio::time::sleep(span).await;
    match CpuTimes::read() {
        Ok(after) => encoded(&after.since(&before, span)),
        Err(error) => unreadable(&error),
    }
}

async fn memory() -> Response {
    match resident() {
        Ok(profile) => encoded(&profile),
        Err(error) => unreadable(&error),
    }
}

async fn threads() -> Response {
    match CpuTimes::read() {
        Ok(times) => times.list().into_response(),
        Err(error) => unreadable(&error),
    }
}

fn unreadable(error: &procfs::ProcError) -> Response {
    let text = format!("cannot read /proc: {error}\n");
    (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
}

fn encoded(profile: &Profile) -> Response {
    let head = [(CONTENT_TYPE, "application/octet-stream")];
    (head, profile.encode_to_vec()).into_response()
}

/// CPU time of each thread so far.
struct CpuTimes(Vec<Thread>);

struct Thread {
    id: i32,
    name: String,
    state: char,
    /// In nanoseconds.
    user: u64,
    system: u64,
}

impl CpuTimes {
    fn read() -> ProcResult<Self> {
        let tick = 1_000_000_000 / procfs::ticks_per_second().max(1);
        let mut threads = Vec::new();
        for task in Process::myself()?.tasks()? {
            // Threads that exit meanwhile are skipped.
            if let Ok(stat) = task.and_then(|task| task.stat()) {
                threads.push(Thread {
                    id: stat.pid,
                    name: stat.comm,
                    state: stat.state,
                    user: stat.utime * tick,
                    system: stat.stime * tick,
                });
            }
        }
        Ok(Self(threads))
    }

    /// CPU time used since `before`, which was `span` ago.
    fn since(&self, before: &Self, span: Duration) -> Profile {
        let before: HashMap<i32, &Thread> = before.0.iter().map(|one| (one.id, one)).collect();
        let mut profile = Profile::new("cpu", "nanoseconds");
        profile.duration_nanos = i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        for thread in &self.0 {
            let first = before.get(&thread.id);
            let user = thread.user - first.map_or(0, |one| one.user.min(thread.user));
            let system = thread.system - first.map_or(0, |one| one.system.min(thread.system));
            profile.add(&["user", &thread.name], user);
            profile.add(&["system", &thread.name], system);
        }
        profile
    }

    fn list(&self) -> String {
        let mut text = String::from("    id  state     user s   system s  name\n");
        for thread in &self.0 {
            let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
            let (user, system) = (seconds(thread.user), seconds(thread.system));
            let Thread {
                id, state, name, ..
            } = thread;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{id:6}  {state:5} {user:10.2} {system:10.2}  {name}");
        }
        text
    }
}

/// Resident memory by mapping.
fn resident() -> ProcResult<Profile> {
    let mut profile = Profile::new("resident", "bytes");
    for map in Process::myself()?.smaps()? {
        let name = match &map.pathname {
            MMapPath::Path(path) => path.display().to_string(),
            MMapPath::Heap => "[heap]".to_owned(),
            MMapPath::Stack | MMapPath::TStack(_) => "[stack]".to_owned(),
            MMapPath::Anonymous => "[anonymous]".to_owned(),
            _ => "[other]".to_owned(),
        };
        let bytes = map.extension.map.get("Rss").copied();
        profile.add(&[&name], bytes.unwrap_or_default());
    }
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_reported_by_thread() {
        let thread = |id, name: &str, user, system| Thread {
            id,
            name: name.to_owned(),
            state: 'S',
            user,
            system,
        };
        let before = CpuTimes(vec![thread(1, "udp-53", 10, 20), thread(3, "gone", 5, 5)]);
        let after = CpuTimes(vec![thread(1, "udp-53", 15, 40), thread(2, "new", 7, 0)]);
        let profile = after.since(&before, Duration::from_secs(2));
        assert_eq!(profile.duration_nanos, 2_000_000_000);
        let text = profile.samples_as_text();
        let expected = ["user udp-53 5", "system udp-53 20", "user new 7"];
        assert_eq!(text, expected);
    }

    #[test]
    fn threads_and_memory_of_this_process_are_reported() {
        let list = CpuTimes::read().unwrap().list();
        assert!(list.lines().count() > 1, "{list}");
        let text = resident().unwrap().samples_as_text();
        assert!(text.iter().any(|one| one.starts_with('/')), "{text:?}");
    }
}
