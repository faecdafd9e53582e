//! `lodestone fmt`: formats a Corefile.

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
    config::{order::ORDER, unsupported},
    corefile, error_text,
};

/// Arguments of `lodestone fmt`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The Corefile, or a file that one imports ("-" reads standard input)
    #[arg(default_value = "Corefile")]
    file: PathBuf,
    /// Print nothing; exit with 1 if the file is not formatted
    #[arg(long, conflicts_with = "write")]
    check: bool,
    /// Overwrite the file instead of printing
    #[arg(long, short)]
    write: bool,
}

/// Exit code if the file cannot be read, formatted or written.
const FAILED: u8 = 2;

/// Formats a file. Exit code 0; with `--check` 1 if it is not formatted; 2 on failure.
pub fn run(arguments: &Arguments) -> ExitCode {
    match format(arguments) {
        Ok(code) => code,
        Err(error) => {
            output::print_error(error);
            ExitCode::from(FAILED)
        }
    }
}

fn format(arguments: &Arguments) -> Result<ExitCode, String> {
    let corefile = Corefile::from_argument(&arguments.file);
    let name = corefile.name();
    let bytes = corefile.bytes().map_err(|source| {
        let name = name.clone();
        ReadError::Io { name, source }.to_string()
    })?;
    let text = utf8(bytes).map_err(|line| {
        format!(
            "error: cannot format {name}: line {line} is not valid UTF-8 and would change\nhelp: \
             convert the file first, such as with: iconv -f LATIN1 -t UTF-8"
        )
    })?;
    let known = ORDER.iter().map(|word| word.name);
    let known: Vec<&str> = known.chain(unsupported::words()).collect();
    let formatted = corefile::format(&name, &text, &known).map_err(|wrong| wrong.to_string())?;
    if arguments.check {
        if formatted == text {
            return Ok(ExitCode::SUCCESS);
        }
        output::print_error(format!(
            "{name}: not formatted; run: lodestone fmt --write {name}"
        ));
        return Ok(ExitCode::FAILURE);
    }
    if !arguments.write {
        return output::print(&formatted).map(|()| ExitCode::SUCCESS);
    }
    let Some(path) = corefile.path() else {
        return Err("error: cannot write to standard input; remove --write".to_owned());
    };
    if formatted != text {
        replace(&path, &formatted)
            .map_err(|error| format!("error: cannot write {name}: {}", error_text::io(&error)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The text of a file, or the number of its first line that is not UTF-8.
fn utf8(bytes: Vec<u8>) -> Result<String, usize> {
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        good.split(|byte| *byte == b'\n').count()
    })
}

/// Replaces a file atomically by renaming. Resolves symbolic links and keeps the permissions, and
/// the owner if this process is allowed to set it.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let new = path.with_file_name(name);
    let written = fs::File::create_new(&new).and_then(|mut file| {
        let before = fs::metadata(&path)?;
        // Without that permission the file belongs to this user, as after a save in an editor.
        let _ = fchown(&file, Some(before.uid()), Some(before.gid()));
        file.set_permissions(before.permissions())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)
    });
    if written.is_err() {
        // The file may not exist.
        let _ = fs::remove_file(&new);
    }
    written
}
