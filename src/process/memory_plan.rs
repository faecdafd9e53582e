//! What a process takes of memory at most, and how it is made to fit the limit of its container.
//!
//! Bounds are of bytes that the process holds itself. The objects of the cluster are not bounded: a cluster has as
//! many as it has. What is left for them is part of the plan.

use std::fmt;

#[cfg(feature = "dnstap")]
use crate::plugin::dnstap;
use crate::{
    config::Config,
    control, logging,
    memory::Memory,
    plugin::{cache, kubernetes, transfer},
    server::{
        TRANSFER_BYTES,
        limits::{CONNECTION_BYTES, Limits},
    },
};

/// The program, its threads and their buffers. Measured: 11 to 14 MB with a small cluster.
const PROGRAM: u64 = 16 << 20;

/// A snapshot of the cluster's objects that is being written: its buffer, and the largest object.
const SNAPSHOT: u64 = 1 << 20;

/// What must be left for the objects of the cluster: some 5,000 Services.
const OBJECTS: u64 = 8 << 20;

/// The part of the limit that caches have at least.
const LEAST_FOR_CACHES: u64 = 16;

/// Bounds in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The limit of the process.
    pub limit: Memory,
    /// Bound of all pending queries.
    pub pending: u64,
    /// Bound of all caches.
    pub caches: u64,
    /// Bound of all connections.
    pub connections: u64,
    /// Bound of what waits to be written elsewhere: log lines, dnstap messages, a snapshot, transfers and live views.
    pub logs: u64,
}

/// A bound that was lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoweredCaches {
    /// As configured.
    pub from: u64,
    /// As used.
    pub to: u64,
}

impl MemoryPlan {
    /// The bounds of a configuration as it is written.
    pub fn of(config: &Config, limits: &Limits, memory: Memory) -> Self {
        let caches = config.plugins_of::<cache::Config>();
        Self {
            limit: memory,
            pending: limits.pending_bytes() as u64,
            caches: caches.fold(0, |sum, cache| sum.saturating_add(cache.max_bytes())),
            connections: (limits.connections * CONNECTION_BYTES) as u64,
            logs: logs(config),
        }
    }

    /// Lowers the capacity of the caches so that everything fits, and objects of the cluster have room.
    pub fn fit(
        config: &mut Config,
        limits: &Limits,
        memory: Memory,
    ) -> (Self, Option<LoweredCaches>) {
        let mut plan = Self::of(config, limits, memory);
        let Some(room) = plan.room_for_caches().filter(|room| *room < plan.caches) else {
            return (plan, None);
        };
        let from = plan.caches;
        for cache in config.plugins_of_mut::<cache::Config>() {
            let share = u128::from(cache.max_bytes()) * u128::from(room) / u128::from(from);
            cache.limit_bytes(u64::try_from(share).unwrap_or(u64::MAX));
        }
        plan = Self::of(config, limits, memory);
        let to = plan.caches;
        (plan, Some(LoweredCaches { from, to }))
    }

    /// Bytes that the caches may have; `None` without a limit.
    pub fn room_for_caches(&self) -> Option<u64> {
        let Memory::Limited(limit) = self.limit else {
            return None;
        };
        let others = PROGRAM + OBJECTS + self.pending + self.connections + self.logs;
        Some(limit.saturating_sub(others).max(limit / LEAST_FOR_CACHES))
    }

    /// The sum of the bounds, without the objects of the cluster.
    pub fn total(&self) -> u64 {
        let sum = PROGRAM + self.pending + self.connections + self.logs;
        sum.saturating_add(self.caches)
    }

    /// Whether the bounds leave no room for the objects of the cluster.
    pub fn exceeds_limit(&self) -> bool {
        matches!(self.limit, Memory::Limited(limit) if self.total() + OBJECTS > limit)
    }
}

/// The bound of [`MemoryPlan::logs`].
fn logs(config: &Config) -> u64 {
    let mut sum = (logging::CAPACITY + control::VIEW_BYTES) as u64;
    let mut clusters = config.plugins_of::<kubernetes::Config>();
    if clusters.any(|cluster| cluster.source.snapshot.is_some()) {
        sum += SNAPSHOT;
    }
    if config.plugins_of::<transfer::Config>().next().is_some() {
        sum += TRANSFER_BYTES as u64;
    }
    #[cfg(feature = "dnstap")]
    for dnstap in config.plugins_of::<dnstap::Config>() {
        sum = sum.saturating_add(dnstap.max_bytes());
    }
    sum
}

/// `at most 144 MiB beside the cluster's objects: program 16, pending queries 85, caches 20, connections 22, logs and
/// views 2; limit 170 MiB`
impl fmt::Display for MemoryPlan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
        let [total, program, pending, caches, connections, logs] = [
            self.total(),
            PROGRAM,
            self.pending,
            self.caches,
            self.connections,
            self.logs,
        ]
        .map(mebibytes);
        write!(
            out,
            "at most {total} MiB beside the cluster's objects: program {program}, pending queries {pending}, \
             caches {caches}, connections {connections}, logs and views {logs}; "
        )?;
        match self.limit {
            Memory::Limited(limit) => write!(out, "limit {} MiB", mebibytes(limit)),
            Memory::Machine(all) => {
                write!(out, "no limit, the machine has {} MiB", mebibytes(all))
            }
            Memory::Unknown => out.write_str("the limit is unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Source, corefile::Disk, interfaces::Interfaces};

    const MIB: u64 = 1 << 20;

    fn config(text: &str) -> Config {
        let source = Source {
            name: "Corefile",
            text,
            loader: &Disk,
            interfaces: &Interfaces::default(),
            default_port: 53,
        };
        Config::read(&source).unwrap()
    }

    fn fit(text: &str, limit: u64) -> (MemoryPlan, Option<LoweredCaches>) {
        let memory = Memory::Limited(limit * MIB);
        MemoryPlan::fit(&mut config(text), &Limits::within(memory), memory)
    }

    #[test]
    fn a_usual_configuration_fits_the_usual_limit_unchanged() {
        let (plan, lowered) = fit(".:53 {\n cache\n whoami\n}\n", 170);
        assert_eq!(lowered, None);
        assert!(!plan.exceeds_limit(), "{plan}");
        let text = plan.to_string();
        let beginning =
            "at most 144 MiB beside the cluster's objects: program 16, pending queries 85";
        assert!(text.starts_with(beginning), "{text}");
        let end = ", connections 22, logs and views 2; limit 170 MiB";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn what_waits_to_be_written_is_counted() {
        let of = |words: &str| {
            fit(&format!(".:53 {{\n {words}\n whoami\n}}\n"), 170)
                .0
                .logs
        };
        let without = of("errors");
        assert_eq!(without, 2 * MIB);
        let cluster = "kubernetes cluster.local {\n endpoint http://127.0.0.1:1";
        assert_eq!(of(&format!("{cluster}\n }}")), without);
        assert_eq!(of(&format!("{cluster}\n snapshot .\n }}")), without + MIB);
        assert_eq!(of("transfer example.org {\n to *\n }"), without + 4 * MIB);
        #[cfg(feature = "dnstap")]
        {
            let one = of("dnstap /tmp/dnstap.sock") - without;
            assert!(one > 5_000_000, "{one}");
            let three = of("dnstap /tmp/dnstap.sock full 1 3") - without;
            assert!(three > 3 * 5_000_000, "{three}");
        }
    }

    #[test]
    fn caches_are_lowered_until_everything_fits() {
        for limit in [48, 64, 100, 170, 1000] {
            let (plan, lowered) = fit(
                ".:53 {\n cache {\n  success 1000000\n }\n whoami\n}\n",
                limit,
            );
            let lowered = lowered.unwrap();
            assert!(lowered.to < lowered.from && lowered.to > MIB, "{lowered:?}");
            assert_eq!(plan.caches, lowered.to);
            assert!(!plan.exceeds_limit(), "{limit}: {plan}");
        }
        let (plan, lowered) = fit(".:53 {\n cache\n whoami\n}\n", 32);
        assert!(lowered.is_some() && plan.total() <= 32 * MIB, "{plan}");
    }

    #[test]
    fn without_a_limit_nothing_is_lowered() {
        let mut config = config(".:53 {\n cache {\n  success 100000000\n }\n whoami\n}\n");
        let memory = Memory::Machine(1 << 30);
        let (plan, lowered) = MemoryPlan::fit(&mut config, &Limits::within(memory), memory);
        assert!(lowered.is_none() && plan.caches > 1 << 30);
    }
}
