//! Serving: from a Corefile to a process that answers, and to its end.

use std::{
    fmt, fs, io,
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    cli,
    config::{self, Config},
    corefile::{Diagnostics, Disk, MAX_FILE},
    interfaces::Interfaces,
    logging::{self, Form},
    metrics::Metrics,
    plain,
    process::{Prepared, Process, StartError},
    reload::Changes,
    server::{LoopKind, descriptors},
};

/// What to serve and how.
pub struct Options {
    /// The configuration.
    pub corefile: Corefile,
    /// The port of keys that carry none.
    pub default_port: u16,
    /// Whether to keep quiet about the start.
    pub quiet: bool,
    /// The form of the log.
    pub log_form: Form,
    /// What reads and writes the sockets of plain DNS.
    pub loops: LoopKind,
    /// Where to write the process id.
    pub pid_file: Option<PathBuf>,
    /// Called once questions are answered.
    pub on_start: Option<Box<dyn FnOnce()>>,
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
            Self::Io { name, source } => {
                let why = plain::io(source);
                write!(out, "error: cannot read the Corefile {name}: {why}")
            }
            Self::Wrong(diagnostics) => diagnostics.fmt(out),
        }
    }
}

impl std::error::Error for ReadError {}

impl Corefile {
    /// Reads the `-conf` flag.
    pub fn from_flag(flag: Option<PathBuf>) -> Self {
        match flag {
            None => Self::WorkingDirectory,
            Some(path) if path == Path::new("stdin") => Self::StandardInput,
            Some(path) => Self::File(path),
        }
    }

    /// Reads a verb's argument, where `-` is standard input.
    pub fn from_argument(file: &Path) -> Self {
        match file.to_str() {
            Some("-") => Self::StandardInput,
            _ => Self::File(file.to_owned()),
        }
    }

    /// What errors call it.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::WorkingDirectory => "Corefile".to_owned(),
            Self::StandardInput => "/dev/stdin".to_owned(),
        }
    }

    /// The file to watch for changes, where there is one.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::WorkingDirectory => Some(PathBuf::from("Corefile")),
            Self::StandardInput => None,
        }
    }

    /// Reads and understands it, to be served on this machine.
    pub fn read(&self, default_port: u16) -> Result<Config, ReadError> {
        self.read_for(default_port, &interfaces())
    }

    /// Reads and understands it, to be served on this machine or another one.
    pub fn read_elsewhere(&self, default_port: u16) -> Result<Config, ReadError> {
        let elsewhere = Interfaces {
            elsewhere: true,
            ..interfaces()
        };
        self.read_for(default_port, &elsewhere)
    }

    fn read_for(&self, default_port: u16, interfaces: &Interfaces) -> Result<Config, ReadError> {
        let name = self.name();
        let text = match self.text() {
            Ok(text) => text,
            Err(source) => return Err(ReadError::Io { name, source }),
        };
        let source = config::Source {
            name: &name,
            text: &text,
            loader: &Disk,
            interfaces,
            default_port,
        };
        Config::read(&source).map_err(|wrong| ReadError::Wrong(Box::new(wrong)))
    }

    /// Its text. Bytes that are no UTF-8, such as in an old comment, become U+FFFD.
    pub fn text(&self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.bytes()?).into_owned())
    }

    /// Its text as it stands in the file.
    pub fn bytes(&self) -> io::Result<Vec<u8>> {
        match self {
            Self::StandardInput => capped(io::stdin().lock()),
            Self::File(path) => capped(fs::File::open(path)?),
            Self::WorkingDirectory => match fs::File::open("Corefile") {
                Ok(file) => capped(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                Err(error) => Err(error),
            },
        }
    }
}

/// The interfaces of this machine. Without them `bind` still knows addresses.
fn interfaces() -> Interfaces {
    Interfaces::here().unwrap_or_else(|error| {
        let why = plain::io(&error);
        tracing::warn!("cannot list the interfaces of this machine: {why}");
        Interfaces::default()
    })
}

/// Reads to the end, but no more than a Corefile may have, and nothing but text.
fn capped(from: impl Read) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(MAX_FILE).expect("a file size fits in 64 bits");
    let mut octets = Vec::new();
    from.take(limit + 1).read_to_end(&mut octets)?;
    if octets.len() > MAX_FILE {
        return Err(io::Error::other(format!(
            "it is longer than {} MiB",
            limit >> 20
        )));
    }
    // Other octets may stand in a comment that was written long ago; this one stands in no text.
    if octets.contains(&0) {
        return Err(io::Error::other(
            "it is no text in UTF-8: it holds a NUL byte",
        ));
    }
    Ok(octets)
}

/// Serves until told to stop: 0 after an orderly end, 1 where it could not start.
pub fn run(options: Options) -> ExitCode {
    logging::install(options.log_form);
    descriptors::raise();
    // One provider for every TLS connection of the process. A second install changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            return failed(&format!(
                "error: cannot start threads: {}",
                plain::io(&error)
            ));
        }
    };
    let code = runtime.block_on(life(options));
    logging::flush();
    code
}

fn failed(message: &str) -> ExitCode {
    logging::fatal(message);
    ExitCode::FAILURE
}

/// Shows what is served and the version: as CoreDNS prints them, or in two records.
fn show_start(running: &Process) {
    let banner = running.banner();
    match logging::form() {
        Form::Text => {
            // Standard output that cannot be written is no reason to stop serving.
            let _ = cli::output::print(&format!("{banner}{}\n", cli::version()));
        }
        Form::Json => {
            tracing::info!("{}", banner.trim_end());
            tracing::info!("{}", cli::version());
        }
    }
}

/// Shows what is doubtful about a Corefile at the start.
fn show_warnings(warnings: &Diagnostics) {
    match logging::form() {
        Form::Text if warnings.list.is_empty() => {}
        Form::Text => cli::output::complain(warnings),
        Form::Json => log_warnings(warnings),
    }
}

/// Logs what is doubtful about a Corefile: a record for each, or a line for each line of the
/// drawing.
fn log_warnings(warnings: &Diagnostics) {
    for warning in &warnings.list {
        let drawn = warning.render(&warnings.sources, false);
        match logging::form() {
            Form::Text => drawn
                .lines()
                .for_each(|line| tracing::warn!(target: "plugin/reload", "{line}")),
            Form::Json => {
                let text = drawn.strip_prefix("warning: ").unwrap_or(&drawn);
                tracing::warn!("{text}");
            }
        }
    }
}

/// One process's life: start, serve, reload as often as asked, drain, end.
async fn life(options: Options) -> ExitCode {
    let started = async {
        // Before signals are caught: a pipe may keep this waiting for its writer.
        let config = options.corefile.read(options.default_port)?;
        let mut signals = Signals::install().context("cannot listen for signals")?;
        // It may wait for the cluster's objects, as long as `startup_timeout` allows.
        let server = tokio::select! {
            server = Server::start(&options, config) => server?,
            _ = signals.end() => return Ok(None),
        };
        write_pid(options.pid_file.as_deref())?;
        anyhow::Ok(Some((signals, server)))
    };
    let (mut signals, mut server) = match started.await {
        Ok(Some(started)) => started,
        Ok(None) => return ExitCode::SUCCESS,
        // What is wrong with a Corefile is drawn as it is, everything else in one line.
        Err(error) => {
            return failed(&match error.downcast_ref::<ReadError>() {
                Some(wrong) => wrong.to_string(),
                None => match advice(&error) {
                    Some(advice) => format!("error: {}\nhelp: {advice}", plain::chain(&error)),
                    None => format!("error: {}", plain::chain(&error)),
                },
            });
        }
    };
    if !options.quiet {
        show_start(&server.running);
    }
    if let Some(on_start) = options.on_start {
        on_start();
    }
    let end = loop {
        let why = tokio::select! {
            signal = signals.next() => match signal {
                Meant::Reload => Why::Asked,
                Meant::End(end) => break end,
            },
            () = server.changes.next() => Why::Changed,
        };
        // It may wait for seconds for what the new configuration needs.
        let next = tokio::select! {
            end = signals.end() => break end,
            next = server.look(why) => next,
        };
        if let Some(next) = next {
            server.reload(why, next);
        }
    };
    match end {
        End::Terminate => server.running.lame_duck(signals.interrupted()).await,
        End::Interrupt => {}
        End::Quit => return ExitCode::SUCCESS,
    }
    tokio::select! {
        () = server.running.drain() => ExitCode::SUCCESS,
        () = signals.interrupted() => ExitCode::from(INTERRUPTED_TWICE),
    }
}

/// What to do about a listener that cannot be had.
fn advice(error: &anyhow::Error) -> Option<&'static str> {
    let Some(StartError::Bind(_) | StartError::BindPage(_)) = error.downcast_ref() else {
        return None;
    };
    let system = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<io::Error>())?;
    match system.kind() {
        io::ErrorKind::AddrInUse => Some(
            "another program listens there; 'ss -lntup' tells which. Stop it, bind to an address \
             that it leaves free (bind), or take another port",
        ),
        io::ErrorKind::PermissionDenied => Some(
            "ports below 1024 are for root and for programs with the capability \
             NET_BIND_SERVICE. Grant it, or take another port",
        ),
        io::ErrorKind::AddrNotAvailable => {
            Some("no interface of this machine has this address; 'ip address' tells those it has")
        }
        _ => None,
    }
}

/// Exit code where a second interrupt cuts the drain short, as in CoreDNS.
const INTERRUPTED_TWICE: u8 = 2;

/// A running configuration and the Corefile that it came from.
struct Server {
    corefile: Corefile,
    default_port: u16,
    running: Process,
    changes: Changes,
    /// Whether what is served is the built-in default, because there was nothing else.
    serves_default: bool,
    /// What was last wrong with the Corefile: it is told once.
    refused: Option<Refused>,
}

/// A Corefile that is not put to work.
struct Refused {
    error: String,
    /// What it says, where that could be read and understood.
    hash: Option<u64>,
    at: Instant,
}

/// What can be put to work, and whether it is the built-in default.
struct Reload {
    next: Prepared,
    hash: u64,
    is_default: bool,
}

/// Why the Corefile is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// By signal: what is there is put to work even if it is what is served already.
    Asked,
    /// It may have changed.
    Changed,
}

impl Server {
    async fn start(options: &Options, config: Config) -> anyhow::Result<Self> {
        let serves_default = config.is_default;
        show_warnings(&config.warnings);
        let (port, loops) = (options.default_port, options.loops);
        let running = Process::start_with(config, port, Metrics::new(), loops).await?;
        logging::count_drops(running.metrics());
        let corefile = options.corefile.clone();
        let changes = follow(&corefile, &running);
        Ok(Self {
            corefile,
            default_port: options.default_port,
            running,
            changes,
            serves_default,
            refused: None,
        })
    }

    /// Reads the Corefile again and makes it ready to be put to work. Where it is wrong or cannot be
    /// put to work, the one that is served goes on, and that is said once. May be given up halfway.
    async fn look(&mut self, why: Why) -> Option<Reload> {
        let config = match self.read() {
            Ok(config) => config,
            Err(error) => {
                self.refuse(why, None, error);
                return None;
            }
        };
        let (hash, is_default) = (config.hash, config.is_default);
        if why == Why::Changed && hash == self.running.hash() {
            self.refused = None;
            return None;
        }
        // Such a file is nearly always one that is still being written, or was cut by a full disk.
        let lack = if config.is_cut {
            Some("ends within its last server block")
        } else if is_default && !self.serves_default {
            Some("has no server block")
        } else {
            None
        };
        if let Some(lack) = lack {
            let name = self.corefile.name();
            let error = format!("{name} {lack}; what was served goes on");
            self.refuse(why, Some(hash), error);
            return None;
        }
        if !self.is_known(why, hash) {
            tracing::info!("Reloading");
            log_warnings(&config.warnings);
        } else if !self.is_to_be_tried_again() {
            return None;
        }
        match self.running.prepare(config).await {
            Ok(next) => Some(Reload {
                next,
                hash,
                is_default,
            }),
            Err(error) => {
                self.refuse(why, Some(hash), in_words(error));
                None
            }
        }
    }

    /// Puts to work what was made ready.
    fn reload(&mut self, why: Why, reload: Reload) {
        let Reload {
            next,
            hash,
            is_default,
        } = reload;
        match self.running.commit(next) {
            Ok(()) => {
                self.refused = None;
                self.serves_default = is_default;
                self.changes = follow(&self.corefile, &self.running);
                tracing::info!("Reloading complete");
            }
            Err(error) => self.refuse(why, Some(hash), in_words(error)),
        }
    }

    fn read(&self) -> Result<Config, String> {
        // A pipe was read to its end at the start, and to read on would wait for ever.
        if let Some(path) = self.corefile.path()
            && let Ok(file) = fs::metadata(&path)
            && !file.is_file()
        {
            return Err(format!("{} is no regular file", path.display()));
        }
        let config = self.corefile.read(self.default_port);
        config.map_err(|error| error.to_string())
    }

    /// Whether this was refused before: it is not put into the log again, where a log in the
    /// Corefile's directory would be another change.
    fn is_known(&self, why: Why, hash: u64) -> bool {
        let before = self.refused.as_ref().and_then(|refused| refused.hash);
        why == Why::Changed && before == Some(hash)
    }

    /// Whether what it was refused for, a port or a file, may be there by now.
    fn is_to_be_tried_again(&self) -> bool {
        let interval = self.running.follows().map(|schedule| schedule.interval);
        let refused = self.refused.as_ref();
        refused.is_none_or(|refused| interval.is_some_and(|pause| refused.at.elapsed() >= pause))
    }

    fn refuse(&mut self, why: Why, hash: Option<u64>, error: String) {
        let error = match error.strip_prefix("error: ") {
            Some(rest) => rest.to_owned(),
            None => error,
        };
        let before = self.refused.as_ref();
        let is_told = before.is_some_and(|before| before.error == error);
        if why == Why::Asked || !is_told {
            self.running.metrics().reload.refused();
            tracing::error!(target: "plugin/reload", "Corefile changed but reload failed: {error}");
        }
        self.refused = Some(Refused {
            error,
            hash,
            at: Instant::now(),
        });
    }
}

/// The error with all of its causes.
fn in_words(error: StartError) -> String {
    plain::chain(&anyhow::Error::from(error))
}

fn follow(corefile: &Corefile, running: &Process) -> Changes {
    Changes::follow(
        corefile.path().as_deref(),
        running.imported(),
        running.follows(),
    )
}

fn write_pid(file: Option<&Path>) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    fs::write(file, format!("{}\n", std::process::id()))
        .with_context(|| format!("cannot write the process id to {}", file.display()))
}

/// The signals that mean something, as in CoreDNS.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    reload: Signal,
    /// Caught, so that it does not end the process.
    _hang_up: Signal,
}

/// What a signal means.
enum Meant {
    Reload,
    End(End),
}

/// A signal that ends the process.
enum End {
    Terminate,
    Interrupt,
    Quit,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            reload: signal(SignalKind::user_defined1())?,
            _hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Meant {
        tokio::select! {
            _ = self.terminate.recv() => Meant::End(End::Terminate),
            _ = self.interrupt.recv() => Meant::End(End::Interrupt),
            _ = self.quit.recv() => Meant::End(End::Quit),
            _ = self.reload.recv() => Meant::Reload,
        }
    }

    /// Completes when the process is to end. A signal for a reload that comes meanwhile is kept.
    async fn end(&mut self) -> End {
        tokio::select! {
            _ = self.terminate.recv() => End::Terminate,
            _ = self.interrupt.recv() => End::Interrupt,
            _ = self.quit.recv() => End::Quit,
        }
    }

    /// Completes at the next interrupt.
    async fn interrupted(&mut self) {
        self.interrupt.recv().await;
    }
}
