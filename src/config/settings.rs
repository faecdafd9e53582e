//! Words that configure a server block and never see a query.

mod bind;

pub use bind::bind;

use std::{path::PathBuf, time::Duration};

use super::Listening;
use crate::{
    admin,
    corefile::{Diagnostic, Directive, Listen, Place, Problems},
    interfaces::HostAddress,
    plugin::{ParseErrors, Parsing},
};

/// The settings of a server block.
#[derive(Debug, Default)]
pub struct Settings {
    /// The addresses to serve on; none means all of the machine.
    pub bind: Vec<HostAddress>,
    /// Whether there are more, of interfaces that only another machine has.
    pub bound_elsewhere: bool,
    /// What relative names of files are under, which the parsers have seen to.
    pub root: Option<PathBuf>,
    /// Where liveness is told, and how long to go on when told to stop.
    pub health: Option<admin::health::Config>,
    /// Where readiness is told.
    pub ready: Option<admin::ready::Config>,
    /// Whether lines of level DEBUG are logged; one block that says so says it for all.
    pub debug: bool,
    /// Threads, each with a socket, for each address of UDP; as many as there are cores unless said.
    pub udp_threads: Option<usize>,
    /// Where profiles are served.
    pub pprof: Option<Listen>,
    /// Where `shed` stands, which is for plain DNS alone.
    pub shed: Option<Place>,
    /// Whether the Corefile is followed, and how.
    pub reload: Option<Reload>,
    /// How listeners and their connections are treated.
    pub listening: Listening,
}

/// How a Corefile is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reload {
    /// How often it is looked at, in case a change was not announced.
    pub interval: Duration,
    /// How much later at most, so that replicas do not all look at once.
    pub jitter: Duration,
}

impl Default for Reload {
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
    let read = |one: &Directive| -> Result<Reload, Diagnostic> {
        one.no_body()?;
        let mut reload = Reload::default();
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

/// `root PATH`; the last one counts. See [`Parsing::path`].
pub fn root(
    uses: &[&Directive],
    _: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), ParseErrors> {
    let mut problems = Problems::default();
    for one in uses {
        let mut arguments = one.arguments();
        let path = arguments.required("a directory");
        let read = path.and_then(|path| {
            arguments.none_left()?;
            one.no_body()?;
            settings.root = Some(path.as_str().into());
            Ok(())
        });
        problems.catch(read);
    }
    problems.in_plugin("root").into_result(())
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

/// `shed`: here there is always one writer a socket and a bound to what waits, so that it only
/// has to be in a place where CoreDNS takes it.
pub fn shed(
    uses: &[&Directive],
    _: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), ParseErrors> {
    bare(uses, "shed")?;
    settings.shed = uses.first().map(|one| one.name.place);
    Ok(())
}

/// Neither arguments nor a body.
fn bare(uses: &[&Directive], plugin: &str) -> Result<(), ParseErrors> {
    let mut problems = Problems::default();
    for one in uses {
        problems.catch(one.bare());
    }
    problems.in_plugin(plugin).into_result(())
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

/// `health [ADDRESS] { lameduck DURATION }`
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
