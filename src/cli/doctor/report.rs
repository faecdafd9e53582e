//! What the checks have found, as lines or as JSON.

use std::fmt::Write;

use serde::Serialize;

/// The result of one check of one subject.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What is checked: one of the names in docs/doctor.md.
    pub check: &'static str,
    /// What it is checked of, such as an upstream; may be empty.
    pub subject: String,
    /// The verdict.
    pub status: Status,
    /// What was seen.
    pub detail: String,
    /// What to do, possibly in several lines; unless `status` is `ok` or `skipped`.
    pub remedy: Option<String>,
}

/// The verdict of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, and something should be done.
    Warn,
    /// It does not work.
    Fail,
    /// Not checked: why is in the detail.
    Skipped,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Skipped => "skipped",
        }
    }
}

impl Finding {
    /// As it should be.
    pub fn ok(check: &'static str, subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(check, subject, Status::Ok, detail, None)
    }

    /// Not checked, and why.
    pub fn skipped(
        check: &'static str,
        subject: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self::new(check, subject, Status::Skipped, detail, None)
    }

    /// It works, and something should be done.
    pub fn warn(
        check: &'static str,
        subject: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(check, subject, Status::Warn, detail, Some(remedy.into()))
    }

    /// It does not work.
    pub fn fail(
        check: &'static str,
        subject: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(check, subject, Status::Fail, detail, Some(remedy.into()))
    }

    fn new(
        check: &'static str,
        subject: impl Into<String>,
        status: Status,
        detail: impl Into<String>,
        remedy: Option<String>,
    ) -> Self {
        Self {
            check,
            subject: subject.into(),
            status,
            detail: detail.into(),
            remedy,
        }
    }
}

/// Whether there is something to do.
pub fn has_remedies(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.remedy.is_some())
}

/// One line per finding, the remedy in the lines below it, and a line with the numbers.
pub fn text(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let _ = write!(out, "{:<8}{}", finding.status.word(), finding.check);
        if !finding.subject.is_empty() {
            let _ = write!(out, " {}", finding.subject);
        }
        let _ = writeln!(out, ": {}", finding.detail);
        let lines = finding.remedy.iter().flat_map(|remedy| remedy.lines());
        for (number, line) in lines.enumerate() {
            let mark = if number == 0 { "->" } else { "  " };
            let _ = writeln!(out, "        {mark} {line}");
        }
    }
    let count = |status| {
        let mut all = findings.iter();
        all.by_ref().filter(|one| one.status == status).count()
    };
    let to_do = count(Status::Warn) + count(Status::Fail);
    let (good, skipped) = (count(Status::Ok), count(Status::Skipped));
    let _ = writeln!(out, "{good} ok, {to_do} to do, {skipped} skipped");
    out
}

/// An array of objects.
pub fn json(findings: &[Finding]) -> String {
    // Serialization cannot fail: a finding has neither maps nor floats.
    let text = serde_json::to_string_pretty(findings).unwrap_or_default();
    format!("{text}\n")
}
