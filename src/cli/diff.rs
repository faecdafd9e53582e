//! `lodestone diff OLD NEW`: semantic differences of two Corefiles.
//!
//! Ignores formatting, comments, the division into snippets and imports, and the order of
//! directives where it is irrelevant. `compare` defines the differences, `table` prints them.

mod compare;
mod table;

use std::{path::PathBuf, process::ExitCode};

use crate::{
    cli::{
        output, port,
        serve::{Corefile, ReadError},
    },
    config,
    corefile::{Disk, File},
    interfaces::Interfaces,
};

/// Arguments of `lodestone diff`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The old Corefile ("-" reads standard input)
    old: PathBuf,
    /// The new Corefile ("-" reads standard input)
    new: PathBuf,
    /// Port of server blocks without one
    #[arg(long = "dns.port", short, value_name = "PORT", value_parser = port, default_value_t = 53)]
    port: u16,
}

/// Exit code for an unreadable or invalid file.
const FAILED: u8 = 2;

/// Compares and prints. Exit code 0 without differences, 1 with differences, 2 on failure.
pub fn run(arguments: &Arguments) -> ExitCode {
    if arguments.old == arguments.new && arguments.old.as_os_str() == "-" {
        output::print_error("error: only one of the files can be standard input");
        return ExitCode::from(FAILED);
    }
    let read = |path: &PathBuf| parse(&Corefile::from_argument(path));
    match (read(&arguments.old), read(&arguments.new)) {
        (Ok(old), Ok(new)) => {
            let differences = compare::compare(&old, &new, arguments.port);
            if differences.is_empty() {
                return ExitCode::SUCCESS;
            }
            match output::print(&table::written(&differences, &old, &new)) {
                Ok(()) => ExitCode::FAILURE,
                Err(error) => {
                    output::print_error(error);
                    ExitCode::from(FAILED)
                }
            }
        }
        (old, new) => {
            for error in [old.err(), new.err()].into_iter().flatten() {
                output::print_error(error);
            }
            ExitCode::from(FAILED)
        }
    }
}

/// Parses a Corefile without the arguments of its plugins, which `check` verifies: the old file may
/// be written for another server.
fn parse(corefile: &Corefile) -> Result<File, ReadError> {
    let name = corefile.name();
    let text = corefile.text().map_err(|source| ReadError::Io {
        name: name.clone(),
        source,
    })?;
    let source = config::Source {
        name: &name,
        text: &text,
        loader: &Disk,
        interfaces: &Interfaces::default(),
        default_port: 53,
    };
    let wrong = |wrong| ReadError::Wrong(Box::new(wrong));
    let file = config::parse(&source).map_err(wrong)?;
    let errors = file
        .blocks
        .iter()
        .filter_map(|block| block.read_keys().err());
    let errors: Vec<_> = errors.flatten().collect();
    if errors.is_empty() {
        Ok(file)
    } else {
        Err(wrong(file.report(errors)))
    }
}
