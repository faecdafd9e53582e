//! `bind`: listen addresses of a block, by address or interface name.

use super::Settings;
use crate::{
    corefile::{Diagnostic, Directive, ErrorList, Word, nearest, unknown_property},
    interfaces::{HostAddress, Interfaces},
    plugin::{ParseErrors, Parsing},
};

/// Parses `bind ADDRESS|INTERFACE… { except ADDRESS|INTERFACE… }`. Several uses add up; `except`
/// applies to its own use only. Interfaces are resolved to their current addresses.
pub fn bind(
    uses: &[&Directive],
    parsing: &mut Parsing<'_>,
    settings: &mut Settings,
) -> Result<(), ParseErrors> {
    let mut errors = ErrorList::default();
    for one in uses {
        match read(one, parsing, &mut settings.bound_elsewhere) {
            Ok(addresses) => {
                for address in addresses {
                    if !settings.bind.contains(&address) {
                        settings.bind.push(address);
                    }
                }
            }
            Err(found) => errors.extend(found),
        }
    }
    errors.in_plugin("bind").into_result(())
}

/// The addresses of one use.
fn read(
    one: &Directive,
    parsing: &mut Parsing<'_>,
    elsewhere: &mut bool,
) -> Result<Vec<HostAddress>, ParseErrors> {
    let mut errors = ErrorList::default();
    let mut addresses = Vec::new();
    let words = one.arguments().at_least_one("an address or an interface");
    if let Some(words) = errors.catch(words) {
        resolve(words, parsing, &mut addresses, elsewhere, &mut errors);
    }
    let mut except = Vec::new();
    for line in one.properties() {
        if line.name().as_str() == "except" {
            let words = line.arguments().at_least_one("an address or an interface");
            if let Some(words) = errors.catch(words) {
                resolve(words, parsing, &mut except, elsewhere, &mut errors);
            }
        } else {
            errors.push(unknown_property(line.name(), &["except"]));
        }
    }
    let before = addresses.len();
    addresses.retain(|address| !except.contains(address));
    if addresses.is_empty() && before > 0 {
        // An empty list would mean all addresses.
        let error = one.name.error("'except' leaves no address to serve on");
        errors.push(error.help("leave an address out of 'except', or remove the block"));
    }
    errors.into_result(addresses)
}

/// Resolves addresses and interface names.
fn resolve(
    words: &[Word],
    parsing: &mut Parsing<'_>,
    addresses: &mut Vec<HostAddress>,
    elsewhere: &mut bool,
    errors: &mut ErrorList,
) {
    for word in words {
        let before = addresses.len();
        // Interface names that look like an address take precedence.
        addresses.extend(parsing.interfaces.named(word));
        if addresses.len() > before {
            continue;
        }
        // Link-local addresses keep their zone.
        if let Ok(address) = word.parse() {
            addresses.push(address);
            continue;
        }
        match word.address() {
            Ok(address) => addresses.push(address.into()),
            Err(_) if parsing.interfaces.elsewhere && may_be_an_interface(word) => {
                let message = format!("this machine has no interface '{word}'");
                let warning = word.warning(message).label("not resolved");
                let help = "fine if the machine that serves this Corefile has it";
                parsing.warnings.push(warning.help(help).in_plugin("bind"));
                *elsewhere = true;
            }
            Err(error) => errors.push(unknown(word, &error, parsing.interfaces)),
        }
    }
}

/// Interface names in Linux: 1 to 15 bytes without white space, slash or colon.
fn may_be_an_interface(word: &Word) -> bool {
    let odd = |it: char| it.is_whitespace() || matches!(it, '/' | ':' | '[' | ']');
    (1..=15).contains(&word.len()) && !word.contains(odd) && !is_numeric(word)
}

/// Digits and dots only: a malformed address.
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
    use crate::corefile::{self, InMemory};

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

    /// Addresses and warnings of a block with these lines.
    fn bound(lines: &str, interfaces: &Interfaces) -> Result<(String, Vec<String>), String> {
        let text = format!(". {{\n{lines}\n}}\n");
        let file = corefile::parse("Corefile", &text, &["bind"], &InMemory::default()).unwrap();
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
    fn other_words_are_refused() {
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
    fn a_check_on_another_machine_warns_of_unknown_interfaces() {
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
