//! `bind`: the addresses that a block is served on, named one by one or by their interface.

use super::Settings;
use crate::{
    corefile::{Diagnostic, Directive, Problems, Word, nearest, unknown_property},
    interfaces::{HostAddress, Interfaces},
    plugin::{ParseErrors, Parsing},
};

/// Reads `bind ADDRESS|INTERFACE… { except ADDRESS|INTERFACE… }`. Several uses add up; what `except`
/// takes away it takes from its own use. An interface stands for the addresses that it has now.
pub fn bind(
    uses: &[&Directive],
    parsing: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), ParseErrors> {
    let mut problems = Problems::default();
    for one in uses {
        match read(one, parsing, &mut settings.bound_elsewhere) {
            Ok(addresses) => {
                for address in addresses {
                    if !settings.bind.contains(&address) {
                        settings.bind.push(address);
                    }
                }
            }
            Err(found) => problems.extend(found),
        }
    }
    problems.in_plugin("bind").into_result(())
}

/// The addresses of one use.
fn read(
    one: &Directive,
    parsing: &mut Parsing<'_>,
    elsewhere: &mut bool,
) -> Result<Vec<HostAddress>, ParseErrors> {
    let mut problems = Problems::default();
    let mut addresses = Vec::new();
    let words = one.arguments().at_least_one("an address or an interface");
    if let Some(words) = problems.catch(words) {
        resolve(words, parsing, &mut addresses, elsewhere, &mut problems);
    }
    let mut except = Vec::new();
    for line in one.properties() {
        if line.name().as_str() == "except" {
            let words = line.arguments().at_least_one("an address or an interface");
            if let Some(words) = problems.catch(words) {
                resolve(words, parsing, &mut except, elsewhere, &mut problems);
            }
        } else {
            problems.push(unknown_property(line.name(), &["except"]));
        }
    }
    let before = addresses.len();
    addresses.retain(|address| !except.contains(address));
    if addresses.is_empty() && before > 0 {
        // Nothing to serve on must not come to mean everything.
        let error = one.name.error("'except' leaves no address to serve on");
        problems.push(error.help("leave an address out of 'except', or remove the block"));
    }
    problems.into_result(addresses)
}

/// What the words stand for.
fn resolve(
    words: &[Word],
    parsing: &mut Parsing<'_>,
    addresses: &mut Vec<HostAddress>,
    elsewhere: &mut bool,
    problems: &mut Problems,
) {
    for word in words {
        let before = addresses.len();
        // An interface may be called like an address.
        addresses.extend(parsing.interfaces.named(word));
        if addresses.len() > before {
            continue;
        }
        // A link-local address is one only with its zone, which is kept.
        if let Ok(address) = word.parse() {
            addresses.push(address);
            continue;
        }
        match word.address() {
            Ok(address) => addresses.push(address.into()),
            Err(_) if parsing.interfaces.elsewhere && may_be_an_interface(word) => {
                let message = format!("this machine has no interface '{word}'");
                let warning = word.warning(message).label("not looked at any further");
                let help = "that is well where the machine that serves this has it";
                parsing.warnings.push(warning.help(help).in_plugin("bind"));
                *elsewhere = true;
            }
            Err(error) => problems.push(unknown(word, &error, parsing.interfaces)),
        }
    }
}

/// Linux's rule: 1 to 15 octets without blanks, slashes and colons.
fn may_be_an_interface(word: &Word) -> bool {
    let odd = |it: char| it.is_whitespace() || matches!(it, '/' | ':' | '[' | ']');
    (1..=15).contains(&word.len()) && !word.contains(odd) && !is_numeric(word)
}

/// Digits and dots: an address that is written wrong.
fn is_numeric(word: &Word) -> bool {
    word.chars().all(|it| it.is_ascii_digit() || it == '.')
}

fn unknown(word: &Word, as_address: &Diagnostic, interfaces: &Interfaces) -> Diagnostic {
    let names = interfaces.names();
    let error = word.error(format!("not an IP address or an interface: '{word}'"));
    let error = error.expected("an address such as 10.0.0.10 or fd00::10, or an interface");
    let here = || format!("the interfaces with an address are {}", names.join(", "));
    error.help(
        match (&as_address.help, nearest(word, names.iter().copied())) {
            (Some(help), _) => help.clone(),
            (None, Some(near)) => format!("did you mean '{near}'?"),
            (None, None) if names.is_empty() => "name an address".to_owned(),
            (None, None) => here(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corefile::{self, Memory};

    fn machine(elsewhere: bool) -> Interfaces {
        let one = |name: &str, ip: &str, scope| {
            let ip = ip.parse().unwrap();
            (name.to_owned(), HostAddress { ip, scope })
        };
        Interfaces {
            addresses: vec![
                one("lo", "127.0.0.1", 0),
                one("lo", "::1", 0),
                one("eth0", "10.0.0.7", 0),
                one("eth0", "fe80::7", 2),
            ],
            elsewhere,
        }
    }

    /// The addresses, and the warnings, of a block with these lines.
    fn bound(lines: &str, interfaces: &Interfaces) -> Result<(String, Vec<String>), String> {
        let text = format!(". {{\n{lines}\n}}\n");
        let file = corefile::parse("Corefile", &text, &["bind"], &Memory::default()).unwrap();
        let mut warnings = Vec::new();
        let mut parsing = Parsing {
            zones: &[],
            directives: &[],
            interfaces,
            warnings: &mut warnings,
        };
        let mut settings = Settings::default();
        let uses: Vec<&Directive> = file.blocks[0].directives.iter().collect();
        bind(&uses, &mut parsing, &mut settings)
            .map_err(|errors| file.report(errors).to_string())?;
        let addresses: Vec<String> = settings.bind.iter().map(ToString::to_string).collect();
        let warnings = warnings.iter().map(ToString::to_string).collect();
        Ok((addresses.join(" "), warnings))
    }

    #[test]
    fn addresses_and_interfaces_add_up() {
        for (lines, expected) in [
            ("bind 10.0.0.1 fd00::10", "10.0.0.1 fd00::10"),
            ("bind 10.0.0.1\nbind 10.0.0.1 10.0.0.2", "10.0.0.1 10.0.0.2"),
            ("bind lo", "127.0.0.1 ::1"),
            ("bind eth0 lo", "10.0.0.7 fe80::7%2 127.0.0.1 ::1"),
            ("bind lo {\nexcept ::1\n}", "127.0.0.1"),
            ("bind lo eth0 {\nexcept lo\n}", "10.0.0.7 fe80::7%2"),
            (
                "bind lo {\nexcept 127.0.0.1\n}\nbind 127.0.0.1",
                "::1 127.0.0.1",
            ),
        ] {
            let (addresses, warnings) = bound(lines, &machine(false)).unwrap();
            assert_eq!(addresses, expected, "{lines}");
            assert!(warnings.is_empty(), "{lines}");
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for (lines, part) in [
            ("bind", "an address or an interface"),
            ("bind eth1", "did you mean 'eth0'?"),
            ("bind wlan7", "are eth0, lo"),
            ("bind 10.0.0.1:53", "write 10.0.0.1 alone"),
            ("bind 10.0.0.256", "not an IP address"),
            ("bind lo {\nexcept\n}", "an address or an interface"),
            ("bind lo {\nexcept lo\n}", "leaves no address"),
            ("bind lo {\nwithout lo\n}", "without"),
        ] {
            let error = bound(lines, &machine(false)).unwrap_err();
            assert!(error.contains(part), "{lines}: {error}");
        }
    }

    #[test]
    fn a_check_elsewhere_warns_of_interfaces_that_it_cannot_see() {
        let (addresses, warnings) = bound("bind nodelocaldns 10.0.0.1", &machine(true)).unwrap();
        assert_eq!(addresses, "10.0.0.1");
        assert!(warnings[0].contains("no interface 'nodelocaldns'"));
        assert!(
            bound(
                "bind lo nodelocaldns {\nexcept kube-ipvs0\n}",
                &machine(true)
            )
            .is_ok()
        );
        assert!(bound("bind 10.0.0.256", &machine(true)).is_err());
    }
}
