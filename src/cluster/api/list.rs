//! A list in pages, for servers that do not stream lists.

use super::super::decode::{self, Unreadable};
use super::super::event::Event;
use super::failure::Failure;
use super::items::{Item, Items};
use super::watch::{Watch, encode};
use super::{LONGEST_OBJECT, TOO_LONG, path};
use http_body_util::BodyExt;
use serde::Deserialize;
use std::sync::Arc;
use tokio::time::timeout;
use tracing::debug;

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
    /// Reads a list in pages; where the server forgets the list between two pages (410), anew and
    /// as a whole, as client-go does: every further list in pages might end in the same way.
    pub(super) async fn list(&mut self) -> Result<(), Failure> {
        let version = match self.pages(&format!("limit={PAGE}")).await {
            Err(Failure::PageExpired) => {
                debug!("{}: {}", self.kind.resource(), Failure::PageExpired);
                self.pages("").await.map_err(|failure| match failure {
                    Failure::PageExpired => Failure::Expired,
                    failure => failure,
                })?
            }
            version => version?,
        };
        self.listed(version).await?;
        self.went_well();
        Ok(())
    }

    /// Reads all pages, and returns the version of the list.
    async fn pages(&mut self, limit: &str) -> Result<String, Failure> {
        self.begin().await?;
        let first = format!("{}?{limit}{}", path(self.kind), self.selectors);
        let mut frame = self.page(&first).await?;
        while let Some(more) = frame.r#continue.filter(|more| !more.is_empty()) {
            let query = format!("{first}&continue={}", encode(&more));
            frame = self.page(&query).await.map_err(|failure| match failure {
                Failure::Expired => Failure::PageExpired,
                failure => failure,
            })?;
        }
        Ok(frame.resource_version)
    }

    /// Reads one page, item by item.
    async fn page(&mut self, query: &str) -> Result<FrameMetadata, Failure> {
        let requests = Arc::clone(&self.requests);
        let (mut body, _permit) = requests.get("list", self.kind, query).await?;
        let mut items = Items::default();
        let mut told = Vec::new();
        loop {
            let wait = self.timing.response;
            let part = match timeout(wait, body.frame())
                .await
                .map_err(|_| Failure::Stalled(wait))?
            {
                None => break,
                Some(part) => part.map_err(|error| Failure::broken(&error))?,
            };
            let Some(part) = part.data_ref() else {
                continue;
            };
            let whole = items.feed(part, LONGEST_OBJECT, |item| {
                match item {
                    Item::Text(text) => self.item(text, &mut told),
                    Item::TooLong => told.push(self.skipped(None, TOO_LONG)),
                }
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
        let frame: Frame = serde_json::from_slice(frame)
            .map_err(|_| Failure::Malformed("a list without metadata".into()))?;
        Ok(frame.metadata)
    }

    /// An item of a list. One that is of no use is not told of, and gone when the list is.
    fn item(&mut self, text: &[u8], told: &mut Vec<Event>) {
        let read = text_of(text).and_then(|text| decode::json(self.kind, text, &self.pod_labels));
        let (left_out, event) = self.read(read);
        told.extend(left_out);
        if !matches!(event, Event::Delete(..)) {
            told.push(event);
        }
    }
}

fn text_of(bytes: &[u8]) -> Result<&str, Unreadable> {
    std::str::from_utf8(bytes).map_err(|_| Unreadable::unnamed(&"it is not UTF-8"))
}
