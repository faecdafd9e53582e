//! The upstreams of a forward, kept as its directive and the files that it names say.

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
        Group, Host, MAX_UPSTREAMS, Over, ResolvConf, Settings, System, Target, To, Upstream,
        resolve,
    },
};

/// Where the upstreams of a forward come from, and the group that they make.
pub(super) struct Sources {
    group: Arc<Group>,
    list: Vec<Source>,
    settings: Settings,
    runtime: Handle,
    metrics: Arc<Metrics>,
    guard: Option<Arc<LoopGuard>>,
    followers: OnceLock<Vec<AbortHandle>>,
    /// One change at a time.
    changing: Mutex<()>,
}

enum Source {
    Server(Target),
    File {
        servers: watch::Receiver<Vec<HostAddress>>,
        /// Watches the file for as long as it is held.
        _file: Arc<ResolvConf>,
    },
    Host {
        host: Host,
        addresses: watch::Receiver<Vec<HostAddress>>,
        lookup: AbortHandle,
    },
}

/// Between two attempts to look a host up.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

/// How long a start waits for the addresses of hosts.
const START: Duration = Duration::from_secs(5);

impl Drop for Source {
    fn drop(&mut self) {
        if let Self::Host { lookup, .. } = self {
            lookup.abort();
        }
    }
}

impl Sources {
    /// Reads the files, takes over what upstreams of the same settings there are already, and
    /// begins to follow.
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
        // An empty file is passed over as long as anything else is left. A host may have no address yet.
        let may_come = list.iter().any(|one| matches!(one, Source::Host { .. }));
        if targets.is_empty() && !may_come {
            let files = config.to.iter().filter_map(|to| match to {
                To::File(path) => Some(format!("{:?}", path.display().to_string())),
                _ => None,
            });
            let files = files.collect::<Vec<_>>().join(", ");
            return Err(error(format!("no nameservers found in {files}"), None));
        }
        let wants_tls = config.to.iter().any(|to| match to {
            To::Server(target) => target.over.is_secure(),
            To::Host(host) => host.over.is_secure(),
            To::File(_) => false,
        });
        let tls = wants_tls.then(|| config.tls.load()).transpose();
        let settings = Settings {
            keeping: config.keeping,
            max_fails: config.max_fails,
            check: config.check,
            by_stream: config.force_tcp,
            source: config.source,
            tls_name: config.tls_name.clone(),
            tls: tls.map_err(|source| error("TLS".to_owned(), Some(source.into())))?,
            doh_method: config.doh_method,
        };
        let upstreams = keep_all(config, build, &settings, targets);
        let desperate = build.metrics.forward.healthcheck_broken_total.clone();
        let sources = Arc::new(Self {
            group: Arc::new(Group::new(upstreams, config.plan.clone(), desperate)),
            list,
            settings,
            runtime: build.runtime.clone(),
            metrics: Arc::clone(build.metrics),
            guard,
            followers: OnceLock::new(),
            changing: Mutex::new(()),
        });
        let followers = sources.follow();
        let _ = sources.followers.set(followers);
        sources.check_for_loops();
        Ok(sources)
    }

    pub(super) fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Completes when every host has addresses, which are then asked, or after a while; nothing
    /// where there are no hosts.
    pub(super) fn started(self: &Arc<Self>) -> Option<impl Future<Output = ()> + Send + 'static> {
        let hosts = self.list.iter().filter_map(|source| match source {
            Source::Host { addresses, .. } => Some(addresses.clone()),
            _ => None,
        });
        let hosts: Vec<_> = hosts.collect();
        let sources = Arc::clone(self);
        (!hosts.is_empty()).then_some(async move {
            let all = hosts.into_iter().map(|mut addresses| async move {
                // An error says that nobody looks any more.
                let _ = addresses.wait_for(|found| !found.is_empty()).await;
            });
            let _ = timeout(START, join_all(all)).await;
            sources.change();
        })
    }

    fn follow(self: &Arc<Self>) -> Vec<AbortHandle> {
        let files = self.list.iter().filter_map(|source| match source {
            Source::Server(_) => None,
            Source::File { servers, .. } => Some(servers.clone()),
            Source::Host { addresses, .. } => Some(addresses.clone()),
        });
        files
            .map(|servers| self.runtime.spawn(follow(servers, Arc::downgrade(self))))
            .map(|task| task.abort_handle())
            .collect()
    }

    /// Makes the group anew, with the upstreams that stay as they are.
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
            guard.check(&self.group.members(), &self.runtime);
        }
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        for follower in self.followers.get().into_iter().flatten() {
            follower.abort();
        }
    }
}

async fn follow(mut servers: watch::Receiver<Vec<HostAddress>>, sources: Weak<Sources>) {
    while servers.changed().await.is_ok() {
        let Some(sources) = sources.upgrade() else {
            return;
        };
        sources.change();
    }
}

/// Looks the host up until it is found.
async fn look_up(
    host: Host,
    servers: Box<[SocketAddr]>,
    runtime: Handle,
    found: watch::Sender<Vec<HostAddress>>,
) {
    let mut backoff = BACKOFF;
    loop {
        match resolve(&host, &servers, &System::default(), &runtime).await {
            Ok(addresses) => {
                found.send_replace(addresses);
                // Nothing is sent any more; whoever follows sees the channel closed.
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

fn open_all(config: &Config, build: &Build<'_>) -> Result<Vec<Source>, BuildError> {
    let open = |to: &To| match to {
        To::Server(target) => Ok(Source::Server(target.clone())),
        To::Host(host) => {
            let (found, addresses) = watch::channel(Vec::new());
            let runtime = build.runtime.clone();
            let lookup = look_up(host.clone(), config.resolver.clone(), runtime, found);
            Ok(Source::Host {
                host: host.clone(),
                addresses,
                lookup: build.runtime.spawn(lookup).abort_handle(),
            })
        }
        To::File(path) => {
            let key = format!("resolv.conf {}", path.display());
            let open = || ResolvConf::open(path, build.runtime);
            let file = build.parts.keep(&key, open).map_err(|source| {
                let action = format!("not an IP address or file \"{}\"", path.display());
                error(action, Some(source.into()))
            })?;
            Ok(Source::File {
                servers: file.servers(),
                _file: file,
            })
        }
    };
    config.to.iter().map(open).collect()
}

/// What the sources say now, each server once.
fn targets(list: &[Source]) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut add = |target: Target| {
        if !targets.contains(&target) {
            targets.push(target);
        }
    };
    for source in list {
        match source {
            Source::Server(target) => add(target.clone()),
            Source::File { servers, .. } => {
                let servers = servers.borrow();
                let at =
                    |server: &HostAddress| Target::at(server.with_port(Over::Dns.default_port()));
                servers.iter().map(at).for_each(&mut add);
            }
            Source::Host {
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

/// The upstreams, those of the configuration before where nothing about them has changed: their
/// sockets and their health survive.
fn keep_all(
    config: &Config,
    build: &Build<'_>,
    settings: &Settings,
    targets: Vec<Target>,
) -> Vec<Arc<Upstream>> {
    let common = format!(
        "{:?} {} {:?} {} {:?} {:?} {:?} {}",
        settings.keeping,
        settings.max_fails,
        settings.check,
        settings.by_stream,
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
            let kept: Result<_, Infallible> = build.parts.keep(&key, open);
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
