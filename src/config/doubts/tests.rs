use crate::{
    config::{Config, Source},
    corefile::{Diagnostic, Memory, Severity},
};

fn read(text: &str) -> Vec<Diagnostic> {
    let loader = Memory::default();
    let source = Source {
        name: "Corefile",
        text,
        loader: &loader,
        interfaces: &crate::interfaces::Interfaces::default(),
        default_port: 53,
    };
    let read = Config::read(&source);
    let found = read.map_or_else(|wrong| wrong.list, |config| config.warnings.list);
    assert!(found.iter().all(|one| one.place.is_some()), "{text}");
    found
}

/// `LINE: MESSAGE` of each.
fn told(text: &str) -> Vec<String> {
    let told = read(text).into_iter().map(|one| {
        let line = one.place.map_or(0, |place| place.line);
        format!("{line}: {}", one.message)
    });
    told.collect()
}

const STOCK: &str = ".:53 {\n    errors\n    health {\n        lameduck 5s\n    }\n    ready\n    \
    kubernetes cluster.local in-addr.arpa ip6.arpa {\n        pods insecure\n        \
    fallthrough in-addr.arpa ip6.arpa\n        ttl 30\n    }\n    prometheus :9153\n    \
    forward . /etc/resolv.conf {\n        max_concurrent 1000\n    }\n    cache 30\n    loop\n    \
    reload\n    loadbalance\n}\n";

#[test]
fn what_is_in_order_is_not_doubted() {
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
        assert_eq!(told(text), [""; 0], "{text}");
    }
}

#[test]
fn a_plugin_that_nothing_comes_to_is_told() {
    let cases = [
        (
            ".:53 {\n    forward . 192.0.2.1\n    forward a.example 192.0.2.2\n}\n",
            "3: this 'forward' is never asked",
        ),
        (
            ".:53 {\n    whoami\n    forward . 192.0.2.1\n}\n",
            "2: this 'whoami' is never asked",
        ),
        (
            ".:53 {\n    kubernetes cluster.local\n    hosts\n}\n",
            "2: this 'kubernetes' is never asked",
        ),
        (
            "cluster.local:53 {\n    kubernetes\n    forward . 192.0.2.1\n}\n",
            "3: this 'forward' is never asked",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(told(text), [expected], "{text}");
    }
}

#[test]
fn what_falls_into_nothing_is_told() {
    let lines = "kubernetes cluster.local {\n        fallthrough\n    }";
    let text = format!(".:53 {{\n    {lines}\n}}\n");
    let expected = "3: what falls through 'kubernetes' is answered by nothing in this block";
    assert_eq!(told(&text), [expected]);
    let behind = format!(".:53 {{\n    {lines}\n    forward b.example 192.0.2.1\n}}\n");
    assert_eq!(told(&behind), [expected]);
    let met = format!(".:53 {{\n    {lines}\n    forward a.cluster.local 192.0.2.1\n}}\n");
    assert_eq!(told(&met), [""; 0]);
}

#[test]
fn an_unknown_word_hides_no_other_mistake() {
    let text = ".:53 {\n    forwad . 192.0.2.1\n    kubernetes cluster.local {\n        \
        pods verifed\n        fallthrough\n    }\n}\na.example:53 {\n    cache 30 {\n        \
        prefech 1\n    }\n}\n";
    let told = told(text);
    assert_eq!(told.len(), 3, "{told:#?}");
    for (found, wanted) in told
        .iter()
        .zip(["2: Unknown directive 'forwad'", "4: ", "10: "])
    {
        assert!(found.starts_with(wanted), "{told:#?}");
    }
    // What nothing answers for want of the word is no mistake of its own.
    let alone = ".:53 {\n    hosts {\n        fallthrough\n    }\n    forwad . 192.0.2.1\n}\n";
    assert_eq!(self::told(alone), ["5: Unknown directive 'forwad'"]);
    // Where a brace is missing, what follows makes no sense.
    let open = ".:53 {\n    forward . 192.0.2.1\na.example:53 {\n    cache x y\n}\n";
    let found = self::told(open);
    assert!(
        found.iter().all(|one| !one.starts_with("4: ")),
        "{found:#?}"
    );
}

#[test]
fn a_file_for_the_root_takes_nothing_of_longer_zones() {
    let text = ".:53 {\n    file db.root .\n    file db.a a.example\n}\n";
    assert_eq!(told(text), [""; 0]);
    let text = ".:53 {\n    file db.root . {\n        fallthrough\n    }\n    \
        secondary c.example {\n        transfer from 192.0.2.1\n    }\n}\n";
    assert_eq!(told(text), [""; 0]);
    // The zone of another plugin below it does not come to that.
    let text = ".:53 {\n    file db.root .\n    forward a.example 192.0.2.1\n}\n";
    assert_eq!(told(text), ["3: this 'forward' is never asked"]);
}

#[test]
fn labels_that_nothing_makes_are_told() {
    let known = |lines: &str, more: &str| {
        let text = format!(
            ".:53 {{\n{lines}\n{more}\nkubernetes cluster.local {{\npods verified\n}}\n\
             forward . 192.0.2.1\n}}\n"
        );
        let told = told(&text);
        told.join("; ")
    };
    let label = "nothing is known under the label";
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
        let told = known(line, "metadata");
        match wanted {
            "" => assert_eq!(told, "", "{line}"),
            wanted => {
                assert!(
                    told.ends_with(&format!("{label} '{wanted}'")),
                    "{line}: {told}"
                );
                assert_eq!(told.matches(label).count(), 1, "{line}: {told}");
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
    // Without the plugin that lets them be read, every label is unknown.
    let unread = known("log . \"{/kubernetes/namespace}\"", "");
    assert!(unread.ends_with("label 'kubernetes/namespace'"), "{unread}");
}

/// Each label of the list is known by the plugin that is said to make it.
#[test]
fn makers_are_words_that_work() {
    let words = crate::config::order::ORDER.iter().map(|word| word.name);
    let words: Vec<&str> = words.collect();
    for maker in crate::plugin::metadata::MAKERS {
        assert!(words.contains(&maker.plugin), "{}", maker.plugin);
        let first = format!("{}/", maker.plugin);
        assert!(maker.labels.iter().all(|label| label.starts_with(&first)));
    }
}

#[test]
fn zones_of_another_block_are_told() {
    let cases = [
        (
            "a.example:53 {\n    forward b.example 192.0.2.1\n}\n",
            "2: 'forward' is for no name that comes to this block",
        ),
        (
            "a.example:53 {\n    cache 30 b.example\n    whoami\n}\n",
            "2: 'cache' is for no name that comes to this block",
        ),
        (
            "a.example:53 {\n    cache 30s\n    whoami\n}\n",
            "2: '30s' is read as a zone: nothing of use is cached",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(told(text), [expected], "{text}");
    }
}

#[test]
fn what_meets_itself_is_told() {
    let cases = [
        (
            ".:53 {\n    forward . 127.0.0.1\n}\n",
            "2: 127.0.0.1 is this server block itself",
        ),
        (
            ".:1053 {\n    bind 192.0.2.7\n    forward . 192.0.2.8 192.0.2.7:1053\n}\n",
            "3: 192.0.2.7:1053 is this server block itself",
        ),
        (
            ".:53 {\n    kubernetes cluster.local\n    forward . 10.96.0.10\n}\n",
            "3: 10.96.0.10 is as a rule the cluster's own DNS",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(told(text), [expected], "{text}");
    }
}

#[test]
fn a_page_on_the_port_of_a_server_is_refused() {
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
fn two_transports_on_a_port_are_told() {
    let text = "tls://.:853 {\n    tls a b\n    whoami\n}\ndns://.:853 {\n    whoami\n}\n";
    assert_eq!(told(text), ["5: dns:// and tls:// are served on port 853"]);
}

#[test]
fn two_ways_of_tls_on_a_port_are_refused() {
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
    // Files that differ by name may hold the same, and other addresses are other listeners.
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
fn blocks_of_one_listener_agree_on_the_streams_of_http2() {
    let block = |zone: &str, lines: &str| {
        format!("https://{zone}:443 {{\n    tls a b\n    {lines}\n    whoami\n}}\n")
    };
    let https = |streams| format!("https {{\n        max_streams {streams}\n    }}");
    let bound = |to: &str, streams| format!("bind {to}\n    {}", https(streams));
    let wrong = "plugin/https: two blocks on port 443 say different max_streams: 4 and 3";
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
        assert_eq!(told(&text), wanted, "{text}");
    }
}

#[test]
fn what_answers_is_known_in_the_order_in_which_it_is_asked() {
    let words = crate::config::order::ORDER.iter().map(|word| word.name);
    let words: Vec<&str> = words.collect();
    let places = super::chain::ANSWERERS.iter().map(|one| {
        let place = words.iter().position(|word| *word == one.name);
        place.unwrap_or_else(|| panic!("{} is no word", one.name))
    });
    assert!(places.is_sorted());
}
