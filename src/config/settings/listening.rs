//! Directives for listeners and their connections: `tls`, `timeouts`, `proxyproto`, and the limits
//! of each transport (`quic`, `https`, `https3`, `grpc_server`).

use std::{ops::RangeInclusive, time::Duration};

use super::Settings;
use crate::{
    config::ServerBlock,
    corefile::{self, Arguments, Diagnostic, Directive, Property, Transport, unknown_property},
    plugin::{ParseErrors, Parsing},
    server::{
        Scheme,
        limits::StreamSettings,
        proxy::{ProxyPolicy, Sessions, Treatment, sessions},
    },
    tls::{ClientAuth, ServerFiles},
};

/// Listener settings of a server block.
#[derive(Debug, Default)]
pub struct Listening {
    /// Certificate for the encrypted transports.
    pub tls: Option<ServerFiles>,
    /// Networks whose PROXY headers are accepted.
    pub proxy: Option<ProxyPolicy>,
    /// Connection timeouts.
    pub timeouts: ConnectionTimeouts,
    quic: Caps,
    https: Caps,
    https3: Caps,
    grpc: Caps,
}

/// Configured timeouts; `None` keeps the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionTimeouts {
    read: Option<Duration>,
    write: Option<Duration>,
    idle: Option<Duration>,
    /// Maximum number of queries per TCP connection; [`NO_LIMIT`] if configured as unlimited.
    queries: Option<u64>,
}

const NO_LIMIT: u64 = u64::MAX;

/// Configured limits of one transport; 0 means unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Caps {
    streams: Option<usize>,
    connections: Option<usize>,
    workers: Option<usize>,
}

/// Default limits of streams per connection and connections per listener, as in CoreDNS.
const DEFAULT_STREAMS: usize = 256;
const DEFAULT_CONNECTIONS: usize = 200;

/// Default stream limit of HTTP/2, also used for 0, as in CoreDNS.
const DEFAULT_HTTP2_STREAMS: usize = 250;

/// Effective limits for `max_streams 0`: the QUIC default, and for gRPC more than clients open.
const UNLIMITED_QUIC_STREAMS: usize = 100;
const UNLIMITED_GRPC_STREAMS: usize = 1_000;

/// A limit property and its accepted range.
type Limit = (&'static str, RangeInclusive<usize>);

/// Upper bound of most limits, above what a machine can hold.
const MAX_LIMIT: usize = 1_000_000;
/// Connections are only counted, so any number is accepted.
const MAX_CONNECTIONS: usize = usize::MAX;
/// Upper bound of limits sent to clients in 32 bits (RFC 9113 section 6.5.2).
const MAX_STREAMS: usize = u32::MAX as usize;

/// Directives and the transports to which they apply.
const APPLIES_TO: [(&str, &[Transport]); 5] = [
    (
        "tls",
        &[
            Transport::Tls,
            Transport::Quic,
            Transport::Grpc,
            Transport::Https,
            Transport::Https3,
        ],
    ),
    ("quic", &[Transport::Quic]),
    ("https", &[Transport::Https]),
    ("https3", &[Transport::Https3]),
    ("grpc_server", &[Transport::Grpc]),
];

impl Listening {
    /// Connection settings of a listener whose first block has these settings.
    pub fn settings(&self, transport: Transport) -> StreamSettings {
        let mut settings = StreamSettings::default();
        let at_most = |configured: Option<usize>| {
            Some(configured.unwrap_or(DEFAULT_CONNECTIONS)).filter(|it| *it > 0)
        };
        let streams = |configured: Option<usize>, unlimited| match configured {
            None => DEFAULT_STREAMS,
            Some(0) => unlimited,
            Some(configured) => configured,
        };
        match transport {
            Transport::Dns | Transport::Tls => {}
            Transport::Quic => {
                settings.in_flight = streams(self.quic.streams, UNLIMITED_QUIC_STREAMS);
                settings.workers = self.quic.workers;
                settings.connections = at_most(self.quic.connections);
            }
            Transport::Https => {
                let configured = self.http2_streams().filter(|it| *it > 0);
                settings.in_flight = configured.unwrap_or(DEFAULT_HTTP2_STREAMS);
                settings.connections = at_most(self.https.connections);
            }
            Transport::Https3 => {
                settings.in_flight = streams(self.https3.streams, UNLIMITED_QUIC_STREAMS);
                settings.connections = at_most(self.https3.connections);
            }
            Transport::Grpc => {
                settings.in_flight = streams(self.grpc.streams, UNLIMITED_GRPC_STREAMS);
                settings.connections = at_most(self.grpc.connections);
            }
        }
        self.timeouts.apply(&mut settings);
        settings
    }

    /// `https { max_streams N }`, including 0. Blocks that share a listener must not set different
    /// values.
    pub fn http2_streams(&self) -> Option<usize> {
        self.https.streams
    }

    /// Applies the settings of a later block of the same listener.
    pub fn follow(&self, transport: Transport, settings: &mut StreamSettings) {
        if transport == Transport::Https && self.http2_streams().is_some() {
            settings.in_flight = self.settings(transport).in_flight;
        }
        self.timeouts.apply(settings);
    }
}

impl From<Transport> for Scheme {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Dns => Self::Dns,
            Transport::Tls => Self::Tls,
            Transport::Quic => Self::Quic,
            Transport::Https => Self::Https,
            Transport::Https3 => Self::Https3,
            Transport::Grpc => Self::Grpc,
        }
    }
}

impl ConnectionTimeouts {
    /// Overrides `settings` with the configured values.
    pub fn apply(&self, settings: &mut StreamSettings) {
        settings.first_query = self.read.unwrap_or(settings.first_query);
        settings.write = self.write.unwrap_or(settings.write);
        settings.idle = self.idle.unwrap_or(settings.idle);
        if let Some(queries) = self.queries {
            settings.queries = (queries != NO_LIMIT).then_some(queries);
        }
    }
}

/// Warns about directives that apply to none of the block's transports.
pub(in crate::config) fn warn_of_inapplicable(
    read: &ServerBlock,
    block: &corefile::ServerBlock,
    found: &mut Vec<Diagnostic>,
) {
    if read.keys.is_empty() {
        return; // invalid keys were reported already
    }
    for (word, transports) in APPLIES_TO {
        let used = block.directives.iter().find(|one| one.name == word);
        let applies = read
            .keys
            .iter()
            .any(|key| transports.contains(&key.transport));
        if let Some(used) = used.filter(|_| !applies) {
            let schemes: Vec<_> = transports
                .iter()
                .map(|transport| format!("{transport}://"))
                .collect();
            let warning = used
                .name
                .warning(format!("'{word}' does nothing in this block"));
            found.push(warning.help(format!("it applies to keys with {}", schemes.join(", "))));
        }
    }
}

/// `tls CERTIFICATE KEY [AUTHORITY] { client_auth KIND; keylog FILE }`
pub fn tls(
    uses: &[&Directive],
    parsing: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), ParseErrors> {
    for one in uses {
        let files = read_tls(one, parsing).map_err(|error| vec![error.in_plugin("tls")])?;
        settings.listening.tls = Some(files);
    }
    if let [earlier, .., last] = uses {
        let warning = earlier.name.warning("only the last 'tls' counts");
        parsing
            .warnings
            .push(warning.also(last.name.span, "this one"));
    }
    Ok(())
}

fn read_tls(one: &Directive, parsing: &mut Parsing<'_>) -> Result<ServerFiles, Diagnostic> {
    let mut arguments = one.arguments();
    if arguments.left() == 0 {
        let error = one.name.error("certificates are not fetched by Lodestone");
        return Err(error.expected("a certificate file and a key file").help(
            "have them fetched by another program (in a cluster, cert-manager writes them into a \
             Secret) and write 'tls CERTIFICATE KEY'; files that change are read again",
        ));
    }
    let mut file =
        |what| -> Result<_, Diagnostic> { Ok(parsing.path(&arguments.required(what)?.path())) };
    let (certificate, key) = (file("a certificate file")?, file("a key file")?);
    let mut files = ServerFiles::new(certificate, key);
    let authority = arguments.next();
    files.authority = authority.map(|word| parsing.path(&word.path()));
    arguments.none_left()?;
    for line in one.properties() {
        let mut arguments = line.arguments();
        match line.name().as_str() {
            "client_auth" => {
                let kind = arguments.required("a kind of authentication")?;
                files.client_auth = kind.one_of(&[
                    ("nocert", ClientAuth::NoCertificate),
                    ("request", ClientAuth::Request),
                    ("require", ClientAuth::Require),
                    ("verify_if_given", ClientAuth::VerifyIfGiven),
                    ("require_and_verify", ClientAuth::RequireAndVerify),
                ])?;
                if files.client_auth.verifies() && authority.is_none() {
                    let error = kind.error("no CA to verify client certificates with");
                    let help = "name its certificates: tls CERTIFICATE KEY AUTHORITY";
                    return Err(error.help(help));
                }
            }
            "keylog" => {
                let file = arguments.required("a file")?;
                files.key_log = Some(parsing.path(&file.path()));
            }
            _ => return Err(unknown_property(line.name(), &["client_auth", "keylog"])),
        }
        arguments.none_left()?;
    }
    if let Some(word) = authority.filter(|_| !files.client_auth.verifies()) {
        let warning = word.warning("client certificates are not verified with this CA");
        let help = "add 'client_auth require_and_verify', or leave the authority out";
        parsing.warnings.push(warning.in_plugin("tls").help(help));
    }
    Ok(files)
}

/// `timeouts { read T; write T; idle T; maxtcpqueries N }`
pub fn timeouts(
    uses: &[&Directive],
    _: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), ParseErrors> {
    let timeouts = &mut settings.listening.timeouts;
    for one in uses {
        read_timeouts(one, timeouts).map_err(|error| vec![error.in_plugin("timeouts")])?;
    }
    Ok(())
}

fn read_timeouts(one: &Directive, timeouts: &mut ConnectionTimeouts) -> Result<(), Diagnostic> {
    const KNOWN: [&str; 4] = ["read", "write", "idle", "maxtcpqueries"];
    one.no_arguments()?;
    if one.properties().is_empty() {
        let error = one.name.error("timeouts block with no timeouts specified");
        return Err(error.expected("read, write, idle or maxtcpqueries, in braces"));
    }
    for line in one.properties() {
        let mut arguments = line.arguments();
        match line.name().as_str() {
            "read" => timeouts.read = Some(time(&mut arguments)?),
            "write" => timeouts.write = Some(time(&mut arguments)?),
            "idle" => timeouts.idle = Some(time(&mut arguments)?),
            "maxtcpqueries" => {
                let word = arguments.required("a number of queries")?;
                let number = word.integer(-1..=i64::from(u32::MAX))?;
                if number == 0 {
                    let error = word.error("every query would be refused");
                    return Err(error.expected("-1 for no limit, or a positive number"));
                }
                timeouts.queries = Some(u64::try_from(number).unwrap_or(NO_LIMIT));
            }
            _ => return Err(unknown_property(line.name(), &KNOWN)),
        }
        arguments.none_left()?;
    }
    Ok(())
}

/// A duration, or a number of seconds.
fn time(arguments: &mut Arguments<'_>) -> Result<Duration, Diagnostic> {
    let word = arguments.required("a duration")?;
    let time = match word.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => word.duration()?,
    };
    let day = Duration::from_hours(24);
    if (Duration::from_secs(1)..=day).contains(&time) {
        return Ok(time);
    }
    let message = format!("timeout provided '{word}' needs to be between 1 second and 24 hours");
    Err(word.error(message))
}

/// `proxyproto { allow NETWORK…; default KIND; udp_session_tracking TIME [MAX] }`
pub fn proxyproto(
    uses: &[&Directive],
    _: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), ParseErrors> {
    let mut proxy = ProxyProtocol::default();
    for one in uses {
        read_proxyproto(one, &mut proxy).map_err(|error| vec![error.in_plugin("proxyproto")])?;
    }
    let unless_said = if proxy.allow.is_empty() {
        Treatment::Use
    } else {
        Treatment::Ignore
    };
    settings.listening.proxy = Some(ProxyPolicy {
        allow: proxy.allow,
        others: proxy.others.unwrap_or(unless_said),
        sessions: proxy.sessions,
    });
    Ok(())
}

#[derive(Default)]
struct ProxyProtocol {
    allow: Vec<ipnet::IpNet>,
    others: Option<Treatment>,
    sessions: Option<Sessions>,
}

fn read_proxyproto(one: &Directive, proxy: &mut ProxyProtocol) -> Result<(), Diagnostic> {
    one.no_arguments()?;
    for line in one.properties() {
        let mut arguments = line.arguments();
        match line.name().as_str() {
            "allow" => {
                for word in arguments.at_least_one("a network")? {
                    proxy.allow.push(word.network()?);
                }
            }
            "default" => {
                let word = arguments.required("what is done with other headers")?;
                proxy.others = Some(word.one_of_any_case(&[
                    ("use", Treatment::Use),
                    ("ignore", Treatment::Ignore),
                    ("reject", Treatment::Reject),
                    ("skip", Treatment::Skip),
                ])?);
            }
            "udp_session_tracking" => {
                let ttl = arguments.required("a duration")?.duration()?;
                let max_peers = match arguments.next() {
                    Some(word) => word.integer(1..=usize::MAX >> 16)?,
                    None => sessions::DEFAULT_PEERS.get(),
                };
                proxy.sessions = (!ttl.is_zero()).then_some(Sessions { ttl, max_peers });
            }
            "tlv_metadata" => {
                let name = line.name();
                let error = name.error("'tlv_metadata' is not built into Lodestone");
                return Err(error
                    .label("CoreDNS has it since 1.15.0, and Lodestone will")
                    .help(
                        "remove the line: the label proxyproto/tlv is unknown here, the rest of \
                         'proxyproto' works",
                    ));
            }
            _ => {
                let known = ["allow", "default", "udp_session_tracking"];
                return Err(unknown_property(line.name(), &known));
            }
        }
        arguments.none_left()?;
    }
    Ok(())
}

/// `quic { max_streams N; max_connections N; worker_pool_size N }`
pub fn quic(
    uses: &[&Directive],
    _: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), ParseErrors> {
    let known = [
        ("max_streams", 1..=MAX_LIMIT),
        ("max_connections", 0..=MAX_CONNECTIONS),
        ("worker_pool_size", 1..=MAX_LIMIT),
    ];
    settings.listening.quic = caps(uses[0], "quic", &known)?;
    Ok(())
}

/// `https { max_connections N; max_streams N }`
pub fn https(
    uses: &[&Directive],
    _: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), ParseErrors> {
    let known = [
        ("max_connections", 0..=MAX_CONNECTIONS),
        ("max_streams", 0..=MAX_STREAMS),
    ];
    settings.listening.https = caps(uses[0], "https", &known)?;
    Ok(())
}

/// `https3 { max_streams N; max_connections N }`
pub fn https3(
    uses: &[&Directive],
    _: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), ParseErrors> {
    let known = [
        ("max_streams", 0..=MAX_LIMIT),
        ("max_connections", 0..=MAX_CONNECTIONS),
    ];
    settings.listening.https3 = caps(uses[0], "https3", &known)?;
    Ok(())
}

/// `grpc_server { max_streams N; max_connections N }`
pub fn grpc_server(
    uses: &[&Directive],
    _: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), ParseErrors> {
    let known = [
        ("max_streams", 0..=MAX_LIMIT),
        ("max_connections", 0..=MAX_CONNECTIONS),
    ];
    settings.listening.grpc = caps(uses[0], "grpc_server", &known)?;
    Ok(())
}

/// Reads limits; each known property may occur once.
fn caps(one: &Directive, plugin: &'static str, known: &[Limit]) -> Result<Caps, ParseErrors> {
    let mut caps = Caps::default();
    let mut read = |line: &Property| -> Result<(), Diagnostic> {
        let name = line.name();
        let Some((_, range)) = known.iter().find(|(known, _)| name == known) else {
            let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
            return Err(unknown_property(name, &names));
        };
        let slot = match name.as_str() {
            "max_streams" => &mut caps.streams,
            "max_connections" => &mut caps.connections,
            _ => &mut caps.workers,
        };
        let mut arguments = line.arguments();
        let number = arguments.required("a number")?.integer(range.clone())?;
        arguments.none_left()?;
        if slot.replace(number).is_some() {
            return Err(name.error(format!("{name} already defined for this server block")));
        }
        Ok(())
    };
    one.no_arguments()
        .and_then(|()| one.properties().iter().try_for_each(&mut read))
        .map_err(|error| vec![error.in_plugin(plugin)])?;
    Ok(caps)
}

#[cfg(test)]
mod tests;
