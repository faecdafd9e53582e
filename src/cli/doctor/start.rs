//! What a start would refuse, or log a warning of: plugins, and the files that they need.

use super::{Facts, NO_COREFILE, report::Finding};
use crate::{
    corefile::{Diagnostic, Severity},
    pipeline,
};

const START: &str = "start";

/// Builds all plugins without starting them. It drives a runtime of its own, so not within another.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let Some(config) = &facts.config else {
        return vec![Finding::skipped(START, "", NO_COREFILE)];
    };
    let finding = |one: Diagnostic| {
        let span = one.span.map(|span| config.warnings.sources.locate(span));
        let subject = span.unwrap_or_default();
        let remedy = one
            .help
            .or(one.label)
            .unwrap_or_else(|| "Correct this line, or the file that it names".to_owned());
        match one.severity {
            Severity::Error => Finding::fail(START, subject, one.message, remedy),
            Severity::Warning => Finding::warn(START, subject, one.message, remedy),
        }
    };
    let found = pipeline::trial_here(config, facts.port);
    if found.is_empty() {
        let count = config.blocks.iter().map(|block| block.plugins.len()).sum();
        let plugins = match count {
            1 => "1 plugin".to_owned(),
            count => format!("{count} plugins"),
        };
        return vec![Finding::ok(START, "", format!("{plugins} can be built"))];
    }
    found.into_iter().map(finding).collect()
}
