//! A list in pages, for servers that do not stream lists.

use super::super::decode::{self, Unreadable};
use super::super::event::Event;
use super::failure::Failure;
use super::items::{Item, Items};
use super::watch::{Watch, encode};
use super::{LONGEST_OBJECT, path};
use http_body_util::BodyExt;
use serde::Deserialize;
use std::fmt::Write;
use std::sync::Arc;
use tokio::time::timeout;

/// Objects in a page. A page is not held, so this bounds the API server's work, not ours.
const PAGE: u32 = 500;

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
    /// Reads a list in pages.
    pub(super) async fn list(&mut self) -> Result<(), Failure> {
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
        match text_of(text).and_then(|text| decode::json(self.kind, text, &self.pod_labels)) {
            Ok(read) => read.object.map(Event::Apply),
            Err(error) => Some(self.unreadable(error)),
        }
    }
}

fn text_of(bytes: &[u8]) -> Result<&str, Unreadable> {
    std::str::from_utf8(bytes).map_err(|error| Unreadable::unnamed(&error))
}
