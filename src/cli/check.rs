//! `lodestone check`: reports everything that a start would find wrong with a Corefile, without
//! side effects.

use std::{path::PathBuf, process::ExitCode};

use serde::Serialize;

use crate::{
    cli::{
        output, port,
        serve::{Corefile, ReadError},
    },
    config::Config,
    corefile::{Diagnostic, Diagnostics, Severity, Sources, Span},
    pipeline,
};

/// Arguments of `lodestone check`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The Corefile ("-" reads standard input)
    #[arg(default_value = "Corefile")]
    file: PathBuf,
    /// Do not read the files that it names: certificates, hosts, zones, ...
    #[arg(long)]
    no_files: bool,
    /// Output format: "text", or "json" for programs
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,
    /// Port of server blocks without one
    #[arg(long = "dns.port", short, value_name = "PORT", value_parser = port, default_value_t = 53)]
    port: u16,
}

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Rendered text.
    Text,
    /// One JSON object: see `docs/check.md`.
    Json,
}

/// Checks and reports. Exit code 0 if a start would succeed, otherwise 1.
pub fn run(arguments: &Arguments) -> ExitCode {
    let corefile = Corefile::from_argument(&arguments.file);
    let checked = check(&corefile, arguments);
    let printed = match arguments.format {
        Format::Text => checked.print_text(&corefile.name()),
        Format::Json => checked.print_json(&corefile.name()),
    };
    if let Err(error) = printed {
        output::print_error(error);
        return ExitCode::FAILURE;
    }
    if checked.diagnostics.has_errors() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Result of a check.
struct Checked {
    diagnostics: Diagnostics,
    /// Number of server blocks; 0 if the file could not be parsed.
    blocks: usize,
}

fn check(corefile: &Corefile, arguments: &Arguments) -> Checked {
    let mut config = match corefile.read_elsewhere(arguments.port) {
        Ok(config) => config,
        Err(ReadError::Wrong(diagnostics)) => {
            let blocks = 0;
            return Checked {
                diagnostics: *diagnostics,
                blocks,
            };
        }
        Err(error) => {
            let message = error.to_string();
            let message = message.strip_prefix("error: ").unwrap_or(&message);
            let list = vec![Diagnostic::error(message)];
            let sources = Sources::default();
            return Checked {
                diagnostics: Diagnostics { list, sources },
                blocks: 0,
            };
        }
    };
    if !arguments.no_files {
        let diagnostics = pipeline::trial(&config, arguments.port);
        config.warnings.list.extend(diagnostics);
    }
    let Config {
        blocks, warnings, ..
    } = config;
    Checked {
        diagnostics: warnings,
        blocks: blocks.len(),
    }
}

impl Checked {
    fn print_text(&self, name: &str) -> Result<(), String> {
        if !self.diagnostics.list.is_empty() {
            output::print_error(&self.diagnostics);
        }
        if self.diagnostics.has_errors() {
            return Ok(());
        }
        output::print(&format!("{name}: {}\n", self.summary()))
    }

    fn summary(&self) -> String {
        let blocks = match self.blocks {
            1 => "1 server block".to_owned(),
            other => format!("{other} server blocks"),
        };
        match self.diagnostics.list.len() {
            0 => format!("good, {blocks}"),
            1 => format!("accepted with 1 warning, {blocks}"),
            other => format!("accepted with {other} warnings, {blocks}"),
        }
    }

    fn print_json(&self, name: &str) -> Result<(), String> {
        let list = &self.diagnostics.list;
        let count = |severity| list.iter().filter(|one| one.severity == severity).count();
        let report = Report {
            version: 1,
            file: name,
            accepted: !self.diagnostics.has_errors(),
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            diagnostics: list
                .iter()
                .map(|one| JsonDiagnostic::new(one, &self.diagnostics.sources))
                .collect(),
        };
        // Serialization cannot fail: the report has neither maps nor floats.
        let text = serde_json::to_string_pretty(&report).unwrap_or_default();
        output::print(&format!("{text}\n"))
    }
}

/// Output of `--format json`. Fields may be added; existing ones are stable.
#[derive(Serialize)]
struct Report<'a> {
    version: u8,
    file: &'a str,
    accepted: bool,
    errors: usize,
    warnings: usize,
    diagnostics: Vec<JsonDiagnostic<'a>>,
}

/// One diagnostic. Absent parts are omitted; without a location, the file as a whole is meant.
#[derive(Serialize)]
pub(super) struct JsonDiagnostic<'a> {
    severity: &'static str,
    code: &'static str,
    message: &'a str,
    #[serde(flatten)]
    location: Option<Location<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    also: Option<JsonLabel<'a>>,
}

/// A second location.
#[derive(Serialize)]
struct JsonLabel<'a> {
    #[serde(flatten)]
    location: Location<'a>,
    label: &'a str,
}

/// Lines and columns count from 1, columns in characters; the end is exclusive.
#[derive(Serialize)]
struct Location<'a> {
    file: &'a str,
    line: u32,
    column: u32,
    end: End,
}

#[derive(Serialize)]
struct End {
    line: u32,
    column: u32,
}

impl<'a> JsonDiagnostic<'a> {
    pub(super) fn new(one: &'a Diagnostic, sources: &'a Sources) -> Self {
        Self {
            severity: match one.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            code: one.code(),
            message: &one.message,
            location: one.span.map(|span| Location::new(span, sources)),
            label: one.label.as_deref(),
            help: one.help.as_deref(),
            also: one.also.as_deref().map(|(span, label)| JsonLabel {
                location: Location::new(*span, sources),
                label,
            }),
        }
    }
}

impl<'a> Location<'a> {
    fn new(span: Span, sources: &'a Sources) -> Self {
        Self {
            file: sources.name(span.source).unwrap_or("?"),
            line: span.line,
            column: span.column,
            end: End {
                line: span.end_line,
                column: span.end_column,
            },
        }
    }
}
