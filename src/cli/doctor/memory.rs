//! The memory that queries and caches may take, against the limit of the process.

use super::{Facts, report::Finding};
use crate::{
    config::Config,
    memory::Memory,
    plugin::cache,
    upstream::{MAX_QUERY_BYTES, process_limit},
};

const MEMORY: &str = "memory";

/// What a server takes besides queries and caches: the program, its threads, and a small cluster's objects.
const BASE: u64 = 24 << 20;

/// Compares the bounds with the limit.
pub fn check(facts: &Facts) -> Finding {
    let queries = process_limit() as u64 * MAX_QUERY_BYTES as u64;
    let configs = facts.config.iter();
    let caches = configs.flat_map(Config::plugins_of::<cache::Config>);
    let caches = caches.fold(0u64, |sum, cache| sum.saturating_add(cache.max_bytes()));
    verdict(Memory::of_process(), queries, caches)
}

fn verdict(memory: Memory, queries: u64, caches: u64) -> Finding {
    let parts = format!(
        "pending queries take {} at most, full caches {}",
        mebibytes(queries),
        mebibytes(caches)
    );
    let sum = BASE.saturating_add(queries).saturating_add(caches);
    let (limit, text) = match memory {
        Memory::Limited(limit) => (limit, format!("limit {}", mebibytes(limit))),
        Memory::Machine(all) => {
            let text = format!("no limit; the machine has {}", mebibytes(all));
            (all, text)
        }
        Memory::Unknown => {
            return Finding::skipped(MEMORY, "", format!("the limit is unknown; {parts}"));
        }
    };
    let detail = format!("{text}; {parts}");
    if sum <= limit {
        return Finding::ok(MEMORY, "", detail);
    }
    let remedy = format!(
        "Raise the memory limit to {}, plus 1 MiB for each 1,000 Services and endpoints, or lower the capacity of \
         cache",
        mebibytes(sum)
    );
    Finding::warn(MEMORY, "", detail, remedy)
}

/// Rounded up.
fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::report::Status;

    #[test]
    fn bounds_above_the_limit_are_warned_of() {
        const MIB: u64 = 1 << 20;
        for (memory, status) in [
            (Memory::Limited(170 * MIB), Status::Ok),
            (Memory::Limited(100 * MIB), Status::Warn),
            (Memory::Machine(8 << 30), Status::Ok),
            (Memory::Unknown, Status::Skipped),
        ] {
            let finding = verdict(memory, 85 * MIB, 20 * MIB);
            assert_eq!(finding.status, status, "{finding:?}");
            let remedy = finding.remedy.unwrap_or_default();
            assert_eq!(
                status == Status::Warn,
                remedy.contains("129 MiB"),
                "{remedy}"
            );
        }
    }
}
