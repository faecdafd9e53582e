//! The option lines of `file`.

use std::time::Duration;

use super::{Config, ZoneFile};
use crate::{
    corefile::{Diagnostic, Directive, Line, Problems, unknown_property},
    plugin::{ParseErrors, Parsing, ZoneList, zone_list::Told},
};

const PROPERTIES: [&str; 4] = ["reload", "reload_by_mtime", "fallthrough", "upstream"];

/// How often a file is looked at, where nothing else is said.
const RELOAD: Duration = Duration::from_mins(1);

/// Reads all directives of a block. `block` are the zones of its keys, which a directive without
/// zones is for. What is accepted although it does nothing goes to `warnings`.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let mut problems = Problems::default();
    let mut files = Vec::new();
    let mut told = Told::default();
    for directive in uses {
        let file = file(directive, parsing, &mut problems);
        let Some(file) = problems.catch(file) else {
            continue;
        };
        parsing
            .warnings
            .extend(told.add(&file.zones, &directive.name, "has two files"));
        files.push(file);
    }
    problems.into_result(Config { files })
}

fn file(
    directive: &Directive,
    parsing: &mut Parsing<'_>,
    problems: &mut Problems,
) -> Result<ZoneFile, Diagnostic> {
    let mut arguments = directive.arguments();
    let path = arguments
        .required("a zone file, and the zones that it is for")?
        .path();
    let mut file = ZoneFile {
        path: parsing.path(&path),
        zones: ZoneList::read_or_block(arguments.rest(), parsing.zones)?,
        reload: Some(RELOAD),
        reload_by_mtime: false,
        fallthrough: ZoneList::none(),
    };
    for line in directive.properties() {
        problems.catch(property(line, &mut file, parsing.warnings));
    }
    Ok(file)
}

fn property(
    line: &Line,
    file: &mut ZoneFile,
    warnings: &mut Vec<Diagnostic>,
) -> Result<(), Diagnostic> {
    let mut arguments = line.arguments();
    match line.name().as_str() {
        "reload" => file.reload = arguments.interval()?,
        "reload_by_mtime" => file.reload_by_mtime = true,
        "fallthrough" => file.fallthrough = ZoneList::read_or_all(arguments.rest())?,
        "upstream" => {
            let why = "aliases are followed by asking this server";
            warnings.push(arguments.without_effect(why));
        }
        _ => return Err(unknown_property(line.name(), &PROPERTIES)),
    }
    arguments.none_left()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plugin::testing, wire::Name};

    fn read(text: &str) -> Result<(Config, Vec<String>), String> {
        testing::read(text, "example.org.", parse)
    }

    #[test]
    fn every_option_is_read() {
        let (config, warnings) = read("file db.example").unwrap();
        let wanted = ZoneFile {
            path: "db.example".into(),
            zones: ["example.org"
                .parse::<String>()
                .map(|it| Name::parse(&it).unwrap())
                .unwrap()]
            .into_iter()
            .collect(),
            reload: Some(Duration::from_mins(1)),
            reload_by_mtime: false,
            fallthrough: ZoneList::none(),
        };
        assert_eq!(config.files, [wanted]);
        assert_eq!(warnings.len(), 0);
        let text = "file /db a.test 10.0.0.0/8 {
            reload 10s
            reload_by_mtime
            fallthrough b.a.test
            upstream 8.8.8.8
        }";
        let (config, warnings) = read(text).unwrap();
        let file = &config.files[0];
        assert_eq!(file.zones.label(), "a.test.,10.in-addr.arpa.");
        assert_eq!(file.fallthrough.label(), "b.a.test.");
        assert_eq!(file.reload, Some(Duration::from_secs(10)));
        assert!(file.reload_by_mtime);
        assert_eq!(warnings, ["'upstream' does nothing"]);
        assert_eq!(
            read("file db {\nreload 0\n}").unwrap().0.files[0].reload,
            None
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, error) in [
            ("file", "a zone file"),
            ("file db a..b", "a..b"),
            ("file db {\nreload\n}", "a duration"),
            ("file db {\nreload 5\n}", "write 5s"),
            ("file db {\nreload_by_mtime yes\n}", "takes no argument"),
            ("file db {\ntransfer to *\n}", "unknown property"),
        ] {
            let report = read(text).unwrap_err();
            assert!(report.contains(error), "{text}: {report}");
        }
    }
}
