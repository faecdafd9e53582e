//! `lodestone check`: everything that a start would find in a Corefile, with no effect on anything.

use std::{path::PathBuf, process::ExitCode};

use serde::Serialize;

use crate::{
    cli::{
        output, port,
        serve::{Corefile, ReadError},
    },
    config::Config,
    corefile::{Diagnostic, Diagnostics, Place, Severity, Sources},
    site,
};

/// What to check.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The Corefile ("-" reads standard input)
    #[arg(default_value = "Corefile")]
    file: PathBuf,
    /// Leave out the files that it names: certificates, hosts, zones, ...
    #[arg(long)]
    no_files: bool,
    /// How to tell: "text", or "json" for programs
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,
    /// Port of server blocks that name none
    #[arg(long = "dns.port", short, value_name = "PORT", value_parser = port, default_value_t = 53)]
    port: u16,
}

/// How it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Drawn, for people.
    Text,
    /// One object, for programs: see `docs/check.md`.
    Json,
}

/// Checks and reports: 0 where a start would go through, 1 otherwise.
pub fn run(arguments: &Arguments) -> ExitCode {
    let corefile = Corefile::from_argument(&arguments.file);
    let checked = check(&corefile, arguments);
    let told = match arguments.format {
        Format::Text => checked.tell(&corefile.name()),
        Format::Json => checked.tell_programs(&corefile.name()),
    };
    if let Err(error) = told {
        output::complain(error);
        return ExitCode::FAILURE;
    }
    if checked.found.has_errors() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// What was found.
struct Checked {
    found: Diagnostics,
    /// Server blocks, where the file could be read.
    blocks: usize,
}

fn check(corefile: &Corefile, arguments: &Arguments) -> Checked {
    let mut config = match corefile.read_elsewhere(arguments.port) {
        Ok(config) => config,
        Err(ReadError::Wrong(found)) => {
            let blocks = 0;
            return Checked {
                found: *found,
                blocks,
            };
        }
        Err(error) => {
            let message = error.to_string();
            let message = message.strip_prefix("error: ").unwrap_or(&message);
            let list = vec![Diagnostic::error(message)];
            let sources = Sources::default();
            return Checked {
                found: Diagnostics { list, sources },
                blocks: 0,
            };
        }
    };
    if !arguments.no_files {
        let found = site::trial(&config, arguments.port);
        config.warnings.list.extend(found);
    }
    let Config {
        blocks, warnings, ..
    } = config;
    Checked {
        found: warnings,
        blocks: blocks.len(),
    }
}

impl Checked {
    fn tell(&self, name: &str) -> Result<(), String> {
        if !self.found.list.is_empty() {
            output::complain(&self.found);
        }
        if self.found.has_errors() {
            return Ok(());
        }
        output::print(&format!("{name}: {}\n", self.summary()))
    }

    fn summary(&self) -> String {
        let blocks = match self.blocks {
            1 => "1 server block".to_owned(),
            other => format!("{other} server blocks"),
        };
        match self.found.list.len() {
            0 => format!("good, {blocks}"),
            1 => format!("accepted with 1 warning, {blocks}"),
            other => format!("accepted with {other} warnings, {blocks}"),
        }
    }

    fn tell_programs(&self, name: &str) -> Result<(), String> {
        let list = &self.found.list;
        let count = |severity| list.iter().filter(|one| one.severity == severity).count();
        let report = Report {
            version: 1,
            file: name,
            accepted: !self.found.has_errors(),
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            diagnostics: list
                .iter()
                .map(|one| Told::new(one, &self.found.sources))
                .collect(),
        };
        // It has no maps and no floats: nothing of it can fail.
        let text = serde_json::to_string_pretty(&report).unwrap_or_default();
        output::print(&format!("{text}\n"))
    }
}

/// The object that `--format json` prints. Fields may be added; those that are there stay.
#[derive(Serialize)]
struct Report<'a> {
    version: u8,
    file: &'a str,
    accepted: bool,
    errors: usize,
    warnings: usize,
    diagnostics: Vec<Told<'a>>,
}

/// One diagnostic. What is not there is left out, but for the place of the whole file: line 1.
#[derive(Serialize)]
struct Told<'a> {
    severity: &'static str,
    code: &'static str,
    message: &'a str,
    #[serde(flatten)]
    span: Option<Span<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    also: Option<Also<'a>>,
}

/// A second place.
#[derive(Serialize)]
struct Also<'a> {
    #[serde(flatten)]
    span: Span<'a>,
    label: &'a str,
}

/// Lines and columns count from 1, columns in characters; the end is exclusive.
#[derive(Serialize)]
struct Span<'a> {
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

impl<'a> Told<'a> {
    fn new(one: &'a Diagnostic, sources: &'a Sources) -> Self {
        Self {
            severity: match one.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            code: one.code(),
            message: &one.message,
            span: one.place.map(|place| Span::new(place, sources)),
            label: one.label.as_deref(),
            help: one.help.as_deref(),
            also: one.also.as_deref().map(|(place, label)| Also {
                span: Span::new(*place, sources),
                label,
            }),
        }
    }
}

impl<'a> Span<'a> {
    fn new(place: Place, sources: &'a Sources) -> Self {
        Self {
            file: sources.name(place.source).unwrap_or("?"),
            line: place.line,
            column: place.column,
            end: End {
                line: place.end_line,
                column: place.end_column,
            },
        }
    }
}
