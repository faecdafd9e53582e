//! Words of a Corefile that are not served here, and the nearest way to what they did.
//!
//! Five kinds: plugins of CoreDNS's that stay out ([`LEFT_OUT`]) or are not built yet ([`NOT_YET`]), plugins of builds of it with more
//! in them (`external`), words of its past (`removed`), and options that stand outside of the
//! block they belong to (`OPTIONS`). All are known to the parser, so that one gets an answer with
//! its own arguments in it instead of "unknown".

mod external;
mod removed;

use crate::corefile::{Diagnostic, Directive, Word};

/// A word that is not served.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere {
    /// As written in a Corefile.
    pub name: &'static str,
    /// What it is, or why it is not here; stands under the caret.
    pub why: &'static str,
    /// What to do instead. `{zone}` stands for the first argument, less what is no zone of it;
    /// `{arguments}` for all of them.
    pub instead: &'static str,
}

const fn elsewhere(name: &'static str, why: &'static str, instead: &'static str) -> Elsewhere {
    Elsewhere { name, why, instead }
}

/// Plugins of CoreDNS's own that Lodestone does not have, and shall not.
pub const LEFT_OUT: &[Elsewhere] = &[
    elsewhere(
        "azure",
        "it copies zones out of Azure, whose own resolver answers them",
        "within Azure: forward {zone} 168.63.129.16",
    ),
    elsewhere(
        "clouddns",
        "it copies zones out of Google Cloud, whose own resolver answers them",
        "within Google Cloud: forward {zone} 169.254.169.254",
    ),
    elsewhere(
        "dnssec",
        "Lodestone signs nothing: a cluster's names change with each pod",
        "remove the line; a zone that must be signed is best signed before it is served, with \
         dnssec-signzone or ldns-signzone, and read by 'file'",
    ),
    elsewhere(
        "geoip",
        "it needs a database of places, which Lodestone does not read",
        "remove the line; to tell clients apart by their networks, use a 'view' with \
         incidr(client_ip(), 'NETWORK')",
    ),
    elsewhere(
        "nomad",
        "it asks Nomad for services, which Lodestone does not",
        "keep a CoreDNS beside Nomad for it, and write: forward {zone:service.nomad} ADDRESS",
    ),
    elsewhere(
        "on",
        "it runs programs, which a name server should have no right to",
        "use the container's lifecycle hooks (postStart, preStop), or ExecStartPost of systemd",
    ),
    elsewhere(
        "route53",
        "it copies zones out of Route 53, whose own resolver answers them",
        "within AWS: forward {zone} 169.254.169.253",
    ),
    elsewhere(
        "sign",
        "Lodestone signs nothing",
        "sign the zone file before it is served, with dnssec-signzone or ldns-signzone, and read \
         it by 'file'",
    ),
];

/// Plugins that CoreDNS 1.15.0 has and Lodestone does not have yet.
pub const NOT_YET: &[Elsewhere] = &[
    elsewhere(
        "dynupdate",
        "it takes changes of a zone over DNS (UPDATE); CoreDNS has it since 1.15.0, and Lodestone \
         will",
        "keep a CoreDNS for the zone, and write: forward {zone} ADDRESS\nA zone that another \
         program changes as a file is read by 'file' or 'auto'",
    ),
    elsewhere(
        "siit",
        "it makes IPv4 addresses of IPv6 ones; CoreDNS has it since 1.15.0, and Lodestone will",
        "keep a CoreDNS for clients that have IPv4 alone, with 'siit' and a 'forward' to this \
         server",
    ),
];

/// Options that are met at the place of a plugin, for want or excess of a brace, and the plugins
/// that have them.
const OPTIONS: &[(&str, &str)] = &[
    ("class", "log"),
    ("consolidate", "errors"),
    ("denial", "cache"),
    ("endpoint", "kubernetes"),
    ("endpoint_pod_names", "kubernetes"),
    ("except", "forward"),
    ("expire", "forward"),
    ("fallthrough", "kubernetes, hosts, template or file"),
    ("force_tcp", "forward"),
    ("health_check", "forward"),
    ("kubeconfig", "kubernetes"),
    ("lameduck", "health"),
    ("max_concurrent", "forward"),
    ("max_fails", "forward"),
    ("namespaces", "kubernetes"),
    ("no_reverse", "hosts"),
    ("pods", "kubernetes"),
    ("policy", "forward"),
    ("prefer_udp", "forward"),
    ("prefetch", "cache"),
    ("serve_stale", "cache"),
    ("servfail", "cache"),
    ("success", "cache"),
    ("tls_servername", "forward"),
    ("ttl", "kubernetes or hosts"),
];

/// The words that are known beside those of the list, so that [`refuse`] can tell of them.
pub fn words() -> impl Iterator<Item = &'static str> {
    let options = OPTIONS.iter().map(|(name, _)| *name);
    let external = external::EXTERNAL.iter().map(|word| word.name);
    external
        .chain(removed::WORDS.iter().copied())
        .chain(options)
}

/// What to write instead of a plugin of CoreDNS's that is not built.
pub fn left_out(name: &str) -> Option<&'static Elsewhere> {
    let mut words = LEFT_OUT.iter().chain(NOT_YET);
    words.find(|word| word.name == name)
}

/// The error for a use of one of [`words`] in a block with this first key.
pub fn refuse(directive: &Directive, key: Option<&Word>) -> Diagnostic {
    let name = &directive.name;
    let error = name.error(format!("Unknown directive '{name}'"));
    if let Some(told) = removed::refuse(directive, error.clone()) {
        return told;
    }
    if let Some(word) = external::EXTERNAL.iter().find(|word| *name == word.name) {
        let label = format!("no plugin of CoreDNS's own: {}", word.why);
        return error.label(label).help(word.instead(directive));
    }
    match OPTIONS.iter().find(|(option, _)| *name == *option) {
        Some((option, plugins)) => {
            let error = error.label(format!("'{option}' is an option of {plugins}"));
            match key.filter(|key| plugins.split([',', ' ']).any(|plugin| **key == plugin)) {
                Some(key) => error.plugin_for_key(key),
                None => {
                    error.help("move it between the braces of that plugin; is a '}' too early?")
                }
            }
        }
        None => error.expected("the name of a plugin"),
    }
}

impl Elsewhere {
    /// What to do instead of this use.
    pub fn instead(&self, directive: &Directive) -> String {
        let arguments: Vec<&str> = directive.arguments.iter().map(Word::as_str).collect();
        let zone = arguments
            .first()
            .and_then(|first| zone_of(self.name, first));
        let mut told = self.instead.replace("{arguments}", &arguments.join(" "));
        while let Some((before, rest)) = told.split_once("{zone") {
            let Some((default, after)) = rest.split_once('}') else {
                break;
            };
            let default = default.strip_prefix(':').unwrap_or("ZONE");
            told = format!("{before}{}{after}", zone.unwrap_or(default));
        }
        told
    }
}

/// The zone in the first argument of a plugin, each of which has a form of its own.
fn zone_of<'a>(name: &str, first: &'a str) -> Option<&'a str> {
    let zone = match name {
        "route53" | "clouddns" => first.split(':').next(),
        "azure" => first.split(':').nth(1),
        _ => Some(first),
    };
    zone.filter(|zone| !zone.is_empty())
}

#[cfg(test)]
mod tests;
