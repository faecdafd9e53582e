//! The option lines of `transfer`.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{Config, Rule, Whom};
use crate::{
    corefile::{Diagnostic, Directive, Line, Problems, Word, unknown_property},
    plugin::{ParseErrors, Parsing, ZoneList},
};

/// Reads all directives of a block. `block` are the zones of its keys, which a directive without
/// zones is for. What is accepted although it does nothing goes to `warnings`.
pub fn parse(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Config, ParseErrors> {
    let mut problems = Problems::default();
    let mut rules = Vec::new();
    for directive in uses {
        let zones = ZoneList::read_or_block(&directive.arguments, parsing.zones);
        let mut lines = Lines::default();
        for line in directive.properties() {
            problems.catch(lines.read(line));
        }
        if !lines.is_said {
            let error = directive.name.error("'to' is missing");
            let help = "'to *' lets anyone have the zone, 'to 10.0.0.53' one address";
            problems.push(error.label("nobody may have the zone").help(help));
        }
        lines.warn(parsing.warnings);
        rules.extend(problems.catch(zones).map(|zones| lines.rule(zones)));
    }
    problems.into_result(Config { rules })
}

/// What the lines of a directive say.
#[derive(Default)]
struct Lines {
    /// A line `to` stands there, right or wrong.
    is_said: bool,
    to: Vec<Whom>,
    notify: Vec<(Word, SocketAddr)>,
    source: Option<(Word, IpAddr)>,
}

impl Lines {
    fn read(&mut self, line: &Line) -> Result<(), Diagnostic> {
        let mut arguments = line.arguments();
        match line.name().as_str() {
            "to" => {
                self.is_said = true;
                for word in arguments.at_least_one("addresses, networks or '*'")? {
                    self.whom(word)?;
                }
                Ok(())
            }
            "source" => {
                let word = arguments.required("an address")?;
                let address = word.address()?;
                arguments.none_left()?;
                if let Some((first, _)) = &self.source {
                    let error = line.name().error("'source' may be said once");
                    return Err(error.also(first.place, "said here"));
                }
                self.source = Some((line.name().clone(), address.to_canonical()));
                Ok(())
            }
            _ => Err(unknown_property(line.name(), &["source", "to"])),
        }
    }

    /// Who is meant: `*`, an address with or without the port that it is notified at, or a network.
    fn whom(&mut self, word: &Word) -> Result<(), Diagnostic> {
        let text = word.as_str();
        if text == "*" {
            self.to.push(Whom::Anyone);
            return Ok(());
        }
        if let Ok(network) = text.parse::<IpNet>() {
            self.to.push(Whom::From(network.trunc()));
            return Ok(());
        }
        let Some(address) = word.socket_address(PORT) else {
            let error = word.error(format!("'{word}' is no address"));
            return Err(error.expected("an IP address, a network such as 10.0.0.0/8, or '*'"));
        };
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        self.to.push(Whom::From(address.ip().into()));
        if self.notify.iter().all(|(_, known)| *known != address) {
            self.notify.push((word.clone(), address));
        }
        Ok(())
    }

    /// Tells of what is said and cannot have an effect.
    fn warn(&self, warnings: &mut Vec<Diagnostic>) {
        let Some((word, source)) = &self.source else {
            return;
        };
        if self.notify.is_empty() && self.is_said {
            let warning = word.warning("'source' does nothing: nobody is notified");
            let help = "those are notified that a line 'to' names by their address";
            warnings.push(warning.help(help));
        }
        for (to, _) in self.misfits(*source) {
            let warning = to.warning(format!("'{to}' is not notified"));
            let label = "of another family of addresses than 'source'";
            warnings.push(warning.label(label).also(word.place, "this one"));
        }
    }

    /// Who cannot be told from an address of this family.
    fn misfits(&self, source: IpAddr) -> impl Iterator<Item = &(Word, SocketAddr)> {
        let told = self.notify.iter();
        told.filter(move |(_, to)| to.is_ipv4() != source.is_ipv4())
    }

    fn rule(self, zones: ZoneList) -> Rule {
        let source = self.source.map(|(_, address)| address);
        let fits = |to: &SocketAddr| source.is_none_or(|source| source.is_ipv4() == to.is_ipv4());
        let notify = self.notify.into_iter().map(|(_, to)| to);
        Rule {
            zones,
            to: self.to,
            notify: notify.filter(fits).collect(),
            source,
        }
    }
}

/// Where a secondary listens, unless it is said.
const PORT: u16 = 53;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::testing;

    fn read(text: &str) -> Result<(Config, usize), Vec<String>> {
        let (config, warnings) = testing::headlines(text, "cluster.test.", parse)?;
        Ok((config, warnings.len()))
    }

    #[test]
    fn every_option_is_read() {
        let (config, warnings) = read("transfer {\nto *\n}").unwrap();
        assert_eq!(
            (config.rules[0].to.as_slice(), warnings),
            (&[Whom::Anyone][..], 0)
        );
        assert_eq!(config.rules[0].zones.label(), "cluster.test.");
        let text = "transfer a.test B.test {
            to 10.0.0.1 10.0.0.2:5353 fd00::1 [fd00::2] [fd00::3]:53
            to 10.1.2.3/16
            source 10.0.0.9
        }
        transfer c.test {\nto *\n}";
        let (config, warnings) = read(text).unwrap();
        assert_eq!(config.rules.len(), 2);
        assert_eq!(config.rules[0].zones.label(), "a.test.,b.test.");
        let networks = [
            "10.0.0.1/32",
            "10.0.0.2/32",
            "fd00::1/128",
            "fd00::2/128",
            "fd00::3/128",
            "10.1.0.0/16",
        ];
        let networks = networks.map(|it| Whom::From(it.parse().unwrap()));
        assert_eq!(config.rules[0].to, networks);
        let notified = ["10.0.0.1:53", "10.0.0.2:5353"].map(|it| it.parse().unwrap());
        assert_eq!(config.rules[0].notify, notified);
        assert_eq!(config.rules[0].source, Some([10, 0, 0, 9].into()));
        assert_eq!(warnings, 3, "IPv6 is not told from IPv4");
        let (config, _) = read("transfer {\nto [fd00::3]:54 fd00::3 [fd00::3]:54 *\n}").unwrap();
        let notified = ["[fd00::3]:54", "[fd00::3]:53"].map(|it| it.parse().unwrap());
        assert_eq!(config.rules[0].notify, notified);
        assert!(config.rules[0].to.contains(&Whom::Anyone));
    }

    #[test]
    fn a_source_that_nobody_is_told_from_is_warned_of() {
        let (config, warnings) = read("transfer {\nto * 10.0.0.0/8\nsource 10.0.0.9\n}").unwrap();
        assert_eq!((config.rules[0].notify.len(), warnings), (0, 1));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (text, error) in [
            ("transfer", "'to' is missing"),
            ("transfer {\nto nobody\n}", "'nobody' is no address"),
            (
                "transfer {\nto *\nsource 10.0.0.1\nsource 10.0.0.2\n}",
                "'source' may be said once",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), [error]);
        }
        for text in [
            "transfer {\nto\n}",
            "transfer {\nto *\nfrom *\n}",
            "transfer {\nto *\nsource eth0\n}",
            "transfer {\nto *\nsource 10.0.0.1 10.0.0.2\n}",
            "transfer a..b {\nto *\n}",
        ] {
            assert_eq!(read(text).unwrap_err().len(), 1, "{text}");
        }
    }
}
