//! Reads the directive `forward FROM TO… { … }`.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use rustls::pki_types::ServerName;

use super::{Config, NAME};
use crate::{
    corefile::{
        Arguments, Diagnostic, Directive, ErrorList, Property, Word, nearest, unknown_property,
    },
    plugin::{ParseErrors, Parsing},
    tls::ClientFiles,
    upstream::{
        Destination, DohMethod, MAX_UPSTREAMS, SelectionPolicy, TargetError, UpstreamProtocol,
    },
    wire::{Name, Rcode},
};

/// Every property.
const PROPERTIES: [&str; 22] = [
    "doh_method",
    "except",
    "expire",
    "failfast_all_unhealthy_upstreams",
    "failover",
    "force_tcp",
    "health_check",
    "max_age",
    "max_concurrent",
    "max_pps",
    "max_connect_attempts",
    "max_fails",
    "max_idle_conns",
    "next",
    "next_on_nodata",
    "policy",
    "prefer_udp",
    "read_timeout",
    "resolver",
    "source_address",
    "tls",
    "tls_servername",
];

const DOH_METHODS: [(&str, DohMethod); 2] = [("POST", DohMethod::Post), ("GET", DohMethod::Get)];

const POLICIES: [(&str, SelectionPolicy); 3] = [
    ("random", SelectionPolicy::Random),
    ("round_robin", SelectionPolicy::RoundRobin),
    ("sequential", SelectionPolicy::Sequential),
];

/// Reads one directive. All its errors are returned at once. Arguments that are accepted but probably a
/// mistake add a warning.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let directive = uses[0];
    let mut errors = ErrorList::default();
    let mut warnings = Vec::new();
    let (mut config, to) = head(directive, &mut warnings).unwrap_or_else(|found| {
        errors.extend(found);
        (Config::new(Name::ROOT, Vec::new()), &[])
    });
    for line in directive.properties() {
        errors.catch(property(line, &mut config, parsing));
    }
    let mut forwards = parsing.directives.iter().filter(|one| one.name == NAME);
    config.has_next = forwards
        .next_back()
        .is_some_and(|last| !std::ptr::eq(last, directive));
    check(directive, to, &config, &mut errors, &mut warnings);
    let config = errors.in_plugin(NAME).into_result(config)?;
    parsing
        .warnings
        .extend(warnings.into_iter().map(|warning| warning.in_plugin(NAME)));
    Ok(config)
}

/// Reads FROM and TO. Returns the words of TO too, for diagnostics.
fn head<'d>(
    directive: &'d Directive,
    warnings: &mut Vec<Diagnostic>,
) -> Result<(Config, &'d [Word]), Vec<Diagnostic>> {
    let mut arguments = directive.arguments();
    let alone = |error| vec![error];
    let from = arguments.required("the zone to forward, such as .");
    let from = from.map_err(alone)?;
    let zones = names(from).map_err(alone)?;
    let words = arguments.at_least_one("where to: an address, or a file such as /etc/resolv.conf");
    let words = words.map_err(alone)?;
    let mut errors = ErrorList::default();
    let mut to = Vec::new();
    for word in words {
        match word.parse() {
            // A duplicate is ignored.
            Ok(one) if to.contains(&one) => {}
            Ok(one) => to.push(one),
            Err(error) => errors.push(refuse_target(word, &error)),
        }
    }
    if let (Some(extra), count @ MAX_UPSTREAMS..) = (words.get(MAX_UPSTREAMS), to.len())
        && count > MAX_UPSTREAMS
    {
        let message = format!("more than {MAX_UPSTREAMS} TOs configured: {count}");
        errors.push(extra.error(message).label("one too many"));
    }
    let config = errors.into_result(Config::new(zones[0], to))?;
    if zones.len() > 1 {
        warnings.push(from.warning(format!(
            "Unsupported CIDR notation: '{from}' expands to multiple zones. Using only '{}'.",
            zones[0]
        )));
    }
    Ok((config, words))
}

fn property(line: &Property, config: &mut Config, parsing: &Parsing<'_>) -> Result<(), Diagnostic> {
    let mut arguments = line.arguments();
    let left = &mut arguments;
    match line.name().as_str() {
        "except" => {
            for word in left.at_least_one("a zone that is not forwarded")? {
                config.except.extend(names(word)?);
            }
        }
        "force_tcp" => config.force_tcp = true,
        "prefer_udp" => config.prefer_udp = true,
        "expire" => config.pool.expire = duration(left)?,
        "max_age" => config.pool.max_age = duration(left)?,
        "max_idle_conns" => config.pool.max_idle = number(left)?,
        "read_timeout" => config.plan.read_timeout = Some(positive(left)?),
        "max_fails" => config.max_fails = number(left)?,
        "max_connect_attempts" => config.plan.max_attempts = Some(number(left)?),
        "health_check" => health_check(left, config)?,
        "tls" => config.tls = tls_files(left, parsing),
        "tls_servername" => config.tls_name = Some(server_name(left)?),
        "policy" => config.plan.policy = policy(left)?,
        "max_concurrent" => config.max_concurrent = number(left)?,
        "max_pps" => config.max_pps = number(left)?,
        "next" => config.next = rcodes(left)?,
        "next_on_nodata" => config.next_on_nodata = true,
        "failover" => config.plan.failover = failover(left)?,
        "failfast_all_unhealthy_upstreams" => config.plan.failfast = true,
        "source_address" => config.source = Some(left.required("an IP address")?.address()?),
        "doh_method" => config.doh_method = doh_method(left)?,
        "resolver" => config.resolver = resolver(left)?,
        _ => return Err(unknown_property(line.name(), &PROPERTIES)),
    }
    arguments.none_left()
}

/// Checks across properties.
fn check(
    directive: &Directive,
    to: &[Word],
    config: &Config,
    errors: &mut ErrorList,
    warnings: &mut Vec<Diagnostic>,
) {
    let at = |property: &str| {
        let lines = directive.properties().iter();
        lines.map(Property::name).rfind(|name| *name == property)
    };
    let (age, expire) = (config.pool.max_age, config.pool.expire);
    if let Some(name) = at("max_age")
        && !age.is_zero()
        && age < expire
    {
        let message = format!("max_age ({age:?}) must not be less than expire ({expire:?})");
        let error = name.error(message);
        errors.push(match at("expire") {
            Some(expire) => error.also(expire.span, "expire is set here"),
            None => error.help("10s is what expire is without being set"),
        });
    }
    if let (Some(name), Some(common)) = (at("tls_servername"), &config.tls_name) {
        for (word, own) in own_names(to) {
            let message = format!(
                "both forward ('{}') and proxy level ('{}') TLS servernames are set for upstream \
                 proxy '{word}'",
                common.to_str(),
                own.to_str()
            );
            errors.push(word.error(message).also(name.span, "for all of them here"));
        }
    }
    let uses = |wanted: fn(UpstreamProtocol) -> bool| {
        config.to.iter().any(|to| over(to).is_some_and(wanted))
    };
    let is_by_name = || {
        config
            .to
            .iter()
            .any(|to| matches!(to, Destination::Host(_)))
    };
    let uses_tls = uses(UpstreamProtocol::is_secure);
    for (property, used, lack) in [
        (
            "tls",
            uses_tls,
            "no upstream begins with tls://, https:// or quic://",
        ),
        (
            "tls_servername",
            uses_tls,
            "no upstream begins with tls://, https:// or quic://",
        ),
        (
            "doh_method",
            uses(|over| over == UpstreamProtocol::Https),
            "no upstream begins with https://",
        ),
        ("resolver", is_by_name(), "no upstream is given by name"),
    ] {
        if let (Some(name), false) = (at(property), used) {
            warnings.push(name.does_nothing(lack));
        }
    }
    for property in ["force_tcp", "prefer_udp"] {
        let is_plain = |to: &Destination| over(to).is_none_or(|over| over == UpstreamProtocol::Dns);
        if let (Some(name), false) = (at(property), config.to.iter().any(is_plain)) {
            warnings.push(name.does_nothing("no upstream uses plain DNS"));
        }
    }
    if let (Some(name), true) = (at("prefer_udp"), config.force_tcp) {
        let message = "prefer_udp does nothing beside force_tcp";
        warnings.push(name.warning(message));
    }
    for (word, to) in to.iter().zip(&config.to) {
        if let Destination::Server(target) = to
            && target.lacks_interface()
        {
            let warning =
                word.warning("a link-local address cannot be reached without its interface");
            warnings.push(warning.help(format!("write {}%INTERFACE", target.address.ip())));
        }
    }
    let misfit = |source: &IpAddr| {
        let mut servers = config.to.iter();
        servers.any(|to| match to {
            Destination::Server(target) => target.address.is_ipv4() != source.is_ipv4(),
            Destination::File(_) | Destination::Host(_) => false,
        })
    };
    if let (Some(name), true) = (
        at("source_address"),
        config.source.as_ref().is_some_and(misfit),
    ) {
        let message =
            "source_address is of another family than an upstream, which cannot be reached";
        errors.push(name.error(message));
    }
}

/// The protocol of a TO; `None` for a file.
fn over(to: &Destination) -> Option<UpstreamProtocol> {
    match to {
        Destination::Server(target) => Some(target.protocol),
        Destination::Host(host) => Some(host.protocol),
        Destination::File(_) => None,
    }
}

fn own_names(to: &[Word]) -> impl Iterator<Item = (&Word, ServerName<'static>)> {
    to.iter().filter_map(|word| match word.parse() {
        Ok(Destination::Server(target)) => Some((word, target.name?)),
        Ok(Destination::Host(host)) => Some((word, host.name?)),
        _ => None,
    })
}

fn refuse_target(word: &Word, error: &TargetError) -> Diagnostic {
    let diagnostic = word.error(error.to_string());
    match error {
        TargetError::Scheme { .. } => {
            diagnostic.expected("dns://, tls://, https:// or quic://, or no scheme")
        }
        TargetError::NotBuilt { missing, .. } => diagnostic.help(missing.help()),
        TargetError::Path(_) => diagnostic.expected("https:// and a host"),
        _ => diagnostic.expected("an IP address, a host name or a file, with or without a scheme"),
    }
}

fn doh_method(arguments: &mut Arguments<'_>) -> Result<DohMethod, Diagnostic> {
    let word = arguments.required("POST or GET")?;
    word.one_of(&DOH_METHODS).map_err(|mut error| {
        "doh_method must be either POST or GET".clone_into(&mut error.message);
        error
    })
}

fn resolver(arguments: &mut Arguments<'_>) -> Result<Box<[SocketAddr]>, Diagnostic> {
    let words = arguments.at_least_one("the IP address of a name server")?;
    let read = |word: &Word| {
        word.socket_address(53).ok_or_else(|| {
            word.error(format!(
                "resolver must be an IP address or IP:port: \"{word}\""
            ))
            .expected("the IP address of a name server, with or without a port")
        })
    };
    words.iter().map(read).collect()
}

/// The zones of a word: one, or several for a network in CIDR notation.
pub(in crate::plugin) fn names(word: &Word) -> Result<Vec<Name>, Diagnostic> {
    let zones = word.zones()?;
    zones.iter().map(|zone| name(word, zone.as_str())).collect()
}

fn name(word: &Word, text: &str) -> Result<Name, Diagnostic> {
    let name = Name::parse(text).map(|name| name.to_lower());
    name.map_err(|error| word.error(format!("unable to normalize '{word}': {error}")))
}

fn duration(arguments: &mut Arguments<'_>) -> Result<Duration, Diagnostic> {
    arguments.required("a duration such as 5s")?.duration()
}

fn positive(arguments: &mut Arguments<'_>) -> Result<Duration, Diagnostic> {
    let word = arguments.required("a duration such as 2s")?;
    let duration = word.duration()?;
    if duration.is_zero() {
        let message = format!("{} must be positive: {word}", arguments.name());
        return Err(word.error(message).expected("a duration such as 2s"));
    }
    Ok(duration)
}

/// A number from 0 to 2^31 - 1.
fn number<T: TryFrom<i64>>(arguments: &mut Arguments<'_>) -> Result<T, Diagnostic> {
    let name = arguments.name();
    let word = arguments.required("a number")?;
    if word.starts_with('-') && word.parse::<i64>().is_ok() {
        let message = format!("{name} can't be negative: {word}");
        return Err(word.error(message).expected("a whole number from 0"));
    }
    let number: i64 = word.integer(0..=i64::from(i32::MAX))?;
    T::try_from(number).map_err(|_| word.error(format!("'{word}' is out of range")))
}

fn health_check(arguments: &mut Arguments<'_>, config: &mut Config) -> Result<(), Diagnostic> {
    config.check.interval = duration(arguments)?;
    config.check.domain = Name::ROOT;
    while let Some(word) = arguments.next() {
        match word.as_str() {
            "no_rec" => config.check.recursion_desired = false,
            "domain" => {
                let word = arguments.required("the name to query")?;
                config.check.domain = Name::parse(word).map_err(|error| {
                    word.error(format!("health_check: invalid domain name {word}"))
                        .label(error.to_string())
                })?;
            }
            _ => {
                let near = nearest(word, ["no_rec", "domain"]);
                return Err(word
                    .error(format!("health_check: unknown option {word}"))
                    .expected("no_rec or domain NAME")
                    .maybe_help(near.map(|near| format!("did you mean '{near}'?"))));
            }
        }
    }
    Ok(())
}

/// Reads `[CERT KEY [CA]] | [CA]` from the rest of a line.
pub(in crate::plugin) fn tls_files(
    arguments: &mut Arguments<'_>,
    parsing: &Parsing<'_>,
) -> ClientFiles {
    let words = arguments.by_ref().take(3);
    let words: Vec<_> = words.map(|word| parsing.path(&word.path())).collect();
    let (identity, authorities) = match &words[..] {
        [] => (None, None),
        [authorities] => (None, Some(authorities.clone())),
        [chain, key, rest @ ..] => {
            let identity = Some((chain.clone(), key.clone()));
            (identity, rest.first().cloned())
        }
    };
    ClientFiles {
        identity,
        authorities,
    }
}

/// The name in the certificate of an upstream.
pub(in crate::plugin) fn server_name(
    arguments: &mut Arguments<'_>,
) -> Result<ServerName<'static>, Diagnostic> {
    let word = arguments.required("the name in the certificate")?;
    ServerName::try_from(word.as_str().to_owned()).map_err(|_| {
        word.error(format!("'{word}' is no name that a certificate can be for"))
            .expected("a host name such as dns.example.org")
    })
}

/// The order in which upstreams are tried.
pub(in crate::plugin) fn policy(
    arguments: &mut Arguments<'_>,
) -> Result<SelectionPolicy, Diagnostic> {
    let word = arguments.required("random, round_robin or sequential")?;
    word.one_of(&POLICIES).map_err(|mut error| {
        error.message = format!("unknown policy '{word}'");
        error
    })
}

fn rcodes(arguments: &mut Arguments<'_>) -> Result<Vec<Rcode>, Diagnostic> {
    let words = arguments.at_least_one("a response code such as NXDOMAIN")?;
    let rcode = |word: &Word| {
        word.parse().map_err(|_| {
            word.error(format!("{word} is not a valid rcode"))
                .expected("a response code such as NXDOMAIN or SERVFAIL")
        })
    };
    words.iter().map(rcode).collect()
}

fn failover(arguments: &mut Arguments<'_>) -> Result<Box<[Rcode]>, Diagnostic> {
    let mut words = arguments.clone();
    let rcodes = rcodes(arguments)?;
    if rcodes.contains(&Rcode::NOERROR) {
        let is_noerror = |word: &&Word| word.eq_ignore_ascii_case("NOERROR");
        let word = words.find(is_noerror).unwrap_or(arguments.name());
        return Err(word
            .error("NoError cannot be used in failover")
            .label("an answer is an answer"));
    }
    Ok(rcodes.into())
}

#[cfg(test)]
mod tests;
