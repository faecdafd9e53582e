//! The server process: start, signals, reload, shutdown.

mod signals;

use std::{
    fmt, fs, io,
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use self::signals::{SignalAction, Signals, Termination};
use crate::{
    cli,
    config::{self, Config},
    corefile::{Diagnostics, Disk, MAX_FILE},
    error_text,
    interfaces::Interfaces,
    logging::{self, Format},
    metrics::Metrics,
    process::{Prepared, Process, ProcessOptions, StartError},
    reload::CorefileChanges,
    server::descriptors,
};
use anyhow::Context;

/// Options of a server process.
pub struct ServeOptions {
    /// The configuration.
    pub corefile: Corefile,
    /// Port of keys without one.
    pub default_port: u16,
    /// Whether to print nothing at start.
    pub quiet: bool,
    /// Log format.
    pub log_format: Format,
    /// Options that no reload changes.
    pub process: ProcessOptions,
    /// File for the process id.
    pub pid_file: Option<PathBuf>,
    /// Called when the server answers queries.
    pub on_start: Option<Box<dyn FnOnce()>>,
}

/// Where the manifests of CoreDNS and of `deploy/` mount the Corefile.
pub const POD_COREFILE: &str = "/etc/coredns/Corefile";

/// Location of a Corefile.
#[derive(Clone, Debug)]
pub enum Corefile {
    /// A file that must exist.
    File(PathBuf),
    /// `./Corefile`; if it does not exist, the built-in default.
    WorkingDirectory,
    /// Standard input, read once.
    StandardInput,
    /// A text of the program's own.
    Inline(String),
}

/// Why a Corefile cannot be used.
#[derive(Debug)]
pub enum ReadError {
    /// I/O error.
    Io {
        /// Name of the file.
        name: String,
        /// Cause.
        source: io::Error,
    },
    /// Invalid content.
    Wrong(Box<Diagnostics>),
}

impl fmt::Display for ReadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { name, source } => {
                let why = error_text::io(source);
                write!(out, "error: cannot read the Corefile {name}: {why}")
            }
            Self::Wrong(diagnostics) => diagnostics.fmt(out),
        }
    }
}

impl std::error::Error for ReadError {}

impl Corefile {
    /// From the `-conf` flag.
    pub fn from_flag(flag: Option<PathBuf>) -> Self {
        match flag {
            None => Self::WorkingDirectory,
            Some(path) if path == Path::new("stdin") => Self::StandardInput,
            Some(path) => Self::File(path),
        }
    }

    /// `./Corefile`, else that of a pod, if either exists: the working directory of `kubectl exec` is not the
    /// Corefile's.
    pub fn found() -> Option<Self> {
        ["Corefile", POD_COREFILE]
            .map(PathBuf::from)
            .into_iter()
            .find(|path| path.exists())
            .map(Self::File)
    }

    /// From a subcommand's argument; `-` is standard input.
    pub fn from_argument(file: &Path) -> Self {
        match file.to_str() {
            Some("-") => Self::StandardInput,
            _ => Self::File(file.to_owned()),
        }
    }

    /// Name in error messages.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::WorkingDirectory => "Corefile".to_owned(),
            Self::StandardInput => "/dev/stdin".to_owned(),
            Self::Inline(_) => "built-in Corefile".to_owned(),
        }
    }

    /// The file to watch for changes, if any.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::WorkingDirectory => Some(PathBuf::from("Corefile")),
            Self::StandardInput | Self::Inline(_) => None,
        }
    }

    /// Parses it for this machine.
    pub fn read(&self, default_port: u16) -> Result<Config, ReadError> {
        self.read_for(default_port, &interfaces())
    }

    /// Parses it for this machine or another one with other interfaces.
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

    /// Its text. Invalid UTF-8, for example in comments, becomes U+FFFD.
    pub fn text(&self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.bytes()?).into_owned())
    }

    /// Its unmodified bytes.
    pub fn bytes(&self) -> io::Result<Vec<u8>> {
        match self {
            Self::StandardInput => capped(io::stdin().lock()),
            Self::Inline(text) => Ok(text.clone().into_bytes()),
            Self::File(path) => capped(fs::File::open(path)?),
            Self::WorkingDirectory => match fs::File::open("Corefile") {
                Ok(file) => capped(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                Err(error) => Err(error),
            },
        }
    }
}

/// The network interfaces of this machine. Without them `bind` supports addresses only.
fn interfaces() -> Interfaces {
    Interfaces::here().unwrap_or_else(|error| {
        let why = error_text::io(&error);
        tracing::warn!("cannot list the interfaces of this machine: {why}");
        Interfaces::default()
    })
}

/// Reads at most [`MAX_FILE`] bytes of text.
fn capped(from: impl Read) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(MAX_FILE).expect("a file size fits in 64 bits");
    let mut bytes = Vec::new();
    from.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_FILE {
        return Err(io::Error::other(format!(
            "it is longer than {} MiB",
            limit >> 20
        )));
    }
    // Other invalid bytes may be in a comment in an old encoding; NUL means that this is not text.
    if bytes.contains(&0) {
        return Err(io::Error::other(
            "it is not UTF-8 text: it contains a NUL byte",
        ));
    }
    Ok(bytes)
}

/// Serves until a stop signal. Exit code 0 after an orderly shutdown, 1 if the start failed.
pub fn run(options: ServeOptions) -> ExitCode {
    logging::install(options.log_format);
    descriptors::raise();
    // The crypto provider of all TLS connections. A repeated install has no effect.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            return failed(&format!(
                "error: cannot start threads: {}",
                error_text::io(&error)
            ));
        }
    };
    let code = runtime.block_on(run_server(options));
    logging::flush();
    code
}

fn failed(message: &str) -> ExitCode {
    logging::fatal(message);
    ExitCode::FAILURE
}

/// Prints the listeners and the version, in CoreDNS's format or as two JSON records.
fn show_start(running: &Process) {
    let banner = running.banner();
    match logging::format() {
        Format::Text => {
            // A failed write to standard output does not stop the server.
            let _ = cli::output::print(&format!("{banner}{}\n", cli::version()));
        }
        Format::Json => {
            tracing::info!("{}", banner.trim_end());
            tracing::info!("{}", cli::version());
        }
    }
}

/// Prints the warnings about a Corefile at start.
fn show_warnings(warnings: &Diagnostics) {
    match logging::format() {
        Format::Text if warnings.list.is_empty() => {}
        Format::Text => cli::output::print_error(warnings),
        Format::Json => log_warnings(warnings),
    }
}

/// Logs the warnings about a Corefile: one record each in JSON, one log line per rendered line in
/// text.
fn log_warnings(warnings: &Diagnostics) {
    for warning in &warnings.list {
        let drawn = warning.render(&warnings.sources, false);
        match logging::format() {
            Format::Text => drawn
                .lines()
                .for_each(|line| tracing::warn!(target: "plugin/reload", "{line}")),
            Format::Json => {
                let text = drawn.strip_prefix("warning: ").unwrap_or(&drawn);
                tracing::warn!("{text}");
            }
        }
    }
}

/// Life cycle of the process: start, serve, reload, drain, exit.
async fn run_server(options: ServeOptions) -> ExitCode {
    let started = async {
        // Before signal handlers are installed: reading from a pipe can block.
        let config = options.corefile.read(options.default_port)?;
        let mut signals = Signals::install().context("cannot listen for signals")?;
        // Can wait for the initial cluster state, up to `startup_timeout`.
        let server = tokio::select! {
            server = Daemon::start(&options, config) => server?,
            _ = signals.termination() => return Ok(None),
        };
        write_pid(options.pid_file.as_deref())?;
        anyhow::Ok(Some((signals, server)))
    };
    let (mut signals, mut server) = match started.await {
        Ok(Some(started)) => started,
        Ok(None) => return ExitCode::SUCCESS,
        // Errors of a Corefile are rendered on several lines, others on one line.
        Err(error) => {
            return failed(&match error.downcast_ref::<ReadError>() {
                Some(wrong) => wrong.to_string(),
                None => match advice(&error) {
                    Some(advice) => format!("error: {}\nhelp: {advice}", error_text::chain(&error)),
                    None => format!("error: {}", error_text::chain(&error)),
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
                SignalAction::Reload => ReloadCause::Signal,
                SignalAction::Termination(end) => break end,
            },
            () = server.changes.next() => ReloadCause::Changed,
            () = server.running.taken_over() => break Termination::TakenOver,
        };
        // Can take seconds, until the resources of the new configuration are ready.
        let next = tokio::select! {
            end = signals.termination() => break end,
            next = server.prepare(why) => next,
        };
        if let Some(next) = next {
            server.reload(why, next);
        }
    };
    match end {
        Termination::Terminate => server.running.lame_duck(signals.interrupted()).await,
        Termination::TakenOver => {
            tracing::info!("Another process has taken over");
            server.running.succeed();
        }
        Termination::Interrupt => {}
        Termination::Quit => return ExitCode::SUCCESS,
    }
    let taken_over = matches!(end, Termination::TakenOver);
    tokio::select! {
        () = server.running.drain() => {}
        () = signals.interrupted() => return ExitCode::from(INTERRUPTED_TWICE),
    }
    if taken_over && std::process::id() == CONTAINER {
        tracing::info!(
            "Drained; waiting for SIGTERM, because a container that exits is started again"
        );
        drop(server);
        signals.termination().await;
    }
    ExitCode::SUCCESS
}

/// Process id of the only program of a container. If it exited after a take-over, the kubelet would start it again at
/// once, and it would take over in turn, until its pod is deleted.
const CONTAINER: u32 = 1;

/// Suggests how to fix a listener that cannot be bound.
fn advice(error: &anyhow::Error) -> Option<&'static str> {
    let Some(StartError::Bind(_) | StartError::BindPage(_)) = error.downcast_ref() else {
        return None;
    };
    let system = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<io::Error>())?;
    match system.kind() {
        io::ErrorKind::AddrInUse => Some(
            "another program listens there; 'ss -lntup' shows it. Stop it, bind to an address \
             that is free (bind), or use another port",
        ),
        io::ErrorKind::PermissionDenied => Some(
            "ports below 1024 require root, or the capability NET_BIND_SERVICE. For another user, the file needs \
             it too (setcap cap_net_bind_service=p, as in the image), and the container. Without it, set \
             net.ipv4.ip_unprivileged_port_start=53 (in a pod: securityContext.sysctls), or use another port",
        ),
        io::ErrorKind::AddrNotAvailable => {
            Some("no interface of this machine has this address; 'ip address' lists the addresses")
        }
        _ => None,
    }
}

/// Exit code if a second interrupt aborts the drain, as in CoreDNS.
const INTERRUPTED_TWICE: u8 = 2;

/// A running server and its Corefile.
struct Daemon {
    corefile: Corefile,
    default_port: u16,
    running: Process,
    changes: CorefileChanges,
    /// Whether the built-in default is served because the Corefile has no server block.
    is_default: bool,
    /// The last rejected Corefile, to log each error once.
    rejected: Option<RejectedConfig>,
}

/// A rejected Corefile.
struct RejectedConfig {
    error: String,
    /// Hash of its text, if it could be parsed.
    hash: Option<u64>,
    at: Instant,
}

/// A prepared configuration.
struct PreparedReload {
    next: Prepared,
    hash: u64,
    is_default: bool,
}

/// Why the Corefile is read again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReloadCause {
    /// SIGUSR1: reload even without a change.
    Signal,
    /// A file system event or the polling interval.
    Changed,
}

impl Daemon {
    async fn start(options: &ServeOptions, config: Config) -> anyhow::Result<Self> {
        let is_default = config.is_default;
        show_warnings(&config.warnings);
        let (port, process) = (options.default_port, options.process.clone());
        let running = Process::start_with(config, port, Metrics::new(), process).await?;
        logging::count_drops(running.metrics());
        let corefile = options.corefile.clone();
        let changes = follow(&corefile, &running);
        Ok(Self {
            corefile,
            default_port: options.default_port,
            running,
            changes,
            is_default,
            rejected: None,
        })
    }

    /// Reads the Corefile and prepares the new configuration. On failure the current one stays
    /// active, and the error is logged once. Cancel-safe.
    async fn prepare(&mut self, why: ReloadCause) -> Option<PreparedReload> {
        let config = match self.read() {
            Ok(config) => config,
            Err(error) => {
                self.reject(why, None, error);
                return None;
            }
        };
        let (hash, is_default) = (config.hash, config.is_default);
        if why == ReloadCause::Changed && hash == self.running.hash() {
            self.rejected = None;
            return None;
        }
        // Usually a file that is still being written, or truncated by a full disk.
        let defect = if config.is_cut {
            Some("ends within its last server block")
        } else if is_default && !self.is_default {
            Some("has no server block")
        } else {
            None
        };
        if let Some(defect) = defect {
            let name = self.corefile.name();
            let error = format!("{name} {defect}; the current configuration stays active");
            self.reject(why, Some(hash), error);
            return None;
        }
        if !self.was_rejected(why, hash) {
            tracing::info!("Reloading");
            log_warnings(&config.warnings);
        } else if !self.is_retry_due() {
            return None;
        }
        match self.running.prepare(config).await {
            Ok(next) => Some(PreparedReload {
                next,
                hash,
                is_default,
            }),
            Err(error) => {
                self.reject(why, Some(hash), with_causes(error));
                None
            }
        }
    }

    /// Activates a prepared configuration.
    fn reload(&mut self, why: ReloadCause, reload: PreparedReload) {
        let PreparedReload {
            next,
            hash,
            is_default,
        } = reload;
        match self.running.commit(next) {
            Ok(()) => {
                self.rejected = None;
                self.is_default = is_default;
                self.changes = follow(&self.corefile, &self.running);
                tracing::info!("Reloading complete");
            }
            Err(error) => self.reject(why, Some(hash), with_causes(error)),
        }
    }

    fn read(&self) -> Result<Config, String> {
        // A pipe was consumed at start; reading it again would block forever.
        if let Some(path) = self.corefile.path()
            && let Ok(file) = fs::metadata(&path)
            && !file.is_file()
        {
            return Err(format!("{} is not a regular file", path.display()));
        }
        let config = self.corefile.read(self.default_port);
        config.map_err(|error| error.to_string())
    }

    /// Whether the same text was rejected before: not logged again, because a log file in the
    /// Corefile's directory would be another change.
    fn was_rejected(&self, why: ReloadCause, hash: u64) -> bool {
        let before = self.rejected.as_ref().and_then(|rejected| rejected.hash);
        why == ReloadCause::Changed && before == Some(hash)
    }

    /// Whether the polling interval has passed since the rejection: the cause, for example an
    /// occupied port or a missing file, may be gone.
    fn is_retry_due(&self) -> bool {
        let interval = self.running.follows().map(|schedule| schedule.interval);
        let rejected = self.rejected.as_ref();
        rejected.is_none_or(|rejected| interval.is_some_and(|pause| rejected.at.elapsed() >= pause))
    }

    fn reject(&mut self, why: ReloadCause, hash: Option<u64>, error: String) {
        let error = match error.strip_prefix("error: ") {
            Some(rest) => rest.to_owned(),
            None => error,
        };
        let before = self.rejected.as_ref();
        let is_repeated = before.is_some_and(|before| before.error == error);
        if why == ReloadCause::Signal || !is_repeated {
            self.running.metrics().reload.refused();
            tracing::error!(target: "plugin/reload", "Corefile changed but reload failed: {error}");
        }
        self.rejected = Some(RejectedConfig {
            error,
            hash,
            at: Instant::now(),
        });
    }
}

/// The error with its chain of causes.
fn with_causes(error: StartError) -> String {
    error_text::chain(&anyhow::Error::from(error))
}

fn follow(corefile: &Corefile, running: &Process) -> CorefileChanges {
    CorefileChanges::follow(
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
