//! Keeps one kind of object in step with the API server: lists it, follows it, and begins again
//! whenever that does not go on.
//!
//! ```text
//!             +-- streamed list (sendInitialEvents) --+
//! no version -+                                       +-> version -> watch -> watch -> ...
//!             +-- list in pages, where that fails ----+      ^                 |
//!      ^                                                     +--- cut, silent -+
//!      +------------------------ 410 Gone ---------------------------------- --+
//! ```
//!
//! Whatever goes wrong, what has been told of the cluster stays until a list is complete.

use super::super::decode::{Read, Unreadable};
use super::super::event::{Event, Key, Kind};
use super::super::flaw::Logged;
use super::super::settings::{Settings, Timing};
use super::client::Requests;
use super::failure::Failure;
use super::order::Order;
use crate::backoff::Backoff;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

/// So many refusals of a version in a row, and the list is read anew: the server may have been
/// restored from a backup and not know the version at all.
const TRUST: u32 = 5;

/// So many streamed lists that broke off in a row, and the next list is an ordinary one.
const MOST_BROKEN: u32 = 2;

/// The same complaint is logged again after so long.
const REPEAT: Duration = Duration::from_mins(5);

/// The watch of one kind.
pub(super) struct Watch {
    pub(super) kind: Kind,
    pub(super) requests: Arc<Requests>,
    events: mpsc::Sender<Event>,
    pub(super) timing: Timing,
    /// The selectors, encoded, each with a leading `&`.
    pub(super) selectors: String,
    /// The labels of Pods that are kept.
    pub(super) pod_labels: Box<[Box<str>]>,
    /// Streamed lists are tried until one has failed in a way that speaks against them.
    streaming: bool,
    /// What to watch from; None until a list is complete.
    pub(super) version: Option<String>,
    pub(super) order: Order,
    backoff: Backoff,
    /// Streamed lists that broke off, since anything went well.
    broken_lists: u32,
    /// Failures since anything went well.
    failures: u32,
    complained: Option<(String, Instant)>,
    /// What was logged of objects that are not as they should be.
    logged: Logged,
}

impl Watch {
    /// Will watch one kind with these settings.
    pub(super) fn new(
        kind: Kind,
        settings: &Settings,
        requests: Arc<Requests>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let mut selectors = String::new();
        let labels = settings.selector(kind);
        if !labels.is_empty() {
            let _ = write!(selectors, "&labelSelector={}", encode(labels.as_str()));
        }
        if kind == Kind::Pod {
            // Pods that have ended keep their address in the API, while others get it again.
            let over = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown";
            let _ = write!(selectors, "&fieldSelector={}", encode(over));
        }
        Self {
            kind,
            requests,
            events,
            timing: settings.timing.clone(),
            selectors,
            pod_labels: settings.pod_labels.clone(),
            streaming: true,
            version: None,
            order: Order::default(),
            backoff: Backoff::new(settings.timing.pause, settings.timing.longest_pause),
            broken_lists: 0,
            failures: 0,
            complained: None,
            logged: Logged::new(kind),
        }
    }

    /// Watches until nobody listens to the events any more.
    pub(super) async fn run(mut self) {
        loop {
            let step = match &self.version {
                Some(_) => self.follow(false).await,
                None if self.streams_lists() => self.follow(true).await,
                None => self.list().await,
            };
            match step {
                Ok(()) => {}
                Err(Failure::Stopped) => return,
                Err(failure) => self.recover(&failure).await,
            }
        }
    }

    /// Decides from where to go on, and waits.
    async fn recover(&mut self, failure: &Failure) {
        self.failures += 1;
        if self.kind == Kind::Import && matches!(failure, Failure::Status(404, _)) {
            return self.have_none().await;
        }
        let listing = self.version.is_none();
        match failure {
            Failure::Expired => self.version = None,
            Failure::Unsupported(..) if listing && self.streaming => {
                debug!(
                    "{}: no streamed lists here: {failure}",
                    self.kind.resource()
                );
                self.streaming = false;
                return;
            }
            // As an API server answers whose etcd cannot stream lists, or not yet after a start of both.
            // It answers, so an ordinary list is worth asking for at once.
            Failure::Status(500, _) if listing && self.streams_lists() => {
                debug!("{}: no streamed list now: {failure}", self.kind.resource());
                self.broken_lists = MOST_BROKEN;
                return;
            }
            // A server that ignores what it does not know streams events but never ends the list.
            Failure::Stalled(_) if listing => self.streaming = false,
            Failure::Broken(_) | Failure::Malformed(_) | Failure::Status(..) if listing => {
                self.broken_lists += 1;
            }
            Failure::Status(..) | Failure::Unsupported(..) | Failure::Malformed(_)
                if self.failures >= TRUST =>
            {
                self.version = None;
            }
            _ => {}
        }
        match failure {
            Failure::Expired => debug!("{}: {failure}; listing them again", self.kind.resource()),
            // The ordinary end of a quiet connection: it is resumed, and nothing is lost.
            Failure::Stalled(_) | Failure::Broken(_) if !listing && self.failures == 1 => {
                debug!("{}: {failure}", self.kind.resource());
            }
            _ => self.complain(&failure.to_string()),
        }
        // The first time there is no reason to wait: versions expire in the ordinary course.
        if matches!(failure, Failure::Expired) && self.failures == 1 {
            return;
        }
        sleep(self.backoff.delay()).await;
    }

    /// Whether the next list is to be a streamed one.
    fn streams_lists(&self) -> bool {
        self.streaming && self.broken_lists < MOST_BROKEN
    }

    /// The cluster does not know the kind, which is an extension: then there are none, and nobody
    /// need wait for them. Whether it has come to know it is looked at again and again.
    async fn have_none(&mut self) {
        self.version = None;
        for event in [Event::Begin(self.kind), Event::End(self.kind)] {
            // The next attempt notices where nobody listens any more.
            let _ = self.send(event).await;
        }
        self.complain("the cluster does not know the kind (404), so there are none");
        sleep(self.backoff.delay()).await;
    }

    /// A list begins.
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        self.logged.begin();
        self.send(Event::Begin(self.kind)).await
    }

    /// A list is complete, at this version.
    pub(super) async fn listed(&mut self, version: String) -> Result<(), Failure> {
        self.order.settle(version.parse().ok());
        self.version = Some(version);
        self.logged.end();
        self.send(Event::End(self.kind)).await
    }

    /// The server does as it should.
    pub(super) fn went_well(&mut self) {
        if self.failures > 0 && self.complained.take().is_some() {
            info!("{}: watched again", self.kind.resource());
        }
        self.failures = 0;
        self.broken_lists = 0;
        self.backoff.reset();
    }

    fn complain(&mut self, complaint: &str) {
        let again = self
            .complained
            .as_ref()
            .is_some_and(|(last, at)| last == complaint && at.elapsed() < REPEAT);
        if !again {
            warn!("{}: {complaint}", self.kind.resource());
            self.complained = Some((complaint.to_owned(), Instant::now()));
        }
    }

    /// The events of an object as it was read: how much of it was left out, if anything, and what
    /// it is now.
    pub(super) fn read(&mut self, read: Result<Read, Unreadable>) -> (Option<Event>, Event) {
        let Read {
            key, object, flaws, ..
        } = match read {
            Ok(read) => read,
            Err(error) => {
                let why = format!("{error}; skipped");
                return (None, self.skipped(error.key, &why));
            }
        };
        let left_out = flaws.count();
        if left_out == 0 {
            self.logged.clear(&key);
        } else if let Some(line) = self
            .logged
            .complain(Some(&key), &format_args!("left out: {flaws}"))
        {
            warn!("{line}");
        }
        let event = match object {
            Some(object) => Event::Apply(object),
            None => Event::Delete(self.kind, key),
        };
        let left_out = (left_out > 0).then_some(Event::LeftOut(self.kind, left_out));
        (left_out, event)
    }

    pub(super) fn skipped(&mut self, key: Option<Key>, why: &str) -> Event {
        if let Some(line) = self.logged.complain(key.as_ref(), &why) {
            warn!("{line}");
        }
        Event::Skip(self.kind, key)
    }

    pub(super) async fn send(&self, event: Event) -> Result<(), Failure> {
        self.events.send(event).await.map_err(|_| Failure::Stopped)
    }
}

/// Percent-encoding for the value of a query parameter (RFC 3986, section 2).
pub(super) fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
