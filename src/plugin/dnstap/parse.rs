//! Reads the directive `dnstap [listen] SOCKET [full] [WRITEBUF [QUEUE]] { ... }`.

use std::path::PathBuf;

use super::{Config, DnstapEndpoint, NAME, QUEUE, WRITE_BUFFER};
use crate::{
    corefile::{Diagnostic, Directive, ErrorList, Property, Word, host_of, unknown_property},
    plugin::{ParseErrors, Parsing},
};

const PROPERTIES: [&str; 5] = ["extra", "identity", "skipverify", "tls", "version"];

/// Reads one directive. Properties that are accepted without effect add a warning.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let directive = uses[0];
    let mut config = head(directive).map_err(|error| vec![error.in_plugin(NAME)])?;
    let mut errors = ErrorList::default();
    for line in directive.properties() {
        errors.catch(property(line, &mut config));
    }
    if errors.is_empty() {
        errors.catch(check(directive, &config, parsing.warnings));
    }
    errors.in_plugin(NAME).into_result(config)
}

impl Config {
    /// A connection to `socket`, with the defaults otherwise.
    pub fn new(socket: DnstapEndpoint) -> Self {
        Self {
            listen: false,
            socket,
            full: false,
            write_buffer: WRITE_BUFFER,
            queue: QUEUE,
            identity: None,
            version: concat!(env!("CARGO_PKG_NAME"), "-", env!("CARGO_PKG_VERSION")).to_owned(),
            extra: None,
            skip_verify: false,
            tls: None,
        }
    }
}

fn head(directive: &Directive) -> Result<Config, Diagnostic> {
    const WHERE: &str = "a socket: a path, tcp://HOST:PORT or tls://HOST:PORT";
    let mut arguments = directive.arguments();
    let mut word = arguments.required(WHERE)?;
    let listen = *word == "listen";
    if listen {
        word = arguments.required(WHERE)?;
    }
    let mut config = Config::new(socket(word)?);
    config.listen = listen;
    if let Some(word) = arguments.next() {
        // CoreDNS ignores any other word here, and then sends messages without wire data.
        if *word != "full" {
            return Err(word
                .error(format!("unknown option '{word}'"))
                .expected("full"));
        }
        config.full = true;
    }
    if let Some(word) = arguments.next() {
        config.write_buffer = word.integer(1..=1024)? * WRITE_BUFFER;
    }
    if let Some(word) = arguments.next() {
        config.queue = word.integer(1..=4096)? * QUEUE;
    }
    arguments.none_left()?;
    Ok(config)
}

fn socket(word: &Word) -> Result<DnstapEndpoint, Diagnostic> {
    for (scheme, make) in [
        (
            "tcp://",
            DnstapEndpoint::Tcp as fn(String, u16) -> DnstapEndpoint,
        ),
        ("tls://", DnstapEndpoint::Tls),
    ] {
        let Some(rest) = word.strip_prefix(scheme) else {
            continue;
        };
        let rest = rest.trim_end_matches('/');
        let (host, port) = rest.rsplit_once(':').unwrap_or((rest, ""));
        let port = port.parse().ok().filter(|port| *port > 0);
        let address = host_of(host).zip(port);
        return address
            .map(|(host, port)| make(host.to_owned(), port))
            .ok_or_else(|| {
                word.error(format!("'{word}' is no dnstap endpoint"))
                    .expected(format!("{scheme}HOST:PORT"))
            });
    }
    let path = word.strip_prefix("unix://").unwrap_or(word.as_str());
    if path.is_empty() || path.contains("://") {
        return Err(word
            .error(format!("'{word}' is no dnstap endpoint"))
            .expected("a path, unix://PATH, tcp://HOST:PORT or tls://HOST:PORT"));
    }
    Ok(DnstapEndpoint::Unix(PathBuf::from(path)))
}

fn property(line: &Property, config: &mut Config) -> Result<(), Diagnostic> {
    let mut arguments = line.arguments();
    match line.name().as_str() {
        "skipverify" => config.skip_verify = true,
        "identity" => config.identity = Some(arguments.required("a text")?.as_str().to_owned()),
        "version" => arguments
            .required("a text")?
            .as_str()
            .clone_into(&mut config.version),
        "extra" => {
            let text = arguments.required("a text, placeholders in it")?;
            config.extra = Some(text.as_str().to_owned()).filter(|text| !text.is_empty());
        }
        "tls" => {
            if !config.listen {
                return Err(line
                    .name()
                    .error("tls directive only valid for listeners")
                    .help("outgoing connections trust the certificates of the system"));
            }
            let certificate = arguments.required("the file of a certificate")?.path();
            let key = arguments.required("the file of its key")?.path();
            config.tls = Some((certificate, key, arguments.next().map(Word::path)));
        }
        _ => return Err(unknown_property(line.name(), &PROPERTIES)),
    }
    arguments.none_left()
}

/// Checks across properties.
fn check(
    directive: &Directive,
    config: &Config,
    warnings: &mut Vec<Diagnostic>,
) -> Result<(), Diagnostic> {
    let is_tls = matches!(config.socket, DnstapEndpoint::Tls(..));
    if config.listen && is_tls && config.tls.is_none() {
        let error = directive
            .name
            .error("a TLS listener requires a certificate and its key");
        return Err(error.help("add a line 'tls CERT KEY'"));
    }
    for property in ["tls", "skipverify"] {
        if let (Some(line), false) = (directive.property(property), is_tls) {
            let warning = line.name().does_nothing("the endpoint is not tls://");
            warnings.push(warning.in_plugin(NAME));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::testing;

    fn read(text: &str) -> Result<(Config, Vec<String>), String> {
        testing::read(text, ".", parse)
    }

    #[test]
    fn every_form_is_read() {
        let tcp = |host: &str| DnstapEndpoint::Tcp(host.to_owned(), 6000);
        for (line, socket) in [
            (
                "dnstap /tmp/d.sock",
                DnstapEndpoint::Unix("/tmp/d.sock".into()),
            ),
            (
                "dnstap unix:///tmp/d.sock",
                DnstapEndpoint::Unix("/tmp/d.sock".into()),
            ),
            ("dnstap tcp://127.0.0.1:6000", tcp("127.0.0.1")),
            ("dnstap tcp://[::1]:6000", tcp("::1")),
            ("dnstap tcp://tap.example:6000", tcp("tap.example")),
            (
                "dnstap tls://tap.example:6000",
                DnstapEndpoint::Tls("tap.example".to_owned(), 6000),
            ),
        ] {
            let (config, warnings) = read(line).unwrap();
            assert_eq!(config, Config::new(socket), "{line}");
            assert!(warnings.is_empty());
        }
        let (config, _) = read(
            "dnstap listen tls://:6000 full 2 3 {
                identity me
                version 7
                extra \"{name} of {remote}\"
                skipverify
                tls cert.pem key.pem ca.pem
            }",
        )
        .unwrap();
        assert!(config.listen && config.full && config.skip_verify);
        assert_eq!((config.write_buffer, config.queue), (2 << 20, 30_000));
        assert_eq!(config.identity.as_deref(), Some("me"));
        assert_eq!(config.version, "7");
        assert_eq!(config.extra.as_deref(), Some("{name} of {remote}"));
        assert!(config.tls.unwrap().2.is_some());
    }

    #[test]
    fn invalid_arguments_are_rejected() {
        for (line, words) in [
            ("dnstap", "Wrong argument count"),
            ("dnstap listen", "Wrong argument count"),
            ("dnstap tcp://127.0.0.1", "no dnstap endpoint"),
            ("dnstap udp://127.0.0.1:6000", "no dnstap endpoint"),
            ("dnstap tcp://[::1:6000", "no dnstap endpoint"),
            ("dnstap /s ful", "unknown option 'ful'"),
            ("dnstap /s full 0", "out of range"),
            ("dnstap /s full 1025", "out of range"),
            ("dnstap /s full 1 4097", "out of range"),
            ("dnstap /s full 1 1 1", "Wrong argument count"),
            ("dnstap /s {\n identity\n}", "Wrong argument count"),
            ("dnstap /s {\n identiy x\n}", "unknown property 'identiy'"),
            ("dnstap /s {\n tls a b\n}", "only valid for listeners"),
            ("dnstap listen tls://:6000", "requires a certificate"),
        ] {
            let drawn = read(line).unwrap_err();
            assert!(drawn.contains(words), "{line}:\n{drawn}");
            assert!(drawn.contains("plugin/dnstap: "), "{drawn}");
        }
        let (_, warnings) = read("dnstap /s {\n skipverify\n}").unwrap();
        assert!(warnings[0].contains("does nothing"), "{warnings:?}");
    }
}
