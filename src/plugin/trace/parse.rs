//! `trace [TYPE] [ENDPOINT] { ... }` as a Corefile has it.

use std::time::Duration;

use super::{Config, Form, NAME};
use crate::{
    corefile::{Diagnostic, Directive, Line, Problems, unknown_property},
    plugin::{ParseErrors, Parsing},
};

const PROPERTIES: [&str; 7] = [
    "client_server",
    "datadog_analytics_rate",
    "every",
    "service",
    "zipkin_max_backlog_size",
    "zipkin_max_batch_interval",
    "zipkin_max_batch_size",
];

/// Where a collector of Zipkin is, and an agent of Datadog, where nobody says.
const ZIPKIN: &str = "localhost:9411";
const DATADOG: &str = "localhost:8126";
/// The most that may be asked for: a span takes some five hundred octets.
const MOST: i64 = 1_000_000;

/// Reads all uses of a block; the later ones change what the earlier ones say. What is taken
/// although it does nothing goes to `warnings`.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let mut config = Config {
        form: Form::Zipkin,
        endpoint: address(ZIPKIN, Form::Zipkin),
        every: 1,
        service: "coredns".to_owned(),
        backlog: 1000,
        batch: 100,
        interval: Duration::from_secs(1),
    };
    let mut problems = Problems::default();
    let mut doubts: Vec<Diagnostic> = Vec::new();
    for directive in uses {
        problems.catch(head(directive, &mut config));
        for line in directive.properties() {
            problems.catch(property(line, &mut config, &mut doubts));
        }
    }
    let config = problems.in_plugin(NAME).into_result(config)?;
    parsing
        .warnings
        .extend(doubts.into_iter().map(|doubt| doubt.in_plugin(NAME)));
    Ok(config)
}

fn head(directive: &Directive, config: &mut Config) -> Result<(), Diagnostic> {
    let mut arguments = directive.arguments();
    let Some(first) = arguments.next() else {
        config.form = Form::Zipkin;
        config.endpoint = address(ZIPKIN, config.form);
        return Ok(());
    };
    let mut endpoint = first;
    config.form = Form::Zipkin;
    if let Some(second) = arguments.next() {
        match first.to_ascii_lowercase().as_str() {
            "zipkin" => {}
            "datadog" => config.form = Form::Datadog(0.0),
            other => {
                let message = format!("tracing endpoint type '{other}' is not supported");
                return Err(first.error(message).expected("zipkin or datadog"));
            }
        }
        endpoint = second;
    }
    arguments.none_left()?;
    let usual = match config.form {
        Form::Zipkin => ZIPKIN,
        Form::Datadog(_) => DATADOG,
    };
    let written = if endpoint.is_empty() { usual } else { endpoint };
    config.endpoint = address(written, config.form);
    match config.endpoint.parse::<http::Uri>() {
        Ok(uri) if uri.host().is_some_and(|host| !host.is_empty()) => Ok(()),
        _ => Err(endpoint
            .error(format!("'{endpoint}' is no endpoint"))
            .expected("HOST:PORT, or http://HOST:PORT/PATH")),
    }
}

/// With the path that such a collector has, unless a whole address is written.
fn address(endpoint: &str, form: Form) -> String {
    if endpoint.starts_with("http://") || endpoint.starts_with("https://") {
        return endpoint.to_owned();
    }
    match form {
        Form::Zipkin => format!("http://{endpoint}/api/v2/spans"),
        Form::Datadog(_) => format!("http://{endpoint}/v0.3/traces"),
    }
}

fn property(
    line: &Line,
    config: &mut Config,
    doubts: &mut Vec<Diagnostic>,
) -> Result<(), Diagnostic> {
    let mut arguments = line.arguments();
    let left = &mut arguments;
    // 0 leaves it as it is.
    let size = |number: i64, usual: usize| match usize::try_from(number) {
        Ok(0) | Err(_) => usual,
        Ok(number) => number,
    };
    match line.name().as_str() {
        "every" => {
            let number: i64 = left
                .required("a number of queries")?
                .integer(0..=i64::MAX)?;
            config.every = u64::try_from(number).expect("not negative");
        }
        "service" => left
            .required("a name")?
            .as_str()
            .clone_into(&mut config.service),
        "client_server" => {
            if let Some(word) = left.next() {
                word.boolean()?;
            }
            let why = "no trace is taken over from clients";
            doubts.push(line.name().does_nothing(why));
        }
        "datadog_analytics_rate" => {
            let word = left.next();
            let said = word.map(|word| word.float(0.0..=1.0)).transpose()?;
            match &mut config.form {
                Form::Datadog(rate) => *rate = said.unwrap_or_default(),
                Form::Zipkin => doubts.push(line.name().does_nothing("the endpoint is no datadog")),
            }
        }
        "zipkin_max_backlog_size" => {
            let word = left.required("a number of spans")?;
            config.backlog = size(word.integer(0..=MOST)?, 1000);
        }
        "zipkin_max_batch_size" => {
            let word = left.required("a number of spans")?;
            config.batch = size(word.integer(0..=MOST)?, 100);
        }
        "zipkin_max_batch_interval" => {
            let interval = left.required("a duration such as 1s")?.duration()?;
            if !interval.is_zero() {
                config.interval = interval;
            }
        }
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
    fn an_endpoint_gets_what_it_lacks() {
        for (line, endpoint) in [
            ("trace", "http://localhost:9411/api/v2/spans"),
            (
                "trace zipkin.example:9253",
                "http://zipkin.example:9253/api/v2/spans",
            ),
            ("trace zipkin host:1", "http://host:1/api/v2/spans"),
            (
                "trace http-collector:1",
                "http://http-collector:1/api/v2/spans",
            ),
            ("trace zipkin https://host/x", "https://host/x"),
            ("trace datadog host:1", "http://host:1/v0.3/traces"),
            ("trace DataDog \"\"", "http://localhost:8126/v0.3/traces"),
            (
                "trace datadog http://host:1/v0.4/traces",
                "http://host:1/v0.4/traces",
            ),
        ] {
            let (config, warnings) = read(line).unwrap();
            assert_eq!(config.endpoint, endpoint, "{line}");
            assert!(warnings.is_empty());
            assert_eq!((config.every, config.backlog, config.batch), (1, 1000, 100));
        }
    }

    #[test]
    fn properties_are_read_and_what_does_nothing_is_told() {
        let (config, warnings) = read(
            "trace {
                every 100
                service dns
                client_server
                datadog_analytics_rate 0.5
                zipkin_max_backlog_size 10
                zipkin_max_batch_size 5
                zipkin_max_batch_interval 10s
            }",
        )
        .unwrap();
        assert_eq!((config.every, &*config.service), (100, "dns"));
        assert_eq!((config.backlog, config.batch), (10, 5));
        assert_eq!(config.interval, Duration::from_secs(10));
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        let line = "trace datadog host:1 {\n datadog_analytics_rate 0.5\n}";
        let (config, warnings) = read(line).unwrap();
        assert_eq!(config.form, Form::Datadog(0.5));
        assert!(warnings.is_empty());
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (line, words) in [
            ("trace jaeger localhost:1", "'jaeger' is not supported"),
            ("trace zipkin a b", "Wrong argument count"),
            ("trace {\n every -1\n}", "out of range"),
            ("trace {\n every\n}", "Wrong argument count"),
            ("trace {\n datadog_analytics_rate 2\n}", "out of range"),
            ("trace {\n client_server maybe\n}", "maybe"),
            ("trace {\n evry 1\n}", "unknown property 'evry'"),
        ] {
            let drawn = read(line).unwrap_err();
            assert!(drawn.contains(words), "{line}:\n{drawn}");
            assert!(drawn.contains("plugin/trace: "), "{drawn}");
        }
    }
}
