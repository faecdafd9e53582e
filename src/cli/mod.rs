//! The command line: CoreDNS's flags, and subcommands.

mod capability;
pub mod check;
pub mod diff;
pub mod dig;
pub mod doctor;
pub mod explain;
pub mod fmt;
#[cfg(feature = "lab")]
pub mod lab;
pub mod migrate;
#[cfg(target_os = "linux")]
pub mod node_address;
mod output;
pub mod records;
mod running;
pub mod serve;
pub mod tail;
pub mod top;

use std::{
    ffi::OsString,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::bail;
use clap::{
    Args, CommandFactory, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    config::order::{Kind, ORDER},
    control::{ControlSettings, socket},
    features::Feature,
    logging::Format,
    process::{ProcessOptions, TakeOver},
    server::LoopKind,
};

/// DNS server for Kubernetes, configured by a CoreDNS Corefile.
///
/// Without a subcommand it serves. The flags are CoreDNS's, with one dash or two.
#[derive(Debug, Parser)]
#[command(
    name = "lodestone",
    disable_version_flag = true,
    // As in Go, the last occurrence applies.
    args_override_self = true,
    args_conflicts_with_subcommands = true
)]
#[command(
    after_help = "Signals: TERM drains and exits, INT exits at once, USR1 reloads the Corefile, HUP is ignored."
)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve a sample cluster, or your own manifests, on this machine: for learning with dig.
    #[cfg(feature = "lab")]
    Lab(lab::Arguments),
    /// Report everything wrong with a Corefile, without starting.
    Check(check::Arguments),
    /// Format a Corefile; comments are kept.
    Fmt(fmt::Arguments),
    /// Show semantic differences of two Corefiles, ignoring their formatting.
    Diff(diff::Arguments),
    /// Show step by step how a name is resolved, and why it has no answer.
    Explain(explain::Arguments),
    /// List the records that a running server serves.
    Records(records::Arguments),
    /// Show the queries of a running server as they are answered, and why some have no answer.
    Tail(tail::Arguments),
    /// Count the most frequent names, clients and mistakes of a running server.
    Top(top::Arguments),
    /// Check what the server needs: API server and RBAC, upstreams, ports, memory, resolver.
    Doctor(doctor::Arguments),
    /// Add addresses to the loopback interface of this node, for a node-local server. Needs NET_ADMIN.
    #[cfg(target_os = "linux")]
    NodeAddress(node_address::Arguments),
    /// Report what changes if a cluster's CoreDNS is replaced by Lodestone; replace it, and go back.
    Migrate(migrate::Arguments),
    /// Query a DNS server, with the options and the output of BIND's dig.
    #[command(disable_help_flag = true, override_help = dig::HELP)]
    Dig(DigWords),
}

/// The command line of `dig`, which has a syntax of its own: see [`dig::run`].
#[derive(Args, Debug)]
struct DigWords {
    #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
    words: Vec<OsString>,
}

/// CoreDNS's flags.
#[derive(Args, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "flags, independent of each other"
)]
struct Serve {
    /// Corefile to load ("stdin" reads standard input) [default: ./Corefile]
    #[arg(long, value_name = "FILE")]
    conf: Option<PathBuf>,
    /// Port of server blocks without one
    #[arg(
        long = "dns.port",
        short = 'p',
        value_name = "PORT",
        value_parser = port,
        default_value_t = 53
    )]
    port: u16,
    /// Print nothing at start
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    quiet: bool,
    /// Print the version and exit
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    version: bool,
    /// Print the supported plugins and exit
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    plugins: bool,
    /// Log format: text, or json (one object per line) [default: text]
    #[arg(long = "log-format", value_name = "FORMAT")]
    log_format: Option<String>,
    /// Write the process id to this file
    #[arg(long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Unix socket for lodestone records, tail, top and explain: a path, a name that begins with @, or "off"
    /// [default: a name of its own]
    #[arg(long, value_name = "SOCKET|off", value_parser = control_socket)]
    control: Option<ControlSocket>,
    /// Serve a page for a browser at this address, such as localhost:8053: see docs/page.md
    #[arg(long, value_name = "ADDRESS", value_parser = page_address)]
    page: Option<PageAddresses>,
    /// Take over from the server that runs here, without losing a query; it then drains and exits. Its control
    /// socket is found, or named with "=". Without such a server, start as usual
    #[arg(long, value_name = "SOCKET", num_args = 0..=1, require_equals = true, default_missing_value = "auto", value_parser = take_over)]
    takeover: Option<TakeOver>,
    /// Serve UDP and TCP with hickory-server's loops, for comparison with Lodestone's own. Slower,
    /// without a connection limit; some directives are refused: see docs/hickory.md
    #[cfg(feature = "hickory")]
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    hickory: bool,
}

/// The control socket of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ControlSocket {
    Off,
    At(socket::Address),
}

fn control_socket(text: &str) -> Result<ControlSocket, socket::AddressError> {
    match text {
        "off" => Ok(ControlSocket::Off),
        _ => text.parse().map(ControlSocket::At),
    }
}

fn take_over(text: &str) -> Result<TakeOver, socket::AddressError> {
    let socket = match text {
        "auto" => None,
        _ => Some(text.parse()?),
    };
    Ok(TakeOver { socket })
}

/// Addresses of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PageAddresses(Vec<SocketAddr>);

fn page_address(text: &str) -> Result<PageAddresses, String> {
    let wrong = || "use HOST:PORT with an address or localhost, such as localhost:8053".to_owned();
    if let Ok(address) = text.parse() {
        return Ok(PageAddresses(vec![address]));
    }
    let (host, port) = text.split_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    match host {
        "" => Ok(PageAddresses(vec![(Ipv6Addr::UNSPECIFIED, port).into()])),
        "localhost" => Ok(PageAddresses(vec![(Ipv4Addr::LOCALHOST, port).into()])),
        _ => Err(wrong()),
    }
}

/// Exit code for an invalid command line, as in Go's flag package.
const USAGE: u8 = 2;

/// Parses and executes the command line; returns the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    capability::raise_net_bind_service();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // Not for clap, and not to be given second dashes.
    if let [_, verb, words @ ..] = arguments.as_slice()
        && verb == "dig"
    {
        return dig::run(words.to_vec());
    }
    let arguments = match Arguments::try_parse_from(with_two_dashes(arguments)) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help is printed to standard output and is not a failure.
            let code = if error.use_stderr() { USAGE } else { 0 };
            // If standard error is closed, the error cannot be reported.
            let _ = with_tip(error).print();
            return ExitCode::from(code);
        }
    };
    // Checked first, as in CoreDNS, so that no line is logged in the wrong format.
    let log_format = match arguments.serve.log_format() {
        Ok(form) => form,
        Err(error) => {
            output::print_error(error);
            return ExitCode::FAILURE;
        }
    };
    match arguments.verb {
        #[cfg(feature = "lab")]
        Some(Verb::Lab(lab)) => lab::run(&lab),
        Some(Verb::Check(check)) => check::run(&check),
        Some(Verb::Fmt(fmt)) => fmt::run(&fmt),
        Some(Verb::Diff(diff)) => diff::run(&diff),
        Some(Verb::Explain(explain)) => explain::run(&explain),
        Some(Verb::Records(records)) => records::run(&records),
        Some(Verb::Tail(tail)) => tail::run(&tail),
        Some(Verb::Top(top)) => top::run(&top),
        Some(Verb::Doctor(doctor)) => doctor::run(&doctor),
        #[cfg(target_os = "linux")]
        Some(Verb::NodeAddress(arguments)) => node_address::run(&arguments),
        Some(Verb::Migrate(migrate)) => migrate::run(&migrate),
        Some(Verb::Dig(dig)) => dig::run(dig.words),
        None if arguments.serve.version => printed(&format!("{}\n", version())),
        None if arguments.serve.plugins => printed(&plugins()),
        None => serve::run(arguments.serve.into_options(log_format)),
    }
}

/// Prints and returns the exit code.
fn printed(text: &str) -> ExitCode {
    match output::print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::print_error(error);
            ExitCode::FAILURE
        }
    }
}

/// Parses a port.
fn port(text: &str) -> Result<u16, String> {
    let port = text.parse();
    port.map_err(|_| "a port is a number from 0 to 65535".to_owned())
}

/// Adds a hint to an error: how to serve a Corefile if its name was taken for a subcommand, and which feature
/// is missing if a subcommand or a flag belongs to one.
fn with_tip(mut error: clap::Error) -> clap::Error {
    if let Some(tip) = tip(&error) {
        let tips = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tips);
    }
    error
}

fn tip(error: &clap::Error) -> Option<String> {
    let unknown = match error.kind() {
        ErrorKind::InvalidSubcommand => error.get(ContextKind::InvalidSubcommand)?,
        ErrorKind::UnknownArgument => error.get(ContextKind::InvalidArg)?,
        _ => return None,
    };
    let ContextValue::String(unknown) = unknown else {
        return None;
    };
    let feature = match unknown.as_str() {
        "lab" => Feature::Lab,
        "--hickory" => Feature::Hickory,
        word if error.kind() == ErrorKind::InvalidSubcommand && Path::new(word).is_file() => {
            return Some(format!(
                "to serve a Corefile, use '-conf {word}'; to check it, 'check {word}'"
            ));
        }
        _ => return None,
    };
    let missing = feature.required().err()?;
    Some(format!("this program was {missing}; {}", missing.help()))
}

impl Serve {
    fn log_format(&self) -> Result<Format, String> {
        let Some(word) = &self.log_format else {
            return Ok(Format::default());
        };
        Format::parse(word).ok_or_else(|| {
            format!("error: invalid value '{word}' for -log-format: write text or json")
        })
    }

    fn into_options(self, log_format: Format) -> serve::ServeOptions {
        #[cfg(feature = "hickory")]
        let loops = if self.hickory {
            LoopKind::Hickory
        } else {
            LoopKind::default()
        };
        #[cfg(not(feature = "hickory"))]
        let loops = LoopKind::default();
        let control = ControlSettings {
            socket: match self.control {
                None => Some(socket::Address::Automatic),
                Some(ControlSocket::Off) => None,
                Some(ControlSocket::At(address)) => Some(address),
            },
            page: self.page.map(|page| page.0).unwrap_or_default(),
            page_is_optional: false,
        };
        serve::ServeOptions {
            process: ProcessOptions {
                loops,
                control,
                takes_over: self.takeover,
            },
            corefile: serve::Corefile::from_flag(self.conf),
            default_port: self.port,
            quiet: self.quiet,
            log_format,
            pid_file: self.pidfile,
            on_start: None,
        }
    }
}

/// A path as a quoted word of a Corefile.
fn quoted_path(path: &Path) -> anyhow::Result<String> {
    match path.to_str() {
        // Environment references are replaced inside quotes too and cannot be escaped; `\"` is the
        // only escape.
        Some(text)
            if !["{$", "{%", "\"", "\\", "\n", "\r"]
                .iter()
                .any(|it| text.contains(it)) =>
        {
            Ok(format!("\"{text}\""))
        }
        _ => bail!(
            "{}: a Corefile cannot contain this path (quotes, backslashes, line ends, {{$ and {{% have a \
             meaning there, and it must be UTF-8). Use another one",
            path.display()
        ),
    }
}

/// Name, version and platform on two lines, as in CoreDNS.
pub fn version() -> String {
    format!(
        "Lodestone-{}\n{}/{}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

/// The directives that a server block can use, in CoreDNS's format.
fn plugins() -> String {
    let mut names: Vec<&str> = ORDER
        .iter()
        .filter(|word| !matches!(word.kind, Kind::Absent(_) | Kind::NotBuilt(_)))
        .map(|word| word.name)
        .collect();
    names.sort_unstable();
    let mut lines = vec!["Server types:", "  dns", "", "Other plugins:"];
    let names: Vec<String> = names
        .into_iter()
        .map(|name| format!("  dns.{name}"))
        .collect();
    lines.extend(names.iter().map(String::as_str));
    lines.join("\n") + "\n"
}

/// Adds a second dash to single-dash words of two or more letters, for Go's flag syntax. Also to
/// unknown ones, so that `-confg` is not read as `-c`.
fn with_two_dashes(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut literal = false;
    arguments
        .into_iter()
        .map(|argument| {
            literal |= argument == "--";
            match argument.to_str() {
                Some(text) if !literal && is_single_dash_word(text) => format!("-{text}").into(),
                _ => argument,
            }
        })
        .collect()
}

fn is_single_dash_word(text: &str) -> bool {
    let Some(word) = text.strip_prefix('-') else {
        return false;
    };
    let name = word.split('=').next().unwrap_or(word);
    name.len() > 1 && name.starts_with(|first: char| first.is_ascii_alphabetic())
}

/// The help text, for tests of the documents.
pub fn help() -> String {
    Arguments::command().render_long_help().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, clap::Error> {
        let words = line.split_whitespace().map(OsString::from);
        Arguments::try_parse_from(with_two_dashes(words))
    }

    #[test]
    fn coredns_flags_are_accepted_with_one_dash_or_two() {
        for line in [
            "lodestone -conf /etc/coredns/Corefile -dns.port 1053 -quiet",
            "lodestone --conf=/etc/coredns/Corefile --dns.port=1053 --quiet=true",
            "lodestone -conf=/etc/coredns/Corefile -p 1053 -quiet=true",
        ] {
            let serve = parsed(line).unwrap().serve;
            assert_eq!(
                serve.conf.unwrap(),
                PathBuf::from("/etc/coredns/Corefile"),
                "{line}"
            );
            assert_eq!((serve.port, serve.quiet), (1053, true), "{line}");
        }
        assert!(!parsed("lodestone -quiet=false").unwrap().serve.quiet);
        assert!(parsed("lodestone -version").unwrap().serve.version);
        for line in [
            "-log-format json",
            "--log-format=json",
            "-log-format x -log-format=json",
        ] {
            let serve = parsed(&format!("lodestone {line}")).unwrap().serve;
            assert_eq!(serve.log_format(), Ok(Format::Json), "{line}");
        }
        assert_eq!(
            parsed("lodestone").unwrap().serve.log_format(),
            Ok(Format::Text)
        );
        for word in ["JSON", "Text", "", "logfmt"] {
            let serve = parsed(&format!("lodestone -log-format={word}"))
                .unwrap()
                .serve;
            assert!(serve.log_format().is_err(), "{word}");
        }
    }

    #[test]
    fn similar_flags_are_suggested() {
        let error = parsed("lodestone -confg x").unwrap_err().to_string();
        assert!(error.contains("--conf"), "{error}");
        assert!(parsed("lodestone stray").is_err());
    }

    #[test]
    fn paths_that_a_corefile_cannot_contain_are_refused() {
        for path in ["/a\"b", "/a{$HOME}", "/a{%HOME%}", "/a\nb", "/a\\"] {
            let error = quoted_path(Path::new(path)).unwrap_err().to_string();
            assert!(
                error.contains("a Corefile cannot contain this path"),
                "{error}"
            );
        }
    }
}
