use super::*;
use crate::{
    config::{Config, Source},
    corefile::InMemory,
};

/// Settings and warning messages of a one-block Corefile, or its rendered errors.
fn read(keys: &str, lines: &str) -> Result<(Settings, Vec<String>), String> {
    let text = format!("{keys} {{\n{lines}\nwhoami\n}}\n");
    let source = Source {
        name: "Corefile",
        text: &text,
        loader: &InMemory::default(),
        interfaces: &crate::interfaces::Interfaces::default(),
        default_port: 53,
    };
    let mut config = Config::read(&source).map_err(|errors| errors.to_string())?;
    let settings = config.blocks.remove(0).settings;
    let warnings = config.warnings.to_string();
    let headlines = warnings.lines().filter(|line| line.starts_with("warning"));
    Ok((settings, headlines.map(str::to_owned).collect()))
}

fn refused(keys: &str, lines: &str) -> String {
    match read(keys, lines) {
        Ok(_) => panic!("{lines} is taken"),
        Err(report) => report,
    }
}

#[test]
fn tls_certificates_and_client_authentication_are_parsed() {
    let tls = |lines: &str| {
        let (settings, warnings) = read("tls://.", lines).unwrap();
        (settings.listening.tls.unwrap(), warnings)
    };
    let (files, warnings) = tls("tls a b");
    assert_eq!(files, ServerFiles::new("a", "b"));
    assert!(warnings.is_empty());
    let (files, warnings) = tls("tls a b c {\nclient_auth verify_if_given\nkeylog k\n}");
    assert_eq!(files.authority.unwrap().to_str(), Some("c"));
    assert_eq!(files.client_auth, ClientAuth::VerifyIfGiven);
    assert_eq!(files.key_log.unwrap().to_str(), Some("k"));
    assert!(warnings.is_empty(), "{warnings:?}");
    let (files, _) = tls("root /x\ntls a /b");
    assert_eq!(files, ServerFiles::new("/x/a", "/b"));
    for (lines, warning) in [
        (
            "tls a b c",
            "client certificates are not verified with this CA",
        ),
        ("tls x y\ntls a b", "only the last 'tls' counts"),
    ] {
        let (files, warnings) = tls(lines);
        assert_eq!(files.certificate.to_str(), Some("a"));
        assert!(warnings[0].contains(warning), "{warnings:?}");
    }
    for (lines, wanted) in [
        ("tls", "cert-manager"),
        ("tls {\nacme a.example\n}", "certificates are not fetched"),
        ("tls a", "a key file"),
        ("tls a b c d", "Wrong argument count"),
        (
            "tls a b {\nclient_auth require_and_verify\n}",
            "no CA to verify client certificates with",
        ),
        ("tls a b {\nclient_auth maybe\n}", "unknown value 'maybe'"),
        (
            "tls a b {\nclient_auth require request\n}",
            "Wrong argument count",
        ),
        ("tls a b {\nkeylog\n}", "a file"),
        ("tls a b {\nciphers x\n}", "unknown property 'ciphers'"),
    ] {
        let report = refused("tls://.", lines);
        assert!(report.contains(wanted), "{lines}: {report}");
    }
}

#[test]
fn encrypted_listeners_require_a_certificate() {
    for keys in ["tls://.", "quic://.", "https3://."] {
        assert!(refused(keys, "").contains("needs a certificate"), "{keys}");
        assert!(read(keys, "tls a b").is_ok());
    }
    for keys in ["https://.", "grpc://."] {
        assert!(read(keys, "").is_ok(), "{keys}");
    }
}

#[test]
fn timeouts_and_query_limits_are_parsed() {
    let settings = |lines: &str| {
        let (settings, _) = read(".", &format!("timeouts {{\n{lines}\n}}")).unwrap();
        settings.listening.settings(Transport::Dns)
    };
    let usual = StreamSettings::default();
    let seconds = Duration::from_secs;
    let told = settings("read 30s\nwrite 20\nidle 1h\nmaxtcpqueries 128");
    assert_eq!(
        (told.first_query, told.write, told.idle, told.queries),
        (seconds(30), seconds(20), seconds(3600), Some(128))
    );
    let told = settings("idle 24h\nmaxtcpqueries -1");
    assert_eq!((told.first_query, told.queries), (usual.first_query, None));
    assert_eq!(
        (usual.first_query, usual.write, usual.idle),
        (seconds(3), seconds(5), seconds(10))
    );
    for (lines, wanted) in [
        ("timeouts", "no timeouts specified"),
        ("timeouts {\n}", "no timeouts specified"),
        ("timeouts 5s {\nread 5s\n}", "Wrong argument count"),
        ("timeouts {\nread 0s\n}", "between 1 second and 24 hours"),
        ("timeouts {\nread 25h\n}", "between 1 second and 24 hours"),
        ("timeouts {\nread snake\n}", "snake"),
        ("timeouts {\nread 1s 2s\n}", "Wrong argument count"),
        ("timeouts {\nmaxtcpqueries 0\n}", "-1 for no limit"),
        ("timeouts {\nmaxtcpqueries -2\n}", "out of range"),
        ("timeouts {\nwait 1s\n}", "unknown property 'wait'"),
    ] {
        let report = refused(".", lines);
        assert!(report.contains(wanted), "{lines}: {report}");
    }
}

#[test]
fn trusted_proxy_networks_are_parsed() {
    let policy = |lines: &str| {
        let (settings, _) = read(".", lines).unwrap();
        settings.listening.proxy.unwrap()
    };
    let all = ProxyPolicy {
        allow: Vec::new(),
        others: Treatment::Use,
        sessions: None,
    };
    assert_eq!(policy("proxyproto"), all);
    let ignoring = policy("proxyproto {\ndefault IGNORE\n}");
    assert_eq!(ignoring.others, Treatment::Ignore);
    let some = policy(
        "proxyproto {\nallow 10.0.0.0/8 fd00::/8\nallow 192.0.2.1/32\nudp_session_tracking 28s 7\n}",
    );
    assert_eq!((some.allow.len(), some.others), (3, Treatment::Ignore));
    let sessions = some.sessions.unwrap();
    assert_eq!((sessions.ttl.as_secs(), sessions.max_peers), (28, 7));
    let usual = policy("proxyproto {\nudp_session_tracking 1s\n}");
    assert_eq!(usual.sessions.unwrap().max_peers, 10_240);
    assert_eq!(
        policy("proxyproto {\nudp_session_tracking 0s\n}").sessions,
        None
    );
    for (lines, wanted) in [
        ("proxyproto x", "Wrong argument count"),
        ("proxyproto {\nallow 10.0.0.1\n}", "10.0.0.1/32"),
        ("proxyproto {\nallow\n}", "a network"),
        ("proxyproto {\ndefault maybe\n}", "unknown value 'maybe'"),
        ("proxyproto {\nudp_session_tracking\n}", "a duration"),
        ("proxyproto {\nudp_session_tracking 1s 0\n}", "out of range"),
        (
            "proxyproto {\ndeny 10.0.0.0/8\n}",
            "unknown property 'deny'",
        ),
    ] {
        let report = refused(".", lines);
        assert!(report.contains(wanted), "{lines}: {report}");
    }
    for keys in ["quic://.", "https3://."] {
        let report = refused(keys, "tls a b\nproxyproto");
        assert!(report.contains("PROXY headers"), "{report}");
    }
}

#[test]
fn transport_limits_are_parsed() {
    let settings = |transport, keys, lines: &str| {
        let (settings, warnings) = read(keys, &format!("tls a b\n{lines}")).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        settings.listening.settings(transport)
    };
    let quic = settings(
        Transport::Quic,
        "quic://.",
        "quic {\nmax_streams 7\nworker_pool_size 9\n}",
    );
    assert_eq!((quic.in_flight, quic.workers), (7, Some(9)));
    let usual = settings(Transport::Quic, "quic://.", "");
    assert_eq!((usual.in_flight, usual.workers), (256, None));
    assert_eq!(usual.connections, Some(200));
    let quic = |lines| settings(Transport::Quic, "quic://.", lines).connections;
    assert_eq!(quic("quic {\nmax_connections 0\n}"), None);
    assert_eq!(quic("quic {\nmax_connections 3\n}"), Some(3));
    let many = quic("quic {\nmax_connections 99999999999\n}");
    assert_eq!(many, Some(99_999_999_999));
    let streams = |lines| settings(Transport::Https, "https://.", lines).in_flight;
    assert_eq!(streams(""), 250);
    assert_eq!(streams("https {\nmax_streams 0\n}"), 250);
    assert_eq!(streams("https {\nmax_streams 1\n}"), 1);
    let most = "https {\nmax_streams 4294967295\nmax_connections 4\n}";
    assert_eq!(streams(most), 4_294_967_295);
    let https = |lines| settings(Transport::Https, "https://.", lines).connections;
    assert_eq!(https(""), Some(200));
    assert_eq!(https("https"), Some(200));
    assert_eq!(https("https {\nmax_connections 5\n}"), Some(5));
    assert_eq!(https("https {\nmax_connections 0\n}"), None);
    let both = "{\nmax_streams 0\nmax_connections 0\n}";
    let https3 = settings(Transport::Https3, "https3://.", &format!("https3 {both}"));
    assert_eq!((https3.in_flight, https3.connections), (100, None));
    let grpc = settings(Transport::Grpc, "grpc://.", &format!("grpc_server {both}"));
    assert_eq!((grpc.in_flight, grpc.connections), (1_000, None));
    let grpc = settings(Transport::Grpc, "grpc://.", "");
    assert_eq!((grpc.in_flight, grpc.connections), (256, Some(200)));
    for (lines, wanted) in [
        ("quic {\nmax_streams 0\n}", "out of range"),
        ("quic {\nmax_connections -1\n}", "out of range"),
        (
            "quic {\nmax_connections 1\nmax_connections 1\n}",
            "already defined",
        ),
        ("quic {\nmax_connection 1\n}", "unknown property"),
        ("https {\nmax_streams -1\n}", "out of range"),
        ("https {\nmax_streams 4294967296\n}", "out of range"),
        (
            "https {\nmax_streams 1\nmax_streams 1\n}",
            "already defined",
        ),
        ("https {\nmax_streams\n}", "Wrong argument count"),
        ("https {\nworker_pool_size 1\n}", "unknown property"),
        ("https 5", "Wrong argument count"),
        ("grpc_server {\nmax_streams -1\n}", "out of range"),
        (
            "https3 {\nmax_streams 1\nmax_streams 2\n}",
            "already defined",
        ),
    ] {
        let report = refused(".", lines);
        assert!(report.contains(wanted), "{lines}: {report}");
    }
}

#[test]
fn directives_without_effect_on_the_keys_are_reported() {
    for lines in ["tls a b", "quic", "https", "https3", "grpc_server"] {
        let (_, warnings) = read(".", lines).unwrap();
        assert!(
            warnings[0].contains("does nothing in this block"),
            "{lines}"
        );
    }
    let (_, warnings) = read(". tls://.", "tls a b").unwrap();
    assert!(warnings.is_empty());
}
