//! Keeps the objects of one kind in sync with the API server: lists, watches, and retries.
//!
//! ```text
//!             +-- streamed list (sendInitialEvents) --+
//! no version -+                                       +-> version -> watch -> watch -> ...
//!             +-- paged list, if that fails ----------+      ^                 |
//!      ^                                                     +-- closed, idle -+
//!      +----------------- 410 Gone, or the audit found lost events ------------+
//! ```
//!
//! After any failure, the known objects stay until a list is complete.

use super::super::decode::{DecodeError, Decoded};
use super::super::event::{Event, Kind, ObjectKey};
use super::super::invalid::LogOnce;
use super::super::settings::{Settings, Timing};
use super::client::ApiClient;
use super::delivered::Delivered;
use super::error::WatchError;
use super::versions::VersionFilter;
use crate::backoff::Backoff;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

/// Consecutive failures with a resource version before a full relist: the server may have been
/// restored from a backup and not know the version.
const MAX_VERSION_FAILURES: u32 = 5;

/// Consecutive interrupted streamed lists before falling back to a paged list.
const MAX_BROKEN_LISTS: u32 = 2;

/// Interval for repeating the same warning.
const REPEAT_WARNING: Duration = Duration::from_mins(5);

/// The reflector of one kind.
pub(super) struct Reflector {
    pub(super) kind: Kind,
    pub(super) requests: Arc<ApiClient>,
    events: mpsc::Sender<Event>,
    pub(super) timing: Timing,
    /// The encoded selectors, each with a leading `&`.
    pub(super) selectors: String,
    /// The keys of the Pod labels to keep.
    pub(super) pod_labels: Box<[Box<str>]>,
    /// Whether the server may support streamed lists.
    streaming: bool,
    /// The resource version to watch from; `None` until a list is complete.
    pub(super) version: Option<String>,
    pub(super) order: VersionFilter,
    /// What is delivered, if it is audited.
    pub(super) delivered: Option<Arc<Delivered>>,
    backoff: Backoff,
    /// Interrupted streamed lists since the last success.
    broken_lists: u32,
    /// Failures since the last success.
    failures: u32,
    /// Whether the last attempt was not connected.
    is_unreachable: bool,
    last_warning: Option<(String, Instant)>,
    /// Whether the server has accepted the present watch, from the version that is known.
    pub(super) is_resumed: bool,
    /// Log deduplication for invalid objects.
    logged: LogOnce,
}

impl Reflector {
    /// A reflector of one kind.
    pub(super) fn new(
        kind: Kind,
        settings: &Settings,
        requests: Arc<ApiClient>,
        events: mpsc::Sender<Event>,
        delivered: Option<Arc<Delivered>>,
    ) -> Self {
        Self {
            kind,
            requests,
            events,
            timing: settings.timing.clone(),
            selectors: selectors(kind, settings),
            pod_labels: settings.pod_labels.clone(),
            streaming: true,
            version: None,
            order: VersionFilter::default(),
            delivered,
            backoff: Backoff::new(settings.timing.backoff, settings.timing.max_backoff),
            broken_lists: 0,
            failures: 0,
            is_unreachable: false,
            last_warning: None,
            is_resumed: false,
            logged: LogOnce::new(kind),
        }
    }

    /// Runs until the receiver of the events is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let step = match &self.version {
                Some(_) => self.watch(false).await,
                None if self.streams_lists() => self.watch(true).await,
                None => self.list().await,
            };
            match step {
                Ok(()) => {}
                Err(WatchError::ReceiverClosed) => return,
                Err(failure) => self.recover(&failure).await,
            }
        }
    }

    /// Decides how to continue after a failure, and waits.
    async fn recover(&mut self, failure: &WatchError) {
        let was_unreachable = std::mem::replace(
            &mut self.is_unreachable,
            matches!(failure, WatchError::Connect { .. }),
        );
        if was_unreachable && !self.is_unreachable {
            // An API server that is back refuses some requests at first (403, until it has read its roles). The
            // delays of the time without it would add half a minute to each.
            self.failures = 0;
            self.backoff.reset();
        }
        self.failures += 1;
        if self.kind == Kind::ServiceImport && matches!(failure, WatchError::Status(404, _)) {
            return self.kind_not_installed().await;
        }
        let listing = self.version.is_none();
        if self.is_resumed && !listing && matches!(failure, WatchError::TimedOut(_)) {
            // A quiet cluster, or a connection that is dead: the next request shows which. It loses nothing.
            debug!("{}: {failure}", self.kind.resource());
            self.succeeded();
            return;
        }
        match failure {
            WatchError::Expired => self.forget_version(),
            WatchError::Unsupported(..) if listing && self.streaming => {
                debug!(
                    "{}: streamed lists are not supported: {failure}",
                    self.kind.resource()
                );
                self.streaming = false;
                return;
            }
            // The API server cannot stream lists at the moment: etcd does not support progress
            // notifications, or both have just started. It responds, so a paged list can be tried
            // immediately.
            WatchError::Status(500, _) if listing && self.streams_lists() => {
                debug!("{}: streamed list failed: {failure}", self.kind.resource());
                self.broken_lists = MAX_BROKEN_LISTS;
                return;
            }
            // A server that ignores unknown parameters streams events but never ends the initial
            // list.
            WatchError::TimedOut(_) if listing => self.streaming = false,
            WatchError::Disconnected(_) | WatchError::Malformed(_) | WatchError::Status(..)
                if listing =>
            {
                self.broken_lists += 1;
            }
            WatchError::Status(..) | WatchError::Unsupported(..) | WatchError::Malformed(_)
                if self.failures >= MAX_VERSION_FAILURES =>
            {
                self.forget_version();
            }
            _ => {}
        }
        match failure {
            WatchError::Expired => {
                debug!("{}: {failure}; listing again", self.kind.resource());
            }
            // The normal end of an idle connection; resuming loses nothing.
            WatchError::TimedOut(_) | WatchError::Disconnected(_)
                if !listing && self.failures == 1 =>
            {
                debug!("{}: {failure}", self.kind.resource());
            }
            _ => self.warn_once(&failure.to_string()),
        }
        // Retry the first expiry immediately: versions expire in normal operation.
        if matches!(failure, WatchError::Expired) && self.failures == 1 {
            return;
        }
        let delay = match failure {
            WatchError::Connect { .. } => {
                let bound = self.timing.max_connect_backoff;
                self.backoff.delay_within(bound)
            }
            _ => self.backoff.delay(),
        };
        sleep(delay).await;
    }

    /// Whether the next list is a streamed one.
    fn streams_lists(&self) -> bool {
        self.streaming && self.broken_lists < MAX_BROKEN_LISTS
    }

    /// The CRD of the kind is not installed (404): treated as an empty list, so that the cluster
    /// becomes synced. Retried with back-off.
    async fn kind_not_installed(&mut self) {
        self.forget_version();
        for event in [Event::ListStart(self.kind), Event::ListEnd(self.kind)] {
            // A dropped receiver is detected by the next attempt.
            let _ = self.send(event).await;
        }
        self.warn_once("the kind is not installed in the cluster (404); treated as empty");
        sleep(self.backoff.delay()).await;
    }

    /// Starts a list.
    pub(super) async fn begin(&mut self) -> Result<(), WatchError> {
        self.logged.begin();
        if let Some(delivered) = &self.delivered {
            delivered.begin_list();
        }
        self.send(Event::ListStart(self.kind)).await
    }

    /// Completes a list at this resource version, which the server streamed or not.
    pub(super) async fn listed(
        &mut self,
        version: String,
        streamed: bool,
    ) -> Result<(), WatchError> {
        let number = version.parse().ok();
        self.order.settle(number);
        if let Some(delivered) = &self.delivered {
            delivered.end_list(number, streamed);
        }
        self.version = Some(version);
        self.logged.end();
        self.send(Event::ListEnd(self.kind)).await
    }

    /// Makes the next request a list.
    pub(super) fn forget_version(&mut self) {
        self.version = None;
        if let Some(delivered) = &self.delivered {
            delivered.forget_version();
        }
    }

    /// Records the version of an object of a list or an event, for the audit. An object that could
    /// not be decoded has been delivered, too.
    pub(super) fn record(&self, object: &Result<Decoded, DecodeError>, deleted: bool) {
        let Some(delivered) = &self.delivered else {
            return;
        };
        let (key, version) = match object {
            Ok(decoded) => (Some(&decoded.key), decoded.version),
            Err(error) => (error.key.as_ref(), error.version),
        };
        match key {
            Some(key) if deleted => delivered.remove(key),
            Some(key) => delivered.put(key, version),
            None => {}
        }
    }

    /// Resets the failure state after a success.
    pub(super) fn succeeded(&mut self) {
        if self.failures > 0 && self.last_warning.take().is_some() {
            info!("{}: watch restored", self.kind.resource());
        }
        self.failures = 0;
        self.is_unreachable = false;
        self.broken_lists = 0;
        self.backoff.reset();
    }

    fn warn_once(&mut self, message: &str) {
        let again = self
            .last_warning
            .as_ref()
            .is_some_and(|(last, at)| last == message && at.elapsed() < REPEAT_WARNING);
        if !again {
            warn!("{}: {message}", self.kind.resource());
            self.last_warning = Some((message.to_owned(), Instant::now()));
        }
    }

    /// The events of a decoded object: the number of skipped fields, if any, and the change.
    pub(super) fn events_for(
        &mut self,
        decoded: Result<Decoded, DecodeError>,
    ) -> (Option<Event>, Event) {
        let Decoded {
            key,
            object,
            invalid,
            ..
        } = match decoded {
            Ok(decoded) => decoded,
            Err(error) => {
                let why = format!("{error}; skipped");
                return (None, self.skipped(error.key, &why));
            }
        };
        let skipped = invalid.count();
        if skipped == 0 {
            self.logged.clear(&key);
        } else if let Some(line) = self.logged.line_for(
            Some(&key),
            &format_args!("skipped invalid fields: {invalid}"),
        ) {
            warn!("{line}");
        }
        let event = match object {
            Some(object) => Event::Apply(object),
            None => Event::Delete(self.kind, key),
        };
        let skipped = (skipped > 0).then_some(Event::SkippedFields(self.kind, skipped));
        (skipped, event)
    }

    pub(super) fn skipped(&mut self, key: Option<ObjectKey>, why: &str) -> Event {
        if let Some(line) = self.logged.line_for(key.as_ref(), &why) {
            warn!("{line}");
        }
        Event::SkippedObject(self.kind, key)
    }

    pub(super) async fn send(&self, event: Event) -> Result<(), WatchError> {
        self.events
            .send(event)
            .await
            .map_err(|_| WatchError::ReceiverClosed)
    }
}

/// The selectors of a kind's lists and watches, each with a leading `&`.
pub(super) fn selectors(kind: Kind, settings: &Settings) -> String {
    let mut selectors = String::new();
    if let Some(labels) = settings.selector(kind).filter(|it| !it.is_empty()) {
        let _ = write!(selectors, "&labelSelector={}", encode(labels.as_str()));
    }
    if kind == Kind::Pod {
        // Pods that have ended keep their address in the API, while other pods reuse it.
        let running = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown";
        let _ = write!(selectors, "&fieldSelector={}", encode(running));
    }
    selectors
}

/// Bytes of a query parameter's value that are encoded: all but RFC 3986's unreserved ones (section 2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Percent-encoding for the value of a query parameter.
pub(super) fn encode(value: &str) -> PercentEncode<'_> {
    utf8_percent_encode(value, ENCODED)
}
