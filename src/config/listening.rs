//! Words about listeners and their connections: `tls`, `timeouts`, `proxyproto`, and the limits of
//! each transport (`quic`, `https`, `https3`, `grpc_server`).

use std::{ops::RangeInclusive, time::Duration};

use super::{ServerBlock, Settings};
use crate::{
    corefile::{self, Arguments, Diagnostic, Directive, Line, Transport, unknown_property},
    plugin::{ParseErrors, Parsing},
    server::{
        Scheme,
        limits::StreamSettings,
        proxy::{ProxyPolicy, Sessions, Treatment, sessions},
    },
    tls::{ClientAuth, Files},
};

/// What a block says about its listeners.
#[derive(Debug, Default)]
pub struct Listening {
    /// The certificate, for every transport that can do with one.
    pub tls: Option<Files>,
    /// Whose PROXY headers are believed.
    pub proxy: Option<ProxyPolicy>,
    /// How long clients are waited for.
    pub timeouts: Timeouts,
    quic: Caps,
    https: Caps,
    https3: Caps,
    grpc: Caps,
}

/// How long clients are waited for, as far as it is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    read: Option<Duration>,
    write: Option<Duration>,
    idle: Option<Duration>,
    /// [`NO_LIMIT`] where it is said that there is none.
    queries: Option<u64>,
}

const NO_LIMIT: u64 = u64::MAX;

/// Limits of one transport, as far as they are said; 0 where there shall be none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Caps {
    streams: Option<usize>,
    connections: Option<usize>,
    workers: Option<usize>,
}

/// Open streams of a connection and connections of a listener, unless it is said: CoreDNS's numbers.
const STREAMS: usize = 256;
const CONNECTIONS: usize = 200;

/// The same for HTTP/2, where 0 stands for it too, as in CoreDNS.
const HTTP2_STREAMS: usize = 250;

/// What `max_streams 0` comes to: QUIC's usual number, and for gRPC more than any client opens.
const USUAL_STREAMS: usize = 100;
const MANY_STREAMS: usize = 1_000;

/// A property that sets a limit, and the numbers that it takes.
type Limit = (&'static str, RangeInclusive<usize>);

/// Most of these limits: no machine holds more.
const MOST: usize = 1_000_000;
/// Connections are counted one by one, so any number is a limit.
const MOST_CONNECTIONS: usize = usize::MAX;
/// Those that are sent to clients as 32 bits (RFC 9113 section 6.5.2).
const MOST_STREAMS: usize = u32::MAX as usize;

/// Each word, and the transports that heed it.
const HEEDED: [(&str, &[Transport]); 5] = [
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
    /// How the connections of a listener are treated whose first block says this.
    pub fn settings(&self, transport: Transport) -> StreamSettings {
        let mut settings = StreamSettings::default();
        let at_most = |said: Option<usize>| Some(said.unwrap_or(CONNECTIONS)).filter(|it| *it > 0);
        let streams = |said: Option<usize>, unlimited| match said {
            None => STREAMS,
            Some(0) => unlimited,
            Some(said) => said,
        };
        match transport {
            Transport::Dns | Transport::Tls => {}
            Transport::Quic => {
                settings.in_flight = streams(self.quic.streams, USUAL_STREAMS);
                settings.workers = self.quic.workers;
                settings.connections = at_most(self.quic.connections);
            }
            Transport::Https => {
                let said = self.http2_streams().filter(|it| *it > 0);
                settings.in_flight = said.unwrap_or(HTTP2_STREAMS);
                settings.connections = at_most(self.https.connections);
            }
            Transport::Https3 => {
                settings.in_flight = streams(self.https3.streams, USUAL_STREAMS);
                settings.connections = at_most(self.https3.connections);
            }
            Transport::Grpc => {
                settings.in_flight = streams(self.grpc.streams, MANY_STREAMS);
                settings.connections = at_most(self.grpc.connections);
            }
        }
        self.timeouts.apply(&mut settings);
        settings
    }

    /// `https { max_streams N }`, 0 included. Blocks of one listener that set it set the same.
    pub fn http2_streams(&self) -> Option<usize> {
        self.https.streams
    }

    /// Applies the settings of a later block of a listener over those so far.
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

impl Timeouts {
    /// Puts what is said in the place of what was.
    pub fn apply(&self, settings: &mut StreamSettings) {
        settings.first_query = self.read.unwrap_or(settings.first_query);
        settings.write = self.write.unwrap_or(settings.write);
        settings.idle = self.idle.unwrap_or(settings.idle);
        if let Some(queries) = self.queries {
            settings.queries = (queries != NO_LIMIT).then_some(queries);
        }
    }
}

/// Warns of words that none of a block's keys heeds.
pub(super) fn warn_of_unheeded(
    read: &ServerBlock,
    block: &corefile::ServerBlock,
    found: &mut Vec<Diagnostic>,
) {
    if read.keys.is_empty() {
        return; // they are wrong, which is told already
    }
    for (word, transports) in HEEDED {
        let used = block.directives.iter().find(|one| one.name == word);
        let heeded = read
            .keys
            .iter()
            .any(|key| transports.contains(&key.transport));
        if let Some(used) = used.filter(|_| !heeded) {
            let schemes: Vec<_> = transports
                .iter()
                .map(|transport| format!("{transport}://"))
                .collect();
            let warning = used
                .name
                .warning(format!("'{word}' does nothing in this block"));
            found.push(warning.help(format!("it is for keys with {}", schemes.join(", "))));
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
            .push(warning.also(last.name.place, "this one"));
    }
    Ok(())
}

fn read_tls(one: &Directive, parsing: &mut Parsing<'_>) -> Result<Files, Diagnostic> {
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
    let mut files = Files::new(certificate, key);
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
                    let error = kind.error("there is no authority to verify by");
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
        let warning = word.warning("no client is checked by this authority");
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

fn read_timeouts(one: &Directive, timeouts: &mut Timeouts) -> Result<(), Diagnostic> {
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
                    let error = word.error("no query could be asked");
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

/// `proxyproto { allow NETWORK…; default KIND; udp_session_tracking TIME [MOST] }`
pub fn proxyproto(
    uses: &[&Directive],
    _: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), ParseErrors> {
    let mut said = Said::default();
    for one in uses {
        read_proxyproto(one, &mut said).map_err(|error| vec![error.in_plugin("proxyproto")])?;
    }
    let unless_said = if said.allow.is_empty() {
        Treatment::Use
    } else {
        Treatment::Ignore
    };
    settings.listening.proxy = Some(ProxyPolicy {
        allow: said.allow,
        others: said.others.unwrap_or(unless_said),
        sessions: said.sessions,
    });
    Ok(())
}

#[derive(Default)]
struct Said {
    allow: Vec<ipnet::IpNet>,
    others: Option<Treatment>,
    sessions: Option<Sessions>,
}

fn read_proxyproto(one: &Directive, said: &mut Said) -> Result<(), Diagnostic> {
    one.no_arguments()?;
    for line in one.properties() {
        let mut arguments = line.arguments();
        match line.name().as_str() {
            "allow" => {
                for word in arguments.at_least_one("a network")? {
                    said.allow.push(word.network()?);
                }
            }
            "default" => {
                let word = arguments.required("what is done with other headers")?;
                said.others = Some(word.one_of_any_case(&[
                    ("use", Treatment::Use),
                    ("ignore", Treatment::Ignore),
                    ("reject", Treatment::Reject),
                    ("skip", Treatment::Skip),
                ])?);
            }
            "udp_session_tracking" => {
                let ttl = arguments.required("a duration")?.duration()?;
                let most = match arguments.next() {
                    Some(word) => word.integer(1..=usize::MAX >> 16)?,
                    None => sessions::MOST.get(),
                };
                said.sessions = (!ttl.is_zero()).then_some(Sessions { ttl, most });
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
        ("max_streams", 1..=MOST),
        ("max_connections", 0..=MOST_CONNECTIONS),
        ("worker_pool_size", 1..=MOST),
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
        ("max_connections", 0..=MOST_CONNECTIONS),
        ("max_streams", 0..=MOST_STREAMS),
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
        ("max_streams", 0..=MOST),
        ("max_connections", 0..=MOST_CONNECTIONS),
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
        ("max_streams", 0..=MOST),
        ("max_connections", 0..=MOST_CONNECTIONS),
    ];
    settings.listening.grpc = caps(uses[0], "grpc_server", &known)?;
    Ok(())
}

/// Reads limits, of which each that is known may be said once.
fn caps(one: &Directive, plugin: &'static str, known: &[Limit]) -> Result<Caps, ParseErrors> {
    let mut caps = Caps::default();
    let mut read = |line: &Line| -> Result<(), Diagnostic> {
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
