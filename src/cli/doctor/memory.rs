//! The memory that a server may take, against the limit of the process.

use super::{Facts, NO_COREFILE, report::Finding};
use crate::{memory::Memory, process::MemoryPlan, server::limits::Limits};

const MEMORY: &str = "memory";

/// Compares the bounds with the limit.
pub(super) fn check(facts: &Facts) -> Finding {
    match &facts.config {
        Some(config) => {
            let memory = Memory::of_process();
            verdict(&MemoryPlan::of(config, &Limits::within(memory), memory))
        }
        None => Finding::skipped(MEMORY, "", NO_COREFILE),
    }
}

/// Whether the bounds fit into the limit.
pub fn verdict(plan: &MemoryPlan) -> Finding {
    let detail = plan.to_string();
    if plan.limit == Memory::Unknown {
        return Finding::skipped(MEMORY, "", detail);
    }
    match plan.room_for_caches() {
        Some(room) if room < plan.caches => {
            let remedy = format!(
                "Raise the memory limit to {} MiB, or lower the capacity of cache: until then, the server lowers it \
                 to {} MiB",
                (plan.total() + (8 << 20)).div_ceil(1 << 20),
                room >> 20
            );
            Finding::warn(MEMORY, "", detail, remedy)
        }
        _ => Finding::ok(MEMORY, "", detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::report::Status;

    #[test]
    fn bounds_above_the_limit_are_warned_of() {
        const MIB: u64 = 1 << 20;
        for (limit, status) in [
            (Memory::Limited(170 * MIB), Status::Ok),
            (Memory::Limited(100 * MIB), Status::Warn),
            (Memory::Machine(8 << 30), Status::Ok),
            (Memory::Unknown, Status::Skipped),
        ] {
            let finding = verdict(&MemoryPlan {
                limit,
                pending: 85 * MIB,
                caches: 20 * MIB,
                connections: 8 * MIB,
                logs: 2 * MIB,
            });
            assert_eq!(finding.status, status, "{finding:?}");
            let remedy = finding.remedy.unwrap_or_default();
            assert_eq!(
                status == Status::Warn,
                remedy.contains("139 MiB"),
                "{remedy}"
            );
        }
    }
}
