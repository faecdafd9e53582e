//! The option lines of `secondary`.

use std::net::SocketAddr;

use super::{Config, Copies};
use crate::{
    corefile::{Diagnostic, Directive, Line, Problems, Word, unknown_property},
    plugin::{ParseErrors, Parsing, ZoneList, zone_list::Told},
};

const PROPERTIES: [&str; 3] = ["transfer", "catalog", "fallthrough"];

/// Where masters listen, unless said.
const PORT: u16 = 53;

/// Reads all directives of a block. `block` are the zones of its keys, which a directive without
/// zones is for. What is accepted although it does nothing goes to `warnings`.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let mut problems = Problems::default();
    let mut copies = Vec::new();
    let mut told = Told::default();
    for directive in uses {
        let zones = ZoneList::read_or_block(&directive.arguments, parsing.zones);
        let mut group = Copies {
            zones: problems.catch(zones).unwrap_or_default(),
            masters: Vec::new(),
            fallthrough: ZoneList::none(),
        };
        let mut is_said = false;
        for line in directive.properties() {
            is_said |= line.name() == "transfer";
            problems.catch(property(line, &mut group));
        }
        if !is_said {
            let error = directive
                .name
                .error("secondary zones require a transfer from property");
            problems.push(error.help("add a line 'transfer from ADDRESS'"));
        }
        parsing
            .warnings
            .extend(told.add(&group.zones, &directive.name, "is copied twice"));
        copies.push(group);
    }
    problems.into_result(Config { copies })
}

fn property(line: &Line, group: &mut Copies) -> Result<(), Diagnostic> {
    let mut arguments = line.arguments();
    match line.name().as_str() {
        "transfer" => {
            let from = arguments.required("'from' and addresses")?;
            if from != "from" {
                let error = from.error(format!("'{from}' instead of 'from'"));
                let help = "who may have the zone is said by the plugin 'transfer'";
                return Err(error.expected("from").help(help));
            }
            for word in arguments.at_least_one("the addresses of the zone's masters")? {
                let master = master(word)?;
                if !group.masters.contains(&master) {
                    group.masters.push(master);
                }
            }
            Ok(())
        }
        "catalog" => Err(line
            .name()
            .error("catalog zones (RFC 9432) are not built into Lodestone")
            .label("the zones of a catalog would not be served")
            .help("name each zone, or keep CoreDNS for this block")),
        "fallthrough" => {
            group.fallthrough = ZoneList::read_or_all(arguments.rest())?;
            Ok(())
        }
        _ => Err(unknown_property(line.name(), &PROPERTIES)),
    }
}

/// An address, with or without a port.
fn master(word: &Word) -> Result<SocketAddr, Diagnostic> {
    word.socket_address(PORT).ok_or_else(|| {
        let error = word.error(format!("'{word}' is no address"));
        error.expected("an IP address, with or without a port")
    })
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
        let text = "secondary a.test b.test {
            transfer from 10.0.0.1 10.0.0.2:5353 fd00::1
            transfer from [fd00::2] [fd00::3]:53 10.0.0.1
            fallthrough a.test
        }";
        let (config, warnings) = read(text).unwrap();
        let copies = &config.copies[0];
        assert_eq!(copies.zones.label(), "a.test.,b.test.");
        assert_eq!(copies.fallthrough.label(), "a.test.");
        let masters = [
            "10.0.0.1:53",
            "10.0.0.2:5353",
            "[fd00::1]:53",
            "[fd00::2]:53",
            "[fd00::3]:53",
        ];
        assert_eq!(copies.masters, masters.map(|it| it.parse().unwrap()));
        assert_eq!(warnings.len(), 0);
        let (config, _) = read("secondary {\ntransfer from 10.0.0.1\n}").unwrap();
        assert_eq!(config.copies[0].zones.label(), "example.org.");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, error) in [
            ("secondary", "require a transfer from property"),
            ("secondary {\ntransfer\n}", "'from' and addresses"),
            ("secondary {\ntransfer from\n}", "the addresses"),
            ("secondary {\ntransfer to *\n}", "'to' instead of 'from'"),
            ("secondary {\ntransfer from *\n}", "'*' is no address"),
            (
                "secondary {\ntransfer from 10.0.0.1\ncatalog\n}",
                "RFC 9432",
            ),
            (
                "secondary {\ntransfer from 10.0.0.1\nreload 1s\n}",
                "unknown property",
            ),
        ] {
            let report = read(text).unwrap_err();
            assert!(report.contains(error), "{text}: {report}");
        }
    }
}
