//! `lodestone diff OLD NEW`: what two Corefiles say differently.
//!
//! Layout, comments, how a file is cut into snippets and imports, and the order of words that has
//! no meaning are no difference. See `compare` for what is one, and `table` for how it is told.

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

/// What to compare.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The Corefile as it was ("-" reads standard input)
    old: PathBuf,
    /// The Corefile as it shall be ("-" reads standard input)
    new: PathBuf,
    /// Port of server blocks that name none
    #[arg(long = "dns.port", short, value_name = "PORT", value_parser = port, default_value_t = 53)]
    port: u16,
}

/// Exit code where one of them cannot be read.
const FAILED: u8 = 2;

/// Compares and tells: 0 where both say the same, 1 where not, 2 where one cannot be read.
pub fn run(arguments: &Arguments) -> ExitCode {
    if arguments.old == arguments.new && arguments.old.as_os_str() == "-" {
        output::complain("error: standard input can be one of the two, not both");
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
                    output::complain(error);
                    ExitCode::from(FAILED)
                }
            }
        }
        (old, new) => {
            for error in [old.err(), new.err()].into_iter().flatten() {
                output::complain(error);
            }
            ExitCode::from(FAILED)
        }
    }
}

/// The blocks of a Corefile. Whether its plugins take what they are told is `check`'s matter: the
/// old one may well be for another server.
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
