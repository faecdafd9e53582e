//! `lodestone migrate`: what changes if a cluster's CoreDNS is replaced by a change of its image, and the change itself.
//!
//! Reads the Deployment, its ConfigMaps and the Service, from the cluster or from files, and reports. With `--apply` it
//! changes the Deployment, and nothing else.

mod apply;
mod change;
mod corefile;
mod deployment;
mod differences;
mod managers;
mod objects;
mod pod;
mod report;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use serde_json::Value;

use self::{
    apply::{Outcome, Rollout},
    change::{Changes, SavedState, patch_command, status_command},
    corefile::ReadCorefile,
    objects::{Objects, ObjectsError, Target, label, text},
    pod::Pod,
    report::{Commands, DeploymentName, Report},
};
use super::{USAGE, doctor::report::Finding, output, running::Format};
use crate::{
    cluster::{ApiAccess, Backend, Settings},
    corefile::parse_duration,
    error_text,
};

/// In commands, where no image is given.
const ANY_IMAGE: &str = concat!("REGISTRY/lodestone:", env!("CARGO_PKG_VERSION"));

/// Report what changes if a cluster's CoreDNS is replaced by Lodestone, and replace it.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Changes nothing without --apply or --undo.\nExit code: 0 if nothing is refused, 1 if something is refused or failed, 2 for an invalid command line.\nSee docs/migrate.md."
)]
pub struct Arguments {
    /// Files with the objects, as `kubectl get -o yaml` or `-o json` prints them ("-" reads standard input), in place
    /// of a cluster
    #[arg(short, long = "filename", value_name = "FILE", num_args = 1.., conflicts_with_all = ["kubeconfig", "context", "apply", "undo"])]
    file: Vec<PathBuf>,
    /// kubeconfig of the cluster [default: $KUBECONFIG, the service account of this pod, or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,
    /// Namespace of the cluster's DNS
    #[arg(long, short, value_name = "NAMESPACE", default_value = "kube-system", value_parser = object_name)]
    namespace: String,
    /// Its Deployment [default: coredns, or the only one with the label k8s-app=kube-dns]
    #[arg(long, value_name = "NAME", value_parser = object_name)]
    deployment: Option<String>,
    /// The container of the server [default: coredns, or the one with a Corefile]
    #[arg(long, value_name = "NAME", value_parser = object_name)]
    container: Option<String>,
    /// Image of Lodestone, for the commands and for --apply
    #[arg(long, value_name = "IMAGE", value_parser = image)]
    image: Option<String>,
    /// Change the Deployment, wait for its pods, and go back if they do not run
    #[arg(long, requires = "image", conflicts_with = "undo")]
    apply: bool,
    /// Put back what was there before --apply
    #[arg(long, conflicts_with = "image")]
    undo: bool,
    /// How long a rollout may take
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    timeout: Duration,
    /// Print each row of docs/differences.md that is about the Corefile
    #[arg(long)]
    all: bool,
    /// Output format: "text", or "json" for programs
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,
}

/// A name that an object can have.
fn object_name(text: &str) -> Result<String, String> {
    let is_usual =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if !text.is_empty() && text.len() <= 253 && text.bytes().all(is_usual) {
        Ok(text.to_owned())
    } else {
        Err("a name has lower-case letters, digits, '-' and '.'".to_owned())
    }
}

fn image(text: &str) -> Result<String, String> {
    let is_usual = |byte: u8| byte.is_ascii_graphic() && !b"'\"\\`$;&|<>()".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_usual) {
        Ok(text.to_owned())
    } else {
        Err("an image is written as REGISTRY/NAME:TAG".to_owned())
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "use a duration such as 90s or 5m".to_owned();
    let duration = parse_duration(text).map_err(|_| wrong())?;
    if duration.is_zero() {
        Err(wrong())
    } else {
        Ok(duration)
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
enum MigrateError {
    #[error("error: {0}")]
    Objects(#[from] ObjectsError),
    #[error(
        "error: no cluster: neither --kubeconfig nor $KUBECONFIG is given, this is no pod, and ~/.kube/config does not \
         exist\nhelp: read the objects from files instead: -f FILE"
    )]
    NoCluster,
    #[error("error: KUBECONFIG names several files\nhelp: name one with --kubeconfig")]
    SeveralFiles,
    #[error("error: {0}")]
    Access(String),
    #[error("error: cannot start: {0}")]
    Runtime(String),
}

/// Reports, and changes the Deployment if that is asked for.
pub fn run(arguments: &Arguments) -> ExitCode {
    if arguments
        .file
        .iter()
        .filter(|file| *file == Path::new("-"))
        .count()
        > 1
    {
        output::print_error("error: standard input can be read once");
        return ExitCode::from(USAGE);
    }
    match migrate(arguments) {
        Ok((text, is_success)) => {
            if let Err(error) = output::print(&text) {
                output::print_error(error);
                return ExitCode::FAILURE;
            }
            if is_success {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            output::print_error(error);
            ExitCode::FAILURE
        }
    }
}

/// What is printed at last, and whether all went well.
fn migrate(arguments: &Arguments) -> Result<(String, bool), MigrateError> {
    let target = Target {
        namespace: arguments.namespace.clone(),
        name: arguments.deployment.clone(),
    };
    if !arguments.file.is_empty() {
        let objects = Objects::of_files(&arguments.file)?;
        let names = arguments.file.iter().map(|file| match file.to_str() {
            Some("-") => "standard input".to_owned(),
            _ => file.display().to_string(),
        });
        let names: Vec<String> = names.collect();
        let (report, _) = report(arguments, &objects, &target, names.join(", "))?;
        return Ok((printed(arguments, &report, None), !report.is_refused));
    }
    let settings = Settings::new(backend(arguments)?);
    // A repeated install has no effect.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| MigrateError::Runtime(error_text::io(&error)))?;
    let result = runtime.block_on(async {
        let access = ApiAccess::new(&settings, runtime.handle());
        let access = access.map_err(|error| MigrateError::Access(error.to_string()))?;
        with_cluster(arguments, &access, &target).await
    });
    // Connections that were given up must not delay the end.
    runtime.shutdown_background();
    result
}

async fn with_cluster(
    arguments: &Arguments,
    access: &ApiAccess,
    target: &Target,
) -> Result<(String, bool), MigrateError> {
    let objects = Objects::of_cluster(access, target).await?;
    let origin = format!("the cluster at {}", access.host());
    let (report, changes) = report(arguments, &objects, target, origin)?;
    let deployment = objects.deployment(target)?;
    let (Some(deployment), true) = (deployment, arguments.apply || arguments.undo) else {
        return Ok((printed(arguments, &report, None), !report.is_refused));
    };
    let progress = |line: &str| match arguments.format {
        Format::Json => output::print_error(line),
        // If it cannot be printed, the change goes on.
        Format::Text => drop(output::print(&format!("{line}\n"))),
    };
    let rollout = Rollout {
        access,
        namespace: &target.namespace,
        name: text(deployment, "/metadata/name"),
        timeout: arguments.timeout,
        progress: &progress,
    };
    if arguments.apply && arguments.format == Format::Text {
        progress(report.text(arguments.all).trim_end());
        progress("");
    }
    let outcome = match (&arguments.image, changes) {
        _ if arguments.undo => rollout.undo(deployment).await,
        _ if report.is_refused => Outcome::refused("nothing is changed: something is refused"),
        (Some(image), Some((changes, container))) => {
            rollout.apply(deployment, &changes, image, &container).await
        }
        _ => Outcome::refused("nothing is changed: the container of the server is not known"),
    };
    let text = match arguments.format {
        Format::Json => report.json(Some(&outcome)),
        Format::Text => format!("{}\n", outcome.detail),
    };
    Ok((text, outcome.action.is_success()))
}

fn printed(arguments: &Arguments, report: &Report, outcome: Option<&Outcome>) -> String {
    match arguments.format {
        Format::Text => report.text(arguments.all),
        Format::Json => report.json(outcome),
    }
}

/// The cluster that is meant.
fn backend(arguments: &Arguments) -> Result<Backend, MigrateError> {
    let context = arguments.context.clone();
    let of_file = |file: PathBuf| Ok(Backend::Kubeconfig { file, context });
    if let Some(file) = &arguments.kubeconfig {
        return of_file(file.clone());
    }
    if let Some(files) = std::env::var_os("KUBECONFIG").filter(|files| !files.is_empty()) {
        let mut files = std::env::split_paths(&files).filter(|file| !file.as_os_str().is_empty());
        return match (files.next(), files.next()) {
            (Some(file), None) => of_file(file),
            _ => Err(MigrateError::SeveralFiles),
        };
    }
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        return Ok(Backend::InCluster);
    }
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
    home.filter(|file| file.exists())
        .map_or(Err(MigrateError::NoCluster), of_file)
}

/// The changes of a container, and its name.
type Planned = (Changes, String);

/// The report on objects, and the changes that put the image in.
fn report(
    arguments: &Arguments,
    objects: &Objects,
    target: &Target,
    origin: String,
) -> Result<(Report, Option<Planned>), MigrateError> {
    let deployment = objects.deployment(target)?;
    let mut report = Report {
        origin,
        deployment: None,
        corefile: None,
        findings: Vec::new(),
        managers: Vec::new(),
        commands: None,
        is_refused: false,
    };
    for unread in &objects.unread {
        report.findings.push(Finding::skipped(
            "objects",
            "",
            format!("not read: {unread}"),
        ));
    }
    let Some(deployment) = deployment else {
        report.corefile = ReadCorefile::of_map(objects, &target.namespace);
        let corefile = report.corefile.as_ref();
        let corefile = corefile.ok_or_else(|| ObjectsError::Nothing(report.origin.clone()))?;
        report.is_refused = corefile.is_refused();
        let why = "no Deployment is given: the Corefile alone is checked";
        report
            .findings
            .push(Finding::skipped("deployment", "", why));
        return Ok((report, None));
    };
    let name = text(deployment, "/metadata/name").to_owned();
    let Some(pod) = Pod::of(deployment, arguments.container.as_deref()) else {
        if let Some(container) = &arguments.container {
            let detail = format!("it has no container {container}");
            let names = objects::array(deployment, "/spec/template/spec/containers");
            let names: Vec<&str> = names.map(|it| text(it, "/name")).collect();
            let remedy = format!("Name one of: {}", names.join(", "));
            let finding = Finding::fail("deployment", &name, detail, remedy);
            report.findings.push(finding);
            report.is_refused = true;
            return Ok((report, None));
        }
        let detail = "no container of it runs a server with a Corefile";
        let remedy = "kube-dns of GKE and others are not replaced by a change of image: run Lodestone beside it \
                      (deploy/README.md). Otherwise name the container: --container";
        report
            .findings
            .push(Finding::fail("deployment", &name, detail, remedy));
        report.managers = managers::managers(Some(deployment), objects, "");
        report.is_refused = true;
        return Ok((report, None));
    };
    let command = pod.command_line();
    let corefile = match ReadCorefile::of_pod(&pod, &command, objects) {
        Ok(corefile) => Some(corefile),
        Err(finding) => {
            report.findings.push(finding);
            None
        }
    };
    let deployment::Checked {
        findings,
        mut changes,
    } = deployment::check(&pod, &command, corefile.as_ref(), objects);
    report.findings.extend(findings);
    let written = corefile
        .iter()
        .flat_map(|corefile| corefile.diagnostics.sources.texts());
    let written: String = written.collect();
    report.managers = managers::managers(Some(deployment), objects, &written);
    let image = arguments.image.as_deref().unwrap_or(ANY_IMAGE);
    changes.container(&pod, &["image"], image.into());
    let saved = SavedState::of(deployment)
        .ok()
        .flatten()
        .filter(|state| state.is_of(deployment));
    report.commands = Some(commands(
        arguments,
        deployment,
        &changes,
        image,
        saved.as_ref(),
    ));
    report.deployment = Some(DeploymentName {
        namespace: target.namespace.clone(),
        name,
        container: pod.name().to_owned(),
        image: pod.image().to_owned(),
        saved_image: saved.map(|state| state.image_before().to_owned()),
    });
    let fails = |finding: &Finding| finding.status == super::doctor::report::Status::Fail;
    report.is_refused =
        corefile.as_ref().is_none_or(ReadCorefile::is_refused) || report.findings.iter().any(fails);
    report.corefile = corefile;
    Ok((report, Some((changes, pod.name().to_owned()))))
}

/// The commands that put the image in and go back.
fn commands(
    arguments: &Arguments,
    deployment: &Value,
    changes: &Changes,
    image: &str,
    saved: Option<&SavedState>,
) -> Commands {
    let (namespace, name) = (&arguments.namespace, text(deployment, "/metadata/name"));
    let wait = status_command(namespace, name, arguments.timeout.as_secs());
    if label(deployment, "/metadata/labels", "helm.sh/chart").starts_with("rke2-coredns-") {
        return rke2_commands(image);
    }
    if let Some(release) = Some(label(
        deployment,
        "/metadata/annotations",
        "meta.helm.sh/release-name",
    )) && !release.is_empty()
    {
        return helm_commands(namespace, release, deployment, image, wait);
    }
    let back = changes.saved(image, saved);
    let go_in = if changes.is_empty() {
        vec!["# nothing to do: the Deployment has this image, and all changes".to_owned()]
    } else {
        vec![
            patch_command(namespace, name, &changes.patch()),
            wait.clone(),
        ]
    };
    let mut go_back = vec![patch_command(namespace, name, &back.whole_patch()), wait];
    let mut note = "The patches are strategic merge patches: in a kustomization, they go under patches as they are."
        .to_owned();
    if deployment
        .pointer("/spec/revisionHistoryLimit")
        .and_then(Value::as_u64)
        == Some(0)
    {
        note.push_str(" revisionHistoryLimit is 0: kubectl rollout undo does not work here.");
    }
    if saved.is_some() {
        go_back.insert(0, "# or: lodestone migrate --undo".to_owned());
    }
    Commands {
        go_in,
        go_back,
        note,
    }
}

/// Repository and tag of an image.
fn repository_and_tag(image: &str) -> (&str, &str) {
    match image.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (image, "latest"),
    }
}

/// With RKE2, whose Helm controller would set the image again: its own way to change a chart's values.
fn rke2_commands(image: &str) -> Commands {
    let (repository, tag) = repository_and_tag(image);
    let text = format!(
        "kubectl apply -f - <<'EOF'\napiVersion: helm.cattle.io/v1\nkind: HelmChartConfig\nmetadata:\n  name: rke2-coredns\n  \
         namespace: kube-system\nspec:\n  valuesContent: |-\n    image:\n      repository: {repository}\n      tag: {tag}\n    \
         readinessProbe:\n      periodSeconds: 1\n      failureThreshold: 1\nEOF"
    );
    Commands {
        go_in: text.lines().map(str::to_owned).collect(),
        go_back: vec!["kubectl -n kube-system delete helmchartconfig rke2-coredns".to_owned()],
        note: "If there is a HelmChartConfig rke2-coredns already, change its valuesContent instead, and back.".to_owned(),
    }
}

/// With Helm, whose next upgrade would set the image again.
fn helm_commands(
    namespace: &str,
    release: &str,
    deployment: &Value,
    image: &str,
    wait: String,
) -> Commands {
    let (repository, tag) = repository_and_tag(image);
    let chart = label(deployment, "/metadata/labels", "helm.sh/chart");
    let (chart, version) = match chart.rsplit_once('-') {
        Some((chart, version)) => (chart, format!(" --version {version}")),
        None => ("coredns", String::new()),
    };
    let upgrade = format!(
        "helm -n {namespace} upgrade {release} REPOSITORY/{chart}{version} --reuse-values --set \
         image.repository={repository} --set image.tag={tag} --set readinessProbe.periodSeconds=1 --set \
         readinessProbe.failureThreshold=1"
    );
    Commands {
        go_in: vec![format!("helm -n {namespace} history {release}    # note the revision"), upgrade, wait.clone()],
        go_back: vec![format!("helm -n {namespace} rollback {release} REVISION"), wait],
        note: "REPOSITORY is where the chart comes from (helm repo list). The values are those of the coredns chart."
            .to_owned(),
    }
}
