//! `health`: a liveness page that always reports success. A setting, not a plugin.
//!
//! ```text
//! health [ADDRESS] {
//!     lameduck DURATION
//!     quiet DURATION [MAX]
//! }
//! ```
//!
//! `quiet` is not in CoreDNS. [`Drain`] has the resulting times of the process.
//!
//! The page is [`Page::Health`](crate::http_page::Page::Health). Once a second the process requests
//! its own page and records the duration as a metric, which shows an overloaded process.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    corefile::{Arguments, Diagnostic, Directive, ErrorList, Listen, unknown_property},
    metrics::HealthMetrics,
};

/// Liveness page and shutdown delay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Listen address. Default: `:8080`.
    pub listen: Listen,
    /// How long queries are still answered after a stop signal, at least.
    pub lameduck: Duration,
    /// `quiet`, if it is configured.
    pub quiet: Option<Quiet>,
}

/// When the process stops answering after `lameduck`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// Time without a query after which the process stops; zero to stop after `lameduck`.
    pub period: Duration,
    /// Time since the stop signal after which it stops in any case.
    pub limit: Duration,
}

impl Default for Quiet {
    /// The usual grace period of a pod is 30 s. 20 s leave room for the pending queries and the plugins'
    /// output after it, which take at most 7 s.
    fn default() -> Self {
        Self {
            period: Duration::from_secs(1),
            limit: Duration::from_secs(20),
        }
    }
}

/// How long the process answers queries after SIGTERM: the longest times of all blocks with `health`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drain {
    /// At least this long.
    pub lameduck: Duration,
    /// And then until it is quiet.
    pub quiet: Option<Quiet>,
}

impl Drain {
    /// The times of all blocks together. Without `lameduck` and `quiet` the process stops at once, as it should on
    /// a laptop: `quiet` has a default only where `lameduck` is set.
    pub fn of<'c>(configs: impl Iterator<Item = &'c Config>) -> Self {
        let mut drain = Self::default();
        for config in configs {
            drain.lameduck = drain.lameduck.max(config.lameduck);
            if let Some(quiet) = config.quiet {
                let longest = drain.quiet.get_or_insert(quiet);
                longest.period = longest.period.max(quiet.period);
                longest.limit = longest.limit.max(quiet.limit);
            }
        }
        if !drain.lameduck.is_zero() {
            drain.quiet.get_or_insert_default();
        }
        drain.quiet = drain.quiet.filter(|quiet| !quiet.period.is_zero());
        drain
    }

    /// Whether the process stops at once.
    pub fn is_immediate(&self) -> bool {
        self.lameduck.is_zero() && self.quiet.is_none()
    }

    /// Whether the process stops now, `elapsed` after the signal and with the last query `idle` ago.
    pub fn is_over(&self, elapsed: Duration, idle: Duration) -> bool {
        let is_quiet = |quiet: Quiet| idle >= quiet.period || elapsed >= quiet.limit;
        elapsed >= self.lameduck && self.quiet.is_none_or(is_quiet)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Listen {
                host: "".into(),
                port: 8080,
            },
            lameduck: Duration::ZERO,
            quiet: None,
        }
    }
}

/// Parses all uses of `health` in a server block; later ones override earlier ones.
pub fn parse(directives: &[&Directive]) -> Result<Config, Vec<Diagnostic>> {
    let mut config = Config::default();
    let mut errors = ErrorList::default();
    for directive in directives {
        let listen = errors.catch(directive.listen()).flatten();
        config.listen = listen.unwrap_or(config.listen);
        for line in directive.properties() {
            match line.name().as_str() {
                "lameduck" => {
                    let read = line.arguments().exactly::<1>("a duration such as 5s");
                    let lameduck = errors.catch(read.and_then(|[word]| word.duration()));
                    config.lameduck = lameduck.unwrap_or(config.lameduck);
                }
                "quiet" => {
                    let quiet = errors.catch(parse_quiet(line.arguments()));
                    config.quiet = quiet.or(config.quiet);
                }
                _ => errors.push(unknown_property(line.name(), &["lameduck", "quiet"])),
            }
        }
    }
    errors.in_plugin("health").into_result(config)
}

fn parse_quiet(mut arguments: Arguments<'_>) -> Result<Quiet, Diagnostic> {
    let mut quiet = Quiet {
        period: arguments.required("a duration such as 1s")?.duration()?,
        ..Quiet::default()
    };
    if let Some(limit) = arguments.next() {
        quiet.limit = limit.duration()?;
    }
    arguments.none_left()?;
    Ok(quiet)
}

const PERIOD: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(3);
const REQUEST: &[u8] =
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nUser-Agent: lodestone\r\nConnection: close\r\n\r\n";
const STATUS_OK: &[u8; 12] = b"HTTP/1.1 200";

/// Requests the page at `address` once a second. Logs the first of consecutive failures.
pub(super) async fn check_self(address: SocketAddr, metrics: HealthMetrics) {
    let address = reachable(address);
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_ok = true;
    loop {
        ticks.tick().await;
        let start = Instant::now();
        let result = timeout(TIMEOUT, request(address)).await;
        let took = start.elapsed();
        metrics.request_duration_seconds.observe(took.as_secs_f64());
        let failure = match &result {
            Ok(Ok(())) if took <= PERIOD => None,
            Ok(Ok(())) => Some(format!("took {took:.1?}")),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {TIMEOUT:?}")),
        };
        if !matches!(result, Ok(Ok(()))) {
            metrics.request_failures_total.inc();
        }
        if let (true, Some(failure)) = (was_ok, &failure) {
            tracing::warn!("local health request to http://{address}/health: {failure}");
        }
        was_ok = failure.is_none();
    }
}

async fn request(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(REQUEST).await?;
    let mut status = [0; STATUS_OK.len()];
    stream.read_exact(&mut status).await?;
    if status != *STATUS_OK {
        return Err(io::Error::other("the answer is not 200"));
    }
    // Reads to the end: closing with unread data would reset the connection.
    let mut rest = [0; 512];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// An address that connects to the listener: loopback if it listens on all addresses.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        match address {
            SocketAddr::V4(_) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            SocketAddr::V6(_) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corefile;

    fn parsed(text: &str) -> Result<(String, u64), String> {
        let config = config(text)?;
        Ok((config.listen.to_string(), config.lameduck.as_secs()))
    }

    fn config(text: &str) -> Result<Config, String> {
        let text = format!(". {{\n{text}\n}}\n");
        let memory = corefile::InMemory::default();
        let file = corefile::parse("Corefile", &text, &["health"], &memory).unwrap();
        let directives: Vec<_> = file.blocks[0].directives.iter().collect();
        parse(&directives)
            .map_err(|refused| refused.into_iter().map(|one| one.message + "\n").collect())
    }

    /// Lame duck, quiet and limit in seconds.
    fn drain(blocks: &[&str]) -> (u64, Option<(u64, u64)>) {
        let configs: Vec<_> = blocks.iter().map(|text| config(text).unwrap()).collect();
        let drain = Drain::of(configs.iter());
        let quiet = |quiet: Quiet| (quiet.period.as_secs(), quiet.limit.as_secs());
        (drain.lameduck.as_secs(), drain.quiet.map(quiet))
    }

    #[test]
    fn quiet_has_a_default_only_with_lameduck() {
        let lameduck = "health {\nlameduck 5s\n}";
        for (blocks, wanted) in [
            (&[][..], (0, None)),
            (&["health"], (0, None)),
            (&[lameduck], (5, Some((1, 20)))),
            (&["health {\nquiet 2s\n}"], (0, Some((2, 20)))),
            (&[lameduck, "health {\nquiet 2s 1m\n}"], (5, Some((2, 60)))),
            (&["health {\nlameduck 5s\nquiet 0s\n}"], (5, None)),
            (
                &[
                    "health {\nlameduck 7s\nquiet 3s 5s\n}",
                    "health {\nquiet 2s 9s\n}",
                ],
                (7, Some((3, 9))),
            ),
        ] {
            assert_eq!(drain(blocks), wanted, "{blocks:?}");
        }
    }

    #[test]
    fn a_drain_ends_after_lameduck_once_it_is_quiet_and_at_the_limit() {
        let seconds = Duration::from_secs;
        let drain = |lameduck, quiet: Option<(u64, u64)>| Drain {
            lameduck: seconds(lameduck),
            quiet: quiet.map(|(period, limit)| Quiet {
                period: seconds(period),
                limit: seconds(limit),
            }),
        };
        let normal = drain(5, Some((1, 20)));
        for (drain, elapsed, idle, is_over) in [
            (normal, 4, 4, false),
            (normal, 5, 5, true),
            (normal, 5, 0, false),
            (normal, 19, 0, false),
            (normal, 20, 0, true),
            (drain(5, None), 5, 0, true),
            (drain(5, Some((1, 3))), 4, 0, false),
            (drain(5, Some((1, 3))), 5, 0, true),
            (drain(0, Some((1, 20))), 0, 0, false),
            (drain(0, Some((1, 20))), 1, 1, true),
        ] {
            let over = drain.is_over(seconds(elapsed), seconds(idle));
            assert_eq!(over, is_over, "{drain:?} {elapsed} {idle}");
        }
        assert!(drain(0, None).is_immediate());
        assert!(!drain(1, None).is_immediate() && !drain(0, Some((1, 20))).is_immediate());
    }

    #[test]
    fn lines_of_a_corefile() {
        for (text, wanted) in [
            ("health", (":8080", 0)),
            ("health :8081", (":8081", 0)),
            ("health {\nlameduck 5s\n}", (":8080", 5)),
            (
                "health 127.0.0.1:80 {\nlameduck 1m\n}\nhealth",
                ("127.0.0.1:80", 60),
            ),
        ] {
            assert_eq!(
                parsed(text).unwrap(),
                (wanted.0.to_owned(), wanted.1),
                "{text}"
            );
        }
        for (text, wanted) in [
            ("health 8080", "missing port"),
            ("health :1 :2", "Wrong argument count"),
            ("health {\nlameduck\n}", "Wrong argument count"),
            ("health {\nlameduck 5\n}", "missing unit"),
            ("health {\nlameduck 5s 6s\n}", "Wrong argument count"),
            ("health {\nlameduk 5s\n}", "unknown property"),
            ("health {\nquiet\n}", "Wrong argument count"),
            ("health {\nquiet 1\n}", "missing unit"),
            ("health {\nquiet 1s 20\n}", "missing unit"),
            ("health {\nquiet 1s 20s 3s\n}", "Wrong argument count"),
        ] {
            let refused = parsed(text).unwrap_err();
            assert!(refused.contains(wanted), "{text}: {refused}");
        }
    }
}
