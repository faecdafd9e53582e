//! The text form of an explanation.

use std::fmt;

use super::{Explained, Explanation};

impl fmt::Display for Explanation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            rtype,
            search,
            queries,
            answered,
        } = self;
        if search.is_empty() {
            writeln!(out, "{name} {rtype}, as a complete name")?;
        } else {
            let list = search.join(" ");
            writeln!(out, "{name} {rtype}, with the search list {list} (ndots 5)")?;
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
                if count > 1 {
                    let before = count - 1;
                    writeln!(
                        out,
                        "Queries before it, without an answer: {before}. With a dot at the end, the complete name takes one."
                    )?;
                }
                Ok(())
            }
            _ => writeln!(out, "No answer"),
        }
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
