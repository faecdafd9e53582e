//! The option lines of `transfer`.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{Config, Rule, Whom};
use crate::{
    corefile::{Diagnostic, Directive, Line, Word, unknown_property},
    plugin::ZoneList,
};

/// Reads all directives of a block. `block` are the zones of its keys, which a directive without
/// zones is for. What is accepted although it does nothing goes to `warnings`.
pub fn parse(
    uses: &[&Directive],
    block: &[String],
    warnings: &mut Vec<Diagnostic>,
) -> Result<Config, Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let mut rules = Vec::new();
    for directive in uses {
        let zones = ZoneList::read_or_block(&directive.arguments, block);
        let mut to = Vec::new();
        let mut source = None;
        let mut is_said = false;
        for line in directive.properties() {
            is_said |= line.name() == "to";
            if let Err(error) = read(line, &mut to, &mut source, warnings) {
                errors.push(error);
            }
        }
        if !is_said {
            let error = directive.name.error("'to' is missing");
            let help = "'to *' lets anyone have the zone, 'to 10.0.0.53' one address";
            errors.push(error.label("nobody may have the zone").help(help));
        }
        match zones {
            Ok(zones) => rules.push(Rule { zones, to }),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(Config { rules })
    } else {
        Err(errors)
    }
}

fn read(
    line: &Line,
    to: &mut Vec<Whom>,
    source: &mut Option<Word>,
    warnings: &mut Vec<Diagnostic>,
) -> Result<(), Diagnostic> {
    let mut arguments = line.arguments();
    match line.name().as_str() {
        "to" => {
            for word in arguments.at_least_one("addresses, networks or '*'")? {
                to.push(whom(word, warnings)?);
            }
            Ok(())
        }
        "source" => {
            let word = arguments.required("an address")?;
            word.address()?;
            arguments.none_left()?;
            if let Some(first) = source {
                let error = line.name().error("'source' may be said once");
                return Err(error.also(first.place, "said here"));
            }
            let warning = line.name().warning("no NOTIFY is sent yet");
            warnings.push(warning.label("nothing is sent from this address"));
            *source = Some(line.name().clone());
            Ok(())
        }
        _ => Err(unknown_property(line.name(), &["source", "to"])),
    }
}

/// Who is meant: `*`, an address with or without the port that CoreDNS notifies, or a network.
fn whom(word: &Word, warnings: &mut Vec<Diagnostic>) -> Result<Whom, Diagnostic> {
    let text = word.as_str();
    if text == "*" {
        return Ok(Whom::Anyone);
    }
    if let Ok(network) = text.parse::<IpNet>() {
        return Ok(Whom::From(network.trunc()));
    }
    let with_port = || text.parse::<SocketAddr>().ok().map(|it| it.ip());
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse::<IpAddr>().ok();
    let Some(address) = address.or_else(with_port) else {
        let error = word.error(format!("'{word}' is no address"));
        return Err(error.expected("an IP address, a network such as 10.0.0.0/8, or '*'"));
    };
    let warning = word.warning("this address may have the zone, but no NOTIFY is sent to it yet");
    let help = "secondaries look for changes by themselves, as often as the SOA record says";
    warnings.push(warning.label("not notified").help(help));
    Ok(Whom::From(address.to_canonical().into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corefile::{self, Memory};

    fn read(text: &str) -> Result<(Config, usize), Vec<String>> {
        let text = format!("cluster.test {{\n{text}\n}}\n");
        let file = corefile::parse("Corefile", &text, &["transfer"], &Memory::default()).unwrap();
        let uses: Vec<_> = file.blocks[0].directives.iter().collect();
        let mut warnings = Vec::new();
        let config = parse(&uses, &["cluster.test.".to_owned()], &mut warnings);
        let config =
            config.map_err(|errors| errors.into_iter().map(|it| it.message).collect::<Vec<_>>())?;
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
        assert_eq!(
            (config.rules[0].to.as_slice(), warnings),
            (&networks[..], 6)
        );
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
