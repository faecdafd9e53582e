//! `lodestone fmt`: a Corefile in its one layout.

use std::{fs, io, io::Write, path::Path, path::PathBuf, process::ExitCode};

use crate::{
    cli::serve::{Corefile, ReadError},
    corefile,
    plugin::{elsewhere, order::ORDER},
};

/// What to lay out.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The Corefile, or a file that one imports ("-" reads standard input)
    #[arg(default_value = "Corefile")]
    file: PathBuf,
    /// Print nothing; end with 1 where the file has another layout
    #[arg(long, conflicts_with = "write")]
    check: bool,
    /// Change the file instead of printing
    #[arg(long, short)]
    write: bool,
}

/// Exit code where the file cannot be read, laid out or written.
const FAILED: u8 = 2;

/// Lays out and gives the exit code: 0, with `--check` 1 for another layout, 2 for a failure.
pub fn run(arguments: &Arguments) -> ExitCode {
    match lay_out(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(FAILED)
        }
    }
}

fn lay_out(arguments: &Arguments) -> Result<ExitCode, String> {
    let corefile = Corefile::from_argument(&arguments.file);
    let name = corefile.name();
    let text = corefile.text().map_err(|source| {
        let name = name.clone();
        ReadError::Io { name, source }.to_string()
    })?;
    let known = ORDER.iter().map(|word| word.name);
    let known: Vec<&str> = known.chain(elsewhere::words()).collect();
    let laid = corefile::layout(&name, &text, &known).map_err(|wrong| wrong.to_string())?;
    if arguments.check {
        if laid == text {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("{name}: the layout is another; see: lodestone fmt {name}");
        return Ok(ExitCode::FAILURE);
    }
    if !arguments.write {
        let mut out = io::stdout().lock();
        let written = out.write_all(laid.as_bytes()).and_then(|()| out.flush());
        return written
            .map(|()| ExitCode::SUCCESS)
            .map_err(|error| format!("error: cannot print: {error}"));
    }
    let Some(path) = corefile.path() else {
        return Err("error: standard input cannot be written to; leave --write out".to_owned());
    };
    if laid != text {
        replace(&path, &laid).map_err(|error| format!("error: cannot write {name}: {error}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts a text in the place of a file's, at once: whoever reads it meanwhile reads the one or the
/// other. A link stays one, and permissions stay.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let new = path.with_file_name(name);
    let written = fs::File::create_new(&new).and_then(|mut file| {
        file.set_permissions(fs::metadata(&path)?.permissions())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)
    });
    if written.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&new);
    }
    written
}
