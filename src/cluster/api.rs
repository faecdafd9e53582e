//! The source that watches a Kubernetes API server.
//!
//! `kube` reads the configuration, speaks TLS and presents credentials, tokens excepted. Lists and watches are our
//! own: objects go from the wire into their slim forms one at a time, and neither a list nor an
//! object is ever held whole in its API form. There is one task for each kind.

mod client;
mod connect;
mod failure;
mod fault;
mod follow;
mod items;
mod lines;
mod list;
mod order;
mod token;
mod watch;

use super::event::{Event, Kind};
use super::settings::Settings;
use super::source::SourceError;
use super::state::Cluster;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::error;

/// The longest object that is read. The API server itself refuses objects beyond 1.5 MiB (etcd's
/// request limit), so what is longer is not an object.
const LONGEST_OBJECT: usize = 16 << 20;

/// Why such an object is skipped.
const TOO_LONG: &str = "it is longer than 16 MiB, which no API server accepts; skipped";

/// Starts a task for each kind that is watched; requests are counted in the cluster's stats.
pub(super) fn start(
    settings: &Settings,
    cluster: &Arc<Cluster>,
    events: &mpsc::Sender<Event>,
    tasks: &mut JoinSet<()>,
    runtime: &Handle,
) -> Result<(), SourceError> {
    let requests = Arc::new(client::Requests::new(settings, cluster, runtime)?);
    for kind in settings.kinds() {
        let watch = keep(
            kind,
            settings.clone(),
            Arc::clone(&requests),
            events.clone(),
        );
        tasks.spawn_on(watch, runtime);
    }
    Ok(())
}

/// Watches, and begins anew should the watch ever panic: names that go stale without a word are
/// the worst that can happen.
async fn keep(
    kind: Kind,
    settings: Settings,
    requests: Arc<client::Requests>,
    events: mpsc::Sender<Event>,
) {
    loop {
        let watch = watch::Watch::new(kind, &settings, Arc::clone(&requests), events.clone());
        let mut task = JoinSet::new();
        task.spawn(watch.run());
        match task.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                error!(
                    "{}: the watch has failed ({error}); beginning anew",
                    kind.resource()
                );
                sleep(settings.timing.longest_pause).await;
            }
            _ => return,
        }
    }
}

/// The path of a kind's collection, over all namespaces.
fn path(kind: Kind) -> &'static str {
    match kind {
        Kind::Namespace => "/api/v1/namespaces",
        Kind::Service => "/api/v1/services",
        Kind::Slice => "/apis/discovery.k8s.io/v1/endpointslices",
        Kind::Pod => "/api/v1/pods",
        Kind::Import => "/apis/multicluster.x-k8s.io/v1alpha1/serviceimports",
    }
}
