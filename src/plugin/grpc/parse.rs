//! Reads the directive `grpc FROM TO... { ... }`.

use std::path::PathBuf;

use super::{Config, NAME, To};
use crate::{
    corefile::{Diagnostic, Directive, ErrorList, Property, Word, host_of, unknown_property},
    interfaces::HostAddress,
    plugin::{
        ParseErrors, Parsing, ZoneList,
        forward::{names, policy, server_name, tls_files},
    },
    tls::ClientFiles,
    upstream::{MAX_UPSTREAMS, SelectionPolicy},
    wire::Name,
};

const PROPERTIES: [&str; 5] = ["except", "fallthrough", "policy", "tls", "tls_servername"];

/// The default ports: that of plain DNS, as in CoreDNS, and that of HTTPS with `grpc://`.
const PORTS: (u16, u16) = (53, 443);

/// Reads one directive. Arguments that are accepted but probably a mistake add a warning.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let directive = uses[0];
    let mut errors = ErrorList::default();
    let mut warnings: Vec<Diagnostic> = Vec::new();
    let mut config = Config {
        from: Name::ROOT,
        except: Vec::new(),
        to: Vec::new(),
        tls: None,
        tls_name: None,
        policy: SelectionPolicy::Random,
        fallthrough: ZoneList::none(),
    };
    errors.catch(head(directive, &mut config, &mut warnings));
    for line in directive.properties() {
        errors.catch(property(line, &mut config, parsing));
    }
    if config.tls_name.is_some() && config.tls.is_none() {
        config.tls = Some(ClientFiles::default());
    }
    let config = errors.in_plugin(NAME).into_result(config)?;
    parsing
        .warnings
        .extend(warnings.into_iter().map(|warning| warning.in_plugin(NAME)));
    Ok(config)
}

fn head(
    directive: &Directive,
    config: &mut Config,
    warnings: &mut Vec<Diagnostic>,
) -> Result<(), Diagnostic> {
    let mut arguments = directive.arguments();
    let from = arguments.required("the zone to forward, such as .")?;
    let zones = names(from)?;
    config.from = zones[0];
    if zones.len() > 1 {
        warnings.push(from.warning(format!(
            "'{from}' is several zones: only '{}' is used",
            zones[0]
        )));
    }
    let words = arguments.at_least_one("where to: an address and a port")?;
    for word in words {
        config.to.push(target(word, warnings)?);
    }
    if let Some(extra) = words.get(MAX_UPSTREAMS) {
        let count = words.len();
        let message = format!("more than {MAX_UPSTREAMS} TOs configured: {count}");
        return Err(extra.error(message).label("one too many"));
    }
    Ok(())
}

fn target(word: &Word, warnings: &mut Vec<Diagnostic>) -> Result<To, Diagnostic> {
    let (scheme, rest) = word.split_once("://").unwrap_or(("", word));
    let default = match scheme {
        "" | "dns" => PORTS.0,
        "grpc" => PORTS.1,
        _ => {
            let message = format!("'{scheme}' is not supported as a destination protocol in grpc");
            return Err(word.error(message).expected("an address, or grpc://"));
        }
    };
    let bare = host_of(rest).and_then(|host| host.parse::<HostAddress>().ok());
    if let Some(address) = bare {
        if default == PORTS.0 {
            let message = format!("'{word}' has no port: port {default} is used");
            warnings.push(word.warning(message).help("gRPC is usually at 443"));
        }
        return Ok(To::Server(address.to_string(), default));
    }
    let address = rest.rsplit_once(':').and_then(|(host, port)| {
        let port = port.parse().ok().filter(|port| *port > 0)?;
        Some((host_of(host)?.parse::<HostAddress>().ok()?, port))
    });
    if let Some((address, port)) = address {
        return Ok(To::Server(address.to_string(), port));
    }
    let path = PathBuf::from(rest);
    if scheme.is_empty() && (rest.contains('/') || path.is_file()) {
        return Ok(To::File(path));
    }
    Err(word
        .error(format!("not an IP address or file: \"{word}\""))
        .expected("an address and a port, or a file in the form of resolv.conf"))
}

fn property(line: &Property, config: &mut Config, parsing: &Parsing<'_>) -> Result<(), Diagnostic> {
    let mut arguments = line.arguments();
    let left = &mut arguments;
    match line.name().as_str() {
        "except" => {
            for word in left.at_least_one("a zone that is not forwarded")? {
                config.except.extend(names(word)?);
            }
        }
        "tls" => config.tls = Some(tls_files(left, parsing)),
        "tls_servername" => config.tls_name = Some(server_name(left)?),
        "policy" => config.policy = policy(left)?,
        "fallthrough" => config.fallthrough = ZoneList::read_or_all(left.rest())?,
        _ => return Err(unknown_property(line.name(), &PROPERTIES)),
    }
    arguments.none_left()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::testing;

    fn read(text: &str) -> Result<(Config, Vec<String>), String> {
        testing::read(text, ".", parse)
    }

    #[test]
    fn every_option_is_read() {
        let (config, warnings) = read(
            "grpc example.org 10.0.0.1:443 grpc://10.0.0.2 [fd00::1]:444 {
                except a.example.org
                tls ca.pem
                tls_servername dns.example
                policy sequential
                fallthrough
            }",
        )
        .unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        let server = |host: &str, port| To::Server(host.to_owned(), port);
        assert_eq!(
            config.to,
            [
                server("10.0.0.1", 443),
                server("10.0.0.2", 443),
                server("fd00::1", 444)
            ]
        );
        assert!(config.tls_name.is_some() && config.tls.unwrap().authorities.is_some());
        assert_eq!(config.policy, SelectionPolicy::Sequential);
        let (config, warnings) = read("grpc . 10.0.0.1 {\n tls_servername a.example\n}").unwrap();
        assert_eq!(config.to, [server("10.0.0.1", 53)]);
        assert!(warnings[0].contains("port 53"), "{warnings:?}");
        assert!(config.tls.is_some(), "a name to prove means TLS");
    }

    #[test]
    fn invalid_arguments_are_rejected() {
        for (line, words) in [
            ("grpc", "Wrong argument count"),
            ("grpc .", "Wrong argument count"),
            ("grpc . dns.example", "not an IP address or file"),
            ("grpc . tls://10.0.0.1", "'tls' is not supported"),
            ("grpc . 10.0.0.1:x", "not an IP address or file"),
            ("grpc . [10.0.0.1", "not an IP address or file"),
            ("grpc . 10.0.0.1:53 {\n policy x\n}", "unknown policy 'x'"),
            ("grpc . 10.0.0.1:53 {\n except\n}", "Wrong argument count"),
            ("grpc . 10.0.0.1:53 {\n max_fails 1\n}", "unknown property"),
        ] {
            let drawn = read(line).unwrap_err();
            assert!(drawn.contains(words), "{line}:\n{drawn}");
            assert!(drawn.contains("plugin/grpc: "), "{drawn}");
        }
    }
}
