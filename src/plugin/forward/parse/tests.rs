use super::*;
use crate::plugin::testing;

fn parsed(text: &str) -> Result<Config, String> {
    testing::read(text, ".", parse).map(|(config, _)| config)
}

#[test]
fn the_stock_line() {
    let config = parsed("forward . /etc/resolv.conf {\n max_concurrent 1000\n}").unwrap();
    assert_eq!(config.to, [Destination::File("/etc/resolv.conf".into())]);
    assert_eq!(config.max_concurrent, 1000);
    assert_eq!(config.from, Name::ROOT);
    assert_eq!(
        (config.max_fails, config.plan.policy),
        (2, SelectionPolicy::Random)
    );
}

#[test]
fn every_property_is_read() {
    let (config, warnings) = testing::read(
        "forward Example.org 10.0.0.1 tls://10.0.0.2 10.0.0.1 {
            except a.example.org B.example.org
            except c.example.org
            prefer_udp
            expire 20s
            max_age 1m
            max_idle_conns 3
            read_timeout 1s
            max_fails 0
            max_connect_attempts 0
            health_check 0.25s no_rec domain example.net
            tls cert.pem key.pem ca.pem
            tls_servername dns.example.org
            policy sequential
            max_concurrent 5
            next NXDOMAIN refused
            next_on_nodata
            failover ServFail
            failfast_all_unhealthy_upstreams
            source_address 10.0.0.9
        }",
        ".",
        parse,
    )
    .unwrap();
    let named = |text: &str| Name::parse(text).unwrap();
    assert_eq!(config.from, named("example.org"));
    assert_eq!(config.except.len(), 3);
    assert_eq!(config.except[1], named("b.example.org"));
    assert_eq!(config.to.len(), 2, "each server once");
    assert!(config.prefer_udp && !config.force_tcp && config.next_on_nodata);
    assert_eq!(config.pool.expire, Duration::from_secs(20));
    assert_eq!(config.pool.max_age, Duration::from_mins(1));
    assert_eq!(config.pool.max_idle, 3);
    assert_eq!(config.plan.read_timeout, Some(Duration::from_secs(1)));
    assert_eq!(config.plan.max_attempts, Some(0));
    assert_eq!((config.max_fails, config.max_concurrent), (0, 5));
    assert_eq!(config.check.interval, Duration::from_millis(250));
    assert_eq!(config.check.domain, named("example.net"));
    assert!(!config.check.recursion_desired && config.plan.failfast);
    assert!(config.tls.identity.is_some() && config.tls.authorities.is_some());
    assert_eq!(config.plan.policy, SelectionPolicy::Sequential);
    assert_eq!(config.next, [Rcode::NXDOMAIN, Rcode::REFUSED]);
    assert_eq!(*config.plan.failover, [Rcode::SERVFAIL]);
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn names_and_what_is_for_them() {
    let (config, warnings) = testing::read(
        "forward . dns.example https://dns.google quic://10.0.0.1 {
            resolver 10.0.0.2 10.0.0.3:54 [fd00::1]:55 fd00::2
            doh_method GET
        }",
        ".",
        parse,
    )
    .unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let servers: Vec<_> = config.resolver.iter().map(ToString::to_string).collect();
    let wanted = ["10.0.0.2:53", "10.0.0.3:54", "[fd00::1]:55", "[fd00::2]:53"];
    assert_eq!(servers, wanted);
    assert_eq!(config.doh_method, DohMethod::Get);
    assert!(matches!(&config.to[0], Destination::Host(host) if host.host == "dns.example"));
}

#[test]
fn invalid_arguments_are_rejected_in_known_words_at_its_place() {
    for (line, words) in [
        ("forward", "Wrong argument count"),
        ("forward .", "Wrong argument count"),
        ("forward . 10.0.0.1 {\n expire -1s\n}", "negative"),
        ("forward . 10.0.0.1 {\n expire 5\n}", "missing unit"),
        (
            "forward . 10.0.0.1 {\n max_concurrent -1\n}",
            "max_concurrent can't be negative: -1",
        ),
        ("forward . 10.0.0.1 {\n max_fails many\n}", "not a number"),
        (
            "forward . 10.0.0.1 {\n read_timeout 0s\n}",
            "read_timeout must be positive: 0s",
        ),
        (
            "forward . 10.0.0.1 {\n max_age 5s\n}",
            "max_age (5s) must not be less than expire (10s)",
        ),
        (
            "forward . 10.0.0.1 {\n health_check 1s norec\n}",
            "health_check: unknown option norec",
        ),
        (
            "forward . 10.0.0.1 {\n health_check 1s domain\n}",
            "Wrong argument count",
        ),
        (
            "forward . 10.0.0.1 {\n health_check 1s domain a..b\n}",
            "health_check: invalid domain name a..b",
        ),
        (
            "forward . 10.0.0.1 {\n policy randm\n}",
            "unknown policy 'randm'",
        ),
        (
            "forward . 10.0.0.1 {\n failover NOERROR\n}",
            "NoError cannot be used in failover",
        ),
        (
            "forward . 10.0.0.1 {\n next NOPE\n}",
            "NOPE is not a valid rcode",
        ),
        (
            "forward . 10.0.0.1 {\n force_tcp yes\n}",
            "Wrong argument count",
        ),
        (
            "forward . 10.0.0.1 {\n tls a b c d\n}",
            "Wrong argument count",
        ),
        (
            "forward . 10.0.0.1 {\n max_conc 5\n}",
            "unknown property 'max_conc'",
        ),
        (
            "forward . dns.google {\n resolver dns.example\n}",
            "resolver must be an IP address or IP:port: \"dns.example\"",
        ),
        (
            "forward . dns.google {\n resolver\n}",
            "Wrong argument count",
        ),
        (
            "forward . https://10.0.0.1 {\n doh_method get\n}",
            "doh_method must be either POST or GET",
        ),
        (
            "forward . 10.0.0.1 {\n source_address fd00::1\n}",
            "another family",
        ),
        (
            "forward . grpc://1.1.1.1",
            "'grpc' is not supported as a destination protocol in forward",
        ),
        (
            "forward . https://dns.google/dns-query",
            "paths are not allowed in HTTPS upstream addresses",
        ),
        (
            "forward . 10.0.0.300",
            "not an IP address, file, or valid domain",
        ),
        (
            "forward . tls://10.0.0.1%a.example {\n tls_servername b.example\n}",
            "both forward ('b.example') and proxy level ('a.example')",
        ),
    ] {
        let drawn = parsed(line).unwrap_err();
        assert!(drawn.contains(words), "{line}:\n{drawn}");
        assert!(drawn.contains("plugin/forward: "), "{drawn}");
        assert!(
            drawn.contains('^') && drawn.contains("Corefile:2") || line.contains('\n'),
            "{drawn}"
        );
    }
    let many: Vec<_> = (1..=16).map(|last| format!("10.0.0.{last}")).collect();
    let drawn = parsed(&format!("forward . {}", many.join(" "))).unwrap_err();
    assert!(drawn.contains("more than 15 TOs configured: 16"), "{drawn}");
    assert!(parsed(&format!("forward . {}", many[1..].join(" "))).is_ok());
}

#[test]
fn two_errors_are_reported_at_once() {
    let drawn = parsed("forward . 10.0.0.1 10.0.0.300 {\n expire 5\n policy x\n}").unwrap_err();
    for words in ["10.0.0.300", "missing unit", "unknown policy"] {
        assert!(drawn.contains(words), "{drawn}");
    }
}

#[test]
fn what_does_nothing_is_warned_of() {
    for (line, words) in [
        ("forward 10.0.0.0/15 10.0.0.1", "Unsupported CIDR notation"),
        ("forward . 10.0.0.1 {\n tls\n}", "tls does nothing"),
        (
            "forward . 10.0.0.1 {\n doh_method GET\n}",
            "doh_method does nothing",
        ),
        (
            "forward . 10.0.0.1 {\n resolver 10.0.0.2\n}",
            "resolver does nothing",
        ),
        (
            "forward . tls://10.0.0.1 {\n force_tcp\n}",
            "force_tcp does nothing",
        ),
        (
            "forward . 10.0.0.1 fe80::1",
            "a link-local address cannot be reached without its interface",
        ),
        (
            "forward . tls://[fe80::1]:853",
            "a link-local address cannot be reached without its interface",
        ),
        (
            "forward . 10.0.0.1 {\n force_tcp\n prefer_udp\n}",
            "prefer_udp does nothing",
        ),
    ] {
        let (_, warnings) = testing::headlines(line, ".", parse).unwrap();
        let message = &warnings[0].message;
        assert!(message.contains(words), "{line}: {message}");
    }
    let (_, warnings) = testing::headlines("forward . fe80::1%lo", ".", parse).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let config = parsed("forward 10.0.0.0/15 10.0.0.1").unwrap();
    assert_eq!(config.from, Name::parse("0.10.in-addr.arpa").unwrap());
}
