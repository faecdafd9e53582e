//! Every metric family, its name and its labels, in one file.

/// Stub: the families.
#[derive(Debug, Default)]
pub struct Metrics;
