//! `lodestone explain`: how a name is resolved, step by step: by a running server, or by a configuration that is
//! built for the purpose and not served.

mod remote;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use self::remote::{RemoteError, SearchList};
use crate::{
    cli::{
        ControlSocket, control_socket, output, port, quoted_path,
        serve::{Corefile, POD_COREFILE, ReadError},
    },
    config::Config,
    control::client::{Client, ClientError},
    error_text,
    explain::{ExplainRequest, Explanation, RequestError, Target},
    metrics::Metrics,
    pipeline::Pipeline,
    plugin::SharedResources,
    upstream::read_nameservers,
};

/// Arguments of `lodestone explain`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The name, as a program uses it; one that ends in a dot is not expanded by the search list
    name: String,
    /// Record type
    #[arg(long = "type", short, value_name = "TYPE", default_value = "A")]
    rtype: String,
    /// Asking pod or namespace: NAMESPACE, or NAMESPACE/POD with its name or address; its search list is used [default:
    /// default; with --server the search list of resolv.conf]
    #[arg(long, value_name = "NAMESPACE")]
    from: Option<String>,
    /// Listener that is asked, such as dns://:53 [default: the one that serves the name best]
    #[arg(long, value_name = "LISTENER", conflicts_with = "server")]
    listener: Option<String>,
    /// Control socket of the running server that is asked: a path, or a name that begins with @; "off" asks none
    /// [default: that of the only server here]
    #[arg(long, value_name = "SOCKET|off", value_parser = control_socket, conflicts_with_all = ["conf", "manifests"])]
    socket: Option<ControlSocket>,
    /// DNS server to query instead, from outside: an address, with a port unless it is 53
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["conf", "manifests", "socket", "port"])]
    server: Option<String>,
    /// Domain of the cluster, for the search list of --from with --server
    #[arg(
        long,
        value_name = "DOMAIN",
        default_value = "cluster.local",
        requires = "server"
    )]
    domain: String,
    /// File with the search list and the server that are used in a pod without a running server
    #[arg(long, value_name = "FILE", default_value = "/etc/resolv.conf")]
    resolv_conf: PathBuf,
    /// Corefile to read in place of a running server; the servers that it names are asked, nothing is served [default
    /// without a running server: ./Corefile, or /etc/coredns/Corefile]
    #[arg(long, value_name = "FILE", conflicts_with = "manifests")]
    conf: Option<PathBuf>,
    /// Directory of manifests, in place of a Corefile
    #[arg(long, value_name = "DIRECTORY")]
    manifests: Option<PathBuf>,
    /// Output format: "text", or "json" for programs
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,
    /// Port of server blocks without one
    #[arg(long = "dns.port", short, value_name = "PORT", value_parser = port, default_value_t = 53)]
    port: u16,
}

/// How long the objects of the cluster are waited for, whatever `startup_timeout` says.
const START: Duration = Duration::from_secs(10);

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Text.
    Text,
    /// One JSON object: see `docs/explain.md`.
    Json,
}

/// Why a name cannot be explained.
#[derive(Debug, thiserror::Error)]
enum ExplainError {
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error(
        "error: no lodestone server is running here, and neither ./Corefile nor {POD_COREFILE} exists\nhelp: name a \
         Corefile with --conf, or a DNS server to query with --server"
    )]
    NoCorefile,
    #[error("error: {}", error_text::chain(.0))]
    Build(anyhow::Error),
    #[error("error: {0}")]
    Manifests(anyhow::Error),
    #[error("error: {0}")]
    Request(#[from] RequestError),
    #[error("error: {0}")]
    Running(#[from] ClientError),
    #[error("error: {0}")]
    Remote(#[from] RemoteError),
    #[error("error: cannot start: {0}")]
    Runtime(std::io::Error),
    #[error("error: cannot write the explanation: {0}")]
    Json(#[from] serde_json::Error),
}

/// Explains the name. Exit code 0 if it has an answer, 1 if not, 2 if it cannot be explained.
pub fn run(arguments: &Arguments) -> ExitCode {
    match explained(arguments) {
        Ok((text, answered)) => match output::print(&text) {
            Ok(()) if answered => ExitCode::SUCCESS,
            Ok(()) => ExitCode::FAILURE,
            Err(error) => {
                output::print_error(error);
                ExitCode::from(2)
            }
        },
        Err(error) => {
            output::print_error(error);
            ExitCode::from(2)
        }
    }
}

fn explained(arguments: &Arguments) -> Result<(String, bool), ExplainError> {
    if let Some(server) = &arguments.server {
        return explained_by(remote::address(server)?, arguments);
    }
    let request = request(arguments, Some(namespace(arguments)))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(ExplainError::Runtime)?;
    let explanation = runtime.block_on(async {
        match running(arguments).await? {
            Some(client) => {
                let explanation = client.get("explain", &parameters(arguments)).await?;
                Ok(Some(explanation))
            }
            None => match config(arguments) {
                Ok(config) => explain(&config, arguments.port, &request).await.map(Some),
                // A pod of an application: what its resolver does is explained.
                Err(ExplainError::NoCorefile) if is_pod() => Ok(None),
                Err(error) => Err(error),
            },
        }
    });
    // The sources of the cluster's objects may be waiting for their server.
    runtime.shutdown_background();
    let explanation: Option<Explanation> = explanation?;
    if let Some(explanation) = explanation {
        return print(arguments, &explanation);
    }
    let servers = read_nameservers(&arguments.resolv_conf).unwrap_or_default();
    let server = servers.first().ok_or(ExplainError::NoCorefile)?;
    explained_by(server.with_port(53), arguments)
}

/// Whether this is a pod of a cluster.
fn is_pod() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

fn namespace(arguments: &Arguments) -> &str {
    arguments.from.as_deref().unwrap_or("default")
}

fn request(arguments: &Arguments, from: Option<&str>) -> Result<ExplainRequest, RequestError> {
    let mut request = ExplainRequest::new(&arguments.name, &arguments.rtype, from)?;
    request.server.clone_from(&arguments.listener);
    Ok(request)
}

/// Explains by queries to a server.
fn explained_by(server: SocketAddr, arguments: &Arguments) -> Result<(String, bool), ExplainError> {
    let from = arguments.from.as_deref();
    let request = request(arguments, from)?;
    let search = match &request.namespace {
        Some(namespace) => SearchList::of_namespace(namespace, &arguments.domain)?,
        None if from.is_none() => SearchList::of_file(&arguments.resolv_conf),
        None => SearchList::default(),
    };
    print(arguments, &remote::explain(server, &search, &request)?)
}

fn print(arguments: &Arguments, explanation: &Explanation) -> Result<(String, bool), ExplainError> {
    let text = match arguments.format {
        Format::Text => explanation.to_string(),
        Format::Json => serde_json::to_string_pretty(explanation)? + "\n",
    };
    Ok((text, explanation.answered))
}

/// The running server that is to be asked. None if a configuration is named, or no server is running.
async fn running(arguments: &Arguments) -> Result<Option<Client>, ClientError> {
    let address = match &arguments.socket {
        Some(ControlSocket::Off) => return Ok(None),
        None if arguments.conf.is_some() || arguments.manifests.is_some() => return Ok(None),
        None => None,
        Some(ControlSocket::At(address)) => Some(address),
    };
    match Client::connect(address).await {
        Ok(client) => Ok(Some(client)),
        Err(ClientError::NoServer(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn parameters(arguments: &Arguments) -> Vec<(&str, &str)> {
    let Arguments {
        name,
        rtype,
        listener,
        ..
    } = arguments;
    let from = namespace(arguments);
    let mut parameters: Vec<(&str, &str)> = vec![("name", name), ("type", rtype), ("from", from)];
    parameters.extend(listener.as_deref().map(|it| ("listener", it)));
    parameters
}

async fn explain(
    config: &Config,
    port: u16,
    request: &ExplainRequest,
) -> Result<Explanation, ExplainError> {
    let metrics = Metrics::new();
    let pipeline = Pipeline::build(config, port, SharedResources::default(), &metrics)
        .map_err(|error| ExplainError::Build(error.into()))?;
    // An API server that does not answer is part of the explanation.
    let _ = tokio::time::timeout(START, pipeline.started()).await;
    let target = Target::offline(&pipeline, &metrics);
    Ok(target.explain(request).await?)
}

fn config(arguments: &Arguments) -> Result<Config, ExplainError> {
    let Some(directory) = &arguments.manifests else {
        return Ok(corefile(arguments.conf.clone())?.read(arguments.port)?);
    };
    let directory = quoted_path(directory).map_err(ExplainError::Manifests)?;
    let text = format!(
        ".:53 {{\n kubernetes cluster.local in-addr.arpa ip6.arpa {{\n  manifests {directory}\n  \
         pods verified\n  fallthrough in-addr.arpa ip6.arpa\n }}\n forward . /etc/resolv.conf\n}}\n"
    );
    Ok(Corefile::Inline(text).read(arguments.port)?)
}

/// The Corefile of `--conf`, else the one that is found. The built-in default has no names to explain.
fn corefile(conf: Option<PathBuf>) -> Result<Corefile, ExplainError> {
    match conf {
        Some(path) => Ok(Corefile::from_flag(Some(path))),
        None => Corefile::found().ok_or(ExplainError::NoCorefile),
    }
}
