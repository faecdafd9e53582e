//! The watch stream, optionally with an initial list (`sendInitialEvents`).

use super::super::decode::field::ApiText;
use super::super::decode::{self, wire};
use super::super::event::Event;
use super::delivered::Delivered;
use super::error::WatchError;
use super::lines::{LineReader, StreamLine};
use super::reflector::{Reflector, encode};
use super::{MAX_OBJECT_BYTES, OBJECT_TOO_LONG, path};
use rand::RngExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

/// A stream that ends within this time without an event is treated as a refusal.
const MIN_STREAM: Duration = Duration::from_secs(1);

/// An event of a watch: one line of the stream.
#[derive(Deserialize)]
struct WatchEvent<'a> {
    #[serde(borrow)]
    r#type: ApiText<'a>,
    #[serde(borrow)]
    object: &'a RawValue,
}

impl Reflector {
    /// Reads a watch stream until it ends: from `self.version`, or with an initial list.
    pub(super) async fn watch(&mut self, initial: bool) -> Result<(), WatchError> {
        // Randomized, so that the watches of all clients do not expire at the same time.
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
        self.is_resumed = false;
        let (body, permit) = requests.get("watch", self.kind, &query).await?;
        drop(permit);
        if initial {
            self.begin().await?;
        } else {
            // The server has everything up to this version: a sign of life. Some send no bookmarks in a quiet
            // cluster (those whose etcd has no progress notifications).
            self.is_resumed = true;
            self.send(Event::Heartbeat(self.kind)).await?;
        }
        let mut lines = LineReader::new(body, MAX_OBJECT_BYTES);
        let (started, mut is_empty_stream) = (Instant::now(), true);
        // The last event or bookmark.
        let mut last = started;
        let delivered = self.delivered.clone();
        loop {
            let listing = self.version.is_none();
            let wait = if listing {
                self.timing.initial
            } else {
                self.timing.idle
            };
            let line = tokio::select! {
                line = timeout_at(last + wait, lines.next()) => {
                    line.map_err(|_| WatchError::TimedOut(wait))?
                }
                () = relist_requested(delivered.as_deref()), if !listing => {
                    self.forget_version();
                    return Ok(());
                }
            };
            match line? {
                // Not a sign of life: a proxy may send them.
                StreamLine::Text(line) if line.trim_ascii().is_empty() => continue,
                StreamLine::Text(line) => self.line(line).await?,
                StreamLine::TooLong => {
                    let event = self.skipped(None, OBJECT_TOO_LONG);
                    self.send(event).await?;
                }
                StreamLine::End if listing => {
                    return Err(WatchError::Disconnected("within a list".into()));
                }
                // A server that shuts down ends all streams; reconnecting immediately and being
                // refused would busy-loop.
                StreamLine::End if is_empty_stream && started.elapsed() < MIN_STREAM => {
                    return Err(WatchError::EmptyStream);
                }
                StreamLine::End => return Ok(()),
            }
            is_empty_stream = false;
            last = Instant::now();
            if self.version.is_some() {
                self.succeeded();
            }
        }
    }

    /// Handles one line of the stream.
    async fn line(&mut self, line: &[u8]) -> Result<(), WatchError> {
        let malformed = |_| WatchError::Malformed("a line is not a watch event".into());
        let Ok(line) = std::str::from_utf8(line) else {
            let event = self.skipped(None, "it is not UTF-8; skipped");
            return self.send(event).await;
        };
        let event: WatchEvent<'_> = serde_json::from_str(line).map_err(malformed)?;
        let text = event.object.get();
        let decoded = match &*event.r#type {
            "ADDED" | "MODIFIED" => decode::json(self.kind, text, &self.pod_labels),
            "DELETED" => decode::json_key(text),
            "BOOKMARK" => return self.bookmark(text).await,
            "ERROR" => return Err(WatchError::from_event("watch", self.kind, text)),
            other => return Err(WatchError::Malformed(format!("an event of type {other:?}"))),
        };
        let version = decoded
            .as_ref()
            .map_or_else(|error| error.version, |decoded| decoded.version);
        let key = decoded
            .as_ref()
            .map_or_else(|error| error.key.as_ref(), |decoded| Some(&decoded.key));
        // The initial list is sorted by name, not by version.
        let listing = self.version.is_none();
        let is_new = listing || key.is_none_or(|key| self.order.admit(key, version));
        if is_new {
            self.record(&decoded, *event.r#type == *"DELETED");
        }
        if !listing {
            self.advance(version);
        }
        if !is_new {
            debug!(
                "{}: stale event for {key:?} at version {version:?} ignored",
                self.kind.resource()
            );
            return self.send(Event::Heartbeat(self.kind)).await;
        }
        let (skipped_fields, event) = self.events_for(decoded);
        if let Some(skipped_fields) = skipped_fields {
            self.send(skipped_fields).await?;
        }
        self.send(event).await
    }

    /// Handles a bookmark: a new resource version, or the end of the initial list.
    async fn bookmark(&mut self, text: &str) -> Result<(), WatchError> {
        let object: wire::PartialObjectMetadata<'_> = serde_json::from_str(text)
            .map_err(|_| WatchError::Malformed("a bookmark without metadata".into()))?;
        let Some(version) = object.metadata.resource_version.text() else {
            return Err(WatchError::Malformed("a bookmark without version".into()));
        };
        if self.version.is_none() {
            let annotations = object.metadata.annotations.given();
            let end = annotations.and_then(|it| it.initial_events_end.text()) == Some("true");
            if end {
                return self.listed(version.to_string(), true).await;
            }
            return Ok(());
        }
        let number = object.metadata.version();
        self.order.settle(number);
        self.version = Some(version.to_string());
        if let Some(delivered) = &self.delivered {
            delivered.reached(number);
        }
        self.send(Event::Heartbeat(self.kind)).await
    }

    /// Advances the resource version after an event.
    fn advance(&mut self, version: Option<u64>) {
        if let Some(version) = version.filter(|version| self.order.is_newest(*version)) {
            self.version = Some(version.to_string());
            if let Some(delivered) = &self.delivered {
                delivered.reached(Some(version));
            }
        }
    }
}

/// Waits until the audit requests a list.
async fn relist_requested(delivered: Option<&Delivered>) {
    match delivered {
        Some(delivered) => delivered.relist_requested().await,
        None => std::future::pending().await,
    }
}
