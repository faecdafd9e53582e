//! The text form of an explanation.

use std::fmt;

use super::{Explained, Explanation};

impl fmt::Display for Explanation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            rtype,
            search,
            ndots,
            queries,
            answered,
        } = self;
        if search.is_empty() {
            writeln!(out, "{name} {rtype}, as a complete name")?;
        } else {
            let list = search.join(" ");
            writeln!(
                out,
                "{name} {rtype}, with the search list {list} (ndots {ndots})"
            )?;
        }
        for (at, query) in queries.iter().enumerate() {
            writeln!(out, "\n{}. {}", at + 1, query.name)?;
            query.fmt(out)?;
        }
        writeln!(out)?;
        match (queries.last(), answered) {
            (Some(last), true) => {
                let count = queries.len();
                writeln!(out, "Answer: {} (query {count})", last.name)?;
                let before = &queries[..count - 1];
                if let Some(failed) = before.iter().find(|query| query.has_failed()) {
                    writeln!(
                        out,
                        "Caution: {} failed ({}). Some resolvers give up there; others go on, and may get the answer of another name.",
                        failed.name, failed.rcode
                    )?;
                } else if !before.is_empty() {
                    writeln!(
                        out,
                        "Queries before it, without an answer: {}. With a dot at the end, the complete name takes one.",
                        before.len()
                    )?;
                }
                if let Some(caution) = &last.caution {
                    writeln!(out, "Caution: {caution}")?;
                }
                Ok(())
            }
            _ => writeln!(out, "No answer"),
        }
    }
}

impl Explained {
    /// Whether it neither answered nor denied.
    fn has_failed(&self) -> bool {
        self.rcode != "NOERROR" && self.rcode != "NXDOMAIN"
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            let at = step.at_us as f64 / 1000.0;
            let indent = usize::from(step.depth) * 2;
            writeln!(
                out,
                "   {at:9.3} ms  {:indent$}{:<12} {}",
                "", step.plugin, step.action
            )?;
        }
        if let Some(object) = &self.object {
            writeln!(out, "   object: {object}")?;
        }
        write!(out, "   {}", self.rcode)?;
        match &self.reason {
            Some(reason) => writeln!(out, ": {}", reason.text)?,
            None => writeln!(out)?,
        }
        for record in &self.answer {
            writeln!(out, "   {record}")?;
        }
        Ok(())
    }
}
