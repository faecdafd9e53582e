//! `ready`: a readiness page that checks the plugins. A setting, not a plugin.
//!
//! ```text
//! ready [ADDRESS] {
//!     monitor until-ready|continuously
//! }
//! ```
//!
//! Checks the plugins of all blocks with `ready`. Plugins of the same name in several blocks must
//! all be ready.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use crate::{
    corefile::{Diagnostic, Directive, ErrorList, Listen, unknown_property},
    plugin::Plugin,
};

/// Readiness page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Listen address. Default: `:8181`.
    pub listen: Listen,
    /// When plugins are checked.
    pub monitor: Monitor,
}

/// When a plugin is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Monitor {
    /// Until it was ready once.
    #[default]
    UntilReady,
    /// On every request.
    Continuously,
}

/// Parses `ready`.
pub fn parse(directive: &Directive) -> Result<Config, Vec<Diagnostic>> {
    let mut config = Config {
        listen: Listen {
            host: "".into(),
            port: 8181,
        },
        monitor: Monitor::default(),
    };
    let mut errors = ErrorList::default();
    let listen = errors.catch(directive.listen()).flatten();
    config.listen = listen.unwrap_or(config.listen);
    let choices = [
        ("until-ready", Monitor::UntilReady),
        ("continuously", Monitor::Continuously),
    ];
    for line in directive.properties() {
        if *line.name() != "monitor" {
            errors.push(unknown_property(line.name(), &["monitor"]));
            continue;
        }
        let read = line.arguments().exactly::<1>("until-ready or continuously");
        let monitor = errors.catch(read.and_then(|[word]| word.one_of(&choices)));
        config.monitor = monitor.unwrap_or(config.monitor);
    }
    errors.in_plugin("ready").into_result(config)
}

/// Readiness of the process.
#[derive(Default)]
pub struct Readiness {
    /// `None` until the first configuration is active.
    checks: ArcSwapOption<Vec<Check>>,
    shutting_down: AtomicBool,
    /// The last reported state, to log changes only.
    reported: Mutex<String>,
}

struct Check {
    plugin: Plugin,
    monitor: Monitor,
    was_ready: AtomicBool,
}

impl Readiness {
    /// Replaces the checked plugins by those of a new configuration.
    pub fn watch(&self, plugins: impl IntoIterator<Item = (Plugin, Monitor)>) {
        let checks = plugins.into_iter().map(|(plugin, monitor)| Check {
            plugin,
            monitor,
            was_ready: AtomicBool::new(false),
        });
        self.checks.store(Some(Arc::new(checks.collect())));
    }

    /// Reports "shutting down" from now on.
    pub fn shut_down(&self) {
        self.shutting_down.store(true, Relaxed);
    }

    /// `Ok` if all plugins are ready; otherwise the names of those that are not, or another reason.
    pub fn report(&self) -> Result<(), String> {
        if self.shutting_down.load(Relaxed) {
            return Err("shutting down".to_owned());
        }
        let checks = self.checks.load();
        let Some(checks) = checks.as_ref() else {
            return Err("starting".to_owned());
        };
        let not_ready: BTreeSet<_> = checks
            .iter()
            .filter(|check| !check.is_ready())
            .map(|check| check.plugin.name)
            .collect();
        let not_ready = not_ready.into_iter().collect::<Vec<_>>().join(",");
        self.log_change(&not_ready);
        if not_ready.is_empty() {
            Ok(())
        } else {
            Err(not_ready)
        }
    }

    /// The state of what the plugins depend on, for `/ready?verbose`: one line each. Blocks that share
    /// a source have the same lines, which are shown once.
    pub fn details(&self) -> Vec<String> {
        let checks = self.checks.load();
        let plugins = checks.iter().flat_map(|checks| checks.iter());
        let mut lines: Vec<String> = Vec::new();
        for line in plugins.flat_map(|check| check.plugin.readiness_details()) {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        lines
    }

    fn log_change(&self, not_ready: &str) {
        let mut reported = self.reported.lock();
        if *reported == not_ready {
            return;
        }
        not_ready.clone_into(&mut reported);
        drop(reported);
        if not_ready.is_empty() {
            tracing::info!("every plugin is ready");
        } else {
            tracing::info!("still waiting for {not_ready}");
        }
    }
}

impl Check {
    fn is_ready(&self) -> bool {
        if self.monitor == Monitor::UntilReady && self.was_ready.load(Relaxed) {
            return true;
        }
        let ready = self.plugin.is_ready();
        if ready {
            self.was_ready.store(true, Relaxed);
        }
        ready
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{corefile, hooks, plugin::ReadinessCheck};

    /// A plugin with a settable state.
    pub(in crate::admin) struct Probe(
        pub(in crate::admin) &'static str,
        pub(in crate::admin) AtomicBool,
    );

    hooks!(Probe, "probe" => readiness);

    impl ReadinessCheck for Probe {
        fn is_ready(&self) -> bool {
            self.1.load(Relaxed)
        }

        fn details(&self) -> Vec<String> {
            vec![format!("{} 3, last contact 0 s ago", self.0)]
        }
    }

    impl Probe {
        pub(in crate::admin) fn plugin(self: &Arc<Self>) -> Plugin {
            let mut plugin = Plugin::from(Arc::clone(self));
            plugin.name = self.0;
            plugin
        }
    }

    fn probe(name: &'static str) -> Arc<Probe> {
        Arc::new(Probe(name, AtomicBool::new(false)))
    }

    #[test]
    fn plugins_are_checked_until_they_were_ready() {
        let readiness = Readiness::default();
        assert_eq!(readiness.report().unwrap_err(), "starting");
        let plugins = [probe("kubernetes"), probe("kubernetes"), probe("forward")];
        let watched = plugins.iter();
        readiness.watch(watched.map(|probe| (probe.plugin(), Monitor::UntilReady)));
        assert_eq!(readiness.report().unwrap_err(), "forward,kubernetes");
        plugins[2].1.store(true, Relaxed);
        plugins[1].1.store(true, Relaxed);
        // Two plugins with the same name: both must be ready.
        assert_eq!(readiness.report().unwrap_err(), "kubernetes");
        plugins[0].1.store(true, Relaxed);
        assert!(readiness.report().is_ok());
        plugins[0].1.store(false, Relaxed);
        assert!(readiness.report().is_ok());
        readiness.shut_down();
        assert_eq!(readiness.report().unwrap_err(), "shutting down");
    }

    #[test]
    fn continuously_monitored_plugins_can_become_unready() {
        let readiness = Readiness::default();
        let plugin = probe("kubernetes");
        plugin.1.store(true, Relaxed);
        readiness.watch([(plugin.plugin(), Monitor::Continuously)]);
        assert!(readiness.report().is_ok());
        plugin.1.store(false, Relaxed);
        assert_eq!(readiness.report().unwrap_err(), "kubernetes");
    }

    fn parsed(text: &str) -> Result<(String, Monitor), String> {
        let text = format!(". {{\n{text}\n}}\n");
        let memory = corefile::InMemory::default();
        let file = corefile::parse("Corefile", &text, &["ready"], &memory).unwrap();
        match parse(&file.blocks[0].directives[0]) {
            Ok(config) => Ok((config.listen.to_string(), config.monitor)),
            Err(refused) => Err(refused.into_iter().map(|one| one.message + "\n").collect()),
        }
    }

    #[test]
    fn lines_of_a_corefile() {
        for (text, listen, monitor) in [
            ("ready", ":8181", Monitor::UntilReady),
            ("ready localhost:81", "localhost:81", Monitor::UntilReady),
            (
                "ready {\nmonitor continuously\n}",
                ":8181",
                Monitor::Continuously,
            ),
            (
                "ready :1 {\nmonitor until-ready\n}",
                ":1",
                Monitor::UntilReady,
            ),
        ] {
            assert_eq!(
                parsed(text).unwrap(),
                (listen.to_owned(), monitor),
                "{text}"
            );
        }
        for (text, wanted) in [
            ("ready 8181", "missing port"),
            ("ready {\nmonitor\n}", "Wrong argument count"),
            ("ready {\nmonitor forever\n}", "unknown value"),
            ("ready {\nmonitors until-ready\n}", "unknown property"),
        ] {
            let refused = parsed(text).unwrap_err();
            assert!(refused.contains(wanted), "{text}: {refused}");
        }
    }
}
