//! The properties of `kubernetes`.

use std::time::Duration;

use super::{Config, labels, removed};
use crate::{
    cluster::{Backend, ClientTls, Settings, SnapshotSettings},
    corefile::{
        self, Arguments, Diagnostic, Directive, ErrorList, Property, Word, ZoneName,
        unknown_property,
    },
    plugin::{ParseErrors, Parsing},
    wire::Name,
    zone::{AnswerRules, Hints, PodNames, Zones},
};

const PROPERTIES: [&str; 22] = [
    "apiserver_burst",
    "apiserver_max_inflight",
    "apiserver_qps",
    "audit",
    "endpoint",
    "endpoint_pod_names",
    "fallthrough",
    "hints",
    "ignore",
    "kubeconfig",
    "labels",
    "manifests",
    "multicluster",
    "namespace_labels",
    "namespaces",
    "noendpoints",
    "pods",
    "snapshot",
    "startup_timeout",
    "tls",
    "ttl",
    "zonal",
];

/// Default of `startup_timeout`.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum of `ttl`, in seconds.
const MAX_TTL: u32 = 3600;

/// Parses the directive. Default zones: those of the block's keys.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let directive = uses[0];
    let mut errors = ErrorList::default();
    let listed = zones(directive, parsing.zones);
    let mut options = ParsedProperties::default();
    for line in directive.properties() {
        let read = options.read(line, parsing.warnings);
        errors.catch(read.map_err(|error| removed::refuse(line, &directive.arguments, error)));
    }
    let backend = errors.catch(options.backend(parsing.warnings));
    let zones = listed.and_then(|listed| {
        let imports = options.imports(&listed, parsing.zones)?;
        Ok(Zones::with_imports(&listed, &imports))
    });
    let (Some(zones), Some(backend)) = (errors.catch(zones).flatten(), backend) else {
        return Err(errors.into());
    };
    // Objects of manifests are those of one person's laptop, or public.
    let hints = options.hints.unwrap_or(match backend {
        Backend::Manifests { .. } => Hints::Full,
        _ => Hints::Namespace,
    });
    let mut config = errors.into_result(Config {
        source: Settings {
            backend,
            ..options.source
        },
        zones,
        rules: AnswerRules {
            namespaces: options.namespaces.into(),
            hints,
            ..options.rules
        },
        fallthrough: options.fallthrough.into(),
        startup_timeout: options.startup_timeout.unwrap_or(STARTUP_TIMEOUT),
    })?;
    let source = &mut config.source;
    source.pod_labels = labels::read(parsing.directives, source.pods, parsing.warnings);
    Ok(config)
}

/// The interval of audits, each of which lists all names.
fn at_least_a_minute(word: &Word) -> Result<Duration, Diagnostic> {
    let interval = word.duration()?;
    if interval >= Duration::from_mins(1) {
        return Ok(interval);
    }
    Err(word
        .error("an audit lists all names, and is done at most once a minute")
        .expected("an interval of 1m or more, or off"))
}

/// The interval of snapshots, which are written as a whole.
fn at_least_a_second(word: &Word) -> Result<Duration, Diagnostic> {
    let interval = word.duration()?;
    if interval >= Duration::from_secs(1) {
        return Ok(interval);
    }
    Err(word
        .error("a snapshot is written at most once a second")
        .expected("an interval of 1s or more"))
}

/// The properties parsed so far.
struct ParsedProperties {
    /// All settings but the backend, which several properties determine together.
    source: Settings,
    rules: AnswerRules,
    hints: Option<Hints>,
    fallthrough: Vec<Name>,
    startup_timeout: Option<Duration>,
    namespaces: Vec<Box<str>>,
    namespaces_at: Option<Word>,
    namespace_labels_at: Option<Word>,
    multicluster: Vec<(Word, Vec<Word>)>,
    noendpoints_at: Option<Word>,
    zonal_at: Option<Word>,
    endpoint: Option<Word>,
    tls: Option<(Word, ClientTls)>,
    kubeconfig: Option<(Word, Backend)>,
    manifests: Option<(Word, Backend)>,
}

impl Default for ParsedProperties {
    fn default() -> Self {
        Self {
            source: Settings::new(Backend::InCluster),
            rules: AnswerRules::default(),
            hints: None,
            fallthrough: Vec::new(),
            startup_timeout: None,
            namespaces: Vec::new(),
            namespaces_at: None,
            namespace_labels_at: None,
            multicluster: Vec::new(),
            noendpoints_at: None,
            zonal_at: None,
            endpoint: None,
            tls: None,
            kubeconfig: None,
            manifests: None,
        }
    }
}

impl ParsedProperties {
    fn read(&mut self, line: &Property, warnings: &mut Vec<Diagnostic>) -> Result<(), Diagnostic> {
        let name = line.name();
        let mut arguments = line.arguments();
        match name.as_str() {
            "endpoint" | "tls" | "kubeconfig" | "manifests" => {
                return self.read_backend(name, arguments, warnings);
            }
            "apiserver_qps" | "apiserver_burst" | "apiserver_max_inflight" => {
                return self.read_limit(name, arguments);
            }
            "namespaces" | "namespace_labels" | "labels" => {
                return self.read_filter(name, arguments);
            }
            "pods" => {
                let mode = arguments.required("disabled, insecure or verified")?;
                self.rules.pods = mode.one_of(&[
                    ("disabled", PodNames::Disabled),
                    ("insecure", PodNames::Insecure),
                    ("verified", PodNames::Verified),
                ])?;
                self.source.pods = self.rules.pods == PodNames::Verified;
            }
            "hints" => {
                let scope = arguments.required("full, namespace or none")?;
                self.hints = Some(scope.one_of(&[
                    ("full", Hints::Full),
                    ("namespace", Hints::Namespace),
                    ("none", Hints::None),
                ])?);
            }
            "ttl" => {
                let seconds = arguments.required("seconds")?;
                self.rules.ttl = seconds.integer(0..=MAX_TTL)?;
            }
            "zonal" => {
                self.rules.zonal = true;
                self.zonal_at = Some(name.clone());
                exclusive(self.noendpoints_at.as_ref(), Some(name))?;
            }
            "endpoint_pod_names" => {
                self.rules.endpoint_pod_names = true;
                self.source.pod_names = true;
            }
            "noendpoints" => {
                self.source.slices = false;
                self.noendpoints_at = Some(name.clone());
                exclusive(self.zonal_at.as_ref(), Some(name))?;
            }
            "ignore" => {
                let what = arguments.required("empty_service")?;
                what.one_of(&[("empty_service", ())])?;
                self.rules.ignore_empty_service = true;
            }
            "fallthrough" => {
                let zones = match arguments.rest() {
                    [] => vec![Name::ROOT],
                    words => names(corefile::zones(words)?.iter().map(ZoneName::as_str), name)?,
                };
                self.fallthrough.extend(zones);
            }
            "audit" => {
                let interval = arguments.required("an interval such as 10m, or off")?;
                self.source.audit = if interval == "off" {
                    None
                } else {
                    Some(at_least_a_minute(interval)?)
                };
            }
            "snapshot" => {
                let directory = arguments.required("a directory")?.path();
                let mut snapshot = SnapshotSettings::new(directory);
                if let Some(interval) = arguments.next() {
                    snapshot.interval = at_least_a_second(interval)?;
                }
                if let Some(max_age) = arguments.next() {
                    snapshot.max_age = max_age.duration()?;
                }
                if let Some(word) = arguments.next() {
                    snapshot.denies = word.one_of(&[("deny", true)])?;
                }
                self.source.snapshot = Some(snapshot);
            }
            "startup_timeout" => {
                let duration = arguments.required("a duration such as 5s")?;
                self.startup_timeout = Some(duration.duration()?);
            }
            "multicluster" => {
                self.source.imports = true;
                self.multicluster
                    .push((name.clone(), arguments.rest().to_vec()));
            }
            _ => return Err(unknown_property(name, &PROPERTIES)),
        }
        arguments.none_left()
    }

    fn read_backend(
        &mut self,
        name: &Word,
        mut arguments: Arguments<'_>,
        warnings: &mut Vec<Diagnostic>,
    ) -> Result<(), Diagnostic> {
        match name.as_str() {
            "endpoint" => {
                self.endpoint = Some(arguments.required("a URL")?.clone());
                if let Some(further) = arguments.rest().first() {
                    let message = "only the first endpoint is used";
                    warnings.push(further.warning(message).label("not used"));
                }
            }
            "tls" => {
                let [certificate, key, authority] = arguments.exactly("CERT KEY CA")?;
                let tls = ClientTls {
                    certificate: certificate.path(),
                    key: key.path(),
                    authority: authority.path(),
                };
                self.tls = Some((name.clone(), tls));
            }
            "kubeconfig" => {
                let backend = Backend::Kubeconfig {
                    file: arguments.required("a file")?.path(),
                    context: arguments.next().map(|word| word.as_str().to_owned()),
                };
                self.kubeconfig = Some((name.clone(), backend));
            }
            _ => {
                let backend = Backend::Manifests {
                    directory: arguments.required("a directory")?.path(),
                };
                self.manifests = Some((name.clone(), backend));
            }
        }
        arguments.none_left()
    }

    fn read_limit(&mut self, name: &Word, mut arguments: Arguments<'_>) -> Result<(), Diagnostic> {
        let number = arguments.required("a number")?;
        let limits = &mut self.source.limits;
        match name.as_str() {
            "apiserver_qps" => limits.per_thousand_seconds = per_thousand(number)?,
            "apiserver_burst" => limits.burst = number.integer(0..=u32::MAX)?,
            _ => limits.in_flight = number.integer(0..=u32::MAX)?,
        }
        arguments.none_left()
    }

    fn read_filter(&mut self, name: &Word, mut arguments: Arguments<'_>) -> Result<(), Diagnostic> {
        if name == "namespaces" {
            let words = arguments.at_least_one("names of namespaces")?;
            self.namespaces
                .extend(words.iter().map(|word| Box::from(word.as_str())));
            self.namespaces_at = Some(name.clone());
        } else {
            let words = arguments.at_least_one("a label selector")?;
            let text: Vec<_> = words.iter().map(Word::as_str).collect();
            let selector = text.join(" ").parse().map_err(|error| {
                let place = words[0].span.to(words[words.len() - 1].span);
                let diagnostic = Diagnostic::error(format!("{error}")).at(place);
                diagnostic.expected("a label selector such as app=web,tier in (a, b)")
            })?;
            if name == "labels" {
                self.source.labels = selector;
            } else {
                self.source.namespace_labels = selector;
                self.namespace_labels_at = Some(name.clone());
            }
        }
        exclusive(
            self.namespaces_at.as_ref(),
            self.namespace_labels_at.as_ref(),
        )
    }

    /// The zones of `multicluster`, which must be among the `listed` ones.
    fn imports(&self, listed: &[Name], block: &[String]) -> Result<Vec<Name>, Diagnostic> {
        let mut imports = Vec::new();
        for (at, words) in &self.multicluster {
            let named = match words.as_slice() {
                [] => names(block.iter().map(String::as_str), at)?,
                words => names(corefile::zones(words)?.iter().map(ZoneName::as_str), at)?,
            };
            let is_listed = |name: &Name| listed.iter().any(|it| it.to_lower() == name.to_lower());
            if let Some(other) = named.iter().find(|name| !is_listed(name)) {
                let message = format!("'{other}' is none of the zones of this plugin");
                let at = words.first().unwrap_or(at);
                return Err(at.error(message).help("list it after 'kubernetes' as well"));
            }
            imports.extend(named);
        }
        Ok(imports)
    }

    /// The source of objects, from all properties that determine it.
    fn backend(&mut self, warnings: &mut Vec<Diagnostic>) -> Result<Backend, Diagnostic> {
        if let Some((at, backend)) = self.manifests.take() {
            exclusive(self.endpoint.as_ref(), Some(&at))?;
            exclusive(self.kubeconfig.as_ref().map(|(at, _)| at), Some(&at))?;
            exclusive(self.tls.as_ref().map(|(at, _)| at), Some(&at))?;
            return Ok(backend);
        }
        if let Some((at, backend)) = self.kubeconfig.take() {
            let unused = [self.endpoint.as_ref(), self.tls.as_ref().map(|(at, _)| at)];
            warnings.extend(unused.into_iter().flatten().map(|word| {
                let warning = word.warning("'kubeconfig' determines the API server");
                warning.label("not used").also(at.span, "used instead")
            }));
            return Ok(backend);
        }
        let tls = self.tls.take();
        let Some(endpoint) = &self.endpoint else {
            if let Some((at, _)) = tls {
                let warning = at.warning("'tls' is for an 'endpoint', and there is none");
                warnings.push(warning.label("not used"));
            }
            return Ok(Backend::InCluster);
        };
        // As in CoreDNS, a host without scheme uses TLS if certificates are configured.
        let scheme = match (endpoint.contains("://"), &tls) {
            (true, _) => "",
            (false, Some(_)) => "https://",
            (false, None) => "http://",
        };
        Ok(Backend::Endpoint {
            url: format!("{scheme}{endpoint}"),
            tls: tls.map(|(_, tls)| tls),
        })
    }
}

/// The zones, at least one of which must not be a reverse zone.
fn zones(directive: &Directive, block: &[String]) -> Result<Vec<Name>, Diagnostic> {
    let listed = corefile::zones(&directive.arguments)?;
    let names = if directive.arguments.is_empty() {
        names(block.iter().map(String::as_str), &directive.name)?
    } else {
        names(listed.iter().map(ZoneName::as_str), &directive.name)?
    };
    let is_enough = Zones::new(&names).is_some();
    is_enough.then_some(names).ok_or_else(|| {
        let at = directive.arguments.first().unwrap_or(&directive.name);
        at.error("non-reverse zone name must be used")
            .expected("a zone such as cluster.local, besides reverse zones")
            .help("Services are named in the first zone that is not a reverse zone")
    })
}

fn names<'z>(zones: impl Iterator<Item = &'z str>, at: &Word) -> Result<Vec<Name>, Diagnostic> {
    let parse =
        |zone| Name::parse(zone).map_err(|error| at.error(format!("'{zone}' is no zone: {error}")));
    zones.map(parse).collect()
}

/// Rejects mutually exclusive properties.
fn exclusive(one: Option<&Word>, other: Option<&Word>) -> Result<(), Diagnostic> {
    let (Some(one), Some(other)) = (one, other) else {
        return Ok(());
    };
    let message = format!("'{one}' and '{other}' cannot both be set");
    Err(other.error(message).also(one.span, "set here"))
}

/// Converts a rate per second to one per 1,000 seconds.
fn per_thousand(rate: &Word) -> Result<u64, Diagnostic> {
    let rate = rate.float(0.0..=1e9)?;
    // At most 1e12 and not negative; rounded up.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let thousandfold = (rate * 1000.0).ceil() as u64;
    Ok(thousandfold)
}
