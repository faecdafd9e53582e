//! One query to one server, with a deadline and a time.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, time::timeout};

use crate::{
    metrics::Metrics,
    query::Question,
    reply::Reply,
    upstream::{Failure, Settings, Target, TransportPolicy, Upstream, addresses},
    wire::{Class, Name, Rcode, Type},
};

/// Bound on the wait for one reply.
pub const DEADLINE: Duration = Duration::from_secs(3);

/// What came of a query.
#[derive(Debug)]
pub struct Probe {
    /// The reply, or why there is none.
    pub result: Result<Answer, Failure>,
    took: Duration,
}

/// The parts of a reply that a check looks at.
#[derive(Debug)]
pub struct Answer {
    /// Its response code.
    pub rcode: Rcode,
    /// The addresses in the answer section.
    pub addresses: Vec<IpAddr>,
}

impl Probe {
    /// Waits for a reply, until the deadline.
    pub async fn of(exchange: impl Future<Output = Result<Reply, Failure>>) -> Self {
        let sent = Instant::now();
        let result = timeout(DEADLINE, exchange).await;
        let result = result.unwrap_or(Err(Failure::Silent));
        Self {
            took: sent.elapsed(),
            result: result.map(|reply| Answer {
                rcode: reply.rcode,
                addresses: addresses(&reply).collect(),
            }),
        }
    }

    /// Sends a query to a server of plain DNS.
    pub async fn plain(
        server: SocketAddr,
        question: &Question,
        transport: TransportPolicy,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let settings = Settings::unpooled();
        let target = Target::at(server);
        let upstream = Arc::new(Upstream::new(target, &settings, Handle::current(), metrics));
        Self::of(upstream.probe_over(question, transport)).await
    }

    /// Whether a reply came, whatever its response code.
    pub fn is_answered(&self) -> bool {
        self.result.is_ok()
    }

    /// The response code, if it is an error: neither NOERROR nor NXDOMAIN.
    pub fn error_code(&self) -> Option<Rcode> {
        let answer = self.result.as_ref().ok()?;
        let is_error = !matches!(answer.rcode, Rcode::NOERROR | Rcode::NXDOMAIN);
        is_error.then_some(answer.rcode)
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.result {
            Ok(answer) => {
                if self.error_code().is_some() {
                    write!(out, "{} in ", answer.rcode)?;
                }
                write!(out, "{}", Took(self.took))
            }
            Err(Failure::Silent) => write!(out, "no reply in {} s", DEADLINE.as_secs()),
            Err(failure) => write!(out, "{failure}"),
        }
    }
}

/// A time with one decimal below 10 ms.
pub struct Took(pub Duration);

impl fmt::Display for Took {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_secs_f64() * 1000.0;
        if milliseconds < 10.0 {
            write!(out, "{milliseconds:.1} ms")
        } else {
            write!(out, "{milliseconds:.0} ms")
        }
    }
}

/// A question of class IN.
pub fn question(name: Name, rtype: Type) -> Question {
    Question::new(name, rtype, Class::IN)
}
