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
fn two_transports_on_a_port_and_two_certificates_are_told() {
    let text = "tls://.:853 {\n    tls a b\n    whoami\n}\ndns://.:853 {\n    whoami\n}\n";
    assert_eq!(told(text), ["5: dns:// and tls:// are served on port 853"]);
    let text = "tls://a.example {\n    tls a b\n    whoami\n}\n\
         tls://b.example {\n    tls c d\n    whoami\n}\n";
    assert_eq!(
        told(text),
        ["6: two blocks on one port have different certificates"]
    );
}
