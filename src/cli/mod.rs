//! What a person types: CoreDNS's flags without a verb, and verbs beside them.

pub mod check;
pub mod diff;
pub mod fmt;
#[cfg(feature = "lab")]
pub mod lab;
mod output;
pub mod serve;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{
    Args, CommandFactory, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    config::order::{Kind, ORDER},
    features::Feature,
    logging::Form,
    server::LoopKind,
};

/// The DNS server of a Kubernetes cluster, configured by a CoreDNS Corefile.
///
/// Without a verb it serves: the flags are CoreDNS's, with one dash or two.
#[derive(Debug, Parser)]
#[command(
    name = "lodestone",
    disable_version_flag = true,
    // As in Go, the last one counts.
    args_override_self = true,
    args_conflicts_with_subcommands = true
)]
#[command(
    after_help = "Signals: TERM drains and ends, INT ends at once, USR1 reloads the Corefile, HUP is ignored."
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
    /// Read a Corefile as a start would, and tell everything that is wrong with it.
    Check(check::Arguments),
    /// Give a Corefile its one layout, comments kept.
    Fmt(fmt::Arguments),
    /// Tell what two Corefiles say differently, whatever their layout.
    Diff(diff::Arguments),
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
    /// Port of server blocks that name none
    #[arg(
        long = "dns.port",
        short = 'p',
        value_name = "PORT",
        value_parser = port,
        default_value_t = 53
    )]
    port: u16,
    /// Print nothing about the start
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    quiet: bool,
    /// Print the version and end
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    version: bool,
    /// Print the plugins that a Corefile can use and end
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    plugins: bool,
    /// The form of the log: text, or json (an object a line) [default: text]
    #[arg(long = "log-format", value_name = "FORMAT")]
    log_format: Option<String>,
    /// Write the process id to this file
    #[arg(long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Serve UDP and TCP by the loops of hickory-server, to compare them with Lodestone's own. Slower, without
    /// a limit of connections; refused with some words of a Corefile: see docs/hickory.md
    #[cfg(feature = "hickory")]
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    hickory: bool,
}

/// Exit code for a command line that cannot be read, as Go's flag package has it.
const USAGE: u8 = 2;

/// Reads the command line, does what it says, and gives the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(with_two_dashes(arguments)) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help is printed to standard output and is no failure.
            let code = if error.use_stderr() { USAGE } else { 0 };
            // Nothing is left to tell it with where standard error is closed.
            let _ = with_tip(error).print();
            return ExitCode::from(code);
        }
    };
    // Before anything else, as CoreDNS does: no line comes out in another form.
    let log_form = match arguments.serve.log_form() {
        Ok(form) => form,
        Err(error) => {
            output::complain(error);
            return ExitCode::FAILURE;
        }
    };
    match arguments.verb {
        #[cfg(feature = "lab")]
        Some(Verb::Lab(lab)) => lab::run(&lab),
        Some(Verb::Check(check)) => check::run(&check),
        Some(Verb::Fmt(fmt)) => fmt::run(&fmt),
        Some(Verb::Diff(diff)) => diff::run(&diff),
        None if arguments.serve.version => printed(&format!("{}\n", version())),
        None if arguments.serve.plugins => printed(&plugins()),
        None => serve::run(arguments.serve.into_options(log_form)),
    }
}

/// Prints, and gives the exit code.
fn printed(text: &str) -> ExitCode {
    match output::print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(error);
            ExitCode::FAILURE
        }
    }
}

/// Reads a port of the command line.
fn port(text: &str) -> Result<u16, String> {
    let port = text.parse();
    port.map_err(|_| "a port is a number from 0 to 65535".to_owned())
}

/// Adds a tip to the error about an unknown verb: how to serve a Corefile, where it is a file's name,
/// and which feature is missing, where it is `lab`.
fn with_tip(mut error: clap::Error) -> clap::Error {
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand)
    {
        let missing = Feature::Lab.required().err();
        let tip = match missing.filter(|_| word == "lab") {
            Some(missing) => format!("this program was {missing}; {}", missing.help()),
            None if Path::new(word).is_file() => {
                format!("to serve a Corefile, write '-conf {word}'; to look at it, 'check {word}'")
            }
            None => return error,
        };
        let tips = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tips);
    }
    error
}

impl Serve {
    fn log_form(&self) -> Result<Form, String> {
        let Some(word) = &self.log_format else {
            return Ok(Form::default());
        };
        Form::parse(word).ok_or_else(|| {
            format!("error: invalid value '{word}' for -log-format: write text or json")
        })
    }

    fn loops(&self) -> LoopKind {
        #[cfg(feature = "hickory")]
        if self.hickory {
            return LoopKind::Hickory;
        }
        LoopKind::default()
    }

    fn into_options(self, log_form: Form) -> serve::Options {
        serve::Options {
            loops: self.loops(),
            corefile: serve::Corefile::from_flag(self.conf),
            default_port: self.port,
            quiet: self.quiet,
            log_form,
            pid_file: self.pidfile,
            on_start: None,
        }
    }
}

/// Name, version and platform, in CoreDNS's two lines.
pub fn version() -> String {
    format!(
        "Lodestone-{}\n{}/{}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

/// The words that a server block can use, a line each, as CoreDNS prints them.
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

/// Gives every word of two or more letters behind one dash its second dash, as Go reads flags.
/// Unknown words too, so that `-confg` is told apart from `-c`.
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
    fn the_flags_of_coredns_are_read_with_one_dash_or_two() {
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
            assert_eq!(serve.log_form(), Ok(Form::Json), "{line}");
        }
        assert_eq!(
            parsed("lodestone").unwrap().serve.log_form(),
            Ok(Form::Text)
        );
        for word in ["JSON", "Text", "", "logfmt"] {
            let serve = parsed(&format!("lodestone -log-format={word}"))
                .unwrap()
                .serve;
            assert!(serve.log_form().is_err(), "{word}");
        }
    }

    #[test]
    fn a_misspelt_flag_is_told_its_neighbour() {
        let error = parsed("lodestone -confg x").unwrap_err().to_string();
        assert!(error.contains("--conf"), "{error}");
        assert!(parsed("lodestone stray").is_err());
    }
}
