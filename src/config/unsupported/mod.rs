//! Directives that are recognized but not supported, each with the closest alternative.
//!
//! Five kinds: CoreDNS plugins that are excluded ([`EXCLUDED`]) or not implemented yet
//! ([`NOT_YET`]), external plugins of CoreDNS (`external`), directives that CoreDNS has removed
//! (`removed`), and options outside of the block of their plugin (`OPTIONS`). The parser accepts
//! all of them, so that the error can suggest a replacement with the directive's own arguments,
//! instead of "unknown".

mod external;
mod removed;

use crate::corefile::{Diagnostic, Directive, Word};

/// A directive that is not supported.
#[derive(Clone, Copy, Debug)]
pub struct UnsupportedDirective {
    /// As written in a Corefile.
    pub name: &'static str,
    /// What it does, or why it is not supported. Printed under the caret.
    pub why: &'static str,
    /// The alternative. `{zone}` is replaced by the zone in the first argument, `{arguments}` by
    /// all arguments.
    pub instead: &'static str,
}

const fn unsupported(
    name: &'static str,
    why: &'static str,
    instead: &'static str,
) -> UnsupportedDirective {
    UnsupportedDirective { name, why, instead }
}

/// CoreDNS plugins that Lodestone does not implement.
pub const EXCLUDED: &[UnsupportedDirective] = &[
    unsupported(
        "azure",
        "it copies zones out of Azure, whose own resolver answers them",
        "within Azure: forward {zone} 168.63.129.16",
    ),
    unsupported(
        "clouddns",
        "it copies zones out of Google Cloud, whose own resolver answers them",
        "within Google Cloud: forward {zone} 169.254.169.254",
    ),
    unsupported(
        "dnssec",
        "Lodestone signs nothing: a cluster's names change with each pod",
        "remove the line; a zone that must be signed is best signed before it is served, with \
         dnssec-signzone or ldns-signzone, and read by 'file'",
    ),
    unsupported(
        "geoip",
        "it needs a database of locations, which Lodestone does not read",
        "remove the line; to tell clients apart by their networks, use a 'view' with \
         incidr(client_ip(), 'NETWORK')",
    ),
    unsupported(
        "nomad",
        "it queries Nomad for services, which Lodestone does not",
        "keep a CoreDNS beside Nomad for it, and write: forward {zone:service.nomad} ADDRESS",
    ),
    unsupported(
        "on",
        "it runs programs, which a name server should have no right to",
        "use the container's lifecycle hooks (postStart, preStop), or ExecStartPost of systemd",
    ),
    unsupported(
        "route53",
        "it copies zones out of Route 53, whose own resolver answers them",
        "within AWS: forward {zone} 169.254.169.253",
    ),
    unsupported(
        "sign",
        "Lodestone signs nothing",
        "sign the zone file before it is served, with dnssec-signzone or ldns-signzone, and read \
         it by 'file'",
    ),
];

/// Plugins that CoreDNS 1.15.0 has and Lodestone does not have yet.
pub const NOT_YET: &[UnsupportedDirective] = &[
    unsupported(
        "dynupdate",
        "it accepts changes of a zone over DNS (UPDATE); CoreDNS has it since 1.15.0, and Lodestone \
         will",
        "keep a CoreDNS for the zone, and write: forward {zone} ADDRESS\nA zone that another \
         program changes as a file is read by 'file' or 'auto'",
    ),
    unsupported(
        "siit",
        "it translates IPv6 addresses to IPv4; CoreDNS has it since 1.15.0, and Lodestone will",
        "keep a CoreDNS for clients that have IPv4 alone, with 'siit' and a 'forward' to this \
         server",
    ),
];

/// Options found where a directive is expected, because of a missing or an extra brace, and the
/// plugins that have them.
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
    ("quiet", "health"),
    ("serve_stale", "cache"),
    ("servfail", "cache"),
    ("success", "cache"),
    ("tls_servername", "forward"),
    ("ttl", "kubernetes or hosts"),
];

/// The recognized directives that are not in [`ORDER`](super::order::ORDER); [`refuse`] creates
/// their errors.
pub fn words() -> impl Iterator<Item = &'static str> {
    let options = OPTIONS.iter().map(|(name, _)| *name);
    let external = external::EXTERNAL.iter().map(|word| word.name);
    external
        .chain(removed::WORDS.iter().copied())
        .chain(options)
}

/// The alternative for a CoreDNS plugin that is not implemented.
pub fn find(name: &str) -> Option<&'static UnsupportedDirective> {
    let mut words = EXCLUDED.iter().chain(NOT_YET);
    words.find(|word| word.name == name)
}

/// The error for a use of one of [`words`] in a block with this first key.
pub fn refuse(directive: &Directive, key: Option<&Word>) -> Diagnostic {
    let name = &directive.name;
    let error = name.error(format!("Unknown directive '{name}'"));
    if let Some(error) = removed::refuse(directive, error.clone()) {
        return error;
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

impl UnsupportedDirective {
    /// The alternative for this use.
    pub fn instead(&self, directive: &Directive) -> String {
        let arguments: Vec<&str> = directive.arguments.iter().map(Word::as_str).collect();
        let zone = arguments
            .first()
            .and_then(|first| zone_of(self.name, first));
        let mut text = self.instead.replace("{arguments}", &arguments.join(" "));
        while let Some((before, rest)) = text.split_once("{zone") {
            let Some((default, after)) = rest.split_once('}') else {
                break;
            };
            let default = default.strip_prefix(':').unwrap_or("ZONE");
            text = format!("{before}{}{after}", zone.unwrap_or(default));
        }
        text
    }
}

/// The zone in the first argument of a plugin. Some plugins have their own syntax for it.
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
