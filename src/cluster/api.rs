//! The source that watches a Kubernetes API server.
//!
//! `kube` reads the configuration, handles TLS and presents credentials other than tokens. Lists
//! and watches are implemented here: objects are converted from the wire to their reduced form one
//! at a time, so that neither a list nor an object is held in memory in its API form. There is one
//! task per kind.

mod access;
mod audit;
mod client;
mod connect;
mod delivered;
mod error;
mod explain;
mod fingerprints;
mod items;
mod lines;
mod list;
mod reflector;
mod token;
mod versions;
mod watch;

pub use access::{ApiAccess, ApiError, NamedService};

use super::decode;
use super::error::SourceError;
use super::event::{Event, Kind, Object};
use super::settings::Settings;
use super::state::Cluster;
use delivered::Delivered;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::error;

/// Maximum size in bytes of an object. The API server rejects objects above 1.5 MiB (etcd's request
/// limit), so longer input is not an object.
const MAX_OBJECT_BYTES: usize = 16 << 20;

/// Why an oversized object is skipped.
const OBJECT_TOO_LONG: &str = "it is longer than 16 MiB, which no API server accepts; skipped";

/// Starts one task per watched kind, and the audit; requests are counted in the cluster's statistics.
pub(super) fn start(
    settings: &Settings,
    cluster: &Arc<Cluster>,
    events: &mpsc::Sender<Event>,
    tasks: &mut JoinSet<()>,
    runtime: &Handle,
) -> Result<(), SourceError> {
    let requests = Arc::new(client::ApiClient::new(settings, cluster, runtime)?);
    let mut auditors = Vec::new();
    for kind in settings.kinds() {
        let delivered = settings.audit.map(|_| Arc::<Delivered>::default());
        if let Some(delivered) = &delivered {
            let (requests, delivered) = (Arc::clone(&requests), Arc::clone(delivered));
            auditors.push(audit::Auditor::new(kind, settings, requests, delivered));
        }
        let task = supervise(
            kind,
            settings.clone(),
            Arc::clone(&requests),
            events.clone(),
            delivered,
        );
        tasks.spawn_on(task, runtime);
    }
    if let Some(interval) = settings.audit {
        tasks.spawn_on(audit::run(auditors, interval), runtime);
    }
    Ok(())
}

/// Runs the reflector of one kind, and restarts it if it panics: names that silently go stale would
/// be the worst failure.
async fn supervise(
    kind: Kind,
    settings: Settings,
    requests: Arc<client::ApiClient>,
    events: mpsc::Sender<Event>,
    delivered: Option<Arc<Delivered>>,
) {
    loop {
        let watch = reflector::Reflector::new(
            kind,
            &settings,
            Arc::clone(&requests),
            events.clone(),
            delivered.clone(),
        );
        let mut task = JoinSet::new();
        task.spawn(watch.run());
        match task.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                error!(
                    "{}: the watch task panicked ({error}); restarting it",
                    kind.resource()
                );
                sleep(settings.timing.max_backoff).await;
            }
            _ => return,
        }
    }
}

/// Parses an object as the API server sends it; `None` if it cannot be parsed, or if DNS has no use for
/// it. For tests and fuzzers.
pub fn parse_object(kind: Kind, json: &str) -> Option<Object> {
    decode::json(kind, json, &[]).ok()?.object
}

/// Splits a list, received in parts of `part` bytes, into its items, without those of more than
/// `longest` bytes, and its frame; `None` if it is incomplete or the frame too long. For tests and fuzzers.
pub fn split_list(list: &[u8], part: usize, longest: usize) -> Option<(Vec<Vec<u8>>, Vec<u8>)> {
    let mut splitter = items::ItemSplitter::default();
    let mut found = Vec::new();
    for part in list.chunks(part.max(1)) {
        let is_ok = splitter.feed(part, longest, |item| {
            if let items::ListItem::Text(text) = item {
                found.push(text.to_vec());
            }
            Ok::<_, std::convert::Infallible>(())
        });
        if is_ok != Ok(true) {
            return None;
        }
    }
    let frame = splitter.frame()?.to_vec();
    Some((found, frame))
}

/// The collection path of a kind, across all namespaces.
fn path(kind: Kind) -> &'static str {
    match kind {
        Kind::Namespace => "/api/v1/namespaces",
        Kind::Service => "/api/v1/services",
        Kind::EndpointSlice => "/apis/discovery.k8s.io/v1/endpointslices",
        Kind::Pod => "/api/v1/pods",
        Kind::ServiceImport => "/apis/multicluster.x-k8s.io/v1alpha1/serviceimports",
    }
}
