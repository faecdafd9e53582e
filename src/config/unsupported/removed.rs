//! Directives that CoreDNS has removed, with their current replacement.

use crate::corefile::{Diagnostic, Directive, Word};

/// In alphabetical order.
pub(super) const WORDS: &[&str] = &["federation", "proxy", "reverse", "shutdown", "startup"];

/// Policies of `proxy`, and the equivalent or closest policies of `forward`.
const POLICIES: [(&str, &str); 5] = [
    ("first", "sequential"),
    ("least_conn", "random"),
    ("random", "random"),
    ("round_robin", "round_robin"),
    ("sequential", "sequential"),
];

/// Completes the error for one of [`WORDS`]; `None` for any other directive.
pub(super) fn refuse(directive: &Directive, error: Diagnostic) -> Option<Diagnostic> {
    let (label, help) = match directive.name.as_str() {
        "proxy" => (
            "CoreDNS removed it in 1.5.0; 'forward' does its work",
            format!("write instead:\n{}", forward(directive)),
        ),
        "federation" => (
            "CoreDNS removed it in 1.7.0, with the federation that it was for",
            "remove it and its block".to_owned(),
        ),
        "reverse" => (
            "CoreDNS removed it in 1.1.4; 'template' does its work",
            format!("write instead:\n{}", template(directive)),
        ),
        "startup" | "shutdown" => (
            "CoreDNS removed it in 1.1.0, and this server runs no programs",
            "use the container's lifecycle hooks (postStart, preStop)".to_owned(),
        ),
        _ => return None,
    };
    Some(error.label(label).help(help))
}

/// The `forward` that replaces a `proxy`.
fn forward(proxy: &Directive) -> String {
    let words = Word::join(&proxy.arguments);
    let mut lines = Vec::new();
    for line in proxy.properties() {
        let rest = Word::join(&line.words[1..]);
        match line.name().as_str() {
            "policy" => {
                let known = POLICIES.iter().find(|(old, _)| *old == rest);
                lines.extend(known.map(|(_, new)| format!("policy {new}")));
            }
            "except" | "max_fails" => lines.push(Word::join(&line.words)),
            "protocol" if rest == "dns force_tcp" => lines.push("force_tcp".to_owned()),
            // `forward` has its own health checks and protocols.
            _ => {}
        }
    }
    // Without an argument, `proxy` served all zones.
    Directive::written(format!("forward {words}").trim_end(), &lines)
}

/// The `template` that replaces a `reverse`, except for its zone.
fn template(reverse: &Directive) -> String {
    let networks = Word::join(&reverse.arguments);
    let ttl = reverse
        .property("ttl")
        .and_then(|line| line.words.get(1))
        .map_or("60", |ttl| ttl.as_str());
    let head = format!("template IN PTR {networks}");
    let answer = format!(
        "answer \"{{{{ .Name }}}} {ttl} IN PTR ip-{{{{ .Group.d }}}}-{{{{ .Group.c }}}}-\
         {{{{ .Group.b }}}}-{{{{ .Group.a }}}}.ZONE.\""
    );
    let lines = [
        "match ^(?P<a>\\d+)[.](?P<b>\\d+)[.](?P<c>\\d+)[.](?P<d>\\d+)[.]in-addr[.]arpa[.]$"
            .to_owned(),
        answer,
    ];
    Directive::written(head.trim_end(), &lines)
}
