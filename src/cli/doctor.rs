//! `lodestone doctor`: checks what a server needs of its surroundings, and says what to do.
//!
//! Reads the Corefile as a start does, and sends queries and requests of its own. It changes nothing: sockets
//! are bound for a moment only, and the API server is only asked. All checks run in parallel, each with a
//! deadline, and their findings are printed in a fixed order.

mod api;
#[cfg(feature = "grpc")]
mod grpc;
pub(super) mod memory;
mod ports;
mod probe;
pub(super) mod report;
mod resolver;
mod running;
mod start;
mod upstreams;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use self::{
    report::{Finding, has_remedies},
    resolver::ResolverFile,
};
use super::{
    ControlSocket, control_socket, output, port,
    serve::{Corefile, ReadError},
};
use crate::{
    config::Config,
    corefile::{Diagnostic, Diagnostics, Severity, Sources},
    interfaces::Interfaces,
    metrics::Metrics,
    plugin::kubernetes,
    wire::Name,
};

/// Where a pod has its namespace.
const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

const COREFILE: &str = "corefile";

/// Check what this server needs: the API server and RBAC, upstreams, ports, memory, and the resolver.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit code: 0 if all is well, 1 if there is something to do, 2 for an invalid command line.\nSee docs/doctor.md."
)]
pub struct Arguments {
    /// Corefile to check for ("-" reads standard input) [default: ./Corefile, else
    /// /etc/coredns/Corefile]
    #[arg(long, value_name = "FILE")]
    conf: Option<PathBuf>,
    /// Port of server blocks without one
    #[arg(long = "dns.port", short, value_name = "PORT", value_parser = port, default_value_t = 53)]
    port: u16,
    /// Namespace of this pod, for its search list [default: that of its service account]
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The resolver's file to check
    #[arg(long, value_name = "FILE", default_value = "/etc/resolv.conf")]
    resolv_conf: PathBuf,
    /// Control socket of the running server to check: a path, or a name that begins with @; "off" checks none
    /// [default: that of the only server here]
    #[arg(long, value_name = "SOCKET|off", value_parser = control_socket)]
    socket: Option<ControlSocket>,
    /// Output format: "text", or "json" for programs
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,
}

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One line per check, remedies below.
    Text,
    /// An array of objects: see `docs/doctor.md`.
    Json,
}

/// What the checks are given.
struct Facts {
    /// The configuration; `None` if it cannot be read.
    config: Option<Config>,
    /// Whether that is the Corefile where a server reads it by default.
    is_own_corefile: bool,
    /// The running server; without it, the only one here.
    socket: Option<ControlSocket>,
    /// Port of keys without one.
    port: u16,
    resolver: ResolverFile,
    interfaces: Interfaces,
    /// `KUBERNETES_SERVICE_HOST`, which the kubelet sets for pods.
    kubernetes_host: Option<String>,
    /// Whether this is a pod without a Corefile: an application's.
    is_client: bool,
    /// The namespace of this pod.
    namespace: Option<String>,
    /// Never scraped.
    metrics: Arc<Metrics>,
}

/// Checks and prints. Exit code 0 if all is well, 1 if there is something to do.
pub fn run(arguments: &Arguments) -> ExitCode {
    let kubernetes_host = std::env::var("KUBERNETES_SERVICE_HOST").ok();
    let is_client =
        arguments.conf.is_none() && kubernetes_host.is_some() && Corefile::found().is_none();
    let (config, about_corefile) = if is_client {
        let why = "this pod has none, so it is no DNS server's: its resolver is checked";
        (None, Finding::skipped(COREFILE, "", why))
    } else {
        read(corefile(arguments), arguments.port)
    };
    let facts = Facts {
        config,
        is_own_corefile: arguments.conf.is_none(),
        socket: arguments.socket.clone(),
        port: arguments.port,
        resolver: ResolverFile::read(&arguments.resolv_conf),
        interfaces: Interfaces::here().unwrap_or_default(),
        kubernetes_host,
        is_client,
        namespace: arguments.namespace.clone().or_else(own_namespace),
        metrics: Metrics::new(),
    };
    let runtime = tokio::runtime::Runtime::new();
    let mut findings = vec![about_corefile];
    findings.extend(start::check(&facts));
    match runtime {
        Ok(runtime) => {
            findings.extend(runtime.block_on(check(&facts)));
            // Connections that were given up must not delay the end.
            runtime.shutdown_background();
        }
        Err(error) => {
            let why = crate::error_text::io(&error);
            let remedy = "Raise the limits of this process (ulimit)";
            findings.push(Finding::fail("process", "", why, remedy));
        }
    }
    if facts.is_client {
        // Of a server that this pod is not.
        findings.retain(|finding| finding.detail != NO_COREFILE && finding.check != "loop");
    }
    let text = match arguments.format {
        Format::Text => report::text(&findings),
        Format::Json => report::json(&findings),
    };
    if let Err(error) = output::print(&text) {
        output::print_error(error);
        return ExitCode::FAILURE;
    }
    if has_remedies(&findings) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// A mistake with its position and its help.
fn in_a_line(mistake: &Diagnostic, sources: &Sources) -> String {
    let mut text = match mistake.span {
        Some(span) => format!("{}: {}", sources.locate(span), mistake.message),
        None => mistake.message.clone(),
    };
    if let Some(help) = &mistake.help {
        text.push_str("; ");
        text.push_str(help);
    }
    text
}

/// The namespace of this pod, from the files of its service account.
fn own_namespace() -> Option<String> {
    let text = std::fs::read_to_string(NAMESPACE).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The Corefile of the command line; without one, that of the working directory or of the pod.
fn corefile(arguments: &Arguments) -> Corefile {
    match &arguments.conf {
        Some(path) if path == Path::new("stdin") => Corefile::StandardInput,
        Some(path) => Corefile::from_argument(path),
        None => Corefile::found().unwrap_or_else(|| Corefile::File(PathBuf::from("Corefile"))),
    }
}

fn read(corefile: Corefile, port: u16) -> (Option<Config>, Finding) {
    let name = corefile.name();
    let unreadable = |error: ReadError| {
        let detail = error.to_string();
        let detail = detail.strip_prefix("error: ").unwrap_or(&detail).to_owned();
        let remedy = "Name the file of the server: lodestone doctor -conf FILE";
        Finding::fail(COREFILE, &name, detail, remedy)
    };
    let refused = |diagnostics: &Diagnostics| {
        let mut list = diagnostics.list.iter();
        let first = list.find(|one| one.severity == Severity::Error);
        let detail = first.map_or_else(String::new, |one| in_a_line(one, &diagnostics.sources));
        let remedy = format!(
            "Correct it; a running server keeps its configuration until then. All mistakes: lodestone check {name}"
        );
        Finding::fail(COREFILE, &name, detail, remedy)
    };
    // Standard input can be read once.
    let corefile = match corefile {
        Corefile::StandardInput => match corefile.text() {
            Ok(text) => Corefile::Inline(text),
            Err(source) => {
                let name = name.clone();
                return (None, unreadable(ReadError::Io { name, source }));
            }
        },
        other => other,
    };
    let config = match corefile.read_elsewhere(port) {
        Ok(config) => config,
        Err(ReadError::Wrong(diagnostics)) => return (None, refused(&diagnostics)),
        Err(error @ ReadError::Io { .. }) => return (None, unreadable(error)),
    };
    // What only this machine lacks, such as an interface of `bind`.
    if let Err(ReadError::Wrong(diagnostics)) = corefile.read(port) {
        return (Some(config), refused(&diagnostics));
    }
    let blocks = match config.blocks.len() {
        1 => "1 server block".to_owned(),
        count => format!("{count} server blocks"),
    };
    let finding = match config.warnings.list.len() {
        0 => Finding::ok(COREFILE, &name, blocks),
        count => {
            let warnings = if count == 1 { "warning" } else { "warnings" };
            let detail = format!("{blocks}, {count} {warnings}");
            Finding::warn(
                COREFILE,
                &name,
                detail,
                format!("See: lodestone check {name}"),
            )
        }
    };
    (Some(config), finding)
}

/// All checks, in the order of the output.
async fn check(facts: &Facts) -> Vec<Finding> {
    let forwarding = async {
        let (upstreams, mut findings) = upstreams::list(facts).await;
        findings.extend(upstreams::check(facts, &upstreams).await);
        (upstreams, findings)
    };
    let ((api, cluster), (upstreams, forwarding), ports, server) = tokio::join!(
        api::check(facts),
        forwarding,
        ports::check(facts),
        running::check(facts)
    );
    // These need what is known of the cluster.
    let (loops, cluster_dns) = tokio::join!(
        upstreams::check_loops(facts, &upstreams, &cluster),
        resolver::check_cluster_dns(facts, &cluster),
    );
    let memory = vec![memory::check(facts)];
    let file = resolver::check_file(facts);
    [
        api,
        server,
        forwarding,
        loops,
        ports,
        cluster_dns,
        memory,
        file,
    ]
    .concat()
}

/// Why checks are skipped without a configuration.
const NO_COREFILE: &str = "the Corefile cannot be read";

impl Facts {
    /// Why a check of the cluster's zone is skipped.
    fn why_no_zone(&self) -> &'static str {
        match self.config {
            None if self.is_client => "this is no pod of a DNS server",
            None => NO_COREFILE,
            Some(_) => "no kubernetes block in the Corefile",
        }
    }

    /// The zone of the cluster: the first one of the first `kubernetes` block that is not reverse.
    fn cluster_zone(&self) -> Option<&Name> {
        let config = self.config.as_ref()?;
        let plugin = config.plugins_of::<kubernetes::Config>().next()?;
        Some(plugin.zones.primary())
    }

    /// Whether the server of the configuration listens on an address.
    fn is_own(&self, address: SocketAddr) -> bool {
        let mut blocks = self.config.iter().flat_map(|config| &config.blocks);
        blocks.any(|block| {
            let bound = &block.settings.bind;
            let is_local = || {
                let mut local = self.interfaces.addresses.iter();
                address.ip().is_loopback() || local.any(|(_, own)| own.ip == address.ip())
            };
            let is_bound = bound.iter().any(|own| own.ip == address.ip());
            let is_here = is_bound || bound.is_empty() && is_local();
            let plain = block.keys.iter();
            let mut plain = plain.filter(|key| key.transport == crate::corefile::Transport::Dns);
            is_here && plain.any(|key| key.port_or(self.port) == address.port())
        })
    }
}
