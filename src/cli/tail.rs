//! `lodestone tail`: the queries of a running server, as they are answered.

use std::process::ExitCode;

use super::running::{self, Format, Output, ServerArguments};
use crate::control::client::{Line, TailedQuery};

/// Arguments of `lodestone tail`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Only these response codes, separated by commas, such as NXDOMAIN,SERVFAIL
    #[arg(long, value_name = "RCODES")]
    rcode: Option<String>,
    /// Only names of this namespace
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Only names that contain this text
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Only queries of this client: an address, or a network such as 10.244.1.0/24
    #[arg(long, value_name = "ADDRESS")]
    client: Option<String>,
    /// End after this time, such as 90s or 5m
    #[arg(long = "for", value_name = "TIME", default_value = "60s")]
    duration: String,
    /// Output format: "text", or "json" for one object per line
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    server: ServerArguments,
}

/// Prints the queries. Exit code 0, 1 if there was none, 2 if they cannot be listed.
pub fn run(arguments: &Arguments) -> ExitCode {
    let optional = [
        ("rcode", &arguments.rcode),
        ("namespace", &arguments.namespace),
        ("name", &arguments.name),
        ("client", &arguments.client),
    ];
    let given = optional.iter().filter_map(|(name, value)| {
        let value = value.as_deref()?;
        Some((*name, value))
    });
    let mut parameters: Vec<_> = given.collect();
    parameters.push(("for", &arguments.duration));
    let mut output = Output::new(arguments.format);
    let listed = running::with_server(&arguments.server, async |client| {
        let each = |line: &[u8]| output.line(line, text);
        client.lines("tail", &parameters, each).await
    });
    output.end(
        listed,
        "no query was answered by this server meanwhile; other replicas have their own",
    )
}

/// `20:41:07.123  10.244.0.7  A web.shop.svc.cluster.local.  NXDOMAIN  31 us  service "web" not found`
fn text(line: &Line) -> String {
    let query = match line {
        Line::Query(query) => query,
        Line::Missed { missed } => return format!("({missed} queries left out: too many)\n"),
    };
    let TailedQuery {
        time,
        client,
        name,
        rtype,
        rcode,
        text,
        answer,
        took_us,
        ..
    } = &**query;
    let clock = time.split_once('T').map_or(&**time, |(_, clock)| clock);
    let clock = clock.trim_end_matches('Z');
    let client = client.to_string();
    let why = match text {
        // The name exists.
        Some(text) if rcode == "NOERROR" && answer.is_empty() => {
            format!("no {rtype} record; {text}")
        }
        Some(text) => text.clone(),
        None => answer.join(", "),
    };
    format!("{clock}  {client:<15}  {rtype} {name}  {rcode}  {took_us} us  {why}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_answer_or_the_reason() {
        let json = r#"{"time":"2026-11-30T20:41:07.123Z","client":"10.244.0.7","protocol":"udp",
            "name":"web.shop.svc.cluster.local.","type":"A","rcode":"NOERROR","reason":null,
            "text":null,"answer":["10.96.0.9"],"took_us":31}"#;
        let line: Line = serde_json::from_str(json).unwrap();
        assert_eq!(
            text(&line),
            "20:41:07.123  10.244.0.7       A web.shop.svc.cluster.local.  NOERROR  31 us  10.96.0.9\n"
        );
        let line: Line = serde_json::from_str(r#"{"missed":3}"#).unwrap();
        assert_eq!(text(&line), "(3 queries left out: too many)\n");
    }
}
