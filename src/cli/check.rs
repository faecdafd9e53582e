//! `lodestone check`: everything that a start would find in a Corefile, with no effect on anything.

use std::{path::PathBuf, process::ExitCode};

use crate::cli::serve::Corefile;

/// What to check.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The Corefile ("-" reads standard input)
    #[arg(default_value = "Corefile")]
    file: PathBuf,
}

/// Checks and reports: 0 where a start would go through, 1 otherwise.
pub fn run(arguments: &Arguments) -> ExitCode {
    let corefile = match arguments.file.to_str() {
        Some("-") => Corefile::StandardInput,
        _ => Corefile::File(arguments.file.clone()),
    };
    match corefile.read_elsewhere(53) {
        Ok(config) => {
            if !config.warnings.list.is_empty() {
                eprintln!("{}", config.warnings);
            }
            println!("{}: {}", corefile.name(), summary(&config));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn summary(config: &crate::config::Config) -> String {
    let blocks = match config.blocks.len() {
        1 => "1 server block".to_owned(),
        other => format!("{other} server blocks"),
    };
    match config.warnings.list.len() {
        0 => format!("good, {blocks}"),
        1 => format!("accepted with 1 warning, {blocks}"),
        other => format!("accepted with {other} warnings, {blocks}"),
    }
}
