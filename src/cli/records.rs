//! `lodestone records`: what a running server serves.

use std::process::ExitCode;

use super::running::{self, Format, Output, ServerArguments};
use crate::control::client::Record;

/// Arguments of `lodestone records`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Only names of this namespace
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Output format: "zone" for a zone file, or "json" for one object per line
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = RecordFormat::Zone)]
    format: RecordFormat,
    #[command(flatten)]
    server: ServerArguments,
}

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum RecordFormat {
    /// A zone file (RFC 1035 section 5).
    Zone,
    /// One JSON object per line.
    Json,
}

/// Prints the records. Exit code 0, 1 if there is none, 2 if they cannot be listed.
pub fn run(arguments: &Arguments) -> ExitCode {
    let format = match arguments.format {
        RecordFormat::Zone => Format::Text,
        RecordFormat::Json => Format::Json,
    };
    let namespace = arguments.namespace.as_deref();
    let parameters: Vec<_> = namespace.map(|it| ("namespace", it)).into_iter().collect();
    let mut output = Output::new(format);
    let listed = running::with_server(&arguments.server, async |client| {
        let each = |line: &[u8]| output.line(line, |record: &Record| text(record));
        client.lines("records", &parameters, each).await
    });
    output.end(
        listed,
        "no record: there is no such namespace, or nothing in it",
    )
}

fn text(record: &Record) -> String {
    let Record {
        name,
        ttl,
        rtype,
        data,
    } = record;
    format!("{name}\t{ttl}\tIN\t{rtype}\t{data}\n")
}
