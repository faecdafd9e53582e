//! `edns0 local|nsid|subnet set|append|replace|unset ... [revert]`.

use super::RuleParser;
use crate::{
    corefile::{Arguments, Diagnostic, Word},
    edns::Options,
    plugin::rewrite::{
        option::{Operation, OptionRule, OptionSource, Variable},
        rule::RuleAction,
    },
};

impl RuleParser<'_> {
    /// Parses the words after `edns0`.
    pub(super) fn edns0(words: &mut Arguments<'_>) -> Result<RuleAction, Diagnostic> {
        let kinds = [
            ("local", None),
            ("nsid", Some(Options::NSID)),
            ("subnet", Some(Options::SUBNET)),
        ];
        let operations = [
            ("set", Operation::Set),
            ("append", Operation::Append),
            ("replace", Operation::Replace),
            ("unset", Operation::Unset),
        ];
        let kind = words
            .required("local, nsid or subnet")?
            .one_of_any_case(&kinds)?;
        let operation = words
            .required("set, append, replace or unset")?
            .one_of_any_case(&operations)?;
        let mut rule = OptionRule {
            operation,
            code: kind.unwrap_or_default(),
            data: OptionSource::Fixed(Box::default()),
            reverts: false,
        };
        let is_set = operation != Operation::Unset;
        match kind {
            Some(Options::SUBNET) if is_set => {
                let what = "lengths of IPv4 and IPv6 prefixes such as 24 56";
                rule.data = OptionSource::Subnet {
                    v4: words.required(what)?.integer(0..=32)?,
                    v6: words.required(what)?.integer(0..=128)?,
                };
            }
            Some(_) => {}
            None => {
                rule.code = option_code(words.required("an option's code")?)?;
                if is_set {
                    let what = "text, 0x and hexadecimal digits, or a variable such as {client_ip}";
                    let word = words.required(what)?;
                    // A final `revert` is not data.
                    if *word == "revert" && words.left() == 0 {
                        return Err(word.error("the option has no data").expected(what));
                    }
                    rule.data = Self::data(word)?;
                }
            }
        }
        if is_set && let Some(word) = words.next() {
            word.one_of(&[("revert", ())])?;
            rule.reverts = true;
        }
        Ok(RuleAction::Option(rule))
    }

    fn data(word: &Word) -> Result<OptionSource, Diagnostic> {
        let variable = word
            .strip_prefix('{')
            .and_then(|word| word.strip_suffix('}'));
        if let Some(variable) = variable {
            return Self::variable(word, variable).map(OptionSource::Variable);
        }
        let data: Box<[u8]> = match word.strip_prefix("0x") {
            None => word.as_bytes().into(),
            Some(digits) => unhex(digits).ok_or_else(|| {
                let error = word.error("these are no hexadecimal digits");
                error.expected("an even number of them, such as 0xffee")
            })?,
        };
        if data.len() + 4 > Options::MAX {
            let most = Options::MAX - 4;
            return Err(word.error(format!("an option has at most {most} bytes")));
        }
        Ok(OptionSource::Fixed(data))
    }

    fn variable(word: &Word, name: &str) -> Result<Variable, Diagnostic> {
        Ok(match name {
            "qname" => Variable::Name,
            "qtype" => Variable::Type,
            "client_ip" => Variable::ClientAddress,
            "client_port" => Variable::ClientPort,
            "protocol" => Variable::Protocol,
            "server_ip" => Variable::ServerAddress,
            "server_port" => Variable::ServerPort,
            label if is_label(label) => Variable::Metadata(label.into()),
            _ => {
                let error = word.error(format!("unsupported variable name '{word}'"));
                return Err(error.expected(
                    "{qname}, {qtype}, {client_ip}, {client_port}, {protocol}, {server_ip}, \
                     {server_port}, or a label of metadata such as {kubernetes/namespace}",
                ));
            }
        })
    }
}

/// Parses an option code: decimal, or with the prefix `0x`, `0o` or `0b`.
fn option_code(word: &Word) -> Result<u16, Diagnostic> {
    let lower = word.to_ascii_lowercase();
    let (digits, radix) = match lower.get(..2) {
        Some("0x") => (&lower[2..], 16),
        Some("0o") => (&lower[2..], 8),
        Some("0b") => (&lower[2..], 2),
        _ => (&*lower, 10),
    };
    let is_number = digits.bytes().all(|digit| digit.is_ascii_alphanumeric());
    let code = u16::from_str_radix(digits, radix).ok();
    code.filter(|_| is_number).ok_or_else(|| {
        let error = word.error(format!("'{word}' is no option code"));
        error.expected("a number up to 65535, such as 0xffee")
    })
}

fn unhex(digits: &str) -> Option<Box<[u8]>> {
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let offsets = (0..digits.len()).step_by(2);
    offsets
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok())
        .collect()
}

/// `PLUGIN/KEY`.
fn is_label(text: &str) -> bool {
    text.split_once('/')
        .is_some_and(|(plugin, key)| !plugin.is_empty() && !key.is_empty())
}
