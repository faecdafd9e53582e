//! `health`: the process lives, says a page that always says so; a setting, not a plugin.
//!
//! ```text
//! health [ADDRESS] {
//!     lameduck DURATION
//! }
//! ```
//!
//! The page is [`super::Page::Health`]. Once a second the listener is asked by ourselves, and the
//! time it took is a metric: it shows a process that has no time left.

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
    metrics::Health,
};

/// Where health is served, and how the process takes its leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The listener's address: `:8080` unless said otherwise.
    pub listen: Listen,
    /// How long queries are still answered once the process is told to end.
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

/// Reads every `health` of a server block; what a later one says, it says instead of the earlier.
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
const PATIENCE: Duration = Duration::from_secs(3);
const REQUEST: &[u8] =
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nUser-Agent: lodestone\r\nConnection: close\r\n\r\n";
const GOOD: &[u8; 12] = b"HTTP/1.1 200";

/// Asks the listener at `address` once a second, for ever. Failures are told when they begin.
pub(super) async fn check_self(address: SocketAddr, metrics: Health) {
    let address = reachable(address);
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_good = true;
    loop {
        ticks.tick().await;
        let start = Instant::now();
        let asked = timeout(PATIENCE, ask(address)).await;
        let took = start.elapsed();
        metrics.request_duration_seconds.observe(took.as_secs_f64());
        let failure = match &asked {
            Ok(Ok(())) if took <= PERIOD => None,
            Ok(Ok(())) => Some(format!("took {took:.1?}")),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {PATIENCE:?}")),
        };
        if !matches!(asked, Ok(Ok(()))) {
            metrics.request_failures_total.inc();
        }
        if let (true, Some(failure)) = (was_good, &failure) {
            tracing::warn!("our own request to http://{address}/health: {failure}");
        }
        was_good = failure.is_none();
    }
}

async fn ask(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(REQUEST).await?;
    let mut status = [0; GOOD.len()];
    stream.read_exact(&mut status).await?;
    if status != *GOOD {
        return Err(io::Error::other("the answer is not 200"));
    }
    // The rest is read, or the connection would be reset and linger in the system's tables.
    let mut rest = [0; 512];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// Where a listener on all addresses can be asked.
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
        let memory = corefile::Memory::default();
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
