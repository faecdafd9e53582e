//! Servers, search list and options of a resolv.conf.

use std::{net::Ipv4Addr, time::Duration};

use super::lookup::Globals;
use crate::{
    interfaces::HostAddress,
    upstream::{read_nameservers, read_options, read_search},
    wire::Name,
};

/// The settings of a resolv.conf.
#[derive(Clone, Debug)]
pub struct Resolver {
    /// Name servers; this machine if there are none, as in BIND.
    pub servers: Vec<HostAddress>,
    /// The search list.
    search: Vec<Name>,
    /// `ndots`
    ndots: Option<usize>,
    /// `timeout`
    pub timeout: Option<Duration>,
    /// `attempts`
    pub attempts: Option<u32>,
}

impl Resolver {
    /// Reads the file of the command line. An unreadable file is like an empty one, as in BIND.
    pub fn read(globals: &Globals) -> Self {
        let path = &globals.resolv_conf;
        let mut servers = read_nameservers(path).unwrap_or_default();
        if servers.is_empty() {
            servers.push(HostAddress {
                ip: Ipv4Addr::LOCALHOST.into(),
                scope: 0,
            });
        }
        let options = read_options(path).unwrap_or_default();
        let value = |name: &str| {
            let values = options.iter().filter_map(|word| word.strip_prefix(name));
            values
                .filter_map(|value| value.parse::<u32>().ok())
                .next_back()
        };
        Self {
            servers,
            search: read_search(path).unwrap_or_default(),
            ndots: value("ndots:").and_then(|it| usize::try_from(it).ok()),
            timeout: value("timeout:").map(|it| Duration::from_secs(it.clamp(1, 3600).into())),
            attempts: value("attempts:").map(|it| it.clamp(1, 255)),
        }
    }

    /// The names to query in order: the name as given alone, or the names of the search list and then the
    /// name as given. A name with as many dots as `ndots`, or with a dot at its end, is not searched for.
    pub fn candidates(&self, globals: &Globals, text: &str) -> Vec<Name> {
        let Ok(name) = Name::parse(text) else {
            return Vec::new();
        };
        let ndots = globals.ndots.or(self.ndots).unwrap_or(1);
        let dots = text.matches('.').count();
        if !globals.search || text.ends_with('.') || dots >= ndots {
            return vec![name];
        }
        let own = globals.domain.as_slice();
        let list = if own.is_empty() { &self.search } else { own };
        let names = list.iter();
        // A name that becomes too long with a domain is not queried.
        let names = names.filter_map(|domain| name.join(domain.as_ref()).ok());
        names.chain([name]).collect()
    }
}
