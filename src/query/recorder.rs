//! Records how a query is answered, for `lodestone explain`.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Maximum number of recorded steps: sub-queries can be nested, and a loop must not grow without limit.
const MAX_STEPS: usize = 200;

/// The record of one query and its sub-queries. Queries of clients have none, so their walk costs a test of a
/// pointer for each plugin.
#[derive(Debug)]
pub struct Recorder {
    started: Instant,
    steps: Mutex<Vec<RecordedStep>>,
}

/// A step of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedStep {
    /// Time since the beginning.
    pub at: Duration,
    /// Nesting depth: 0 for the query, 1 for its sub-queries.
    pub depth: u8,
    /// The plugin, or `server` for the choice of the server block.
    pub plugin: &'static str,
    /// What happened: `passes`, `answers NXDOMAIN`.
    pub action: String,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            steps: Mutex::default(),
        }
    }
}

impl Recorder {
    /// Adds a step.
    pub fn add(&self, depth: u8, plugin: &'static str, action: impl Into<String>) {
        let step = RecordedStep {
            at: self.started.elapsed(),
            depth,
            plugin,
            action: action.into(),
        };
        let mut steps = self.steps.lock();
        if steps.len() < MAX_STEPS {
            steps.push(step);
        }
    }

    /// The steps so far.
    pub fn steps(&self) -> Vec<RecordedStep> {
        self.steps.lock().clone()
    }
}
