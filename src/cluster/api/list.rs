//! Paged lists, for servers that do not stream lists.

use super::super::decode::{self, DecodeError};
use super::super::event::Event;
use super::error::WatchError;
use super::items::{ItemSplitter, ListItem};
use super::reflector::{Reflector, encode};
use super::{MAX_OBJECT_BYTES, OBJECT_TOO_LONG, path};
use http_body_util::BodyExt;
use kube::client::Body;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tracing::debug;

/// Objects per page. Pages are not held in memory, so this bounds the API server's work.
pub(super) const PAGE: u32 = 500;

/// A list without its items.
#[derive(Deserialize)]
struct ListFrame {
    metadata: ListMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListMetadata {
    #[serde(default)]
    pub(super) resource_version: String,
    pub(super) r#continue: Option<String>,
}

/// A page of a list that is being read.
pub(super) struct PageReader {
    body: Body,
    items: ItemSplitter,
    /// Timeout between two parts.
    wait: Duration,
}

impl PageReader {
    pub(super) fn new(body: Body, wait: Duration) -> Self {
        Self {
            body,
            items: ItemSplitter::default(),
            wait,
        }
    }

    /// Reads a part and calls `each` for the items that it completes. Returns false at the end.
    pub(super) async fn next(
        &mut self,
        mut each: impl FnMut(ListItem<'_>),
    ) -> Result<bool, WatchError> {
        let wait = self.wait;
        let part = timeout(wait, self.body.frame());
        let part = match part.await.map_err(|_| WatchError::TimedOut(wait))? {
            None => return Ok(false),
            Some(part) => part.map_err(|error| WatchError::disconnected(&error))?,
        };
        let Some(part) = part.data_ref() else {
            return Ok(true);
        };
        let is_ok = self.items.feed(part, MAX_OBJECT_BYTES, |item| {
            each(item);
            Ok::<_, WatchError>(())
        })?;
        if is_ok {
            Ok(true)
        } else {
            Err(WatchError::Malformed("a list frame above 1 MiB".into()))
        }
    }

    /// The metadata of the list, after the last part.
    pub(super) fn finish(&self) -> Result<ListMetadata, WatchError> {
        let frame = self
            .items
            .frame()
            .ok_or_else(|| WatchError::Disconnected("within a list".into()))?;
        let frame: ListFrame = serde_json::from_slice(frame)
            .map_err(|_| WatchError::Malformed("a list without metadata".into()))?;
        Ok(frame.metadata)
    }
}

impl Reflector {
    /// Reads a paged list. If the continue token expires between two pages (410), lists again
    /// without pages, as client-go does: another paged list might fail in the same way.
    pub(super) async fn list(&mut self) -> Result<(), WatchError> {
        let version = match self.pages(&format!("limit={PAGE}")).await {
            Err(WatchError::PageExpired) => {
                debug!("{}: {}", self.kind.resource(), WatchError::PageExpired);
                self.pages("").await.map_err(|failure| match failure {
                    WatchError::PageExpired => WatchError::Expired,
                    failure => failure,
                })?
            }
            version => version?,
        };
        self.listed(version, false).await?;
        self.succeeded();
        Ok(())
    }

    /// Reads all pages; returns the resource version of the list.
    async fn pages(&mut self, limit: &str) -> Result<String, WatchError> {
        self.begin().await?;
        let first = format!("{}?{limit}{}", path(self.kind), self.selectors);
        let mut frame = self.page(&first).await?;
        while let Some(more) = frame.r#continue.filter(|more| !more.is_empty()) {
            let query = format!("{first}&continue={}", encode(&more));
            frame = self.page(&query).await.map_err(|failure| match failure {
                WatchError::Expired => WatchError::PageExpired,
                failure => failure,
            })?;
        }
        Ok(frame.resource_version)
    }

    /// Reads one page, item by item.
    async fn page(&mut self, query: &str) -> Result<ListMetadata, WatchError> {
        let requests = Arc::clone(&self.requests);
        let (body, _permit) = requests.get("list", self.kind, query).await?;
        let mut page = PageReader::new(body, self.timing.response);
        let mut events = Vec::new();
        loop {
            let more = page
                .next(|item| match item {
                    ListItem::Text(text) => self.item(text, &mut events),
                    ListItem::TooLong => events.push(self.skipped(None, OBJECT_TOO_LONG)),
                })
                .await?;
            for event in events.drain(..) {
                self.send(event).await?;
            }
            if !more {
                return page.finish();
            }
        }
    }

    /// Decodes an item of a list. Items without use for DNS produce no event, and so are deleted at
    /// the list's end.
    fn item(&mut self, text: &[u8], events: &mut Vec<Event>) {
        let decoded =
            text_of(text).and_then(|text| decode::json(self.kind, text, &self.pod_labels));
        self.record(&decoded, false);
        let (skipped_fields, event) = self.events_for(decoded);
        events.extend(skipped_fields);
        if !matches!(event, Event::Delete(..)) {
            events.push(event);
        }
    }
}

fn text_of(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::without_key(&"it is not UTF-8"))
}
