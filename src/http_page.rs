//! HTTP pages that a configuration requires: what [`crate::config`] and plugins declare and
//! `admin` serves.

use std::path::PathBuf;

use crate::corefile::Listen;

/// Kinds of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Page {
    /// `/health`: liveness.
    Health,
    /// `/ready`: readiness.
    Ready,
    /// `/metrics`: metrics in Prometheus's text format.
    Metrics,
    /// `/debug/pprof/`: resource usage.
    Profile,
}

impl Page {
    /// The directive that configures it.
    pub fn plugin(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Ready => "ready",
            Self::Metrics => "prometheus",
            Self::Profile => "pprof",
        }
    }
}

/// A page at a listen address. Several pages can share an address, and a page can be required
/// several times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpPage {
    /// Listen address.
    pub listen: Listen,
    /// Kind of page.
    pub page: Page,
    /// File with the page's `tls_server_config`, if it is served over TLS. The same for all pages
    /// of an address.
    pub tls: Option<PathBuf>,
}
