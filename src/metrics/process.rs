//! The `process_*` families of all Prometheus clients and the memory limit, read from `/proc` and `/sys` at scrape time.

use prometheus::{
    core::{Collector, Desc},
    proto::{MetricFamily, MetricType},
};

use super::family::Family;
use crate::memory::Memory;

/// Reads `/proc/self`; without it the families are absent.
#[derive(Clone)]
pub(super) struct ProcessMetrics {
    cpu: Family,
    open_fds: Family,
    max_fds: Family,
    resident: Family,
    memory: Family,
    memory_max: Family,
    start: Family,
    threads: Family,
    memory_limit: Family,
}

impl ProcessMetrics {
    pub(super) fn new() -> Self {
        let gauge = |name, help| Family::new(name, help, &[], MetricType::GAUGE);
        Self {
            cpu: Family::new(
                "process_cpu_seconds_total",
                "CPU time used, user and system, in seconds.",
                &[],
                MetricType::COUNTER,
            ),
            open_fds: gauge("process_open_fds", "Open file descriptors."),
            max_fds: gauge(
                "process_max_fds",
                "Maximum number of open file descriptors.",
            ),
            resident: gauge("process_resident_memory_bytes", "Resident memory in bytes."),
            memory: gauge("process_virtual_memory_bytes", "Virtual memory in bytes."),
            memory_max: gauge(
                "process_virtual_memory_max_bytes",
                "Maximum virtual memory in bytes.",
            ),
            start: gauge(
                "process_start_time_seconds",
                "Unix timestamp of the process start in seconds.",
            ),
            threads: gauge("process_threads", "Threads of the process."),
            memory_limit: gauge(
                "lodestone_memory_limit_bytes",
                "Memory limit of the process in bytes; without one, the memory of the machine.",
            ),
        }
    }

    fn read(&self) -> procfs::ProcResult<Vec<MetricFamily>> {
        let process = procfs::process::Process::myself()?;
        let stat = process.stat()?;
        let limits = process.limits()?;
        let ticks = procfs::ticks_per_second() as f64;
        let boot = procfs::boot_time_secs()? as f64;
        let gauge = |family: &Family, value: f64| family.with(vec![family.gauge(&[], value)]);
        let cpu = (stat.utime + stat.stime) as f64 / ticks;
        let mut families = vec![
            self.cpu.with(vec![self.cpu.counter(&[], cpu)]),
            gauge(&self.open_fds, process.fd_count()? as f64),
            gauge(&self.max_fds, limit(limits.max_open_files.soft_limit)),
            gauge(&self.resident, stat.rss as f64 * procfs::page_size() as f64),
            gauge(&self.memory, stat.vsize as f64),
            gauge(&self.memory_max, limit(limits.max_address_space.soft_limit)),
            gauge(&self.start, boot + stat.starttime as f64 / ticks),
            gauge(&self.threads, stat.num_threads as f64),
        ];
        if let Memory::Limited(limit) | Memory::Machine(limit) = Memory::of_process() {
            families.push(gauge(&self.memory_limit, limit as f64));
        }
        Ok(families)
    }
}

fn limit(value: procfs::process::LimitValue) -> f64 {
    match value {
        procfs::process::LimitValue::Unlimited => u64::MAX as f64, // as in Go's client
        procfs::process::LimitValue::Value(value) => value as f64,
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        [
            &self.cpu,
            &self.open_fds,
            &self.max_fds,
            &self.resident,
            &self.memory,
            &self.memory_max,
            &self.start,
            &self.threads,
            &self.memory_limit,
        ]
        .map(Family::desc)
        .into()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.read().unwrap_or_default()
    }
}
