//! One example per topic of Kubernetes DNS, for topics that the served objects cover. Uses the
//! first matching object in file order.

use super::{Example, ExampleSection};
use crate::cli::lab::objects::{Kind, Objects, Port, Service, dashed};
use std::net::IpAddr;

/// The cluster domain.
const DOMAIN: &str = "cluster.local";
/// Suffix of commands whose relevant result is the status.
const STATUS: &str = "| grep -E 'status|EDE'";

/// All sections.
pub(super) fn sections(objects: &Objects) -> [ExampleSection; 5] {
    [
        ExampleSection {
            title: "A Service by its name",
            examples: names(objects),
        },
        ExampleSection {
            title: "Every type of Service",
            examples: types(objects),
        },
        ExampleSection {
            title: "Ports, addresses and pods",
            examples: records(objects),
        },
        ExampleSection {
            title: "Outside of the cluster",
            examples: external(),
        },
        ExampleSection {
            title: "What does not work, and why",
            examples: mistakes(objects),
        },
    ]
}

/// The Service used in most examples: one with an address, preferably not in `default` or
/// `kube-system`.
pub(super) fn main_service(objects: &Objects) -> Option<&Service> {
    let plain = |service: &&Service| {
        !matches!(service.kind, Kind::Headless | Kind::ExternalName(_))
            && !service.addresses.is_empty()
    };
    let begins =
        |service: &&Service| ["default", "kube-system"].contains(&service.namespace.as_str());
    let mut services = objects.services.iter().filter(plain);
    services
        .clone()
        .find(|service| !begins(service))
        .or_else(|| services.next())
}

fn names(objects: &Objects) -> Vec<Example> {
    let Some(service) = main_service(objects) else {
        return Vec::new();
    };
    let Service {
        name, namespace, ..
    } = service;
    let shows = addresses(service);
    let family = family(service);
    vec![
        example(
            format!("in full: {shows}"),
            format!("+short {}{family}", full(service)),
        ),
        example(
            format!(
                "from a pod of the same namespace, which searches {namespace}.svc.{DOMAIN}: the same"
            ),
            format!("+short +domain={namespace}.svc.{DOMAIN} {name}{family}"),
        ),
        example(
            format!("from any other namespace: every pod searches svc.{DOMAIN} too"),
            format!("+short +ndots=5 +domain=svc.{DOMAIN} {name}.{namespace}{family}"),
        ),
        example(
            format!("and {DOMAIN}"),
            format!("+short +ndots=5 +domain={DOMAIN} {name}.{namespace}.svc{family}"),
        ),
    ]
}

fn types(objects: &Objects) -> Vec<Example> {
    [
        node_port(objects),
        load_balancer(objects),
        dual_stack(objects),
        headless(objects),
        stateful(objects),
        alias(objects, false),
        alias(objects, true),
        without_pods(objects, false),
        without_pods(objects, true),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn node_port(objects: &Objects) -> Option<Example> {
    let (service, ports) = objects.services.iter().find_map(|it| match &it.kind {
        Kind::NodePort(ports) => Some((it, ports)),
        _ => None,
    })?;
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let ports = match ports.as_slice() {
        [] => "its node ports".to_owned(),
        ports => format!("port {} of every node", ports.join(" and ")),
    };
    Some(example(
        format!("NodePort: {}; {ports} is not in DNS", addresses(service)),
        format!("+short {}", full(service)),
    ))
}

fn load_balancer(objects: &Objects) -> Option<Example> {
    let (service, outer) = objects.services.iter().find_map(|it| match &it.kind {
        Kind::LoadBalancer(outer) => Some((it, outer)),
        _ => None,
    })?;
    let outer = outer.as_deref().map_or_else(
        || "its external address, once assigned, is not in DNS".to_owned(),
        |outer| format!("not {outer}, which is for external clients"),
    );
    Some(example(
        format!("LoadBalancer: {}, {outer}", addresses(service)),
        format!("+short {}", full(service)),
    ))
}

fn dual_stack(objects: &Objects) -> Option<Example> {
    let service = objects.services.iter().find(|service| {
        service.addresses.iter().any(IpAddr::is_ipv4)
            && service.addresses.iter().any(IpAddr::is_ipv6)
    })?;
    let name = full(service);
    Some(example(
        format!("dual stack: {}", addresses(service)),
        format!("+short {name} A {name} AAAA"),
    ))
}

fn headless(objects: &Objects) -> Option<Example> {
    let service = headless_service(objects)?;
    let unready = service.unready().next().map_or_else(String::new, |it| {
        format!("; {} is not ready and not among them", it.address)
    });
    let ready = list(service.ready().map(|it| it.address));
    Some(example(
        format!("headless: its ready pods, {ready}{unready}"),
        format!("+short {}", full(service)),
    ))
}

fn stateful(objects: &Objects) -> Option<Example> {
    let (service, pod) = all_headless(objects).find_map(|service| {
        let pod = service.ready().find(|it| it.named)?;
        Some((service, pod))
    })?;
    Some(example(
        format!("a pod of a StatefulSet, by its own name: {}", pod.address),
        format!("+short {}.{}", pod.label, full(service)),
    ))
}

fn alias(objects: &Objects, inside: bool) -> Option<Example> {
    let suffix = format!(".{DOMAIN}");
    let (service, target) = objects.services.iter().find_map(|it| match &it.kind {
        Kind::ExternalName(target) if target.trim_end_matches('.').ends_with(&suffix) == inside => {
            Some((it, target.trim_end_matches('.')))
        }
        _ => None,
    })?;
    let shows = if inside {
        let found = objects.services.iter().find(|it| full(it) == target);
        let found = found.map_or_else(
            || "which does not exist".to_owned(),
            |it| format!("and its {}", addresses(it)),
        );
        format!("ExternalName for a Service: {target}. {found}")
    } else {
        format!("ExternalName: {target}. and its addresses, if the lab's internet has that name")
    };
    Some(example(shows, format!("+short {}", full(service))))
}

/// A Service whose selector matches no pod.
fn without_pods(objects: &Objects, headless: bool) -> Option<Example> {
    let service = objects.services.iter().find(|it| {
        (it.kind == Kind::Headless) == headless
            && !matches!(it.kind, Kind::ExternalName(_))
            && it.selects
            && it.endpoints.is_empty()
    })?;
    let name = full(service);
    Some(if headless {
        example(
            "headless, its selector matches no pod: NXDOMAIN, as if it did not exist",
            format!("{name} {STATUS}"),
        )
    } else {
        example(
            format!(
                "its selector matches no pod: {} is answered, but nothing listens there",
                addresses(service)
            ),
            format!("+short {name}"),
        )
    })
}

fn records(objects: &Objects) -> Vec<Example> {
    [
        srv(objects),
        srv_headless(objects),
        reverse(objects),
        reverse_pod(objects),
        pod(objects),
        pod_not_ready(objects),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn srv(objects: &Objects) -> Option<Example> {
    let services = main_service(objects).into_iter().chain(&objects.services);
    let (service, port) = services
        .filter(|it| !it.addresses.is_empty())
        .find_map(|it| Some((it, named_port(it)?)))?;
    let weight = (100 / service.addresses.len()).max(1);
    Some(example(
        format!(
            "SRV: priority, weight, port, host: 0 {weight} {} {}.",
            port.number,
            full(service)
        ),
        format!("+short SRV {}.{}", port_labels(port), full(service)),
    ))
}

fn srv_headless(objects: &Objects) -> Option<Example> {
    let service = headless_service(objects)?;
    let port = named_port(service)?;
    let first = service.ready().next()?;
    Some(example(
        format!(
            "SRV, headless: one for each ready pod, such as {}.{}.",
            first.label,
            full(service)
        ),
        format!("+short SRV {}.{}", port_labels(port), full(service)),
    ))
}

fn reverse(objects: &Objects) -> Option<Example> {
    let service = main_service(objects)?;
    Some(example(
        format!("PTR, from an address to its Service: {}.", full(service)),
        format!("+short -x {}", service.addresses.first()?),
    ))
}

fn reverse_pod(objects: &Objects) -> Option<Example> {
    let service = headless_service(objects)?;
    let endpoint = service.ready().next()?;
    Some(example(
        format!(
            "PTR of a pod behind a Service: {}.{}.",
            endpoint.label,
            full(service)
        ),
        format!("+short -x {}", endpoint.address),
    ))
}

fn pod(objects: &Objects) -> Option<Example> {
    let near = main_service(objects).map(|it| it.namespace.as_str());
    let pod = objects
        .pods
        .iter()
        .find(|pod| Some(pod.namespace.as_str()) == near)
        .or(objects.pods.first())?;
    Some(example(
        format!("a pod by its address, with dashes: {}", pod.address),
        format!(
            "+short {}.{}.pod.{DOMAIN}{}",
            dashed(pod.address),
            pod.namespace,
            if pod.address.is_ipv6() { " AAAA" } else { "" }
        ),
    ))
}

fn pod_not_ready(objects: &Objects) -> Option<Example> {
    let (service, endpoint) =
        all_headless(objects).find_map(|service| Some((service, service.unready().next()?)))?;
    Some(example(
        "a pod that is not ready: NXDOMAIN, until its probe succeeds",
        format!("{}.{} {STATUS}", endpoint.label, full(service)),
    ))
}

fn external() -> Vec<Example> {
    vec![example(
        "any other name: forwarded to the lab's own internet, the same everywhere: 192.0.2.10",
        "+short example.com",
    )]
}

fn mistakes(objects: &Objects) -> Vec<Example> {
    let Some(service) = main_service(objects) else {
        return Vec::new();
    };
    let Service {
        name, namespace, ..
    } = service;
    let elsewhere = |other: &&Service| {
        other.namespace != *namespace
            && !objects
                .services
                .iter()
                .any(|it| it.namespace == other.namespace && it.name == *name)
    };
    let other = objects
        .services
        .iter()
        .filter(elsewhere)
        .max_by_key(|it| it.namespace == "default");
    let other = other.map_or("default", |it| it.namespace.as_str());
    let mut examples = vec![
        example(
            format!("half of the domain: not found. Use all of {DOMAIN} or none of it"),
            format!("+ndots=5 +domain={DOMAIN} {name}.{namespace}.svc.cluster {STATUS}"),
        ),
        example(
            "a short name and a plain dig: not found. dig uses a search list only with +search or +domain",
            format!("{name}.{namespace} {STATUS}"),
        ),
    ];
    if other != namespace {
        examples.push(example(
            format!("{name} alone, as queried by a pod of {other}: NXDOMAIN. Use {name}.{namespace} there"),
            format!("{name}.{other}.svc.{DOMAIN} {STATUS}"),
        ));
    }
    examples
}

fn example(shows: impl Into<String>, arguments: impl Into<String>) -> Example {
    Example {
        shows: shows.into(),
        arguments: arguments.into(),
    }
}

fn all_headless(objects: &Objects) -> impl Iterator<Item = &Service> {
    let services = objects.services.iter();
    services.filter(|service| service.kind == Kind::Headless)
}

/// The first headless Service with a ready endpoint.
fn headless_service(objects: &Objects) -> Option<&Service> {
    all_headless(objects).find(|service| service.ready().next().is_some())
}

fn named_port(service: &Service) -> Option<&Port> {
    service.ports.iter().find(|port| port.name.is_some())
}

fn port_labels(port: &Port) -> String {
    let name = port.name.as_deref().unwrap_or_default();
    format!("_{name}._{}", port.protocol)
}

fn full(service: &Service) -> String {
    format!("{}.{}.svc.{DOMAIN}", service.name, service.namespace)
}

fn addresses(service: &Service) -> String {
    match service.addresses.as_slice() {
        [] => "no address".to_owned(),
        addresses => list(addresses.iter().copied()),
    }
}

/// Query type for Services without an IPv4 address: dig's default is A.
fn family(service: &Service) -> &'static str {
    let mut addresses = service.addresses.iter();
    if service.addresses.is_empty() || addresses.any(IpAddr::is_ipv4) {
        ""
    } else {
        " AAAA"
    }
}

fn list(addresses: impl Iterator<Item = IpAddr>) -> String {
    let texts: Vec<String> = addresses.map(|it| it.to_string()).collect();
    match texts.as_slice() {
        [most @ .., last] if !most.is_empty() => format!("{} and {last}", most.join(", ")),
        _ => texts.concat(),
    }
}
