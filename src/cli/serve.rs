//! Serving: from a Corefile to a process that answers, and to its end.

use std::{
    fmt, fs, io,
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    cli,
    config::{self, Config},
    corefile::{Diagnostics, Disk, MAX_FILE},
    logging,
    metrics::Metrics,
    reload::{Changes, Trigger},
    site::{Running, StartError},
};

/// What to serve and how.
pub struct Options {
    /// The configuration.
    pub corefile: Corefile,
    /// The port of keys that carry none.
    pub default_port: u16,
    /// Whether to keep quiet about the start.
    pub quiet: bool,
    /// Where to write the process id.
    pub pid_file: Option<PathBuf>,
    /// Called with the addresses once they are served.
    pub on_start: Option<Box<dyn FnOnce(&[SocketAddr])>>,
}

/// Where a Corefile is.
#[derive(Clone, Debug)]
pub enum Corefile {
    /// In a file that must exist.
    File(PathBuf),
    /// In `./Corefile`; where there is none, the built-in default is served.
    WorkingDirectory,
    /// On standard input, read once.
    StandardInput,
    /// In memory.
    Text {
        /// What errors call it.
        name: String,
        /// What it says.
        text: String,
    },
}

/// Why a Corefile cannot be used.
#[derive(Debug)]
pub enum ReadError {
    /// It cannot be read.
    Io {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// It is wrong.
    Wrong(Box<Diagnostics>),
}

impl fmt::Display for ReadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { name, source } => write!(out, "error: cannot read the Corefile {name}: {source}"),
            Self::Wrong(diagnostics) => diagnostics.fmt(out),
        }
    }
}

impl Corefile {
    /// Reads the `-conf` flag.
    pub fn from_flag(flag: Option<PathBuf>) -> Self {
        match flag {
            None => Self::WorkingDirectory,
            Some(path) if path == Path::new("stdin") => Self::StandardInput,
            Some(path) => Self::File(path),
        }
    }

    /// What errors call it.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::WorkingDirectory => "Corefile".to_owned(),
            Self::StandardInput => "/dev/stdin".to_owned(),
            Self::Text { name, .. } => name.clone(),
        }
    }

    /// The file to watch for changes, where there is one.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::WorkingDirectory => Some(PathBuf::from("Corefile")),
            Self::StandardInput | Self::Text { .. } => None,
        }
    }

    /// Reads and understands it.
    pub fn read(&self, default_port: u16) -> Result<Config, ReadError> {
        let name = self.name();
        let text = match self.text() {
            Ok(text) => text,
            Err(source) => return Err(ReadError::Io { name, source }),
        };
        let source = config::Source { name: &name, text: &text, loader: &Disk, default_port };
        Config::read(&source).map_err(|wrong| ReadError::Wrong(Box::new(wrong)))
    }

    fn text(&self) -> io::Result<String> {
        let octets = match self {
            Self::Text { text, .. } => return Ok(text.clone()),
            Self::StandardInput => capped(io::stdin().lock())?,
            Self::File(path) => capped(fs::File::open(path)?)?,
            Self::WorkingDirectory => match fs::File::open("Corefile") {
                Ok(file) => capped(file)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(error),
            },
        };
        Ok(String::from_utf8_lossy(&octets).into_owned())
    }
}

/// Reads to the end, but no more than a Corefile may have.
fn capped(from: impl Read) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(MAX_FILE).expect("a file size fits in 64 bits");
    let mut octets = Vec::new();
    from.take(limit + 1).read_to_end(&mut octets)?;
    if octets.len() > MAX_FILE {
        return Err(io::Error::other(format!("it is longer than {limit} octets")));
    }
    Ok(octets)
}

/// Serves until told to stop: 0 after an orderly end, 1 where it could not start.
pub fn run(options: Options) -> ExitCode {
    logging::install();
    // One provider for every TLS connection of the process. A second install changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("error: cannot start the runtime: {error}")),
    };
    let code = runtime.block_on(life(options));
    logging::flush();
    code
}

fn failed(message: &str) -> ExitCode {
    logging::flush();
    eprintln!("{}", message.trim_end());
    ExitCode::FAILURE
}

/// One process's life: start, serve, reload as often as asked, drain, end.
async fn life(options: Options) -> ExitCode {
    let config = match options.corefile.read(options.default_port) {
        Ok(config) => config,
        Err(error) => return failed(&error.to_string()),
    };
    if let Err(error) = write_pid(options.pid_file.as_deref()) {
        return failed(&error);
    }
    let mut signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => return failed(&format!("error: cannot listen for signals: {error}")),
    };
    eprint!("{}", config.warnings);
    let mut running = match Running::start(config, Metrics::new()).await {
        Ok(running) => running,
        Err(error) => return failed(&format!("error: {}", chain(&error))),
    };
    if !options.quiet {
        print!("{}{}\n", running.banner(), cli::version());
    }
    if let Some(on_start) = options.on_start {
        on_start(&running.addresses());
    }
    let mut changes = Changes::watch(options.corefile.path(), &running);
    loop {
        tokio::select! {
            end = signals.next() => match end {
                Told::Reload => reload(&options.corefile, options.default_port, &mut running, &mut changes, true).await,
                Told::Terminate => {
                    running.lame_duck(signals.interrupted()).await;
                    running.drain().await;
                    return ExitCode::SUCCESS;
                }
                Told::Interrupt => {
                    running.drain().await;
                    return ExitCode::SUCCESS;
                }
                Told::Quit => return ExitCode::SUCCESS,
            },
            trigger = changes.next() => {
                let Trigger::Look = trigger;
                reload(&options.corefile, options.default_port, &mut running, &mut changes, false).await;
            }
        }
    }
}
