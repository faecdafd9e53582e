use super::*;
use crate::{
    config::{
        Config, Source,
        order::{Kind, ORDER},
    },
    corefile::InMemory,
};

/// The errors of a block with these lines: message, label and help.
fn errors_of(lines: &str) -> String {
    let text = format!(".:53 {{\n{lines}\n}}\n");
    let loader = InMemory::default();
    let source = Source {
        name: "Corefile",
        text: &text,
        loader: &loader,
        interfaces: &crate::interfaces::Interfaces::default(),
        default_port: 53,
    };
    let errors = Config::read(&source).unwrap_err();
    let errors = errors.list.into_iter().map(|one| {
        assert!(one.span.is_some(), "{lines}");
        format!(
            "{} | {} | {}",
            one.message,
            one.label.unwrap_or_default(),
            one.help.unwrap_or_default()
        )
    });
    errors.collect::<Vec<_>>().join("\n")
}

#[test]
fn excluded_plugins_have_an_alternative() {
    for (lines, expected) in [
        (
            "route53 example.org.:Z1Z2Z3Z4DZ5Z6Z7",
            "plugin/route53: not built into Lodestone | it copies zones out of Route 53, whose own \
             resolver answers them | within AWS: forward example.org. 169.254.169.253",
        ),
        (
            "azure group:example.org",
            "plugin/azure: not built into Lodestone | it copies zones out of Azure, whose own \
             resolver answers them | within Azure: forward example.org 168.63.129.16",
        ),
        (
            "k8s_gateway ingress.example",
            "Unknown directive 'k8s_gateway' | no plugin of CoreDNS's own: it serves the host names of \
             Ingresses and Gateways | keep its own Deployment, and write: forward ingress.example \
             ADDRESS\nServices of type LoadBalancer are answered here by: k8s_external \
             ingress.example",
        ),
        (
            "mdns",
            "Unknown directive 'mdns' | no plugin of CoreDNS's own: it queries the local network over \
             multicast | list the hosts in a file: hosts FILE ZONE { fallthrough }",
        ),
        (
            "pods insecure",
            "Unknown directive 'pods' | 'pods' is an option of kubernetes | move it between the \
             braces of that plugin; is a '}' too early?",
        ),
    ] {
        assert_eq!(errors_of(lines), expected);
    }
}

#[test]
fn plugins_not_implemented_yet_have_an_alternative() {
    for (lines, expected) in [
        (
            "siit {\nipv6_prefix 64:ff9b::/96\n}",
            "plugin/siit: not built into Lodestone | it translates IPv6 addresses to IPv4; CoreDNS \
             has it since 1.15.0, and Lodestone will | keep a CoreDNS for clients that have IPv4 \
             alone, with 'siit' and a 'forward' to this server",
        ),
        (
            "dynupdate dyn.example {\nfile a\n}",
            "plugin/dynupdate: not built into Lodestone | it accepts changes of a zone over DNS \
             (UPDATE); CoreDNS has it since 1.15.0, and Lodestone will | keep a CoreDNS for the \
             zone, and write: forward dyn.example ADDRESS\nA zone that another program changes as \
             a file is read by 'file' or 'auto'",
        ),
        (
            "proxyproto {\ntlv_metadata\n}",
            "plugin/proxyproto: 'tlv_metadata' is not built into Lodestone | CoreDNS has it since \
             1.15.0, and Lodestone will | remove the line: the label proxyproto/tlv is unknown \
             here, the rest of 'proxyproto' works",
        ),
    ] {
        assert_eq!(errors_of(lines), expected);
    }
}

#[test]
fn removed_directives_have_their_replacement() {
    for (lines, expected) in [
        (
            "proxy . /etc/resolv.conf",
            "Unknown directive 'proxy' | CoreDNS removed it in 1.5.0; 'forward' does its work | \
             write instead:\nforward . /etc/resolv.conf",
        ),
        (
            "proxy . 10.0.0.1:53 10.0.0.2 {\npolicy least_conn\nfail_timeout 2s\nmax_fails 3\n\
             except a.example\nprotocol dns force_tcp\n}",
            "Unknown directive 'proxy' | CoreDNS removed it in 1.5.0; 'forward' does its work | \
             write instead:\nforward . 10.0.0.1:53 10.0.0.2 {\n    policy random\n    max_fails 3\n    \
             except a.example\n    force_tcp\n}",
        ),
        (
            "kubernetes cluster.local 10.0.0.0/24 in-addr.arpa {\nupstream\nresyncperiod 5m\n\
             transfer to 10.1.0.1\n}",
            "unknown property 'upstream' | CoreDNS removed it in 1.7.0 | remove the line: CNAME \
             targets outside the zones are resolved by this server itself\n\
             unknown property 'resyncperiod' | CoreDNS removed it in 1.7.0 | remove the line: the \
             cluster is watched, not polled\n\
             unknown property 'transfer' | CoreDNS removed it in 1.8.0; 'transfer' is a plugin of \
             its own | remove the line, and write beside 'kubernetes':\ntransfer cluster.local {\n    \
             to 10.1.0.1\n}",
        ),
        (
            "federation cluster.local {\nprod prod.example\n}",
            "Unknown directive 'federation' | CoreDNS removed it in 1.7.0, with the federation that \
             it was for | remove it and its block",
        ),
    ] {
        assert_eq!(errors_of(lines), expected);
    }
}

#[test]
fn unsupported_directives_are_listed_once_and_not_supported() {
    let mut all: Vec<&str> = words().collect();
    all.extend(EXCLUDED.iter().chain(NOT_YET).map(|word| word.name));
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
    for word in ORDER {
        let is_absent = matches!(word.kind, Kind::Absent(_));
        assert!(is_absent || find(word.name).is_none(), "{}", word.name);
        assert!(words().all(|other| other != word.name), "{}", word.name);
    }
    for word in external::EXTERNAL.windows(2) {
        assert!(word[0].name < word[1].name, "{}", word[1].name);
    }
}

#[test]
fn unsupported_directives_are_not_suggested_for_misspelt_ones() {
    assert!(errors_of("kuberntes").contains("did you mean 'kubernetes'?"));
    assert!(!errors_of("adz").contains("did you mean"));
}
