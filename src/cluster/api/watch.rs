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

use super::super::decode::{self, Read, Unreadable, wire};
use super::super::event::{Event, Kind};
use super::super::settings::{Settings, Timing};
use super::client::Requests;
use super::failure::Failure;
use super::items::{Item, Items};
use super::lines::{Line, Lines};
use super::order::Order;
use super::pause::Pause;
use super::{LONGEST_OBJECT, path};
use http_body_util::BodyExt;
use rand::RngExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

/// Objects in a page. A page is not held, so this bounds the API server's work, not ours.
const PAGE: u32 = 500;

/// So many refusals of a version in a row, and the list is read anew: the server may have been
/// restored from a backup and not know the version at all.
const TRUST: u32 = 5;

/// The same complaint is logged again after so long.
const REPEAT: Duration = Duration::from_mins(5);

/// A stream that ends sooner than this, and without a word, is no quiet stream but a refusal.
const FRUITLESS: Duration = Duration::from_secs(1);

/// The watch of one kind.
pub(super) struct Watch {
    kind: Kind,
    requests: Arc<Requests>,
    events: mpsc::Sender<Event>,
    timing: Timing,
    /// The selectors, encoded, each with a leading `&`.
    selectors: String,
    /// Streamed lists are tried until one has failed in a way that speaks against them.
    streaming: bool,
    /// What to watch from; None until a list is complete.
    version: Option<String>,
    order: Order,
    pause: Pause,
    /// Failures since anything went well.
    failures: u32,
    complained: Option<(String, Instant)>,
}

/// A line of a watch.
#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    r#type: wire::Text<'a>,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// A list without its items.
#[derive(Deserialize)]
struct Frame {
    metadata: FrameMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FrameMetadata {
    #[serde(default)]
    resource_version: String,
    r#continue: Option<String>,
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
            streaming: true,
            version: None,
            order: Order::default(),
            pause: Pause::new(&settings.timing),
            failures: 0,
            complained: None,
        }
    }

    /// Watches until nobody listens to the events any more.
    pub(super) async fn run(mut self) {
        loop {
            let step = match &self.version {
                Some(_) => self.follow(false).await,
                None if self.streaming => self.follow(true).await,
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
            // A server that ignores what it does not know streams events but never ends the list.
            Failure::Stalled(_) if listing => self.streaming = false,
            Failure::Broken(_) | Failure::Status(..) if listing && self.failures > 1 => {
                self.streaming = false;
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
        sleep(self.pause.take()).await;
    }

    /// Reads a list in pages.
    async fn list(&mut self) -> Result<(), Failure> {
        self.send(Event::Begin(self.kind)).await?;
        let mut more: Option<String> = None;
        loop {
            let mut query = format!("{}?limit={PAGE}{}", path(self.kind), self.selectors);
            if let Some(more) = &more {
                let _ = write!(query, "&continue={}", encode(more));
            }
            let frame = self.page(&query).await?;
            more = frame.r#continue.filter(|more| !more.is_empty());
            if more.is_none() {
                self.listed(frame.resource_version).await?;
                self.went_well();
                return Ok(());
            }
        }
    }

    /// Reads one page, item by item.
    async fn page(&mut self, query: &str) -> Result<FrameMetadata, Failure> {
        let requests = Arc::clone(&self.requests);
        let (mut body, _permit) = requests.get("list", query).await?;
        let mut items = Items::default();
        let mut told = Vec::new();
        loop {
            let wait = self.timing.response;
            let part = match timeout(wait, body.frame())
                .await
                .map_err(|_| Failure::Stalled(wait))?
            {
                None => break,
                Some(part) => part.map_err(|error| Failure::Broken(error.to_string()))?,
            };
            let Some(part) = part.data_ref() else {
                continue;
            };
            let whole = items.feed(part, LONGEST_OBJECT, |item| {
                told.extend(match item {
                    Item::Text(text) => self.item(text),
                    Item::TooLong => Some(self.skipped(None, "it is too long")),
                });
                Ok::<_, Failure>(())
            })?;
            if !whole {
                return Err(Failure::Malformed("a list without end".into()));
            }
            for event in told.drain(..) {
                self.send(event).await?;
            }
        }
        let frame = items
            .frame()
            .ok_or_else(|| Failure::Broken("in the middle of a list".into()))?;
        let frame: Frame =
            serde_json::from_slice(frame).map_err(|error| Failure::Malformed(error.to_string()))?;
        Ok(frame.metadata)
    }

    /// An item of a list. One that is of no use is not told of, and gone when the list is.
    fn item(&self, text: &[u8]) -> Option<Event> {
        match text_of(text).and_then(|text| decode::json(self.kind, text)) {
            Ok(read) => read.object.map(Event::Apply),
            Err(error) => Some(self.unreadable(error)),
        }
    }

    /// Follows a stream until it ends: from `self.version`, or with a list at its head.
    async fn follow(&mut self, initial: bool) -> Result<(), Failure> {
        // Spread out, so that the server need not renew all watches of all clients at once.
        let seconds = self
            .timing
            .watch
            .mul_f64(rand::rng().random_range(1.0..=2.0))
            .as_secs()
            .max(1);
        let mut query = format!(
            "{}?watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}{}",
            path(self.kind),
            self.selectors
        );
        let _ = match self.version.as_ref().filter(|_| !initial) {
            Some(version) => write!(query, "&resourceVersion={}", encode(version)),
            None => write!(
                query,
                "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
            ),
        };
        let requests = Arc::clone(&self.requests);
        let (body, permit) = requests.get("watch", &query).await?;
        drop(permit);
        if initial {
            self.send(Event::Begin(self.kind)).await?;
        }
        let mut lines = Lines::new(body, LONGEST_OBJECT);
        let (begun, mut fruitless) = (Instant::now(), true);
        loop {
            let listing = self.version.is_none();
            let wait = if listing {
                self.timing.initial
            } else {
                self.timing.idle
            };
            let line = timeout(wait, lines.next())
                .await
                .map_err(|_| Failure::Stalled(wait))?;
            match line? {
                Line::Text(line) if line.trim_ascii().is_empty() => {}
                Line::Text(line) => self.line(line).await?,
                Line::TooLong => {
                    let event = self.skipped(None, "it is too long");
                    self.send(event).await?;
                }
                Line::End if listing => {
                    return Err(Failure::Broken("in the middle of a list".into()));
                }
                // A server that is about to stop ends all streams; to come back at once, and be
                // sent away at once, would keep both busy.
                Line::End if fruitless && begun.elapsed() < FRUITLESS => {
                    return Err(Failure::Fruitless);
                }
                Line::End => return Ok(()),
            }
            fruitless = false;
            if self.version.is_some() {
                self.went_well();
            }
        }
    }

    /// Takes a line of a watch.
    async fn line(&mut self, line: &[u8]) -> Result<(), Failure> {
        let malformed = |error: serde_json::Error| Failure::Malformed(error.to_string());
        let told: Told<'_> = serde_json::from_slice(line).map_err(malformed)?;
        let text = told.object.get();
        let read = match &*told.r#type {
            "ADDED" | "MODIFIED" => decode::json(self.kind, text),
            "DELETED" => decode::json_key(text),
            "BOOKMARK" => return self.bookmark(text).await,
            "ERROR" => return Err(Failure::told("watch", text)),
            other => return Err(Failure::Malformed(format!("an event of type {other:?}"))),
        };
        let version = read
            .as_ref()
            .map_or_else(|error| error.version, |read| read.version);
        let key = read
            .as_ref()
            .map_or_else(|error| error.key.as_ref(), |read| Some(&read.key));
        // The events of a list come by name and not by version.
        if self.version.is_some() {
            let news = key.is_none_or(|key| self.order.admit(key, version));
            self.advance(version);
            if !news {
                debug!(
                    "{}: {key:?} at {version:?} is old news",
                    self.kind.resource()
                );
                return self.send(Event::Alive(self.kind)).await;
            }
        }
        let event = match read {
            Ok(Read {
                object: Some(object),
                ..
            }) => Event::Apply(object),
            Ok(Read {
                object: None, key, ..
            }) => Event::Delete(self.kind, key),
            Err(error) => self.unreadable(error),
        };
        self.send(event).await
    }

    /// Takes a bookmark: how far the stream has come, and perhaps that the list at its head is
    /// complete.
    async fn bookmark(&mut self, text: &str) -> Result<(), Failure> {
        let shell: wire::Shell<'_> =
            serde_json::from_str(text).map_err(|error| Failure::Malformed(error.to_string()))?;
        let Some(version) = &shell.metadata.resource_version else {
            return Err(Failure::Malformed("a bookmark without version".into()));
        };
        if self.version.is_none() {
            let annotations = shell.metadata.annotations.as_ref();
            let end = annotations.and_then(|it| it.initial_events_end.as_deref()) == Some("true");
            if end {
                return self.listed(version.to_string()).await;
            }
            return Ok(());
        }
        self.order.settle(shell.metadata.version());
        self.version = Some(version.to_string());
        self.send(Event::Alive(self.kind)).await
    }

    /// A list is complete, at this version.
    async fn listed(&mut self, version: String) -> Result<(), Failure> {
        self.order.settle(version.parse().ok());
        self.version = Some(version);
        self.send(Event::End(self.kind)).await
    }

    /// An event of this version has come.
    fn advance(&mut self, version: Option<u64>) {
        if let Some(version) = version.filter(|version| self.order.is_newest(*version)) {
            self.version = Some(version.to_string());
        }
    }

    fn went_well(&mut self) {
        if self.failures > 0 && self.complained.take().is_some() {
            info!("{}: watched again", self.kind.resource());
        }
        self.failures = 0;
        self.pause.reset();
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

    fn unreadable(&self, error: Unreadable) -> Event {
        let why = error.to_string();
        self.skipped(error.key, &why)
    }

    fn skipped(&self, key: Option<super::super::event::Key>, why: &str) -> Event {
        let which = key
            .as_ref()
            .map_or_else(|| "an object".into(), ToString::to_string);
        warn!("{}: skipping {which}: {why}", self.kind.resource());
        Event::Skip(self.kind, key)
    }

    async fn send(&self, event: Event) -> Result<(), Failure> {
        self.events.send(event).await.map_err(|_| Failure::Stopped)
    }
}

fn text_of(bytes: &[u8]) -> Result<&str, Unreadable> {
    std::str::from_utf8(bytes).map_err(|error| Unreadable::unnamed(&error))
}

/// Percent-encoding for the value of a query parameter (RFC 3986, section 2).
fn encode(value: &str) -> String {
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
