//! `pprof`: what the process costs, where `go tool pprof` looks for it; a setting, not a plugin.
//!
//! ```text
//! pprof [ADDRESS] {
//!     block [RATE]
//! }
//! ```
//!
//! The pages are [`super::Page::Profile`]. Nothing is measured until somebody asks, and asking
//! interrupts no thread: the figures are those that Linux keeps of every process. So they tell
//! threads and mappings apart, not functions; for those there is `perf`.

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

/// Reads the one `pprof` of a server block: where to serve, `localhost:6053` unless said otherwise.
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

/// The pages below `/debug/pprof/`.
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

profile?seconds=N  CPU time of each thread during N seconds (30 unless said, 50 at most), for 'go tool pprof'
heap               resident memory of each mapping, for 'go tool pprof'
threads            each thread with its state and its CPU time so far
cmdline            the command line

There are no profiles by function: 'perf record -g -p PID' makes them, the program has its symbols.
";

async fn index() -> &'static str {
    INDEX
}

async fn other() -> (StatusCode, String) {
    let told = format!("There is no such profile of this process.\n\n{INDEX}");
    (StatusCode::NOT_FOUND, told)
}

/// The words, with a zero octet between them, as Go serves them.
async fn command_line() -> String {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    words.collect::<Vec<_>>().join("\0")
}

#[derive(Deserialize)]
struct Span {
    #[serde(default = "half_a_minute")]
    seconds: u8,
}

fn half_a_minute() -> u8 {
    30
}

/// A connection lives for a minute.
const LONGEST: u8 = 50;

async fn cpu(Query(Span { seconds }): Query<Span>) -> Response {
    if !(1..=LONGEST).contains(&seconds) {
        let told = format!("seconds is a number from 1 to {LONGEST}\n");
        return (StatusCode::BAD_REQUEST, told).into_response();
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
    let told = format!("cannot read /proc: {error}\n");
    (StatusCode::INTERNAL_SERVER_ERROR, told).into_response()
}

fn encoded(profile: &Profile) -> Response {
    let head = [(CONTENT_TYPE, "application/octet-stream")];
    (head, profile.encode_to_vec()).into_response()
}

/// What each thread has used so far.
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
            // One that ends meanwhile is left out.
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

    /// What was used in between, which took `span`.
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
        let mut told = String::from("    id  state     user s   system s  name\n");
        for thread in &self.0 {
            let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
            let (user, system) = (seconds(thread.user), seconds(thread.system));
            let Thread {
                id, state, name, ..
            } = thread;
            // Writing to a string cannot fail.
            let _ = writeln!(told, "{id:6}  {state:5} {user:10.2} {system:10.2}  {name}");
        }
        told
    }
}

/// The resident memory by what is mapped.
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
        let octets = map.extension.map.get("Rss").copied();
        profile.add(&[&name], octets.unwrap_or_default());
    }
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_in_between_is_told_by_thread() {
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
        let told = profile.told();
        let expected = ["user udp-53 5", "system udp-53 20", "user new 7"];
        assert_eq!(told, expected);
    }

    #[test]
    fn this_process_has_threads_and_memory() {
        let list = CpuTimes::read().unwrap().list();
        assert!(list.lines().count() > 1, "{list}");
        let told = resident().unwrap().told();
        assert!(told.iter().any(|one| one.starts_with('/')), "{told:?}");
    }
}
