//! Reads the directive `etcd [ZONES...] { ... }`.

use super::{Config, EtcdEndpoint, NAME};
use crate::{
    corefile::{Diagnostic, Directive, ErrorList, Property, Word, host_of, unknown_property},
    plugin::{ParseErrors, Parsing, ZoneList, forward::tls_files},
    tls::ClientFiles,
};

const PROPERTIES: [&str; 8] = [
    "credentials",
    "endpoint",
    "fallthrough",
    "max-lease-ttl",
    "min-lease-ttl",
    "no_apex_fallback",
    "path",
    "tls",
];

/// The default of the smallest and the largest TTL of a leased key, in seconds.
const LEASE_TTL: (u32, u32) = (30, 86_400);

/// Reads the directive. Without zones of its own it serves those of the server block. Properties that
/// are accepted without effect add a warning.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let directive = uses[0];
    let mut errors = ErrorList::default();
    let zones = errors.catch(ZoneList::read_or_block(&directive.arguments, parsing.zones));
    let mut config = Config {
        zones: zones.unwrap_or_default(),
        path: "/skydns".to_owned(),
        endpoints: vec![EtcdEndpoint {
            host: "localhost".to_owned(),
            port: 2379,
            secure: false,
        }],
        credentials: None,
        tls: ClientFiles::default(),
        lease_ttl: LEASE_TTL,
        fallthrough: ZoneList::none(),
        apex_fallback: true,
    };
    let mut warnings = Vec::new();
    for line in directive.properties() {
        errors.catch(property(line, &mut config, parsing, &mut warnings));
    }
    if let Some(line) = directive.property("tls")
        && !config.endpoints.iter().any(|endpoint| endpoint.secure)
    {
        let why = "no endpoint begins with https://";
        warnings.push(line.name().does_nothing(why));
    }
    let config = errors.in_plugin(NAME).into_result(config)?;
    parsing
        .warnings
        .extend(warnings.into_iter().map(|warning| warning.in_plugin(NAME)));
    Ok(config)
}

fn property(
    line: &Property,
    config: &mut Config,
    parsing: &Parsing<'_>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<(), Diagnostic> {
    let mut arguments = line.arguments();
    let left = &mut arguments;
    match line.name().as_str() {
        "path" => {
            let word = left.required("where in etcd the names are, such as /skydns")?;
            let parts = word.split('/').filter(|part| !part.is_empty());
            config.path = parts.flat_map(|part| ["/", part]).collect();
        }
        "endpoint" => {
            let words = left.at_least_one("a server of etcd, such as http://localhost:2379")?;
            config.endpoints = words.iter().map(endpoint).collect::<Result<_, _>>()?;
        }
        "credentials" => {
            let [name, password] = left.exactly("a name and a password")?;
            let text = |word: &Word| word.as_str().to_owned();
            // As in CoreDNS, an empty name or password means no credentials.
            let given = !name.is_empty() && !password.is_empty();
            config.credentials = given.then(|| (text(name), text(password)));
        }
        "tls" => config.tls = tls_files(left, parsing),
        "min-lease-ttl" => config.lease_ttl.0 = seconds(left.required("a time such as 30s")?)?,
        "max-lease-ttl" => config.lease_ttl.1 = seconds(left.required("a time such as 24h")?)?,
        "fallthrough" => config.fallthrough = ZoneList::read_or_all(left.rest())?,
        "no_apex_fallback" => config.apex_fallback = false,
        "stubzones" | "upstream" | "debug" => {
            left.rest();
            let message = format!("{} does nothing, as in CoreDNS", line.name());
            warnings.push(line.name().warning(message));
        }
        _ => return Err(unknown_property(line.name(), &PROPERTIES)),
    }
    arguments.none_left()
}

fn endpoint(word: &Word) -> Result<EtcdEndpoint, Diagnostic> {
    let (scheme, rest) = word.split_once("://").unwrap_or(("http", word));
    let rest = rest.trim_end_matches('/');
    let refuse = || {
        word.error(format!("'{word}' is no endpoint of etcd"))
            .expected("http://HOST:PORT or https://HOST:PORT")
    };
    let secure = match scheme {
        "http" => false,
        "https" => true,
        _ => return Err(refuse()),
    };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            (host, port.parse().ok().filter(|port| *port > 0))
        }
        _ => (rest, Some(2379)),
    };
    match (host_of(host), port) {
        (Some(host), Some(port)) if !host.is_empty() => Ok(EtcdEndpoint {
            host: host.to_owned(),
            port,
            secure,
        }),
        _ => Err(refuse()),
    }
}

/// A Go duration, or plain seconds.
fn seconds(word: &Word) -> Result<u32, Diagnostic> {
    if let Ok(seconds) = word.parse() {
        return Ok(seconds);
    }
    u32::try_from(word.duration()?.as_secs())
        .map_err(|_| word.error(format!("'{word}' is out of range")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::testing::read;

    #[test]
    fn every_option_is_read() {
        let (config, warnings) = read(
            "etcd skydns.local {
                path /a/b/
                endpoint http://10.0.0.1:2379 https://etcd.example 10.0.0.2:4001
                credentials root secret
                tls ca.pem
                min-lease-ttl 10
                max-lease-ttl 2h
                fallthrough a.skydns.local
                no_apex_fallback
            }",
            ".",
            parse,
        )
        .unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(config.path, "/a/b");
        let endpoints = config.endpoints.iter();
        let endpoints = endpoints.map(|one| format!("{}:{} {}", one.host, one.port, one.secure));
        assert_eq!(
            endpoints.collect::<Vec<_>>(),
            [
                "10.0.0.1:2379 false",
                "etcd.example:2379 true",
                "10.0.0.2:4001 false"
            ]
        );
        assert_eq!(config.lease_ttl, (10, 7200));
        assert!(!config.apex_fallback);
        assert!(read("etcd", ".", parse).unwrap().0.apex_fallback);
        assert!(config.tls.authorities.is_some() && config.credentials.is_some());
    }

    #[test]
    fn errors_are_reported_and_properties_without_effect_add_a_warning() {
        for (line, words) in [
            ("etcd {\n endpoint\n}", "Wrong argument count"),
            ("etcd {\n endpoint unix:///x\n}", "no endpoint of etcd"),
            ("etcd {\n endpoint http://a:x\n}", "no endpoint of etcd"),
            ("etcd {\n endpoint http://:2379\n}", "no endpoint of etcd"),
            (
                "etcd {\n endpoint http://[::1:2379\n}",
                "no endpoint of etcd",
            ),
            ("etcd {\n credentials a\n}", "Wrong argument count"),
            ("etcd {\n min-lease-ttl soon\n}", "soon"),
            ("etcd {\n pth x\n}", "unknown property 'pth'"),
            ("etcd {\n no_apex_fallback yes\n}", "takes no argument"),
        ] {
            let drawn = read(line, ".", parse).unwrap_err();
            assert!(drawn.contains(words), "{line}:\n{drawn}");
            assert!(drawn.contains("plugin/etcd: "), "{drawn}");
        }
        for property in ["stubzones", "upstream", "debug", "tls"] {
            let line = format!("etcd {{\n {property}\n}}");
            let (_, warnings) = read(&line, ".", parse).unwrap();
            assert!(warnings[0].contains("does nothing"), "{warnings:?}");
        }
    }
}
