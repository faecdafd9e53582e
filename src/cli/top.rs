//! `lodestone top`: the most frequent names, clients and mistakes of a running server.

use std::{fmt::Write, process::ExitCode};

use super::running::{self, Format, Output, ServerArguments};
use crate::control::client::{KeyCount, Top};

/// Arguments of `lodestone top`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// How long queries are counted, such as 10s or 5m
    #[arg(long = "for", value_name = "TIME", default_value = "10s")]
    duration: String,
    /// Number of lines of each list
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: u16,
    /// Output format: "text", or "json" for one object
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    server: ServerArguments,
}

/// Prints the lists. Exit code 0, 1 if there was no query, 2 if they cannot be counted.
pub fn run(arguments: &Arguments) -> ExitCode {
    let limit = arguments.limit.to_string();
    let parameters = [("for", arguments.duration.as_str()), ("limit", &limit)];
    let mut output = Output::new(arguments.format);
    let counted = running::with_server(&arguments.server, async |client| {
        let top: Top = client.get("top", &parameters).await?;
        output.value(&top, top.queries > 0, text);
        Ok(())
    });
    output.end(counted, "")
}

fn text(top: &Top) -> String {
    let rate = top.queries as f64 / top.seconds.max(f64::MIN_POSITIVE);
    let mut text = format!(
        "{} queries in {:.1} s, {rate:.0} per second\n",
        top.queries, top.seconds
    );
    list(&mut text, "Names", &top.names);
    list(&mut text, "Clients", &top.clients);
    list(&mut text, "Names that do not exist end with", &top.nxdomain);
    list(
        &mut text,
        "Names denied with a search domain behind them (a dot at the end saves these queries)",
        &top.wasted,
    );
    text
}

fn list(text: &mut String, title: &str, counts: &[KeyCount]) {
    if counts.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}");
    for KeyCount { key, count } in counts {
        let _ = writeln!(text, "{count:>9}  {key}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lists_are_left_out() {
        let names = vec![KeyCount {
            key: "web.".to_owned(),
            count: 20,
        }];
        let top = Top {
            seconds: 10.0,
            queries: 20,
            names,
            ..Top::default()
        };
        let wanted = "20 queries in 10.0 s, 2 per second\n\nNames\n       20  web.\n";
        assert_eq!(text(&top), wanted);
    }
}
