//! Words that old versions of CoreDNS had, with the lines that say the same today.

use crate::corefile::{Diagnostic, Directive, Word};

/// In alphabetical order.
pub(super) const WORDS: &[&str] = &["federation", "proxy", "reverse", "shutdown", "startup"];

/// Policies of `proxy`, and those of `forward` that do the same or come nearest.
const POLICIES: [(&str, &str); 5] = [
    ("first", "sequential"),
    ("least_conn", "random"),
    ("random", "random"),
    ("round_robin", "round_robin"),
    ("sequential", "sequential"),
];

/// Completes the error for one of [`WORDS`]; nothing for another word.
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

/// The `forward` for a `proxy`.
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
            // How to check, and other protocols: 'forward' has its own ways.
            _ => {}
        }
    }
    // Its default was to take any.
    Directive::written(format!("forward {words}").trim_end(), &lines)
}

/// The `template` for a `reverse`, as far as it can be told.
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
