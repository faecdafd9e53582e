//! Decides for each error: logged at once, counted for a summary, or counted above the rate limit.
//!
//! Reads no clock: the time is an argument.

use std::{
    fmt,
    time::{Duration, Instant},
};

use tracing::Level;

use super::Consolidate;

/// Errors logged per second at most. A broken upstream fails every query; the log stays readable, and
/// its volume bounded.
pub(super) const MAX_PER_SECOND: u32 = 100;

const SECOND: Duration = Duration::from_secs(1);

/// The counts of the open windows, whose summaries are still to be logged.
pub(super) struct Ledger {
    rules: Box<[Consolidate]>,
    windows: Box<[Window]>,
    volume: Window,
}

/// A period in which errors are counted.
#[derive(Clone, Default)]
struct Window {
    ends: Option<Instant>,
    count: u32,
}

impl Window {
    /// Counts one error, and opens the window if it is closed. Returns the new count.
    fn count(&mut self, now: Instant, length: Duration) -> u32 {
        self.ends.get_or_insert(now + length);
        self.count = self.count.saturating_add(1);
        self.count
    }

    /// The count, if the window has ended.
    fn close(&mut self, now: Option<Instant>) -> Option<u32> {
        let ends = self.ends?;
        if now.is_some_and(|now| now < ends) {
            return None;
        }
        self.ends = None;
        Some(std::mem::take(&mut self.count))
    }
}

/// The decision for one error.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LogDecision {
    Log(Level),
    Count,
}

impl Ledger {
    pub(super) fn new(rules: &[Consolidate]) -> Self {
        Self {
            rules: rules.into(),
            windows: vec![Window::default(); rules.len()].into(),
            volume: Window::default(),
        }
    }

    /// Records an error: the first rule that matches its message applies.
    pub(super) fn note(&mut self, now: Instant, message: &str) -> LogDecision {
        let mut rules = self.rules.iter().zip(&mut self.windows);
        if let Some((rule, window)) = rules.find(|(rule, _)| rule.pattern.is_match(message)) {
            let first = window.count(now, rule.period) == 1;
            return if first && rule.show_first {
                LogDecision::Log(rule.level)
            } else {
                LogDecision::Count
            };
        }
        if self.volume.count(now, SECOND) <= MAX_PER_SECOND {
            LogDecision::Log(Level::ERROR)
        } else {
            LogDecision::Count
        }
    }

    /// The summaries of all windows that have ended by `now`, or of all open windows if that is `None`.
    pub(super) fn close(&mut self, now: Option<Instant>) -> Vec<(Level, String)> {
        let mut lines = Vec::new();
        for (rule, window) in self.rules.iter().zip(&mut self.windows) {
            match window.close(now) {
                // The only error was logged already.
                None | Some(0) => {}
                Some(1) if rule.show_first => {}
                Some(count) => {
                    let (pattern, period) = (rule.pattern.as_str(), Period(rule.period));
                    let text = format!("{count} errors like '{pattern}' occurred in last {period}");
                    lines.push((rule.level, text));
                }
            }
        }
        if let Some(count @ 1..) = self
            .volume
            .close(now)
            .map(|all| all.saturating_sub(MAX_PER_SECOND))
        {
            let text = format!("{count} more errors occurred in last 1s and are not shown");
            lines.push((Level::ERROR, text));
        }
        lines
    }

    /// The end of the window that ends next.
    pub(super) fn next_end(&self) -> Option<Instant> {
        let windows = self.windows.iter().chain([&self.volume]);
        windows.filter_map(|window| window.ends).min()
    }
}

/// A duration as Go prints it: `5m0s`, `1.5s`, `300ms`.
struct Period(Duration);

impl fmt::Display for Period {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.0.as_nanos();
        let (unit, word) = match nanoseconds {
            0 => return out.write_str("0s"),
            1..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            1_000_000..1_000_000_000 => (1_000_000, "ms"),
            _ => (1_000_000_000, "s"),
        };
        let seconds = self.0.as_secs();
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        if hours > 0 {
            write!(out, "{hours}h")?;
        }
        if seconds >= 60 {
            write!(out, "{minutes}m")?;
        }
        let rest = nanoseconds - u128::from(seconds / 60 * 60) * 1_000_000_000;
        write!(out, "{}", rest as f64 / f64::from(unit))?;
        out.write_str(word)
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    fn rule(pattern: &str, period: u64, level: Level, show_first: bool) -> Consolidate {
        Consolidate {
            period: Duration::from_secs(period),
            pattern: Regex::new(pattern).unwrap(),
            level,
            show_first,
        }
    }

    #[test]
    fn the_first_rule_that_matches_applies() {
        let timeout = rule(".* i/o timeout$", 300, Level::WARN, false);
        let mut ledger = Ledger::new(&[timeout, rule("timeout", 30, Level::ERROR, false)]);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let message = "read udp 10.0.0.1:53: i/o timeout";
        assert_eq!(ledger.note(start, message), LogDecision::Count);
        assert_eq!(ledger.note(at(20), message), LogDecision::Count);
        assert_eq!(ledger.note(at(20), "timeout!"), LogDecision::Count);
        let shown = LogDecision::Log(Level::ERROR);
        assert_eq!(ledger.note(at(20), "connection refused"), shown);
        assert_eq!(ledger.next_end(), Some(at(21)));
        assert!(ledger.close(Some(at(21))).is_empty());
        assert_eq!(ledger.next_end(), Some(at(50)));
        let one = "1 errors like 'timeout' occurred in last 30s".to_owned();
        assert_eq!(ledger.close(Some(at(60))), [(Level::ERROR, one)]);
        assert!(ledger.close(Some(at(299))).is_empty());
        let two = "2 errors like '.* i/o timeout$' occurred in last 5m0s".to_owned();
        assert_eq!(ledger.close(Some(at(300))), [(Level::WARN, two)]);
        assert_eq!(ledger.next_end(), None);
    }

    #[test]
    fn show_first_logs_the_first_error_at_once() {
        let mut ledger = Ledger::new(&[rule("x", 10, Level::INFO, true)]);
        let start = Instant::now();
        let later = start + Duration::from_secs(10);
        assert_eq!(ledger.note(start, "x"), LogDecision::Log(Level::INFO));
        assert!(ledger.close(Some(later)).is_empty());
        assert_eq!(ledger.note(later, "x"), LogDecision::Log(Level::INFO));
        assert_eq!(ledger.note(later, "x"), LogDecision::Count);
        // Windows that are open at the end are summarized too.
        let text = "2 errors like 'x' occurred in last 10s".to_owned();
        assert_eq!(ledger.close(None), [(Level::INFO, text)]);
    }

    #[test]
    fn a_flood_is_limited_and_summarized() {
        let mut ledger = Ledger::new(&[]);
        let start = Instant::now();
        let shown = (0..MAX_PER_SECOND + 5)
            .filter(|_| ledger.note(start, "x") == LogDecision::Log(Level::ERROR))
            .count();
        assert_eq!(shown, MAX_PER_SECOND as usize);
        let text = "5 more errors occurred in last 1s and are not shown".to_owned();
        assert_eq!(ledger.close(Some(start + SECOND)), [(Level::ERROR, text)]);
        let later = start + SECOND;
        assert_eq!(ledger.note(later, "x"), LogDecision::Log(Level::ERROR));
    }

    #[test]
    fn periods_look_as_in_go() {
        for (milliseconds, wanted) in [
            (0, "0s"),
            (300, "300ms"),
            (1_500, "1.5s"),
            (30_000, "30s"),
            (300_000, "5m0s"),
            (3_661_000, "1h1m1s"),
            (7_200_000, "2h0m0s"),
        ] {
            let period = Period(Duration::from_millis(milliseconds));
            assert_eq!(period.to_string(), wanted);
        }
    }
}
