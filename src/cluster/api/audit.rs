//! The audit: compares what the watches have delivered with lists of names and versions, at intervals,
//! and makes a reflector list again that has lost events.
//!
//! The API server, a proxy or this program may lose an event without an error on any side; without an
//! audit, the object stays wrong until it changes again (lf-edge/eve#6113, coredns/coredns#3587).

use super::super::decode;
use super::super::event::{Kind, ObjectKey};
use super::super::settings::Settings;
use super::super::state::Cluster;
use super::client::ApiClient;
use super::delivered::{Delivered, ListFrom, Lost};
use super::error::WatchError;
use super::items::ListItem;
use super::list::{PAGE, PageReader};
use super::path;
use super::reflector::{encode, selectors};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

/// Objects without `spec` and `status`. A server that does not know the form sends complete ones.
const METADATA: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=1,application/json";

/// Maximum number of names in a log line.
const MAX_LOGGED: usize = 10;

/// The audit of one kind.
pub(super) struct Auditor {
    kind: Kind,
    requests: Arc<ApiClient>,
    delivered: Arc<Delivered>,
    selectors: String,
    /// Timeout for the watch to reach the version of a list.
    settle: Duration,
    /// Timeout between parts of a list.
    response: Duration,
    /// The [digest](Lost::digest) of what the last audit repaired.
    repaired: Option<u64>,
}

/// Audits all kinds, one after the other, at intervals. The first audit is after an interval.
pub(super) async fn run(mut auditors: Vec<Auditor>, interval: Duration) {
    loop {
        // Randomized, so that replicas do not list at the same time.
        let factor = rand::random_range(0.8..=1.2);
        sleep(interval.mul_f64(factor)).await;
        for auditor in &mut auditors {
            auditor.audit().await;
        }
    }
}

impl Auditor {
    /// The audit of a kind, whose reflector fills `delivered`.
    pub(super) fn new(
        kind: Kind,
        settings: &Settings,
        requests: Arc<ApiClient>,
        delivered: Arc<Delivered>,
    ) -> Self {
        Self {
            kind,
            requests,
            delivered,
            selectors: selectors(kind, settings),
            settle: settings.timing.settle,
            response: settings.timing.response,
            repaired: None,
        }
    }

    async fn audit(&mut self) {
        let resource = self.kind.resource();
        let Some(from) = self.delivered.begin_comparison() else {
            debug!("{resource}: no audit during a list");
            return;
        };
        match self.list(from).await {
            Ok(version) => self.delivered.end_comparison(version),
            Err(failure) => {
                self.delivered.take_comparison();
                debug!("{resource}: audit failed: {failure}");
                return;
            }
        }
        // If it is not reached in time, the watch is as good as lost: repaired too.
        let _ = timeout(self.settle, self.delivered.decided()).await;
        let Some(lost) = self.delivered.take_comparison() else {
            debug!("{resource}: audit ended by a list");
            return;
        };
        let stats = self.requests.cluster().stats();
        stats.audited(self.kind);
        if lost.objects.is_empty() {
            self.repaired = None;
            return;
        }
        let count = lost.objects.len();
        let names = names(self.requests.cluster(), self.kind, &self.delivered, &lost);
        // A list does not repair it: two names with the same hash, or a server whose lists and
        // watches contradict each other.
        if self.repaired.replace(lost.digest) == Some(lost.digest) {
            warn!(
                "{resource}: the audit finds the same {count} differences after a new list: {names}"
            );
            return;
        }
        stats.repaired(self.kind, count);
        warn!("{resource}: the watch has lost events of {count} objects; listing again: {names}");
        self.delivered.request_list();
    }

    /// Compares the pages of a list; returns its version.
    async fn list(&self, from: ListFrom) -> Result<Option<u64>, WatchError> {
        let ListFrom { version, streamed } = from;
        let (path, selectors) = (path(self.kind), &self.selectors);
        // From the server's cache. Servers that stream lists (by default, Kubernetes 1.34 and later)
        // serve pages from it as well. Older ones would read pages from etcd, and have only complete
        // lists in their cache.
        let limit = if streamed {
            format!("limit={PAGE}&")
        } else {
            String::new()
        };
        let mut query = format!(
            "{path}?{limit}resourceVersion={version}&resourceVersionMatch=NotOlderThan{selectors}"
        );
        loop {
            let (body, _permit) = self
                .requests
                .get_as("list", self.kind, &query, METADATA)
                .await?;
            let mut page = PageReader::new(body, self.response);
            while page.next(|item| self.compare(&item)).await? {}
            let frame = page.finish()?;
            let Some(more) = frame.r#continue.filter(|more| !more.is_empty()) else {
                return Ok(frame.resource_version.parse().ok());
            };
            // The token has the version, which must not be set as well.
            query = format!("{path}?{limit}continue={}{selectors}", encode(&more));
        }
    }

    fn compare(&self, item: &ListItem<'_>) {
        let ListItem::Text(text) = item else { return };
        let text = std::str::from_utf8(text).ok();
        if let Some(Ok(object)) = text.map(decode::json_key) {
            self.delivered.compare(object.key, object.version);
        }
    }
}

/// Some names of objects whose events were lost. Objects that are not in the list are looked up in
/// the state, which has those that DNS has a use for.
fn names(cluster: &Cluster, kind: Kind, delivered: &Delivered, lost: &Lost) -> String {
    let mut names: Vec<String> = Vec::new();
    let listed = lost.objects.values().filter_map(|it| it.name.as_ref());
    names.extend(listed.take(MAX_LOGGED).map(ToString::to_string));
    let unnamed = lost.objects.values().any(|it| it.name.is_none());
    if unnamed && names.len() < MAX_LOGGED {
        each_key(cluster, kind, |namespace, name| {
            let different = lost.objects.get(&delivered.key(namespace, name));
            if names.len() < MAX_LOGGED && different.is_some_and(|it| it.name.is_none()) {
                names.push(ObjectKey::from((namespace, name)).to_string());
            }
        });
    }
    let more = lost.objects.len() - names.len();
    match (names.join(", "), more) {
        (names, 0) => names,
        (names, more) if names.is_empty() => format!("{more} without a use for DNS"),
        (names, more) => format!("{names} and {more} others"),
    }
}

fn each_key(cluster: &Cluster, kind: Kind, mut each: impl FnMut(&str, &str)) {
    match kind {
        Kind::Namespace => {
            for namespace in cluster.namespaces() {
                each("", &namespace.name);
            }
        }
        Kind::Pod => {
            for pod in cluster.all_pods() {
                each(&pod.namespace, &pod.name);
            }
        }
        Kind::Service => {
            for service in cluster.entries().filter_map(|entry| entry.service.clone()) {
                each(&service.namespace, &service.name);
            }
        }
        Kind::ServiceImport => {
            for import in cluster.entries().filter_map(|entry| entry.import.clone()) {
                each(&import.namespace, &import.name);
            }
        }
        Kind::EndpointSlice => {
            for entry in cluster.entries() {
                for slice in entry.slices.iter().chain(&entry.imported) {
                    each(&slice.namespace, &slice.name);
                }
            }
        }
    }
}
