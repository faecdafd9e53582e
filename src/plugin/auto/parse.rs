//! Reads the directive `auto`.

use std::{path::PathBuf, time::Duration};

use regex::Regex;

use super::Config;
use crate::{
    corefile::{Arguments, Diagnostic, Directive, ErrorList, Property, unknown_property},
    error_text,
    plugin::{ParseErrors, Parsing, ZoneList},
};

const PROPERTIES: [&str; 3] = ["directory", "reload", "upstream"];

/// The default interval at which the directory is listed.
const RELOAD: Duration = Duration::from_mins(1);

/// Bytes of a regular expression at most, as in CoreDNS.
const MAX_PATTERN: usize = 10_000;

/// Reads the directive. Without zones of its own it serves those of the server block. Properties that
/// are accepted without effect add a warning.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let directive = uses[0];
    let mut errors = ErrorList::default();
    let zones = errors.catch(ZoneList::read_or_block(&directive.arguments, parsing.zones));
    let mut config = Config {
        zones: zones.unwrap_or_default(),
        directory: PathBuf::new(),
        pattern: Regex::new(r"db\.(.*)").expect("a regular expression"),
        template: "${1}".to_owned(),
        reload: Some(RELOAD),
    };
    for line in directive.properties() {
        errors.catch(property(line, &mut config, parsing.warnings));
    }
    if config.directory.as_os_str().is_empty() && errors.is_empty() {
        let error = directive.name.error("'directory' is missing");
        let help = "add a line 'directory DIR', where DIR holds zone files";
        errors.push(error.label("there is nowhere to look for zones").help(help));
    }
    config.directory = parsing.path(&config.directory);
    errors.into_result(config)
}

fn property(
    line: &Property,
    config: &mut Config,
    warnings: &mut Vec<Diagnostic>,
) -> Result<(), Diagnostic> {
    let mut arguments = line.arguments();
    match line.name().as_str() {
        "directory" => {
            config.directory = arguments.required("a directory")?.path();
            if arguments.left() > 0 {
                (config.pattern, config.template) = naming(&mut arguments)?;
            }
        }
        "reload" => config.reload = arguments.interval()?,
        "upstream" => {
            let why = "aliases are followed by asking this server";
            warnings.push(arguments.without_effect(why));
        }
        _ => return Err(unknown_property(line.name(), &PROPERTIES)),
    }
    arguments.none_left()
}

/// `REGEXP TEMPLATE`
fn naming(arguments: &mut Arguments<'_>) -> Result<(Regex, String), Diagnostic> {
    let word = arguments.required("a regular expression")?;
    if word.len() > MAX_PATTERN {
        return Err(word
            .error("regexp too large")
            .expected("at most 10000 bytes"));
    }
    let pattern = Regex::new(word).map_err(|error| {
        let why = error_text::regex(&error);
        word.error(format!("no regular expression: {why}"))
    })?;
    if pattern.captures_len() < 2 {
        let error = word.error("Need at least one sub expression");
        return Err(error.expected("parentheses around what is the zone's name"));
    }
    let template = arguments.required("a template such as {1}")?;
    if let Some(group) = groups_of(template).find(|group| !has_group(&pattern, group)) {
        let last = pattern.captures_len() - 1;
        return Err(template
            .error(format!("there is no group {{{group}}}"))
            .label(format!("the last group of the expression is {{{last}}}")));
    }
    // CoreDNS writes a group as `{1}`, without the dollar sign.
    Ok((pattern, template.replace('{', "${")))
}

/// The groups in a template: the texts in braces.
fn groups_of(template: &str) -> impl Iterator<Item = &str> {
    let parts = template.split('{').skip(1);
    parts.filter_map(|part| Some(part.split_once('}')?.0))
}

fn has_group(pattern: &Regex, group: &str) -> bool {
    match group.parse::<usize>() {
        Ok(number) => number < pattern.captures_len(),
        Err(_) => pattern.capture_names().flatten().any(|name| name == group),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::testing;

    fn read(text: &str) -> Result<(Config, Vec<String>), String> {
        testing::read(text, "example.org.", parse)
    }

    #[test]
    fn every_option_is_read() {
        let (config, _) = read("auto {\ndirectory zones\n}").unwrap();
        assert_eq!(config.zones.label(), "example.org.");
        assert_eq!(config.directory, PathBuf::from("zones"));
        assert_eq!(config.pattern.as_str(), r"db\.(.*)");
        assert_eq!(config.reload, Some(Duration::from_mins(1)));
        let text = r"auto a.test b.test {
            directory /z (.*)\.zone {1}.test
            reload 10s
            upstream
        }";
        let (config, warnings) = read(text).unwrap();
        assert_eq!(config.zones.label(), "a.test.,b.test.");
        assert_eq!(config.template, "${1}.test");
        assert_eq!(config.reload, Some(Duration::from_secs(10)));
        assert_eq!(warnings, ["'upstream' does nothing"]);
        let (config, _) = read("auto {\ndirectory z\nreload 0\n}").unwrap();
        assert_eq!(config.reload, None);
    }

    #[test]
    fn invalid_arguments_are_rejected() {
        for (text, error) in [
            ("auto", "'directory' is missing"),
            ("auto {\ndirectory\n}", "a directory"),
            (
                "auto {\ndirectory z x {1}\n}",
                "Need at least one sub expression",
            ),
            ("auto {\ndirectory z (.*)\n}", "a template"),
            ("auto {\ndirectory z (.* {1}\n}", "no regular expression"),
            ("auto {\ndirectory z (.*) {2}\n}", "there is no group {2}"),
            (
                "auto {\ndirectory z (.*) {name}.test\n}",
                "there is no group {name}",
            ),
            ("auto {\ndirectory z (.*) {1} x\n}", "argument"),
            ("auto {\ndirectory z\nreload 5\n}", "write 5s"),
            ("auto {\ndirectory z\nfallthrough\n}", "unknown property"),
        ] {
            let report = read(text).unwrap_err();
            assert!(report.contains(error), "{text}: {report}");
        }
    }
}
