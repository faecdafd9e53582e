//! `health`: a liveness page that always reports success. A setting, not a plugin.
//!
//! ```text
//! health [ADDRESS] {
//!     lameduck DURATION
//! }
//! ```
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
    corefile::{Diagnostic, Directive, ErrorList, Listen, unknown_property},
    metrics::HealthMetrics,
};

/// Liveness page and shutdown delay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Listen address. Default: `:8080`.
    pub listen: Listen,
    /// How long queries are still answered after a stop signal.
    pub lameduck: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Listen {
                host: "".into(),
                port: 8080,
            },
            lameduck: Duration::ZERO,
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
            if *line.name() != "lameduck" {
                errors.push(unknown_property(line.name(), &["lameduck"]));
                continue;
            }
            let read = line.arguments().exactly::<1>("a duration such as 5s");
            let lameduck = errors.catch(read.and_then(|[word]| word.duration()));
            config.lameduck = lameduck.unwrap_or(config.lameduck);
        }
    }
    errors.in_plugin("health").into_result(config)
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
        let text = format!(". {{\n{text}\n}}\n");
        let memory = corefile::InMemory::default();
        let file = corefile::parse("Corefile", &text, &["health"], &memory).unwrap();
        let directives: Vec<_> = file.blocks[0].directives.iter().collect();
        match parse(&directives) {
            Ok(config) => Ok((config.listen.to_string(), config.lameduck.as_secs())),
            Err(refused) => Err(refused.into_iter().map(|one| one.message + "\n").collect()),
        }
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
        ] {
            let refused = parsed(text).unwrap_err();
            assert!(refused.contains(wanted), "{text}: {refused}");
        }
    }
}
