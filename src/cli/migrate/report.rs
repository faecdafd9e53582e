//! The report, as a text or as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::{apply::Outcome, corefile::ReadCorefile, differences::Difference, managers::Manager};
use crate::cli::{
    check::JsonDiagnostic,
    doctor::report::{self, Finding},
};

/// What is reported.
pub struct Report {
    /// Where the objects come from.
    pub origin: String,
    /// The Deployment, if there is one.
    pub deployment: Option<DeploymentName>,
    /// The Corefile, if there is one.
    pub corefile: Option<ReadCorefile>,
    /// Of the Deployment and what belongs to it.
    pub findings: Vec<Finding>,
    /// Who may change it back.
    pub managers: Vec<Manager>,
    /// Commands.
    pub commands: Option<Commands>,
    /// Whether something is refused.
    pub is_refused: bool,
}

/// A Deployment and its container.
#[derive(Clone, Debug, Serialize)]
pub struct DeploymentName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Container.
    pub container: String,
    /// Image.
    pub image: String,
    /// The image before an earlier change that can be undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saved_image: Option<String>,
}

/// Commands to copy.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Commands {
    /// To put Lodestone in.
    pub go_in: Vec<String>,
    /// To go back.
    pub go_back: Vec<String>,
    /// A remark on both.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Output of `--format json`. Fields may be added; existing ones are stable.
#[derive(Serialize)]
struct JsonReport<'a> {
    version: u8,
    source: &'a str,
    refused: bool,
    deployment: Option<&'a DeploymentName>,
    corefile: Option<JsonCorefile<'a>>,
    findings: Vec<&'a Finding>,
    managers: &'a [Manager],
    commands: Option<&'a Commands>,
    result: Option<&'a Outcome>,
}

#[derive(Serialize)]
struct JsonCorefile<'a> {
    source: &'a str,
    accepted: bool,
    errors: usize,
    warnings: usize,
    same: &'a [String],
    differences: &'a [Difference],
    diagnostics: Vec<JsonDiagnostic<'a>>,
}

impl Report {
    fn findings(&self) -> impl Iterator<Item = &Finding> {
        let corefile = self.corefile.iter().flat_map(|corefile| &corefile.findings);
        corefile.chain(&self.findings)
    }

    /// The report as JSON, with what was done.
    pub fn json(&self, result: Option<&Outcome>) -> String {
        let corefile = self.corefile.as_ref().map(|corefile| {
            let (errors, warnings) = corefile.counts();
            let list = corefile.diagnostics.list.iter();
            JsonCorefile {
                source: &corefile.origin,
                accepted: !corefile.is_refused(),
                errors,
                warnings,
                same: &corefile.same,
                differences: &corefile.differences,
                diagnostics: list
                    .map(|one| JsonDiagnostic::new(one, &corefile.diagnostics.sources))
                    .collect(),
            }
        });
        let report = JsonReport {
            version: 1,
            source: &self.origin,
            refused: self.is_refused,
            deployment: self.deployment.as_ref(),
            corefile,
            findings: self.findings().collect(),
            managers: &self.managers,
            commands: self.commands.as_ref(),
            result,
        };
        // Serialization cannot fail: the report has neither maps nor floats.
        serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
    }

    /// The report as a text; with `all`, each row of docs/differences.md.
    pub fn text(&self, all: bool) -> String {
        let mut out = format!("From {}", self.origin);
        if let Some(DeploymentName {
            namespace,
            name,
            container,
            image,
            saved_image,
        }) = &self.deployment
        {
            let _ = write!(
                out,
                ": deployment/{name} in {namespace}, container {container}, image {image}"
            );
            if let Some(before) = saved_image {
                let _ = write!(
                    out,
                    "\nChanged by migrate --apply before, from image {before}; --undo goes back to it"
                );
            }
        }
        out.push('\n');
        if let Some(corefile) = &self.corefile {
            text_of_corefile(corefile, all, &mut out);
        }
        let findings: Vec<Finding> = self.findings().cloned().collect();
        if !findings.is_empty() {
            let _ = writeln!(out, "\nDeployment and what belongs to it:");
            out.push_str(&report::text(&findings));
        }
        if !self.managers.is_empty() {
            let _ = writeln!(out, "\nWho may change it back:");
        }
        for Manager {
            name,
            evidence,
            reverts,
            remedy,
            ..
        } in &self.managers
        {
            let _ = writeln!(out, "  {name} ({evidence}): {reverts}\n      -> {remedy}");
        }
        // What is refused must be mended first.
        if let Some(commands) = self.commands.as_ref().filter(|_| !self.is_refused) {
            for (title, list) in [
                ("To put Lodestone in:", &commands.go_in),
                ("To go back:", &commands.go_back),
            ] {
                let _ = writeln!(out, "\n{title}");
                for line in list {
                    let _ = writeln!(out, "    {line}");
                }
            }
            if !commands.note.is_empty() {
                let _ = writeln!(out, "\n{}", commands.note);
            }
        }
        let _ = writeln!(
            out,
            "\n{}",
            if self.is_refused {
                "Refused: see the errors and FAIL lines above"
            } else {
                "Nothing is refused"
            }
        );
        out
    }
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn text_of_corefile(corefile: &ReadCorefile, all: bool, out: &mut String) {
    let (errors, warnings) = corefile.counts();
    let verdict = if corefile.is_refused() {
        "refused"
    } else {
        "accepted"
    };
    let _ = writeln!(
        out,
        "\nCorefile ({}): {verdict}, {}, {}",
        corefile.origin,
        count(errors, "error"),
        count(warnings, "warning")
    );
    if !corefile.diagnostics.list.is_empty() {
        let _ = writeln!(out, "\n{}", corefile.diagnostics);
    }
    if !corefile.same.is_empty() {
        let _ = writeln!(
            out,
            "\nThe same as in CoreDNS: {}",
            corefile.same.join(", ")
        );
    }
    let shown = |row: &&Difference| all || row.is_specific;
    let mut heading = "";
    for row in corefile.differences.iter().filter(shown) {
        if heading != row.heading {
            heading = row.heading;
            let _ = writeln!(out, "\nDifferent (docs/differences.md, {heading}):");
        }
        let at = match row.at.first() {
            Some(first) => format!(" ({first})"),
            None => String::new(),
        };
        let _ = writeln!(
            out,
            "  {}{at}\n      CoreDNS: {}\n      Lodestone: {}",
            row.situation, row.coredns, row.lodestone
        );
    }
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for row in corefile.differences.iter().filter(|row| !shown(row)) {
        match counts.last_mut() {
            Some((heading, count)) if *heading == row.heading => *count += 1,
            _ => counts.push((row.heading, 1)),
        }
    }
    if !counts.is_empty() {
        let counts: Vec<String> = counts
            .iter()
            .map(|(heading, count)| format!("{heading} {count}"))
            .collect();
        let _ = writeln!(
            out,
            "\nFurther rows of docs/differences.md, for rarer cases (--all prints them): {}",
            counts.join(", ")
        );
    }
}
