//! `lodestone records`: what a running server serves.

use std::process::ExitCode;

use super::running::{self, Format, Output, ServerArguments};
use crate::{
    control::client::{Namespace, Record},
    corefile::nearest,
};

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
    let nothing = match namespace {
        Some(namespace) if output.is_empty() && listed.is_ok() => {
            why_none(namespace, &arguments.server)
        }
        _ => "no record".to_owned(),
    };
    output.end(listed, &nothing)
}

/// Why no record is in a namespace.
fn why_none(namespace: &str, server: &ServerArguments) -> String {
    let asked = running::with_server(server, async |client| client.get("namespaces", &[]).await);
    // Without a cluster there are records of other zones alone.
    let known: Vec<Namespace> = asked.unwrap_or_default();
    let mut names = known.iter().map(|known| known.name.as_str());
    if known.is_empty() || names.any(|known| known.eq_ignore_ascii_case(namespace)) {
        return format!("no record in namespace {namespace}");
    }
    let mut why = format!("no record in namespace {namespace}: it is not served");
    if let Some(near) = nearest(namespace, known.iter().map(|known| known.name.as_str())) {
        why = why + "; did you mean " + near + "?";
    }
    why
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
