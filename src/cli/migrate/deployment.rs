//! Checks of the Deployment and of what belongs to it, and the changes that it needs.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    change::Changes,
    corefile::{ReadCorefile, port_named},
    objects::{Objects, array, label, text},
    pod::{CommandLine, Pod},
};
use crate::{
    admin::health::Drain,
    cli::doctor::{memory, report::Finding},
    config::Config,
    corefile::Transport,
    http_page::Page,
    memory::Memory,
    process::MemoryPlan,
    server::limits::Limits,
};

/// The program in the image.
const PROGRAM: &str = "/lodestone";

/// How long the process may take after SIGTERM beyond what the Corefile says: pending queries, and the plugins' output.
const AFTER_DRAIN: Duration = Duration::from_secs(7);

/// How soon a readiness probe should find that a pod ends.
const SOON: u64 = 2;

/// Findings and changes.
pub struct Checked {
    /// In the order of the report.
    pub findings: Vec<Finding>,
    /// Without the image.
    pub changes: Changes,
}

/// What the checks are about.
struct Check<'a> {
    pod: &'a Pod<'a>,
    command: &'a CommandLine,
    config: Option<&'a Config>,
    corefile: Option<&'a ReadCorefile>,
    objects: &'a Objects,
    findings: Vec<Finding>,
    changes: Changes,
}

/// Checks the Deployment.
pub fn check(
    pod: &Pod<'_>,
    command: &CommandLine,
    corefile: Option<&ReadCorefile>,
    objects: &Objects,
) -> Checked {
    let mut check = Check {
        pod,
        command,
        config: corefile.and_then(|corefile| corefile.config.as_ref()),
        corefile,
        objects,
        findings: Vec::new(),
        changes: Changes::new(pod.name()),
    };
    check.command_line();
    check.ports();
    check.liveness();
    check.readiness();
    check.grace();
    check.security();
    check.resources();
    check.volumes();
    check.dns_policy();
    check.rollout();
    check.budgets();
    check.node_local();
    let Check {
        findings, changes, ..
    } = check;
    Checked { findings, changes }
}

impl Check<'_> {
    fn ok(&mut self, check: &'static str, detail: impl Into<String>) {
        self.findings.push(Finding::ok(check, "", detail));
    }

    fn warn(&mut self, check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Finding::warn(check, "", detail, remedy));
    }

    fn fail(&mut self, check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Finding::fail(check, "", detail, remedy));
    }

    fn command_line(&mut self) {
        let name = "command";
        let shown = self.command.arguments.join(" ");
        if let Some(error) = &self.command.error {
            let remedy =
                "Remove the argument from the Deployment first; lodestone --help lists the flags";
            self.fail(name, format!("{shown}: {error}"), remedy);
            return;
        }
        match &self.command.program {
            None => self.ok(name, format!("{shown}: accepted as it is")),
            Some(program) if program == PROGRAM => {
                self.ok(name, format!("{program} {shown}: accepted as it is"));
            }
            Some(program) => {
                let mut command = vec![PROGRAM.to_owned()];
                let words = array(self.pod.container, "/command").skip(1);
                command.extend(words.filter_map(Value::as_str).map(str::to_owned));
                self.changes
                    .container(self.pod, &["command"], json!(command));
                let detail = format!("{program}, which is not in the image");
                self.warn(
                    name,
                    detail,
                    format!("The change below sets the program to {PROGRAM}"),
                );
            }
        }
    }

    /// Why what needs the configuration is not checked.
    fn why_no_config(&self) -> &'static str {
        match self.corefile {
            Some(_) => "the Corefile is refused",
            None => "the Corefile cannot be read",
        }
    }

    /// The ports that the server listens on, against those of the container and of the Service.
    fn ports(&mut self) {
        let name = "ports";
        if self.config.is_none() {
            let skipped = Finding::skipped(name, "", self.why_no_config());
            self.findings.push(skipped);
            return;
        }
        let listening = self.listening();
        let listed: Vec<String> = listening.iter().map(ToString::to_string).collect();
        let listed = listed.join(", ");
        let mut services: Vec<&Value> = self.objects.of_kind("Service").collect();
        services.retain(|service| self.pod.is_selected(service.pointer("/spec/selector")));
        if services.is_empty() {
            let detail = format!(
                "DNS on {listed}, as with CoreDNS; no Service that selects the pods is given"
            );
            self.ok(name, detail);
        }
        for service in services {
            let subject = format!("Service {}", text(service, "/metadata/name"));
            let mut dead = Vec::new();
            let mut count = 0;
            for port in array(service, "/spec/ports") {
                if port.get("port").and_then(Value::as_u64) != Some(53) {
                    continue;
                }
                let target = match port.get("targetPort") {
                    Some(Value::String(named)) => port_named(self.pod, named),
                    Some(number) => number.as_u64(),
                    None => Some(53),
                };
                count += 1;
                let is_served =
                    target.is_some_and(|it| listening.iter().any(|own| u64::from(*own) == it));
                if !is_served {
                    let shown =
                        target.map_or_else(|| "a name of no port".to_owned(), |it| it.to_string());
                    dead.push(format!("{} -> {shown}", text(port, "/protocol")));
                }
            }
            self.findings.push(if dead.is_empty() {
                let detail =
                    format!("{count} ports lead to {listed}, where the server listens; unchanged");
                Finding::ok(name, subject, detail)
            } else {
                let detail = format!(
                    "{} leads to no server block, which listen on {listed}",
                    dead.join(", ")
                );
                Finding::warn(
                    name,
                    subject,
                    detail,
                    "It is so with CoreDNS too: check targetPort and the Corefile",
                )
            });
        }
    }

    /// Ports of the server blocks for plain DNS, sorted.
    fn listening(&self) -> Vec<u16> {
        let blocks = self.config.into_iter().flat_map(|config| &config.blocks);
        let keys = blocks.flat_map(|block| &block.keys);
        let keys = keys.filter(|key| key.transport == Transport::Dns);
        let mut ports: Vec<u16> = keys.map(|key| key.port_or(self.command.port)).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// Ports of the pages of a kind.
    fn pages(&self, page: Page) -> Vec<u16> {
        let blocks = self.config.into_iter().flat_map(|config| &config.blocks);
        let pages = blocks.flat_map(crate::config::ServerBlock::pages);
        pages
            .filter(|it| it.page == page)
            .map(|it| it.listen.port)
            .collect()
    }

    fn probe_port(&self, probe: &Value) -> Option<u64> {
        match probe.pointer("/httpGet/port")? {
            Value::String(named) => port_named(self.pod, named).or_else(|| named.parse().ok()),
            number => number.as_u64(),
        }
    }

    fn liveness(&mut self) {
        let name = "livenessProbe";
        let Some(probe) = self.pod.container.get(name) else {
            let remedy = "Add one of /health at port 8080, as in deploy/base/deployment.yaml, with health in the Corefile";
            return self.warn(name, "there is none", remedy);
        };
        self.page(name, probe, Page::Health);
    }

    /// Whether the page of an HTTP probe is served. Returns whether it is one.
    fn page(&mut self, name: &'static str, probe: &Value, page: Page) -> bool {
        let path = text(probe, "/httpGet/path");
        let Some(port) = self.probe_port(probe) else {
            self.ok(
                name,
                "not an HTTP request to a page of the server: it stays as it is",
            );
            return false;
        };
        let all = [(Page::Health, "/health"), (Page::Ready, "/ready")];
        let asked = all
            .iter()
            .find(|(_, known)| *known == path)
            .map_or(page, |(page, _)| *page);
        let served = self.pages(asked);
        if self.config.is_none() || served.iter().any(|own| u64::from(*own) == port) {
            self.ok(name, format!("{path} at port {port}, as with CoreDNS"));
            return true;
        }
        let detail = format!(
            "{path} at port {port} is not served: no {} with this port in the Corefile",
            asked.plugin()
        );
        self.warn(
            name,
            detail,
            "It is so with CoreDNS too: the probe fails, or should ask another page",
        );
        false
    }

    fn drain(&self) -> Drain {
        let blocks = self.config.into_iter().flat_map(|config| &config.blocks);
        Drain::of(blocks.filter_map(|block| block.settings.health.as_ref()))
    }

    /// The readiness probe decides how long nodes send queries to a pod that ends: docs/reliability.md, Draining.
    fn readiness(&mut self) {
        let name = "readinessProbe";
        let lameduck = self.drain().lameduck.as_secs();
        let Some(probe) = self.pod.container.get(name) else {
            let ready = self.pages(Page::Ready);
            let Some(port) = ready.first() else {
                let remedy = "Add ready to the Corefile, and a readinessProbe as in deploy/base/deployment.yaml: without, \
                              pods get queries before they know the cluster";
                return self.warn(name, "there is none, and no ready in the Corefile", remedy);
            };
            let probe = json!({
                "httpGet": {"path": "/ready", "port": port, "scheme": "HTTP"},
                "periodSeconds": 1, "failureThreshold": 1,
            });
            self.changes.container(self.pod, &["readinessProbe"], probe);
            let detail = "there is none: pods get queries before they know the cluster";
            return self.warn(name, detail, "The change below adds one");
        };
        self.page(name, probe, Page::Ready);
        let number = |key: &str, default| probe.get(key).and_then(Value::as_u64).unwrap_or(default);
        let (period, failures) = (number("periodSeconds", 10), number("failureThreshold", 3));
        if period * failures <= SOON {
            return self.ok(
                name,
                format!("every {period} s, {failures} failures: nodes stop sending in time"),
            );
        }
        self.changes
            .container(self.pod, &["readinessProbe", "periodSeconds"], 1.into());
        self.changes
            .container(self.pod, &["readinessProbe", "failureThreshold"], 1.into());
        let detail = format!(
            "every {period} s, {failures} failures: a rollout loses queries, because nodes go on sending to a pod that \
             ends for up to {} s, and lameduck is {lameduck} s (docs/reliability.md#draining)",
            period * failures
        );
        self.warn(
            name,
            detail,
            "The change below sets periodSeconds: 1 and failureThreshold: 1",
        );
    }

    fn grace(&mut self) {
        let name = "terminationGracePeriodSeconds";
        let grace = self
            .pod
            .spec
            .get(name)
            .and_then(Value::as_u64)
            .unwrap_or(30);
        let drain = self.drain();
        let longest = drain
            .quiet
            .map_or(drain.lameduck, |quiet| quiet.limit.max(drain.lameduck));
        let needed = (longest + AFTER_DRAIN).as_secs();
        if self.config.is_some() && drain.lameduck.is_zero() {
            let remedy = "Add health { lameduck 5s } to the Corefile: without, a pod stops at once and queries on their \
                          way to it are lost";
            self.warn(
                name,
                format!("{grace} s, but the Corefile has no lameduck"),
                remedy,
            );
        } else if grace < needed {
            let detail =
                format!("{grace} s, and the server may answer for {needed} s after SIGTERM");
            self.warn(
                name,
                detail,
                format!("Set it to {needed} or more, or lower quiet in health"),
            );
        } else {
            self.ok(name, format!("{grace} s"));
        }
    }

    fn security(&mut self) {
        let name = "securityContext";
        let context = self.pod.container.get(name).unwrap_or(&Value::Null);
        let has = |pointer: &str, wanted: &[&str]| {
            array(context, pointer)
                .filter_map(Value::as_str)
                .any(|it| wanted.contains(&&*it.to_ascii_uppercase().replace("CAP_", "")))
        };
        let added = has("/capabilities/add", &["NET_BIND_SERVICE", "ALL"]);
        let dropped = has("/capabilities/drop", &["NET_BIND_SERVICE", "ALL"]);
        let mut sysctls = array(self.pod.spec, "/securityContext/sysctls");
        let sysctl = sysctls
            .find(|it| text(it, "/name") == "net.ipv4.ip_unprivileged_port_start")
            .and_then(|it| text(it, "/value").parse::<u16>().ok());
        // The first port that needs no privilege.
        let first = sysctl.unwrap_or(1024);
        let lowest = self.listening().first().copied();
        if added || context.get("privileged") == Some(&Value::Bool(true)) {
            self.ok(
                name,
                "NET_BIND_SERVICE: may listen on port 53 without being root",
            );
        } else if !dropped {
            let detail =
                "NET_BIND_SERVICE is one of the runtime's usual capabilities, and is not dropped";
            self.ok(name, detail);
        } else if lowest.is_some_and(|lowest| lowest >= first) {
            self.ok(
                name,
                format!(
                    "ports from {first} on need no capability, and the server listens on no other"
                ),
            );
        } else {
            let mut add: Vec<Value> = array(context, "/capabilities/add").cloned().collect();
            add.push("NET_BIND_SERVICE".into());
            let path = &["securityContext", "capabilities", "add"];
            self.changes.container(self.pod, path, json!(add));
            let detail =
                "NET_BIND_SERVICE is dropped: the server may not be able to listen on port 53";
            self.warn(name, detail, "The change below adds the capability");
        }
        let user = context
            .get("runAsUser")
            .or_else(|| self.pod.spec.pointer("/securityContext/runAsUser"));
        if user.and_then(Value::as_u64) == Some(0) {
            let remedy =
                "Not needed: the image runs as 65532. Remove runAsUser where nothing else needs it";
            self.warn("runAsUser", "0: the server runs as root", remedy);
        }
    }

    fn resources(&mut self) {
        let name = "resources";
        let limit = self
            .pod
            .container
            .pointer("/resources/limits/memory")
            .and_then(Value::as_str);
        let Some(limit) = limit else {
            let remedy = "Set limits.memory, such as 170Mi: caches and pending queries are then fitted to it";
            return self.warn(name, "no memory limit", remedy);
        };
        let Some(bytes) = quantity(limit) else {
            return self.warn(
                name,
                format!("memory limit {limit}: not a quantity"),
                "Correct it",
            );
        };
        let variable = self
            .pod
            .variable("GOMEMLIMIT")
            .and_then(crate::memory::go_limit);
        let memory = Memory::Limited(variable.map_or(bytes, |variable| variable.min(bytes)));
        let Some(config) = self.config else {
            let skipped = Finding::skipped(name, "", self.why_no_config());
            self.findings.push(skipped);
            return;
        };
        let mut finding = memory::verdict(&MemoryPlan::of(config, &Limits::within(memory), memory));
        finding.check = name;
        finding.subject = format!("memory {limit}");
        self.findings.push(finding);
    }

    fn volumes(&mut self) {
        let mounts = array(self.pod.container, "/volumeMounts").map(|it| text(it, "/mountPath"));
        let mounts: Vec<&str> = mounts.collect();
        self.ok("volumes", format!("{}: unchanged", mounts.join(", ")));
    }

    fn dns_policy(&mut self) {
        let name = "dnsPolicy";
        let policy = match text(self.pod.spec, "/dnsPolicy") {
            "" => "ClusterFirst",
            policy => policy,
        };
        // ClusterFirst with the node's network is Default.
        let is_own = policy == "ClusterFirst" && !self.pod.is_host_network()
            || policy == "ClusterFirstWithHostNet";
        let reads_file = self
            .corefile
            .is_some_and(|it| it.has_word("/etc/resolv.conf"));
        if !is_own {
            self.ok(name, format!("{policy}: upstreams are the node's"));
        } else if reads_file {
            let detail = format!(
                "{policy}: /etc/resolv.conf of the pod names the cluster's DNS, which is this server"
            );
            self.warn(name, detail, "Set dnsPolicy: Default. It is so with CoreDNS too, whose loop plugin would stop it");
        } else {
            self.ok(
                name,
                format!("{policy}: the Corefile does not read /etc/resolv.conf"),
            );
        }
    }

    /// Replicas and strategy: whether old pods answer until new ones are ready.
    fn rollout(&mut self) {
        let (name, spec) = ("rollout", "/spec");
        let spec = self.pod.deployment.pointer(spec).unwrap_or(&Value::Null);
        let replicas = spec.get("replicas").and_then(Value::as_u64).unwrap_or(1);
        match replicas {
            0 => self.warn(
                "replicas",
                "0: no pod shows whether the new image works",
                "Scale it up first",
            ),
            1 => self.warn(
                "replicas",
                "1: while the node is down, no name is answered",
                "Run two, on two nodes",
            ),
            _ => self.ok("replicas", replicas.to_string()),
        }
        if spec.get("paused") == Some(&Value::Bool(true)) {
            let remedy = format!(
                "kubectl rollout resume deployment/{}",
                text(self.pod.deployment, "/metadata/name")
            );
            return self.fail(name, "the Deployment is paused", remedy);
        }
        if text(spec, "/strategy/type") == "Recreate" {
            let remedy = "Set strategy.type: RollingUpdate: with Recreate, all pods end before the first new one starts";
            return self.fail(
                name,
                "strategy Recreate: a rollout leaves no pod that answers",
                remedy,
            );
        }
        let part = |key: &str, rounds_up: bool| match spec
            .pointer(&format!("/strategy/rollingUpdate/{key}"))
        {
            None => share(25, replicas, rounds_up),
            Some(Value::String(percent)) => {
                let number = percent.trim_end_matches('%').parse().unwrap_or(25);
                share(number, replicas, rounds_up)
            }
            Some(number) => number.as_u64().unwrap_or_default(),
        };
        let (unavailable, surge) = (part("maxUnavailable", false), part("maxSurge", true));
        if unavailable < replicas || replicas == 0 {
            let left = replicas - unavailable.min(replicas);
            return self.ok(
                name,
                format!("{left} of {replicas} pods answer until new ones are ready"),
            );
        }
        if surge == 0 {
            let detail = "maxSurge is 0 and maxUnavailable is all pods: a rollout leaves no pod that answers";
            let remedy = "Run two replicas, or allow a surge (not with hostNetwork on one node)";
            return self.fail(name, detail, remedy);
        }
        self.changes.spec(
            self.pod,
            &["strategy", "rollingUpdate", "maxUnavailable"],
            0.into(),
        );
        let detail = format!(
            "maxUnavailable is {unavailable} of {replicas}: old pods end before new ones are ready"
        );
        self.warn(name, detail, "The change below sets maxUnavailable: 0");
    }

    fn budgets(&mut self) {
        let name = "poddisruptionbudget";
        let all = self.objects.of_kind("PodDisruptionBudget");
        let selecting = all.filter(|budget| {
            self.pod
                .is_selected(budget.pointer("/spec/selector/matchLabels"))
        });
        let names: Vec<&str> = selecting
            .map(|budget| text(budget, "/metadata/name"))
            .collect();
        match names[..] {
            [] => {
                let remedy = "Add one with maxUnavailable: 1, as in deploy/base/poddisruptionbudget.yaml, so that a drain of nodes \
                              leaves a pod";
                self.warn(name, "none is given that selects the pods", remedy);
            }
            [one] => self.ok(name, format!("{one}: unchanged")),
            _ => {
                let detail = format!(
                    "{} select the pods, which then cannot be evicted",
                    names.join(" and ")
                );
                self.warn(name, detail, "Remove all but one");
            }
        }
    }

    fn node_local(&mut self) {
        let name = "nodelocal";
        let objects = ["DaemonSet", "ConfigMap"];
        let mut found = objects.iter().flat_map(|kind| self.objects.of_kind(kind));
        let cache = found.find(|object| {
            text(object, "/metadata/name").starts_with("node-local-dns")
                || label(object, "/metadata/labels", "k8s-app") == "node-local-dns"
        });
        if let Some(cache) = cache {
            let kind = text(cache, "/kind");
            let detail = format!(
                "{kind} {}: NodeLocal DNSCache forwards to this server over its own Service and stays as it is",
                text(cache, "/metadata/name")
            );
            self.ok(name, detail);
        }
        if self
            .corefile
            .is_some_and(|corefile| corefile.has_word("169.254.20.10"))
        {
            let detail = "the Corefile forwards to 169.254.20.10, NodeLocal DNSCache, which usually forwards back here";
            let remedy = "Forward to the resolvers that the nodes use. Until its probe has shown where it leads, up to \
                          28 s, the upstream is not used (docs/differences.md#upstreams)";
            self.warn(name, detail, remedy);
        }
    }
}

/// A percentage of replicas, as the Deployment controller rounds it.
fn share(percent: u64, replicas: u64, rounds_up: bool) -> u64 {
    let product = percent.saturating_mul(replicas);
    if rounds_up {
        product.div_ceil(100)
    } else {
        product / 100
    }
}

/// The bytes of a quantity such as `170Mi`.
fn quantity(text: &str) -> Option<u64> {
    let end = text
        .find(|it: char| !it.is_ascii_digit() && it != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    match number.split_once('.') {
        None => number.parse::<u64>().ok()?.checked_mul(factor),
        Some((whole, part)) => {
            let digits = u32::try_from(part.len()).ok()?;
            let scale = 10_u64.checked_pow(digits)?;
            let all = format!("{whole}{part}").parse::<u64>().ok()?;
            Some(u64::try_from(u128::from(all) * u128::from(factor) / u128::from(scale)).ok()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for (text, bytes) in [
            ("170Mi", Some(170 << 20)),
            ("1.5Gi", Some(3 << 29)),
            ("128974848", Some(128_974_848)),
            ("129M", Some(129_000_000)),
            ("170MiB", None),
            ("", None),
            ("99999999999999Ti", None),
        ] {
            assert_eq!(quantity(text), bytes, "{text}");
        }
    }

    #[test]
    fn shares_are_rounded_as_by_the_controller() {
        // Of 25 %: maxUnavailable down, maxSurge up.
        assert_eq!((share(25, 2, false), share(25, 2, true)), (0, 1));
        assert_eq!((share(25, 8, false), share(25, 8, true)), (2, 2));
    }
}
