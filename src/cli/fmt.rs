//! `lodestone fmt`: a Corefile in its one layout.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{MetadataExt, fchown},
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::{
    cli::{
        output,
        serve::{Corefile, ReadError},
    },
    config::{elsewhere, order::ORDER},
    corefile, plain,
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
            output::complain(error);
            ExitCode::from(FAILED)
        }
    }
}

fn lay_out(arguments: &Arguments) -> Result<ExitCode, String> {
    let corefile = Corefile::from_argument(&arguments.file);
    let name = corefile.name();
    let bytes = corefile.bytes().map_err(|source| {
        let name = name.clone();
        ReadError::Io { name, source }.to_string()
    })?;
    let text = utf8(bytes).map_err(|line| {
        format!(
            "error: cannot lay out {name}: line {line} is not in UTF-8, and would change\nhelp: \
             convert the file first, such as with: iconv -f LATIN1 -t UTF-8"
        )
    })?;
    let known = ORDER.iter().map(|word| word.name);
    let known: Vec<&str> = known.chain(elsewhere::words()).collect();
    let laid = corefile::layout(&name, &text, &known).map_err(|wrong| wrong.to_string())?;
    if arguments.check {
        if laid == text {
            return Ok(ExitCode::SUCCESS);
        }
        output::complain(format!(
            "{name}: the layout is another; see: lodestone fmt {name}"
        ));
        return Ok(ExitCode::FAILURE);
    }
    if !arguments.write {
        return output::print(&laid).map(|()| ExitCode::SUCCESS);
    }
    let Some(path) = corefile.path() else {
        return Err("error: standard input cannot be written to; leave --write out".to_owned());
    };
    if laid != text {
        replace(&path, &laid)
            .map_err(|error| format!("error: cannot write {name}: {}", plain::io(&error)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A file's text. Where it is not UTF-8: the number of the first such line.
fn utf8(bytes: Vec<u8>) -> Result<String, usize> {
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        good.split(|byte| *byte == b'\n').count()
    })
}

/// Replaces a file's text atomically. A link stays one, and permissions stay; so does the owner,
/// where this process may set it.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let new = path.with_file_name(name);
    let written = fs::File::create_new(&new).and_then(|mut file| {
        let before = fs::metadata(&path)?;
        // Without the right to it the file is this user's, as it would be in an editor.
        let _ = fchown(&file, Some(before.uid()), Some(before.gid()));
        file.set_permissions(before.permissions())?;
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
