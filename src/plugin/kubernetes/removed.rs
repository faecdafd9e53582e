//! Properties of old CoreDNS versions that were removed, with their replacements.

use crate::corefile::{Diagnostic, Directive, Property, Word};

/// Adds the replacement to the error for a removed property.
pub(super) fn refuse(line: &Property, zones: &[Word], error: Diagnostic) -> Diagnostic {
    let arguments = &line.words[1..];
    let (label, help) = match line.name().as_str() {
        "upstream" => (
            "CoreDNS removed it in 1.7.0",
            "remove the line: aliases that lead out are asked of this server itself".to_owned(),
        ),
        "resyncperiod" => (
            "CoreDNS removed it in 1.7.0",
            "remove the line: the cluster is watched, not asked again".to_owned(),
        ),
        "federation" => (
            "CoreDNS removed it in 1.7.0, with the federation that it was for",
            "remove the line".to_owned(),
        ),
        "cidrs" => (
            "CoreDNS has it no more; networks are zones",
            format!(
                "remove the line, and write: kubernetes {} {}",
                Word::join(zones),
                Word::join(arguments)
            ),
        ),
        "transfer" => {
            let forward = zones
                .iter()
                .filter(|zone| !zone.ends_with(".arpa") && !zone.contains('/'));
            let forward: Vec<&str> = forward.map(Word::as_str).collect();
            let transfer = format!("transfer {}", forward.join(" "));
            let lines = [Word::join(arguments)];
            (
                "CoreDNS removed it in 1.8.0; 'transfer' is a plugin of its own",
                format!(
                    "remove the line, and write beside 'kubernetes':\n{}",
                    Directive::written(transfer.trim_end(), &lines)
                ),
            )
        }
        _ => return error,
    };
    error.label(label).help(help)
}
