//! The API server: whether it answers, and whether RBAC permits all that is watched.

use std::{collections::BTreeSet, fmt::Write, net::IpAddr, time::Instant};

use futures_util::future::join_all;
use tokio::{runtime::Handle, time::timeout};

use super::{
    Facts, NO_COREFILE,
    probe::Took,
    report::{Finding, Status},
};
use crate::{
    cluster::{ApiAccess, ApiError, Backend, Kind, NamedService, Settings, SourceError},
    plugin::kubernetes,
};

const API: &str = "api";
const RBAC: &str = "rbac";

/// The verbs that a source uses.
const VERBS: [&str; 2] = ["list", "watch"];

/// Bound on the time for one request, with its connection.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);

/// What is known of the cluster from its API server, for other checks.
#[derive(Clone, Debug, Default)]
pub struct ClusterFacts {
    /// The Services of the cluster's DNS.
    pub dns: Vec<NamedService>,
    /// Addresses of the Service `kubernetes` in `default`: the API server's own.
    pub api: Vec<IpAddr>,
}

/// Checks the API server of each `kubernetes` block. Blocks with one API server are checked together.
pub async fn check(facts: &Facts) -> (Vec<Finding>, ClusterFacts) {
    let Some(config) = &facts.config else {
        let why = NO_COREFILE;
        let skipped = [API, RBAC].map(|check| Finding::skipped(check, "", why));
        return (skipped.into(), ClusterFacts::default());
    };
    let mut sources: Vec<Settings> = Vec::new();
    for plugin in config.plugins_of::<kubernetes::Config>() {
        let same = |known: &&mut Settings| known.backend == plugin.source.backend;
        match sources.iter_mut().find(same) {
            Some(known) => {
                known.pods |= plugin.source.pods;
                known.slices |= plugin.source.slices;
                known.imports |= plugin.source.imports;
            }
            None => sources.push(plugin.source.clone()),
        }
    }
    if sources.is_empty() {
        let why = "no kubernetes block in the Corefile";
        let skipped = [API, RBAC].map(|check| Finding::skipped(check, "", why));
        return (skipped.into(), ClusterFacts::default());
    }
    let checks = join_all(sources.iter().map(source)).await;
    let mut findings = Vec::new();
    let mut known = ClusterFacts::default();
    for (found, cluster) in checks {
        findings.extend(found);
        known.dns.extend(cluster.dns);
        known.api.extend(cluster.api);
    }
    (findings, known)
}

async fn source(settings: &Settings) -> (Vec<Finding>, ClusterFacts) {
    let unknown = ClusterFacts::default();
    if let Backend::Manifests { directory } = &settings.backend {
        let why = format!("objects come from manifests in {}", directory.display());
        let skipped = [API, RBAC].map(|check| Finding::skipped(check, "", why.clone()));
        return (skipped.into(), unknown);
    }
    let access = match ApiAccess::new(settings, &Handle::current()) {
        Ok(access) => access,
        Err(SourceError::NoCluster) => {
            let why =
                "this is no pod of a cluster, and the kubernetes block names no other API server";
            let skipped = [API, RBAC].map(|check| Finding::skipped(check, "", why));
            return (skipped.into(), unknown);
        }
        Err(error) => {
            let remedy = "Correct the kubernetes block, or the files that it names";
            let api = Finding::fail(API, "", error.to_string(), remedy);
            let rbac = Finding::skipped(RBAC, "", "no API server to ask");
            return (vec![api, rbac], unknown);
        }
    };
    let begun = Instant::now();
    let version = bounded(access.version()).await;
    let host = access.host();
    let api = match version {
        Ok(version) => Finding::ok(
            API,
            host,
            format!("Kubernetes {version} answers in {}", Took(begun.elapsed())),
        ),
        Err(error) => {
            let remedy = "Check the address, the network from here to it (NetworkPolicy, kube-proxy), and the \
                          credentials";
            let api = Finding::fail(API, host, error, remedy);
            let rbac = Finding::skipped(RBAC, host, "the API server does not answer");
            return (vec![api, rbac], unknown);
        }
    };
    let kinds = settings.kinds();
    let (rbac, dns, own) = tokio::join!(
        join_all(kinds.iter().map(|kind| permissions(&access, *kind))),
        // These fail without the permissions; the other checks then know less.
        bounded(access.services("labelSelector=k8s-app%3Dkube-dns")),
        bounded(access.services("labelSelector=component%3Dapiserver%2Cprovider%3Dkubernetes")),
    );
    let missing: BTreeSet<Kind> = rbac
        .iter()
        .zip(&kinds)
        .filter(|(finding, _)| finding.status == Status::Fail)
        .map(|(_, kind)| *kind)
        .collect();
    let mut findings = vec![api];
    findings.extend(rbac);
    // One remedy for all: the whole rule.
    if let Some(first) = findings
        .iter_mut()
        .find(|finding| finding.check == RBAC && finding.status == Status::Fail)
    {
        first.remedy = Some(rules(&missing));
    }
    let cluster = ClusterFacts {
        dns: dns.unwrap_or_default(),
        api: own
            .unwrap_or_default()
            .into_iter()
            .filter(|service| service.name == "default/kubernetes")
            .flat_map(|service| service.addresses)
            .collect(),
    };
    (findings, cluster)
}

async fn bounded<T>(request: impl Future<Output = Result<T, ApiError>>) -> Result<T, String> {
    match timeout(DEADLINE, request).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer in {} s", DEADLINE.as_secs())),
    }
}

/// Whether a kind may be listed and watched.
async fn permissions(access: &ApiAccess, kind: Kind) -> Finding {
    let reviews = VERBS.map(|verb| bounded(access.is_allowed(verb, kind)));
    let reviews = join_all(reviews).await;
    let subject = kind.resource();
    let mut missing = Vec::new();
    for (verb, review) in VERBS.iter().zip(reviews) {
        match review {
            Ok(true) => {}
            Ok(false) => missing.push(*verb),
            Err(error) => {
                let remedy = "Permit this program to create SelfSubjectAccessReviews (ClusterRole \
                              system:basic-user), or check its rules by hand";
                return Finding::warn(RBAC, subject, error, remedy);
            }
        }
    }
    if missing.is_empty() {
        return Finding::ok(RBAC, subject, "may be listed and watched");
    }
    let detail = format!("missing: {}", missing.join(", "));
    Finding::fail(
        RBAC,
        subject,
        detail,
        "Add the rule above to the ClusterRole of this program",
    )
}

/// Rules of a ClusterRole for kinds, one per API group.
fn rules(kinds: &BTreeSet<Kind>) -> String {
    let mut text = "Add to the rules of the ClusterRole of this program:".to_owned();
    let mut groups: Vec<&str> = kinds.iter().map(|kind| kind.group()).collect();
    groups.sort_unstable();
    groups.dedup();
    for group in groups {
        let of_group = kinds.iter().filter(|kind| kind.group() == group);
        let resources: Vec<String> = of_group
            .map(|kind| format!("{:?}", kind.resource()))
            .collect();
        let _ = write!(
            text,
            "\n- apiGroups: [{group:?}]\n  resources: [{}]\n  verbs: [\"list\", \"watch\"]",
            resources.join(", ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_permissions_are_written_as_rules_by_api_group() {
        let kinds = [Kind::Pod, Kind::Namespace, Kind::EndpointSlice];
        assert_eq!(
            rules(&kinds.into_iter().collect()),
            "Add to the rules of the ClusterRole of this program:\n\
             - apiGroups: [\"\"]\n  resources: [\"namespaces\", \"pods\"]\n  verbs: [\"list\", \"watch\"]\n\
             - apiGroups: [\"discovery.k8s.io\"]\n  resources: [\"endpointslices\"]\n  \
             verbs: [\"list\", \"watch\"]"
        );
    }
}
