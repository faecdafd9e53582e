//! Words that configure a server block and never see a query.

use std::{net::IpAddr, time::Duration};

use super::{Listening, Parsing};
use crate::{
    admin,
    corefile::{Diagnostic, Directive},
    plugin::order::Errors,
};

/// The settings of a server block.
#[derive(Debug, Default)]
pub struct Settings {
    /// The addresses to serve on; none means all of the machine.
    pub bind: Vec<IpAddr>,
    /// Where liveness is told, and how long to go on when told to stop.
    pub health: Option<admin::health::Config>,
    /// Where readiness is told.
    pub ready: Option<admin::ready::Config>,
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

/// `bind ADDRESS…`
pub fn bind(
    uses: &[&Directive],
    _: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), Errors> {
    let mut errors = Vec::new();
    for one in uses {
        if let Err(error) = one.no_body() {
            errors.push(error);
        }
        match one.arguments().at_least_one("an address") {
            Ok(words) => {
                for word in words {
                    match word.address() {
                        Ok(address) if settings.bind.contains(&address) => {}
                        Ok(address) => settings.bind.push(address),
                        Err(error) => errors.push(
                            error
                                .in_plugin("bind")
                                .help("name addresses; interfaces are not built in yet"),
                        ),
                    }
                }
            }
            Err(error) => errors.push(error.in_plugin("bind")),
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

/// `reload [INTERVAL [JITTER]]`
pub fn reload(
    uses: &[&Directive],
    _: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), Errors> {
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

/// `health [ADDRESS] { lameduck DURATION }`
pub fn health(
    uses: &[&Directive],
    _: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), Errors> {
    settings.health = Some(admin::health::parse(uses)?);
    Ok(())
}

/// `ready [ADDRESS] { monitor … }`
pub fn ready(
    uses: &[&Directive],
    _: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), Errors> {
    settings.ready = Some(admin::ready::parse(uses[0])?);
    Ok(())
}
