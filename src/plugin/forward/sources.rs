//! The upstreams of a forward, kept as its directive and the files that it names say.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, OnceLock, Weak},
};

use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::watch, task::AbortHandle};

use super::{Build, BuildError, Config, LoopGuard, NAME};
use crate::{
    metrics::Metrics,
    upstream::{Group, MAX_UPSTREAMS, ResolvConf, Settings, Target, To, Upstream},
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
        servers: watch::Receiver<Vec<IpAddr>>,
        /// Watches the file for as long as it is held.
        _file: Arc<ResolvConf>,
    },
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
        let wants_tls = targets.iter().any(|target| target.tls.is_some());
        let tls = wants_tls.then(|| config.tls.load()).transpose();
        let settings = Settings {
            keeping: config.keeping,
            max_fails: config.max_fails,
            check: config.check,
            by_stream: config.force_tcp,
            source: config.source,
            tls_name: config.tls_name.clone(),
            tls: tls.map_err(|source| error("TLS".to_owned(), Some(source.into())))?,
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

    fn follow(self: &Arc<Self>) -> Vec<AbortHandle> {
        let files = self.list.iter().filter_map(|source| match source {
            Source::Server(_) => None,
            Source::File { servers, .. } => Some(servers.clone()),
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

async fn follow(mut servers: watch::Receiver<Vec<IpAddr>>, sources: Weak<Sources>) {
    while servers.changed().await.is_ok() {
        let Some(sources) = sources.upgrade() else {
            return;
        };
        sources.change();
    }
}

fn open_all(config: &Config, build: &Build<'_>) -> Result<Vec<Source>, BuildError> {
    let open = |to: &To| match to {
        To::Server(target) => Ok(Source::Server(target.clone())),
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
                servers
                    .iter()
                    .copied()
                    .map(Target::plain)
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
        "{:?} {} {:?} {} {:?} {:?} {}",
        settings.keeping,
        settings.max_fails,
        settings.check,
        settings.by_stream,
        settings.source,
        settings.tls_name,
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
