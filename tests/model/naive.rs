//! The model: the answer for each name, given the objects. Written from the Kubernetes DNS specification 1.1.0
//! and `docs/differences.md`, with strings for names and a linear search for every query.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use lodestone::zone::{AnswerRules, PodNames};

use crate::{
    ask::Response,
    world::{Endpoint, Import, Port, Service, World},
};

/// The zones of the model; the first one has the Services.
pub const ZONES: [&str; 4] = ["cluster.local.", "10.in-addr.arpa.", "ip6.arpa.", IMPORTS];
/// The zone with ServiceImports.
pub const IMPORTS: &str = "clusterset.local.";

pub struct Model<'a> {
    pub world: &'a World,
    pub rules: &'a AnswerRules,
    /// The server's own addresses.
    pub local: &'a [IpAddr],
    pub synced: bool,
}

/// The name does not exist.
struct Missing;

/// A ready endpoint: its name, if any, its address, and the ports of its slice.
type Ready<'a> = (String, IpAddr, &'a [Port]);

/// An answer under construction.
struct Answer<'a> {
    asked: String,
    owner: String,
    rtype: &'a str,
    /// The zone with the spelling of the query.
    zone: String,
    targets: Vec<String>,
    aliases: Vec<String>,
    records: BTreeSet<String>,
    additional: BTreeSet<String>,
    onward: Option<String>,
    /// The CNAME records are the complete answer: queried as such, a loop, or too many.
    ends: bool,
}

impl Model<'_> {
    /// The reply to a query; None if the name is in no zone.
    pub fn answer(&self, name: &str, rtype: &str) -> Option<Response> {
        let zone = spelled_zone(name)?;
        let mut answer = Answer {
            asked: name.into(),
            owner: name.into(),
            rtype,
            zone: zone.clone(),
            targets: Vec::new(),
            aliases: Vec::new(),
            records: BTreeSet::new(),
            additional: BTreeSet::new(),
            onward: None,
            ends: false,
        };
        let mut response = Response::default();
        match self.name(&mut answer) {
            Ok(()) => {
                response.rcode = "NOERROR".into();
                let is_open = answer.ends || answer.onward.is_some();
                if answer.records.is_empty() && !is_open {
                    // The SOA record is that of the last name's zone (RFC 2308 section 2.2).
                    response.authority = vec![self.soa(&answer.zone)];
                }
                response.answer = answer.aliases;
                response.answer.extend(answer.records);
                response.additional.extend(answer.additional);
                response.onward = answer.onward;
            }
            Err(Missing) if self.synced => {
                response.rcode = "NXDOMAIN".into();
                response.authority = vec![self.soa(&zone)];
            }
            Err(Missing) => response.rcode = "SERVFAIL".into(),
        }
        Some(response)
    }

    fn name(&self, answer: &mut Answer<'_>) -> Result<(), Missing> {
        let left = &answer.owner[..answer.owner.len() - answer.zone.len()].to_lowercase();
        let mut labels: Vec<&str> = left.split_terminator('.').collect();
        labels.reverse();
        match labels[..] {
            [] => self.apex(answer),
            ["dns-version"] if answer.rtype == "TXT" => {
                let record = format!("{} 28800 TXT \"1.1.0\"", answer.owner);
                answer.records.insert(record);
            }
            ["dns" | "dns-version"] => {}
            ["dns", "ns"] => {
                for (_, address) in self.name_servers(&answer.zone) {
                    self.address(answer, address);
                }
            }
            _ if answer.zone.to_lowercase().ends_with(".arpa.") => return self.reverse(answer),
            ["svc" | "pod"] => {}
            ["svc", namespace] => return self.shown(namespace),
            ["svc", namespace, import, ref below @ ..] if is_imports(&answer.zone) => {
                return self.import(answer, namespace, import, below);
            }
            ["svc", namespace, service, "_zone", ref below @ ..]
                if below.is_empty() || ["pin", "prefer"].contains(&below[0]) =>
            {
                return self.zonal(answer, namespace, service, below);
            }
            ["svc", namespace, service] => return self.service(answer, namespace, service),
            ["svc", namespace, service, label] => {
                return self.below(answer, namespace, service, label);
            }
            ["svc", namespace, service, protocol, port] => {
                return self.port(answer, namespace, service, [port, protocol]);
            }
            ["pod", namespace] if self.rules.pods != PodNames::Disabled => {
                return self.shown(namespace);
            }
            ["pod", namespace, label] => return self.pod(answer, namespace, label),
            _ => return Err(Missing),
        }
        Ok(())
    }

    fn soa(&self, zone: &str) -> String {
        let ttl = self.rules.ttl;
        let capped = ttl.min(300);
        format!("{zone} {capped} SOA ns.dns.{zone} hostmaster.{zone} SERIAL 7200 1800 86400 {ttl}")
    }

    fn apex(&self, answer: &mut Answer<'_>) {
        if answer.rtype == "SOA" {
            // The owner is the zone.
            answer.records.insert(self.soa(&answer.owner));
        }
        if answer.rtype != "NS" {
            return;
        }
        let ttl = self.rules.ttl;
        for (name, address) in self.name_servers(&answer.zone) {
            let record = format!("{} {ttl} NS {name}", answer.owner);
            answer.records.insert(record);
            answer.additional.insert(self.glue(&name, address));
        }
        if answer.records.is_empty() {
            let record = format!("{} {ttl} NS ns.dns.{}", answer.owner, answer.zone);
            answer.records.insert(record);
        }
    }

    /// The Services that have this server as a ready endpoint; otherwise its own addresses.
    fn name_servers(&self, zone: &str) -> Vec<(String, IpAddr)> {
        let mut found = Vec::new();
        for ((namespace, name), service) in &self.world.services {
            let ready = self.ready(namespace, name);
            if !ready.iter().any(|(_, it, _)| self.local.contains(it)) {
                continue;
            }
            let whole = format!("{name}.{namespace}.svc.{zone}");
            match service {
                Service::Cluster(ips, _) => {
                    found.extend(ips.iter().map(|ip| (whole.clone(), *ip)));
                }
                Service::Headless(_) => {
                    let each = ready.into_iter();
                    found.extend(each.map(|(name, ip, _)| (format!("{name}.{whole}"), ip)));
                }
                Service::External(_) => {}
            }
        }
        // Services have no names in the zone of imports.
        if is_imports(zone) {
            for (name, _) in &mut found {
                *name = format!("ns.dns.{zone}");
            }
        }
        if found.is_empty() {
            let own = self.local.iter();
            found.extend(own.map(|ip| (format!("ns.dns.{zone}"), *ip)));
        }
        found
    }

    fn shown(&self, namespace: &str) -> Result<(), Missing> {
        let listed = &self.rules.namespaces;
        let is_listed = listed.is_empty() || listed.iter().any(|it| **it == *namespace);
        let key = (String::new(), namespace.to_owned());
        let exists = self.world.namespaces.contains(&key);
        (is_listed && exists).then_some(()).ok_or(Missing)
    }

    /// The Service, unless it or its namespace is missing or excluded.
    fn find(&self, namespace: &str, service: &str) -> Result<&Service, Missing> {
        self.shown(namespace)?;
        let key = (namespace.to_owned(), service.to_owned());
        let found = self.world.services.get(&key).ok_or(Missing)?;
        let is_empty = || self.ready(namespace, service).is_empty();
        match found {
            Service::Cluster(..) if self.rules.ignore_empty_service && is_empty() => Err(Missing),
            found => Ok(found),
        }
    }

    fn ready(&self, namespace: &str, service: &str) -> Vec<Ready<'_>> {
        self.near(namespace, service, |_| true)
    }

    /// The ready endpoints in a topology zone.
    fn near(
        &self,
        namespace: &str,
        service: &str,
        is_meant: impl Fn(&Endpoint) -> bool,
    ) -> Vec<Ready<'_>> {
        let mut ready = Vec::new();
        for ((of, _), slice) in &self.world.slices {
            if of != namespace || slice.service != service {
                continue;
            }
            let endpoints = slice.endpoints.iter();
            for endpoint in endpoints.filter(|it| it.ready && is_meant(it)) {
                ready.push((self.label(endpoint), endpoint.address, &*slice.ports));
            }
        }
        ready
    }

    /// The label of an endpoint.
    fn label(&self, endpoint: &Endpoint) -> String {
        let pod = endpoint
            .pod
            .filter(|pod| self.rules.endpoint_pod_names && pod.len() < 64 && !pod.contains('.'));
        match endpoint.hostname.or(pod) {
            Some(name) => name.to_owned(),
            None => dashed(endpoint.address),
        }
    }

    /// `_zone` below a headless Service, and `TZ.pin` or `TZ.prefer` below that; `below` is parsed from the
    /// right.
    fn zonal(
        &self,
        answer: &mut Answer<'_>,
        namespace: &str,
        service: &str,
        below: &[&str],
    ) -> Result<(), Missing> {
        let found = self.find(namespace, service)?;
        if !self.rules.zonal || !matches!(found, Service::Headless(_)) {
            return Err(Missing);
        }
        let [word, zone @ ..] = below else {
            return Ok(());
        };
        if zone.is_empty() {
            return Ok(());
        }
        let zone: Vec<_> = zone.iter().rev().copied().collect();
        let zone = zone.join(".");
        let is_near = |it: &Endpoint| it.zone.is_some_and(|own| own.to_lowercase() == zone);
        let mut ready = self.near(namespace, service, is_near);
        if ready.is_empty() && *word == "prefer" {
            ready = self.ready(namespace, service);
        }
        let whole = format!("{service}.{namespace}.svc.{}", answer.zone);
        // The name exists, whatever the zones of the endpoints.
        let _ = self.endpoints(answer, &whole, &ready, |_| true);
        Ok(())
    }

    /// A ServiceImport and names below it, parsed from the right.
    fn import(
        &self,
        answer: &mut Answer<'_>,
        namespace: &str,
        import: &str,
        below: &[&str],
    ) -> Result<(), Missing> {
        self.shown(namespace)?;
        let key = (namespace.to_owned(), import.to_owned());
        let found = self.world.imports.get(&key).ok_or(Missing)?;
        if self.rules.ignore_empty_service
            && matches!(found, Import::Addresses(..))
            && self.members(namespace, import).is_empty()
        {
            return Err(Missing);
        }
        let whole = format!("{import}.{namespace}.svc.{}", answer.zone);
        // Two labels are a port if one has an underscore.
        let port = match below {
            [protocol, port] if protocol.starts_with('_') || port.starts_with('_') => {
                Some([*port, *protocol].map(bare))
            }
            [] | [_] | [_, _] => None,
            _ => return Err(Missing),
        };
        let is = |it: &Port| {
            port.is_none_or(|port| !it.name.is_empty() && [it.name, protocol(it)] == port)
        };
        let is_protocol =
            |port: &Port, label: &str| !port.name.is_empty() && protocol(port) == bare(label);
        match (found, below) {
            (Import::Addresses(_, ports), [label]) => {
                let mut ports = ports.iter();
                let exists = ports.any(|port| is_protocol(port, label));
                exists.then_some(()).ok_or(Missing)
            }
            (Import::Addresses(ips, ports), _) => {
                let meant: Vec<_> = ports.iter().filter(|it| is(it)).collect();
                if !below.is_empty() && (port.is_none() || meant.is_empty()) {
                    return Err(Missing);
                }
                self.cluster(answer, &whole, ips, &meant);
                Ok(())
            }
            (Import::Headless(_), [label]) => {
                let members = self.members(namespace, import);
                let mut members = members.into_iter();
                let exists = members.any(|(cluster, (.., ports))| {
                    let mut ports = ports.iter();
                    cluster.to_lowercase() == *label || ports.any(|it| is_protocol(it, label))
                });
                exists.then_some(()).ok_or(Missing)
            }
            (Import::Headless(_), _) => {
                let members = self.members(namespace, import).into_iter();
                let ready = members.filter_map(|(cluster, (label, address, ports))| {
                    if let ([of, endpoint], None) = (below, port)
                        && (cluster.to_lowercase(), label.to_lowercase())
                            != ((*of).to_owned(), (*endpoint).to_owned())
                    {
                        return None;
                    }
                    if port.is_some() && !ports.iter().any(is) {
                        return None;
                    }
                    // An endpoint without a cluster name has no name.
                    let name = if cluster.is_empty() {
                        String::new()
                    } else {
                        format!("{label}.{cluster}")
                    };
                    Some((name, address, ports))
                });
                let ready: Vec<_> = ready.collect();
                self.endpoints(answer, &whole, &ready, is)
            }
        }
    }

    /// The ready endpoints of a ServiceImport with their clusters.
    fn members(&self, namespace: &str, import: &str) -> Vec<(&'static str, Ready<'_>)> {
        let mut members = Vec::new();
        for ((of, _), slice) in &self.world.slices {
            let Some((service, cluster)) = slice.import else {
                continue;
            };
            if of == namespace && service == import {
                let ready = slice.endpoints.iter().filter(|it| it.ready);
                members
                    .extend(ready.map(|it| (cluster, (self.label(it), it.address, &*slice.ports))));
            }
        }
        members
    }

    fn service(
        &self,
        answer: &mut Answer<'_>,
        namespace: &str,
        service: &str,
    ) -> Result<(), Missing> {
        let whole = format!("{service}.{namespace}.svc.{}", answer.zone);
        match self.find(namespace, service)? {
            Service::External(target) => return self.alias(answer, target),
            Service::Cluster(ips, ports) => {
                let ports: Vec<_> = ports.iter().collect();
                self.cluster(answer, &whole, ips, &ports);
            }
            Service::Headless(_) => {
                let ready = self.ready(namespace, service);
                self.endpoints(answer, &whole, &ready, |_| true)?;
            }
        }
        Ok(())
    }

    /// One label below a Service: an endpoint, or the protocol of port names.
    fn below(
        &self,
        answer: &mut Answer<'_>,
        namespace: &str,
        service: &str,
        label: &str,
    ) -> Result<(), Missing> {
        let found = self.find(namespace, service)?;
        let ready = self.ready(namespace, service);
        let ports: Vec<&Port> = match found {
            Service::External(_) => return Err(Missing),
            Service::Cluster(_, ports) => ports.iter().collect(),
            Service::Headless(_) => ready.iter().flat_map(|(_, _, ports)| *ports).collect(),
        };
        let named: Vec<_> = ready
            .iter()
            .filter(|(name, ..)| name == label)
            .cloned()
            .collect();
        let whole = format!("{service}.{namespace}.svc.{}", answer.zone);
        let missing = self.endpoints(answer, &whole, &named, |_| true);
        let is_protocol = |port: &&Port| !port.name.is_empty() && protocol(port) == bare(label);
        if ports.iter().any(is_protocol) {
            return Ok(());
        }
        missing
    }

    fn port(
        &self,
        answer: &mut Answer<'_>,
        namespace: &str,
        service: &str,
        labels: [&str; 2],
    ) -> Result<(), Missing> {
        let is =
            |port: &Port| !port.name.is_empty() && [port.name, protocol(port)] == labels.map(bare);
        let whole = format!("{service}.{namespace}.svc.{}", answer.zone);
        match self.find(namespace, service)? {
            Service::External(_) => Err(Missing),
            Service::Cluster(ips, ports) => {
                let ports: Vec<_> = ports.iter().filter(|port| is(port)).collect();
                if ports.is_empty() {
                    return Err(Missing);
                }
                self.cluster(answer, &whole, ips, &ports);
                Ok(())
            }
            Service::Headless(_) => {
                let ready = self.ready(namespace, service).into_iter();
                let ready: Vec<_> = ready.filter(|(.., ports)| ports.iter().any(is)).collect();
                self.endpoints(answer, &whole, &ready, is)
            }
        }
    }

    fn cluster(&self, answer: &mut Answer<'_>, whole: &str, ips: &[IpAddr], ports: &[&Port]) {
        for ip in ips {
            self.address(answer, *ip);
        }
        if answer.rtype != "SRV" {
            return;
        }
        for ip in ips {
            for number in ports.iter().filter_map(|port| port.number) {
                self.srv(answer, ips.len() * ports.len(), number, whole);
                answer.additional.insert(self.glue(whole, *ip));
            }
        }
    }

    fn endpoints(
        &self,
        answer: &mut Answer<'_>,
        whole: &str,
        ready: &[Ready<'_>],
        is: impl Fn(&Port) -> bool,
    ) -> Result<(), Missing> {
        let pairs = |(.., ports): &Ready<'_>| ports.iter().filter(|port| is(port)).count().max(1);
        let total = ready.iter().map(pairs).sum();
        for (name, address, ports) in ready {
            self.address(answer, *address);
            for number in ports
                .iter()
                .filter(|port| is(port))
                .filter_map(|port| port.number)
            {
                if answer.rtype == "SRV" && !name.is_empty() {
                    let target = format!("{name}.{whole}");
                    self.srv(answer, total, number, &target);
                    answer.additional.insert(self.glue(&target, *address));
                }
            }
        }
        if ready.is_empty() {
            Err(Missing)
        } else {
            Ok(())
        }
    }

    fn alias(&self, answer: &mut Answer<'_>, target: &str) -> Result<(), Missing> {
        if let Ok(address) = target.parse() {
            self.address(answer, address);
            return Ok(());
        }
        let target = target.strip_suffix('.').unwrap_or(target);
        let is_name = target.split('.').all(|label| !label.is_empty());
        if !["A", "AAAA", "CNAME"].contains(&answer.rtype) || !is_name {
            return Ok(());
        }
        let target = format!("{target}.");
        let met = answer.targets.iter().chain([&answer.asked]);
        let is_loop = met.into_iter().any(|met| met.eq_ignore_ascii_case(&target));
        let record = format!("{} {} CNAME {target}", answer.owner, self.rules.ttl);
        answer.aliases.push(record);
        answer.targets.push(target.clone());
        if answer.rtype == "CNAME" || is_loop || answer.aliases.len() == 11 {
            answer.ends = true;
            return Ok(());
        }
        match spelled_zone(&target) {
            None => answer.onward = Some(target),
            Some(zone) => {
                (answer.owner, answer.zone) = (target.clone(), zone);
                match self.name(answer) {
                    Err(Missing) if self.synced => answer.onward = Some(target),
                    known => return known,
                }
            }
        }
        Ok(())
    }

    fn pod(&self, answer: &mut Answer<'_>, namespace: &str, label: &str) -> Result<(), Missing> {
        if self.rules.pods == PodNames::Disabled {
            return Err(Missing);
        }
        self.shown(namespace)?;
        let dashes = label.matches('-').count();
        let address: IpAddr = if dashes == 3 && !label.contains("--") {
            let address: Ipv4Addr = label.replace('-', ".").parse().map_err(|_| Missing)?;
            address.into()
        } else {
            let address: Ipv6Addr = label.replace('-', ":").parse().map_err(|_| Missing)?;
            address.into()
        };
        let mut pods = self.world.pods.iter();
        let runs = pods.any(|((of, _), pod)| of == namespace && pod.contains(&address));
        if self.rules.pods == PodNames::Verified && !runs {
            return Err(Missing);
        }
        self.address(answer, address);
        Ok(())
    }

    fn reverse(&self, answer: &mut Answer<'_>) -> Result<(), Missing> {
        let asked = answer.owner.to_lowercase();
        let pointers = self.pointers();
        for target in pointers.get(&asked).into_iter().flatten() {
            if answer.rtype == "PTR" {
                let record = format!("{} {} PTR {target}", answer.owner, self.rules.ttl);
                answer.records.insert(record);
            }
        }
        let below = format!(".{asked}");
        let exists = |name: &String| *name == asked || name.ends_with(&below);
        pointers.keys().any(exists).then_some(()).ok_or(Missing)
    }

    /// Every reverse name with a record, and its targets.
    fn pointers(&self) -> BTreeMap<String, BTreeSet<String>> {
        let zone = ZONES[0];
        let mut pointers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut services = BTreeSet::new();
        for ((namespace, name), service) in &self.world.services {
            if let (Service::Cluster(ips, _), Ok(())) = (service, self.shown(namespace)) {
                for ip in ips {
                    let target = format!("{name}.{namespace}.svc.{zone}");
                    pointers.insert(reversed(*ip), [target].into());
                    services.insert(*ip);
                }
            }
        }
        for ((namespace, _), slice) in &self.world.slices {
            if slice.service.is_empty() || self.shown(namespace).is_err() {
                continue;
            }
            for (name, address, _) in self.ready(namespace, &slice.service) {
                if !services.contains(&address) {
                    let target = format!("{name}.{}.{namespace}.svc.{zone}", slice.service);
                    pointers
                        .entry(reversed(address))
                        .or_default()
                        .insert(target);
                }
            }
        }
        pointers
    }

    fn address(&self, answer: &mut Answer<'_>, address: IpAddr) {
        if answer.rtype == family(address) {
            let record = self.glue(&answer.owner, address);
            answer.records.insert(record);
        }
    }

    fn glue(&self, owner: &str, address: IpAddr) -> String {
        format!("{owner} {} {} {address}", self.rules.ttl, family(address))
    }

    fn srv(&self, answer: &mut Answer<'_>, pairs: usize, port: u16, target: &str) {
        let weight = (100 / pairs).max(1);
        let (owner, ttl) = (&answer.owner, self.rules.ttl);
        let record = format!("{owner} {ttl} SRV 0 {weight} {port} {target}");
        answer.records.insert(record);
    }
}

/// The zone of a name, with its spelling.
fn spelled_zone(name: &str) -> Option<String> {
    let is_under = |zone: &&&str| {
        let name = name.to_lowercase();
        name == **zone || name.ends_with(&format!(".{zone}"))
    };
    let zone = ZONES.iter().find(is_under)?;
    Some(name[name.len() - zone.len()..].to_owned())
}

fn is_imports(zone: &str) -> bool {
    zone.eq_ignore_ascii_case(IMPORTS)
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "A" } else { "AAAA" }
}

fn protocol(port: &Port) -> &'static str {
    if port.protocol.is_empty() {
        "tcp"
    } else {
        port.protocol
    }
}

fn bare(label: &str) -> &str {
    label.strip_prefix('_').unwrap_or(label)
}

pub fn dashed(address: IpAddr) -> String {
    let text = address.to_string().replace(['.', ':'], "-");
    if text.ends_with('-') {
        text + "0"
    } else {
        text
    }
}

pub fn reversed(address: IpAddr) -> String {
    let (digits, zone) = match address {
        IpAddr::V4(v4) => (
            v4.octets().map(|it| it.to_string()).to_vec(),
            "in-addr.arpa.",
        ),
        IpAddr::V6(v6) => {
            let digits = format!("{:032x}", v6.to_bits());
            (digits.chars().map(String::from).collect(), "ip6.arpa.")
        }
    };
    let digits = digits.into_iter().rev();
    digits.map(|it| it + ".").collect::<String>() + zone
}
