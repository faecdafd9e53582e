//! The upstreams of a `forward`, from its directive and from the files and host names in it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::watch, task::AbortHandle, time::timeout};

use super::{Build, BuildError, Config, LoopGuard, NAME};
use crate::{
    backoff::Backoff,
    interfaces::HostAddress,
    metrics::Metrics,
    upstream::{
        Destination, Host, MAX_UPSTREAMS, PacketBudget, ResolvConf, ResolverFiles, Settings,
        Target, Upstream, UpstreamGroup, UpstreamProtocol, resolve,
    },
    wire::Name,
};

/// The sources of the upstreams, and the group made from them.
pub(super) struct UpstreamSources {
    group: Arc<UpstreamGroup>,
    from: Name,
    list: Vec<TargetSource>,
    settings: Settings,
    runtime: Handle,
    metrics: Arc<Metrics>,
    guard: Option<Arc<LoopGuard>>,
    watchers: OnceLock<Vec<AbortHandle>>,
    /// Serializes changes of the group.
    changing: Mutex<()>,
}

enum TargetSource {
    Server(Target),
    File {
        servers: watch::Receiver<Vec<HostAddress>>,
        /// Watches the file until it is dropped.
        _file: Arc<ResolvConf>,
    },
    Host {
        host: Host,
        addresses: watch::Receiver<Vec<HostAddress>>,
        lookup: AbortHandle,
    },
}

/// Between two attempts to resolve a host name.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

/// Timeout for the addresses of host names at the start.
const START: Duration = Duration::from_secs(5);

impl Config {
    /// The settings of the upstreams. Reads the files for TLS, if any upstream uses it.
    pub fn upstream_settings(&self) -> Result<Settings, BuildError> {
        let wants_tls = self.to.iter().any(|to| match to {
            Destination::Server(target) => target.protocol.is_secure(),
            Destination::Host(host) => host.protocol.is_secure(),
            Destination::File(_) => false,
        });
        let tls = wants_tls.then(|| self.tls.load()).transpose();
        Ok(Settings {
            pool: self.pool,
            max_fails: self.max_fails,
            check: self.check,
            force_tcp: self.force_tcp,
            source: self.source,
            tls_name: self.tls_name.clone(),
            tls: tls.map_err(|source| error("TLS".to_owned(), Some(source.into())))?,
            doh_method: self.doh_method,
        })
    }
}

impl Drop for TargetSource {
    fn drop(&mut self) {
        if let Self::Host { lookup, .. } = self {
            lookup.abort();
        }
    }
}

impl UpstreamSources {
    /// Reads the files, reuses existing upstreams with the same settings, and begins to watch the
    /// sources.
    pub(super) fn open(
        config: &Config,
        build: &mut Build<'_>,
        guard: Option<Arc<LoopGuard>>,
    ) -> Result<Arc<Self>, BuildError> {
        let list = open_all(config, build)?;
        let targets = targets(&list);
        if targets.len() > MAX_UPSTREAMS {
            let count = targets.len();
            let action = format!("more than {MAX_UPSTREAMS} TOs configured: {count}");
            return Err(error(action, None));
        }
        // An empty file is no error if there are other upstreams. A host name may have no address yet.
        let may_come = list
            .iter()
            .any(|one| matches!(one, TargetSource::Host { .. }));
        if targets.is_empty() && !may_come {
            let files = config.to.iter().filter_map(|to| match to {
                Destination::File(path) => Some(format!("{:?}", path.display().to_string())),
                _ => None,
            });
            let files = files.collect::<Vec<_>>().join(", ");
            return Err(error(format!("no nameservers found in {files}"), None));
        }
        let settings = config.upstream_settings()?;
        let upstreams = reuse_or_open(config, build, &settings, targets);
        let healthcheck_broken = build.metrics.forward.healthcheck_broken_total.clone();
        let sources = Arc::new(Self {
            group: Arc::new(
                UpstreamGroup::new(upstreams, config.plan.clone(), healthcheck_broken)
                    .with_budget(packet_budget(config, build.metrics)),
            ),
            from: config.from.to_lower(),
            list,
            settings,
            runtime: build.runtime.clone(),
            metrics: Arc::clone(build.metrics),
            guard,
            watchers: OnceLock::new(),
            changing: Mutex::new(()),
        });
        let watchers = sources.watch();
        let _ = sources.watchers.set(watchers);
        sources.check_for_loops();
        Ok(sources)
    }

    pub(super) fn group(&self) -> &Arc<UpstreamGroup> {
        &self.group
    }

    /// Completes when every host name has addresses and the group has been updated with them, or after
    /// a timeout. `None` without host names.
    pub(super) fn started(self: &Arc<Self>) -> Option<impl Future<Output = ()> + Send + 'static> {
        let hosts = self.list.iter().filter_map(|source| match source {
            TargetSource::Host { addresses, .. } => Some(addresses.clone()),
            _ => None,
        });
        let hosts: Vec<_> = hosts.collect();
        let sources = Arc::clone(self);
        (!hosts.is_empty()).then_some(async move {
            let all = hosts.into_iter().map(|mut addresses| async move {
                // An error means that the lookup was aborted.
                let _ = addresses.wait_for(|found| !found.is_empty()).await;
            });
            let _ = timeout(START, join_all(all)).await;
            sources.change();
        })
    }

    fn watch(self: &Arc<Self>) -> Vec<AbortHandle> {
        let files = self.list.iter().filter_map(|source| match source {
            TargetSource::Server(_) => None,
            TargetSource::File { servers, .. } => Some(servers.clone()),
            TargetSource::Host { addresses, .. } => Some(addresses.clone()),
        });
        files
            .map(|servers| {
                self.runtime
                    .spawn(watch_source(servers, Arc::downgrade(self)))
            })
            .map(|task| task.abort_handle())
            .collect()
    }

    /// Updates the group from the sources; unchanged upstreams are reused.
    fn change(&self) {
        let _alone = self.changing.lock();
        let mut targets = targets(&self.list);
        if targets.len() > MAX_UPSTREAMS {
            tracing::warn!(
                target: "plugin/forward",
                "More than {MAX_UPSTREAMS} upstreams are listed: the last {} are left out",
                targets.len() - MAX_UPSTREAMS
            );
            targets.truncate(MAX_UPSTREAMS);
        }
        let members = self.group.members();
        let known = members.iter().map(|member| member.upstream.target());
        if known.eq(&targets) {
            return;
        }
        let upstreams: Vec<_> = targets
            .into_iter()
            .map(|target| {
                let mut known = members.iter().map(|member| &member.upstream);
                match known.find(|upstream| *upstream.target() == target) {
                    Some(upstream) => Arc::clone(upstream),
                    None => self.open_upstream(target),
                }
            })
            .collect();
        let labels: Vec<_> = upstreams.iter().map(|one| &**one.label()).collect();
        tracing::info!(target: "plugin/forward", "Upstreams are now {}", labels.join(", "));
        self.group.replace(upstreams);
        self.check_for_loops();
    }

    fn open_upstream(&self, target: Target) -> Arc<Upstream> {
        let runtime = self.runtime.clone();
        Arc::new(Upstream::new(
            target,
            &self.settings,
            runtime,
            &self.metrics,
        ))
    }

    fn check_for_loops(&self) {
        if let Some(guard) = &self.guard {
            guard.check(&self.from, &self.group.members(), &self.runtime);
        }
    }
}

impl Drop for UpstreamSources {
    fn drop(&mut self) {
        for watcher in self.watchers.get().into_iter().flatten() {
            watcher.abort();
        }
    }
}

async fn watch_source(
    mut servers: watch::Receiver<Vec<HostAddress>>,
    sources: Weak<UpstreamSources>,
) {
    while servers.changed().await.is_ok() {
        let Some(sources) = sources.upgrade() else {
            return;
        };
        sources.change();
    }
}

/// Resolves the host name, with retries until it succeeds.
async fn look_up(
    host: Host,
    servers: Box<[SocketAddr]>,
    runtime: Handle,
    found: watch::Sender<Vec<HostAddress>>,
) {
    let mut backoff = BACKOFF;
    loop {
        match resolve(&host, &servers, &ResolverFiles::default(), &runtime).await {
            Ok(addresses) => {
                found.send_replace(addresses);
                // The sender is dropped: receivers see the channel closed.
                return;
            }
            Err(error) => {
                let (name, delay) = (&host.host, backoff.delay());
                tracing::warn!(
                    target: "plugin/forward",
                    "Cannot look up the upstream {name:?}: {error}; trying again in {delay:.1?}"
                );
                tokio::time::sleep(delay).await;
            }
        }
    }
}

fn open_all(config: &Config, build: &Build<'_>) -> Result<Vec<TargetSource>, BuildError> {
    let open = |to: &Destination| match to {
        Destination::Server(target) => Ok(TargetSource::Server(target.clone())),
        Destination::Host(host) => {
            let (found, addresses) = watch::channel(Vec::new());
            let runtime = build.runtime.clone();
            let lookup = look_up(host.clone(), config.resolver.clone(), runtime, found);
            Ok(TargetSource::Host {
                host: host.clone(),
                addresses,
                lookup: build.runtime.spawn(lookup).abort_handle(),
            })
        }
        Destination::File(path) => {
            let key = format!("resolv.conf {}", path.display());
            let open = || ResolvConf::open(path, build.runtime);
            let file = build.resources.keep(&key, open).map_err(|source| {
                let action = format!("not an IP address or file \"{}\"", path.display());
                error(action, Some(source.into()))
            })?;
            Ok(TargetSource::File {
                servers: file.servers(),
                _file: file,
            })
        }
    };
    config.to.iter().map(open).collect()
}

/// The current servers of the sources, without duplicates.
fn targets(list: &[TargetSource]) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut add = |target: Target| {
        if !targets.contains(&target) {
            targets.push(target);
        }
    };
    for source in list {
        match source {
            TargetSource::Server(target) => add(target.clone()),
            TargetSource::File { servers, .. } => {
                let servers = servers.borrow();
                let at = |server: &HostAddress| {
                    Target::at(server.with_port(UpstreamProtocol::Dns.default_port()))
                };
                servers.iter().map(at).for_each(&mut add);
            }
            TargetSource::Host {
                host, addresses, ..
            } => {
                let addresses = addresses.borrow();
                addresses
                    .iter()
                    .map(|address| host.at(*address))
                    .for_each(&mut add);
            }
        }
    }
    targets
}

/// The upstreams. Those of the previous configuration are reused if their settings are the same, with
/// their connections and their health.
fn reuse_or_open(
    config: &Config,
    build: &Build<'_>,
    settings: &Settings,
    targets: Vec<Target>,
) -> Vec<Arc<Upstream>> {
    let common = format!(
        "{:?} {} {:?} {} {:?} {:?} {:?} {}",
        settings.pool,
        settings.max_fails,
        settings.check,
        settings.force_tcp,
        settings.source,
        settings.tls_name,
        settings.doh_method,
        config.tls.fingerprint(),
    );
    targets
        .into_iter()
        .map(|target| {
            let key = format!("upstream {target:?} {common}");
            let open = || {
                let runtime = build.runtime.clone();
                Ok(Upstream::new(target, settings, runtime, build.metrics))
            };
            let kept: Result<_, Infallible> = build.resources.keep(&key, open);
            match kept {
                Ok(upstream) => upstream,
                Err(never) => match never {},
            }
        })
        .collect()
}

fn error(action: String, source: Option<anyhow::Error>) -> BuildError {
    BuildError {
        plugin: NAME,
        action,
        source,
    }
}

/// The packet budget of a `forward`, shown in the metrics until it is dropped.
fn packet_budget(config: &Config, metrics: &Arc<Metrics>) -> Option<Arc<PacketBudget>> {
    if config.max_pps == 0 {
        return None;
    }
    let from = config.from.to_string();
    let denied = &metrics.forward.packets_denied_total;
    let denied = denied.with_label_values(&[from.as_str()]);
    let budget = Arc::new(PacketBudget::new(config.max_pps, denied));
    let shown = Arc::downgrade(&budget);
    metrics.before_scrape(move |metrics| {
        let Some(budget) = shown.upgrade() else {
            return false;
        };
        let families = &metrics.forward;
        let labels = [from.as_str()];
        let last_second = i64::try_from(budget.last_second()).unwrap_or(i64::MAX);
        families
            .max_pps
            .with_label_values(&labels)
            .set(budget.per_second().into());
        let packets = families.packets_per_second.with_label_values(&labels);
        packets.set(last_second);
        true
    });
    Some(budget)
}
