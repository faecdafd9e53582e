//! Directives that configure a server block and do not process queries.

mod bind;
pub mod listening;

pub use bind::bind;

use std::{path::PathBuf, time::Duration};

use self::listening::Listening;
use crate::{
    admin,
    corefile::{Diagnostic, Directive, ErrorList, Listen, Span},
    interfaces::HostAddress,
    plugin::{ParseErrors, Parsing},
};

/// The settings of a server block.
#[derive(Debug, Default)]
pub struct Settings {
    /// Addresses to listen on; empty for all addresses.
    pub bind: Vec<HostAddress>,
    /// Whether `bind` names interfaces that this machine does not have (`check` only).
    pub bound_elsewhere: bool,
    /// Base directory of relative file names; already applied by the parsers.
    pub root: Option<PathBuf>,
    /// Liveness page and lame-duck duration.
    pub health: Option<admin::health::Config>,
    /// Readiness page.
    pub ready: Option<admin::ready::Config>,
    /// Whether DEBUG lines are logged. Applies to the process if any block sets it.
    pub debug: bool,
    /// UDP threads per address, each with its own socket. Default: one per core.
    pub udp_threads: Option<usize>,
    /// Listen address of the profiling pages.
    pub pprof: Option<Listen>,
    /// Span of `shed`, which is allowed for plain DNS only.
    pub shed: Option<Span>,
    /// Whether and how the Corefile is watched for changes.
    pub reload: Option<ReloadSchedule>,
    /// Settings of listeners and connections.
    pub listening: Listening,
}

/// Schedule for checking the Corefile for changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReloadSchedule {
    /// Polling interval, for changes without a file system event.
    pub interval: Duration,
    /// Maximum random delay added to the interval, so that replicas do not reload at the same time.
    pub jitter: Duration,
}

impl Default for ReloadSchedule {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            jitter: Duration::from_secs(15),
        }
    }
}

/// `reload [INTERVAL [JITTER]]`
pub fn reload(
    uses: &[&Directive],
    _: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), ParseErrors> {
    let read = |one: &Directive| -> Result<ReloadSchedule, Diagnostic> {
        one.no_body()?;
        let mut reload = ReloadSchedule::default();
        let mut arguments = one.arguments();
        if let Some(word) = arguments.next() {
            reload.interval = word.duration()?;
            if reload.interval < Duration::from_secs(2) {
                return Err(word.error("interval value must be greater or equal to 2s"));
            }
        }
        if let Some(word) = arguments.next() {
            reload.jitter = word.duration()?;
            if !reload.jitter.is_zero() && reload.jitter < Duration::from_secs(1) {
                return Err(word.error("jitter value must be greater or equal to 1s"));
            }
        }
        arguments.none_left()?;
        reload.jitter = reload.jitter.min(reload.interval / 2);
        Ok(reload)
    };
    settings.reload = Some(read(uses[0]).map_err(|error| vec![error.in_plugin("reload")])?);
    Ok(())
}

/// `root PATH`; the last one applies. See [`Parsing::path`].
pub fn root(
    uses: &[&Directive],
    _: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), ParseErrors> {
    let mut errors = ErrorList::default();
    for one in uses {
        let mut arguments = one.arguments();
        let path = arguments.required("a directory");
        let read = path.and_then(|path| {
            arguments.none_left()?;
            one.no_body()?;
            settings.root = Some(path.as_str().into());
            Ok(())
        });
        errors.catch(read);
    }
    errors.in_plugin("root").into_result(())
}

/// `debug`
pub fn debug(
    uses: &[&Directive],
    _: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), ParseErrors> {
    bare(uses, "debug")?;
    settings.debug = true;
    Ok(())
}

/// `shed`: load shedding. Always active here, with one writer per socket and bounded queues, so the
/// directive is only checked for a position where CoreDNS accepts it.
pub fn shed(
    uses: &[&Directive],
    _: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), ParseErrors> {
    bare(uses, "shed")?;
    settings.shed = uses.first().map(|one| one.name.span);
    Ok(())
}

/// Refuses arguments and bodies.
fn bare(uses: &[&Directive], plugin: &str) -> Result<(), ParseErrors> {
    let mut errors = ErrorList::default();
    for one in uses {
        errors.catch(one.bare());
    }
    errors.in_plugin(plugin).into_result(())
}

/// `multisocket [SOCKETS]`
pub fn multisocket(
    uses: &[&Directive],
    _: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), ParseErrors> {
    let read = |one: &Directive| -> Result<Option<usize>, Diagnostic> {
        one.no_body()?;
        let mut arguments = one.arguments();
        let sockets = arguments.next().map(|word| word.integer(1..=1024));
        arguments.none_left()?;
        sockets.transpose()
    };
    settings.udp_threads = read(uses[0]).map_err(|error| vec![error.in_plugin("multisocket")])?;
    Ok(())
}

/// `pprof [ADDRESS] { block [RATE] }`
pub fn pprof(
    uses: &[&Directive],
    parsing: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), ParseErrors> {
    let read = admin::profile::parse(uses[0], parsing.warnings);
    settings.pprof = Some(read.map_err(|error| vec![error.in_plugin("pprof")])?);
    Ok(())
}

/// `health [ADDRESS] { lameduck DURATION, quiet DURATION [MAX] }`
pub fn health(
    uses: &[&Directive],
    _: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), ParseErrors> {
    settings.health = Some(admin::health::parse(uses)?);
    Ok(())
}

/// `ready [ADDRESS] { monitor … }`
pub fn ready(
    uses: &[&Directive],
    _: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), ParseErrors> {
    settings.ready = Some(admin::ready::parse(uses[0])?);
    Ok(())
}
