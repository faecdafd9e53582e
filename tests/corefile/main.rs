//! The Corefile language through the library's public API.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod imports;
mod lexical;
mod mutations;
mod rendering;
mod rows;

use std::fmt::Write;

use lodestone::corefile::{
    Diagnostic, Diagnostics, Directive, File, InMemory, Overlaps, ServerBlock, Severity, Word,
    parse, unknown_property,
};

/// Directive names: the stock ones and two for the test rows.
const KNOWN: &[&str] = &[
    "bind",
    "cache",
    "errors",
    "forward",
    "health",
    "hosts",
    "kubernetes",
    "log",
    "loop",
    "ready",
    "reload",
    "whoami",
    "prometheus",
    "rewrite",
    "template",
];

fn read(text: &str) -> Result<File, Diagnostics> {
    read_with(text, &InMemory::default())
}

fn read_with(text: &str, loader: &InMemory) -> Result<File, Diagnostics> {
    parse("Corefile", text, KNOWN, loader)
}

/// Result of a text: `zone:port ... { directives }` per block, then warnings; or the errors with
/// line and column.
fn outcome(text: &str, loader: &InMemory) -> String {
    match read_with(text, loader).and_then(|file| configure(&file)) {
        Ok(out) => out,
        Err(diagnostics) => {
            let mut out = String::new();
            for one in &diagnostics.list {
                write(&mut out, one);
            }
            out
        }
    }
}

fn write(out: &mut String, one: &Diagnostic) {
    let severity = if one.severity == Severity::Error {
        "error"
    } else {
        "warning"
    };
    let span = one
        .span
        .expect("every diagnostic of these tests has a span");
    writeln!(
        out,
        "{severity} {}:{} {}",
        span.line, span.column, one.message
    )
    .unwrap();
}

/// A minimal configuration: keys, overlaps and some checks of three plugins.
fn configure(file: &File) -> Result<String, Diagnostics> {
    let mut out = String::new();
    let mut list = file.warnings.clone();
    let mut overlaps = Overlaps::default();
    for block in &file.blocks {
        match block.read_keys() {
            Ok(keys) => {
                let names = keys
                    .list
                    .iter()
                    .map(|key| format!("{}://{}:{}", key.transport, key.zone, key.port_or(53)));
                let names: Vec<_> = names.map(|name| name.replace("dns://", "")).collect();
                let names = if names.len() > 8 {
                    format!(
                        "{} … {} ({})",
                        names[0],
                        names[names.len() - 1],
                        names.len()
                    )
                } else {
                    names.join(" ")
                };
                writeln!(out, "{names} {{{}}}", directives(block)).unwrap();
                list.extend(keys.warnings);
                match plugins(block) {
                    Ok(bound) => {
                        let claims = keys
                            .list
                            .iter()
                            .flat_map(|key| bound.iter().map(move |address| (key, *address)));
                        for (key, address) in claims {
                            let port = key.port_or(53);
                            list.extend(
                                overlaps
                                    .claim(key, port, address.map(Into::into), false)
                                    .err(),
                            );
                        }
                    }
                    Err(diagnostic) => list.push(diagnostic),
                }
            }
            Err(diagnostics) => list.extend(diagnostics),
        }
    }
    let diagnostics = file.report(list);
    if diagnostics.has_errors() {
        return Err(diagnostics);
    }
    for one in &diagnostics.list {
        write(&mut out, one);
    }
    Ok(out)
}

fn directives(block: &ServerBlock) -> String {
    let shown = block.directives.iter().map(|directive| {
        let mut shown = directive.name.to_string();
        for argument in &directive.arguments {
            write!(shown, " {:?}", argument.as_str()).unwrap();
        }
        for line in directive.properties() {
            let words: Vec<_> = line.words.iter().map(Word::as_str).collect();
            write!(shown, " [{}]", words.join(" ")).unwrap();
        }
        shown
    });
    shown.collect::<Vec<_>>().join("; ")
}

/// Checks that the rows use; returns the block's bind addresses.
fn plugins(block: &ServerBlock) -> Result<Vec<Option<std::net::IpAddr>>, Diagnostic> {
    let uses = |name: &str| -> Vec<&Directive> {
        block
            .directives
            .iter()
            .filter(|directive| directive.name == *name)
            .collect()
    };
    if let Some(cache) = Directive::only_once(&uses("cache"))? {
        for word in &cache.arguments {
            word.integer(0..=3600_u32)
                .map(drop)
                .or_else(|_| word.zones().map(drop))?;
        }
    }
    for health in uses("health") {
        health.no_arguments()?;
        for line in health.properties() {
            if *line.name() != "lameduck" {
                return Err(unknown_property(line.name(), &["lameduck"]));
            }
            line.arguments().exactly::<1>("a duration")?[0].duration()?;
        }
    }
    for forward in uses("forward") {
        let mut arguments = forward.arguments();
        arguments.required("a zone")?.zones()?;
        for address in arguments.at_least_one("an address")? {
            address.address()?;
        }
    }
    let mut bound = Vec::new();
    for bind in uses("bind") {
        for address in bind.arguments().at_least_one("an address")? {
            bound.push(Some(address.address()?));
        }
    }
    Ok(if bound.is_empty() { vec![None] } else { bound })
}
