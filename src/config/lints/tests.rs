use crate::{
    config::{Config, Source},
    corefile::{Diagnostic, InMemory, Severity},
};

fn read(text: &str) -> Vec<Diagnostic> {
    let loader = InMemory::default();
    let source = Source {
        name: "Corefile",
        text,
        loader: &loader,
        interfaces: &crate::interfaces::Interfaces::default(),
        default_port: 53,
    };
    let read = Config::read(&source);
    let found = read.map_or_else(|wrong| wrong.list, |config| config.warnings.list);
    assert!(found.iter().all(|one| one.span.is_some()), "{text}");
    found
}

/// `LINE: MESSAGE` of each.
fn messages(text: &str) -> Vec<String> {
    let found = read(text).into_iter().map(|one| {
        let line = one.span.map_or(0, |span| span.line);
        format!("{line}: {}", one.message)
    });
    found.collect()
}

const STOCK: &str = ".:53 {\n    errors\n    health {\n        lameduck 5s\n    }\n    ready\n    \
    kubernetes cluster.local in-addr.arpa ip6.arpa {\n        pods insecure\n        \
    fallthrough in-addr.arpa ip6.arpa\n        ttl 30\n    }\n    prometheus :9153\n    \
    forward . /etc/resolv.conf {\n        max_concurrent 1000\n    }\n    cache 30\n    loop\n    \
    reload\n    loadbalance\n}\n";

#[test]
fn correct_configurations_have_no_lints() {
    for text in [
        STOCK,
        "cluster.local:53 {\n    kubernetes cluster.local in-addr.arpa ip6.arpa\n}\n",
        ".:53 {\n    hosts {\n        fallthrough\n    }\n    forward . 192.0.2.1\n}\n",
        ".:53 {\n    hosts\n    forward 10.in-addr.arpa 192.0.2.1\n}\n",
        "a.example:53 {\n    hosts /etc/hosts b.a.example\n    forward . 127.0.0.1:5353\n}\n",
        ".:1053 {\n    forward . 127.0.0.1:1054\n}\n.:1054 {\n    whoami\n}\n",
        ".:53 {\n    forward a.example 127.0.0.1\n}\na.example:53 {\n    whoami\n}\n",
        ".:53 {\n    bind 127.0.0.1\n    forward . 127.0.0.2\n}\n",
        ".:53 {\n    forward a.example 192.0.2.1\n    forward . 192.0.2.2\n}\n",
        ".:53 {\n    forward . 192.0.2.1 {\n        next NXDOMAIN\n    }\n    \
         forward . 192.0.2.2\n}\n",
        ".:8080 {\n    bind 127.0.0.2\n    health 127.0.0.1:8080\n}\n",
        ".:53 {\n    cache 30 b.example\n    whoami\n}\n",
    ] {
        assert_eq!(messages(text), [""; 0], "{text}");
    }
}

#[test]
fn unreachable_plugins_are_reported() {
    let cases = [
        (
            ".:53 {\n    forward . 192.0.2.1\n    forward a.example 192.0.2.2\n}\n",
            "3: this 'forward' is never reached",
        ),
        (
            ".:53 {\n    whoami\n    forward . 192.0.2.1\n}\n",
            "2: this 'whoami' is never reached",
        ),
        (
            ".:53 {\n    kubernetes cluster.local\n    hosts\n}\n",
            "2: this 'kubernetes' is never reached",
        ),
        (
            "cluster.local:53 {\n    kubernetes\n    forward . 192.0.2.1\n}\n",
            "3: this 'forward' is never reached",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(messages(text), [expected], "{text}");
    }
}

#[test]
fn unanswered_fallthrough_is_reported() {
    let lines = "kubernetes cluster.local {\n        fallthrough\n    }";
    let text = format!(".:53 {{\n    {lines}\n}}\n");
    let expected = "3: queries that fall through 'kubernetes' reach no other plugin of this block";
    assert_eq!(messages(&text), [expected]);
    let behind = format!(".:53 {{\n    {lines}\n    forward b.example 192.0.2.1\n}}\n");
    assert_eq!(messages(&behind), [expected]);
    let met = format!(".:53 {{\n    {lines}\n    forward a.cluster.local 192.0.2.1\n}}\n");
    assert_eq!(messages(&met), [""; 0]);
}

#[test]
fn unknown_directives_do_not_hide_other_errors() {
    let text = ".:53 {\n    forwad . 192.0.2.1\n    kubernetes cluster.local {\n        \
        pods verifed\n        fallthrough\n    }\n}\na.example:53 {\n    cache 30 {\n        \
        prefech 1\n    }\n}\n";
    let found = messages(text);
    assert_eq!(found.len(), 3, "{found:#?}");
    for (message, wanted) in found
        .iter()
        .zip(["2: Unknown directive 'forwad'", "4: ", "10: "])
    {
        assert!(message.starts_with(wanted), "{found:#?}");
    }
    // The unknown directive might answer: no warning about its absence.
    let alone = ".:53 {\n    hosts {\n        fallthrough\n    }\n    forwad . 192.0.2.1\n}\n";
    assert_eq!(self::messages(alone), ["5: Unknown directive 'forwad'"]);
    // After a missing brace, the rest of the file cannot be interpreted.
    let open = ".:53 {\n    forward . 192.0.2.1\na.example:53 {\n    cache x y\n}\n";
    let found = self::messages(open);
    assert!(
        found.iter().all(|one| !one.starts_with("4: ")),
        "{found:#?}"
    );
}

#[test]
fn failed_imports_do_not_hide_other_errors() {
    for import in ["import none", "import a b", "import"] {
        let text = format!(
            "{import}\n.:53 {{\n    {import}\n    cache 30 {{\n        prefech 1\n    }}\n}}\n"
        );
        let found = messages(&text);
        assert_eq!(found.len(), 3, "{found:#?}");
        for (message, place) in found.iter().zip(["1: ", "3: ", "5: unknown property"]) {
            assert!(message.starts_with(place), "{found:#?}");
        }
    }
    // No word of the built-in default, although there is no block.
    assert_eq!(
        messages("import none\n"),
        ["1: File to import not found: none"]
    );
}

#[test]
fn a_directive_does_not_hide_errors_of_later_ones() {
    let text = ".:53 {\n    forward a.example\n    forward b.example x..y\n    forward . 192.0.2.1 {\n        \
        max_fails x\n    }\n}\n";
    let found = messages(text);
    assert_eq!(found.len(), 3, "{found:#?}");
    for (message, place) in found.iter().zip(["2: ", "3: ", "5: "]) {
        assert!(message.starts_with(place), "{found:#?}");
    }
}

#[test]
fn a_root_zone_file_does_not_hide_longer_zones() {
    let text = ".:53 {\n    file db.root .\n    file db.a a.example\n}\n";
    assert_eq!(messages(text), [""; 0]);
    let text = ".:53 {\n    file db.root . {\n        fallthrough\n    }\n    \
        secondary c.example {\n        transfer from 192.0.2.1\n    }\n}\n";
    assert_eq!(messages(text), [""; 0]);
    // The other plugin's zone is longer and unaffected.
    let text = ".:53 {\n    file db.root .\n    forward a.example 192.0.2.1\n}\n";
    assert_eq!(messages(text), ["3: this 'forward' is never reached"]);
}

#[test]
fn labels_that_no_plugin_sets_are_reported() {
    let known = |lines: &str, more: &str| {
        let text = format!(
            ".:53 {{\n{lines}\n{more}\nkubernetes cluster.local {{\npods verified\n}}\n\
             forward . 192.0.2.1\n}}\n"
        );
        let found = messages(&text);
        found.join("; ")
    };
    let label = "no plugin sets the metadata label";
    for (line, wanted) in [
        ("log . \"{/log/class} {/log/type} {/forward/upstream}\"", ""),
        (
            "log . \"{/kubernetes/namespace} {/kubernetes/client-label/a.b/c}\"",
            "",
        ),
        ("log . \"{name} {type}\"", ""),
        ("log . \"{/kubernetes/namespce}\"", "kubernetes/namespce"),
        ("log . \"{/log/clas} {/log/type}\"", "log/clas"),
        ("log . \"{/geoip/city/name}\"", "geoip/city/name"),
        ("log . \"{/view/name}\"", "view/name"),
        (
            "dnstap /tmp/sock full {\nextra \"{/log/class}\"\n}",
            "log/class",
        ),
        (
            "view a {\nexpr metadata('kubernetes/client-namespace') == 'a'\n}",
            "",
        ),
        (
            "view a {\nexpr metadata('kubernetes/client-nmespace') == 'a'\n}",
            "kubernetes/client-nmespace",
        ),
        (
            "view a {\nexpr metadata('forward/upstream') == 'a'\n}",
            "forward/upstream",
        ),
        (
            "rewrite name regex (.*) {1}.{kubernetes/namespace}.a metadata answer auto",
            "",
        ),
        (
            "rewrite name regex (.*) {1}.{kubernetes/nope}.a metadata answer auto",
            "kubernetes/nope",
        ),
        ("rewrite name regex ([0-9]{1}) {1}.{a/b}.a answer auto", ""),
        ("rewrite edns0 local set 0xffee {kubernetes/service}", ""),
        (
            "rewrite edns0 local set 0xffee {proxyproto/tlv}",
            "proxyproto/tlv",
        ),
    ] {
        let found = known(line, "metadata");
        match wanted {
            "" => assert_eq!(found, "", "{line}"),
            wanted => {
                assert!(
                    found.ends_with(&format!("{label} '{wanted}'")),
                    "{line}: {found}"
                );
                assert_eq!(found.matches(label).count(), 1, "{line}: {found}");
            }
        }
    }
    let line = "template IN TXT a.example {\nanswer \"{{ .Name }} 60 IN TXT {{ .Meta \\\"a/b\\\" }}\"\n\
        fallthrough\n}";
    assert!(
        known(line, "metadata").ends_with("label 'a/b'"),
        "{}",
        known(line, "metadata")
    );
    // Without `metadata` every label is unknown.
    let unread = known("log . \"{/kubernetes/namespace}\"", "");
    assert!(unread.ends_with("label 'kubernetes/namespace'"), "{unread}");
}

/// Each listed label is recognized with the plugin that sets it.
#[test]
fn listed_labels_belong_to_supported_plugins() {
    let words = crate::config::order::ORDER.iter().map(|word| word.name);
    let words: Vec<&str> = words.collect();
    for publisher in crate::plugin::metadata::PUBLISHERS {
        assert!(words.contains(&publisher.plugin), "{}", publisher.plugin);
        let first = format!("{}/", publisher.plugin);
        assert!(
            publisher
                .labels
                .iter()
                .all(|label| label.starts_with(&first))
        );
    }
}

#[test]
fn zones_outside_of_the_block_are_reported() {
    let cases = [
        (
            "a.example:53 {\n    forward b.example 192.0.2.1\n}\n",
            "2: the zones of 'forward' are outside of this server block",
        ),
        (
            "a.example:53 {\n    cache 30 b.example\n    whoami\n}\n",
            "2: the zones of 'cache' are outside of this server block",
        ),
        (
            "a.example:53 {\n    cache 30s\n    whoami\n}\n",
            "2: '30s' is read as a zone: nothing of use is cached",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(messages(text), [expected], "{text}");
    }
}

#[test]
fn forwarding_loops_are_reported() {
    let cases = [
        (
            ".:53 {\n    forward . 127.0.0.1\n}\n",
            "2: 127.0.0.1 is an address of this server block",
        ),
        (
            ".:1053 {\n    bind 192.0.2.7\n    forward . 192.0.2.8 192.0.2.7:1053\n}\n",
            "3: 192.0.2.7:1053 is an address of this server block",
        ),
        (
            ".:53 {\n    kubernetes cluster.local\n    forward . 10.96.0.10\n}\n",
            "3: 10.96.0.10 is usually the address of the cluster's own DNS",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(messages(text), [expected], "{text}");
    }
}

#[test]
fn http_pages_on_dns_ports_are_refused() {
    for text in [
        ".:8080 {\n    health\n}\n",
        ".:53 {\n    ready 127.0.0.1:8181\n}\n.:8181 {\n    whoami\n}\n",
        ".:9153 {\n    prometheus 0.0.0.0:9153\n}\n",
    ] {
        let found = read(text);
        assert_eq!(found.len(), 1, "{text}");
        assert_eq!(found[0].severity, Severity::Error, "{text}");
    }
}

#[test]
fn two_transports_on_one_port_are_reported() {
    let text = "tls://.:853 {\n    tls a b\n    whoami\n}\ndns://.:853 {\n    whoami\n}\n";
    assert_eq!(
        messages(text),
        ["5: dns:// and tls:// are served on port 853"]
    );
}

#[test]
fn conflicting_tls_on_one_port_is_refused() {
    let text = |scheme: &str, mine: &str, theirs: &str| {
        let block = |zone, lines| format!("{scheme}://{zone}:853 {{\n{lines}\nwhoami\n}}\n");
        block("a.example", mine) + &block("b.example", theirs)
    };
    let asks = |kind: &str| format!("tls a b ca {{\nclient_auth {kind}\n}}");
    let verify = asks("require_and_verify");
    for (scheme, mine, theirs, what) in [
        (
            "tls",
            &*verify,
            "tls a b",
            "client authentication policies differ",
        ),
        (
            "tls",
            "tls a b",
            &*verify,
            "client authentication policies differ",
        ),
        (
            "quic",
            &*verify,
            &asks("require"),
            "client authentication policies differ",
        ),
        ("tls", "tls a b", &asks("nocert"), "client CA pools differ"),
        (
            "https",
            "tls a b",
            "",
            "TLS is configured for only one server block",
        ),
        (
            "grpc",
            "",
            "tls a b",
            "TLS is configured for only one server block",
        ),
    ] {
        let text = text(scheme, mine, theirs);
        let found = read(&text);
        let errors: Vec<_> = found
            .iter()
            .filter(|one| one.severity == Severity::Error)
            .collect();
        assert_eq!(errors.len(), 1, "{text}: {found:?}");
        let message = &errors[0].message;
        let zones = "between zones \"a.example.\" and \"b.example.\": ";
        assert!(message.ends_with(&format!("{zones}{what}")), "{message}");
        assert!(errors[0].also.is_some());
    }
    // Different file names may have the same content, and other addresses are other listeners.
    for text in [
        text("tls", "tls a b", "tls ./a b"),
        text("https", "tls a b\nbind 127.0.0.1", "bind 127.0.0.2"),
        text("https", "tls a b", "bind 127.0.0.2"),
    ] {
        assert!(
            read(&text)
                .iter()
                .all(|one| one.severity == Severity::Warning),
            "{text}"
        );
    }
}

#[test]
fn http2_stream_limits_of_one_listener_must_agree() {
    let block = |zone: &str, lines: &str| {
        format!("https://{zone}:443 {{\n    tls a b\n    {lines}\n    whoami\n}}\n")
    };
    let https = |streams| format!("https {{\n        max_streams {streams}\n    }}");
    let bound = |to: &str, streams| format!("bind {to}\n    {}", https(streams));
    let wrong = "plugin/https: two blocks on port 443 have different max_streams: 4 and 3";
    for (first, second, told_at) in [
        (https(3), https(4), Some(11)),
        (https(3), https(3), None),
        (https(3), String::new(), None),
        (bound("127.0.0.1", 3), bound("127.0.0.1", 4), Some(13)),
        (bound("127.0.0.1", 3), bound("127.0.0.2", 4), None),
        (https(3), bound("127.0.0.1", 4), None),
    ] {
        let text = block("a.example", &first) + &block("b.example", &second);
        let wanted: Vec<_> = told_at
            .iter()
            .map(|line| format!("{line}: {wrong}"))
            .collect();
        assert_eq!(messages(&text), wanted, "{text}");
    }
}

#[test]
fn answering_plugins_are_listed_in_chain_order() {
    let words = crate::config::order::ORDER.iter().map(|word| word.name);
    let words: Vec<&str> = words.collect();
    let places = super::chain::ANSWERING_PLUGINS.iter().map(|one| {
        let index = words.iter().position(|word| *word == one.name);
        index.unwrap_or_else(|| panic!("{} is no word", one.name))
    });
    assert!(places.is_sorted());
}
