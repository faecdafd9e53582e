//! The stream of a watch, with or without a list at its head.

use super::super::decode::{self, wire};
use super::super::event::Event;
use super::failure::Failure;
use super::lines::{Line, Lines};
use super::watch::{Watch, encode};
use super::{LONGEST_OBJECT, TOO_LONG, path};
use rand::RngExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tracing::debug;

/// A stream that ends sooner than this, and without a word, is no quiet stream but a refusal.
const FRUITLESS: Duration = Duration::from_secs(1);

/// A line of a watch.
#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    r#type: wire::Text<'a>,
    #[serde(borrow)]
    object: &'a RawValue,
}

impl Watch {
    /// Follows a stream until it ends: from `self.version`, or with a list at its head.
    pub(super) async fn follow(&mut self, initial: bool) -> Result<(), Failure> {
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
        let (body, permit) = requests.get("watch", self.kind, &query).await?;
        drop(permit);
        if initial {
            self.begin().await?;
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
                    let event = self.skipped(None, TOO_LONG);
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
        let malformed = |_| Failure::Malformed("a line that is no event".into());
        let Ok(line) = std::str::from_utf8(line) else {
            let event = self.skipped(None, "it is not UTF-8; skipped");
            return self.send(event).await;
        };
        let told: Told<'_> = serde_json::from_str(line).map_err(malformed)?;
        let text = told.object.get();
        let read = match &*told.r#type {
            "ADDED" | "MODIFIED" => decode::json(self.kind, text, &self.pod_labels),
            "DELETED" => decode::json_key(text),
            "BOOKMARK" => return self.bookmark(text).await,
            "ERROR" => return Err(Failure::told("watch", self.kind, text)),
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
        let (left_out, event) = self.read(read);
        if let Some(left_out) = left_out {
            self.send(left_out).await?;
        }
        self.send(event).await
    }

    /// Takes a bookmark: how far the stream has come, and perhaps that the list at its head is
    /// complete.
    async fn bookmark(&mut self, text: &str) -> Result<(), Failure> {
        let shell: wire::Shell<'_> = serde_json::from_str(text)
            .map_err(|_| Failure::Malformed("a bookmark without metadata".into()))?;
        let Some(version) = shell.metadata.resource_version.text() else {
            return Err(Failure::Malformed("a bookmark without version".into()));
        };
        if self.version.is_none() {
            let annotations = shell.metadata.annotations.given();
            let end = annotations.and_then(|it| it.initial_events_end.text()) == Some("true");
            if end {
                return self.listed(version.to_string()).await;
            }
            return Ok(());
        }
        self.order.settle(shell.metadata.version());
        self.version = Some(version.to_string());
        self.send(Event::Alive(self.kind)).await
    }

    /// An event of this version has come.
    fn advance(&mut self, version: Option<u64>) {
        if let Some(version) = version.filter(|version| self.order.is_newest(*version)) {
            self.version = Some(version.to_string());
        }
    }
}
