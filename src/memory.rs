//! The memory limit of this process: the minimum of `GOMEMLIMIT`, the limits of its cgroup (version 1 or 2)
//! and of the cgroups above it, and the machine's memory.
//!
//! `GOMEMLIMIT` is the Go runtime's memory limit; deployments of CoreDNS may set it already.

use std::{fs, path::Path};

/// A limit on this process's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// The limit of the process, in bytes.
    Limited(u64),
    /// The memory of the machine in bytes, shared with other processes.
    Machine(u64),
    /// It could not be determined.
    Unknown,
}

impl Memory {
    /// The present limit of this process.
    pub fn of_process() -> Self {
        let variable = std::env::var("GOMEMLIMIT").ok();
        let variable = variable.as_deref().and_then(go_limit);
        Self::read(Path::new("/"), variable)
    }

    /// The same, from the files of /proc and /sys below `root`.
    fn read(root: &Path, variable: Option<u64>) -> Self {
        let machine = machine(root);
        let limits = cgroup_limits(root).into_iter().chain(variable);
        // Without a limit, version 1 has a number larger than any machine's memory.
        let limits = limits.filter(|limit| machine.is_none_or(|machine| *limit < machine));
        match (limits.min(), machine) {
            (Some(limit), _) => Self::Limited(limit),
            (None, Some(machine)) => Self::Machine(machine),
            (None, None) => Self::Unknown,
        }
    }
}

/// Parses a size as Go's runtime does: a number, and an optional unit.
pub fn go_limit(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The memory of the machine, from /proc/meminfo.
fn machine(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The limits of the process's cgroup and of those above it, in both versions.
fn cgroup_limits(root: &Path) -> Vec<u64> {
    let read = |path| fs::read_to_string(root.join(path)).unwrap_or_default();
    let (groups, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
    let mut limits = Vec::new();
    for line in groups.lines() {
        // hierarchy:controllers:path; version 2 has no controllers.
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (kind, file) = if controllers.is_empty() {
            ("cgroup2", "memory.max")
        } else if controllers.split(',').any(|one| one == "memory") {
            ("cgroup", "memory.limit_in_bytes")
        } else {
            continue;
        };
        for (top, mount) in mounts.lines().filter_map(|line| mount(line, kind)) {
            // In a cgroup namespace, the process's group is the root of the mount.
            let below = Path::new(path).strip_prefix(top).unwrap_or(Path::new(""));
            let below = below.strip_prefix("/").unwrap_or(below);
            for group in below.ancestors() {
                let file = root
                    .join(mount.trim_start_matches('/'))
                    .join(group)
                    .join(file);
                let text = fs::read_to_string(file).unwrap_or_default();
                limits.extend(text.trim().parse::<u64>()); // or "max"
            }
        }
    }
    limits
}

/// The mounted group and the mount point, from a line of mountinfo for a cgroup with the memory controller
/// (proc_pid_mountinfo(5)).
fn mount<'a>(line: &'a str, kind: &str) -> Option<(&'a str, &'a str)> {
    let (mount, system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let roots = (mount.next()?, mount.next()?);
    let mut system = system.split(' ');
    let is_kind = system.next()? == kind;
    let options = system.nth(1)?;
    let has_memory = kind == "cgroup2" || options.split(',').any(|one| one == "memory");
    (is_kind && has_memory).then_some(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn with(files: &[(&str, &str)], variable: Option<u64>) -> Memory {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Memory::read(root.path(), variable)
    }

    const MACHINE: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:        8388608 kB\nMemFree:         1000000 kB\n",
    );
    const V2: (&str, &str) = (
        "proc/self/mountinfo",
        "24 30 0:21 / /proc rw - proc proc rw\n\
         35 30 0:30 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n",
    );

    #[test]
    fn without_a_limit_it_is_the_machine_s() {
        assert_eq!(with(&[], None), Memory::Unknown);
        assert_eq!(with(&[], Some(5)), Memory::Limited(5));
        assert_eq!(with(&[MACHINE], None), Memory::Machine(8 * GIB));
        assert_eq!(with(&[MACHINE], Some(9 * GIB)), Memory::Machine(8 * GIB));
        assert_eq!(with(&[MACHINE], Some(GIB)), Memory::Limited(GIB));
    }

    #[test]
    fn version_2_is_read_from_the_group_to_the_top() {
        let namespace = ("proc/self/cgroup", "0::/\n");
        let max = |text| ("sys/fs/cgroup/memory.max", text);
        let limit = with(&[MACHINE, V2, namespace, max("178257920\n")], None);
        assert_eq!(limit, Memory::Limited(170 << 20));
        let none = with(&[MACHINE, V2, namespace, max("max\n")], None);
        assert_eq!(none, Memory::Machine(8 * GIB));
        let deep = ("proc/self/cgroup", "0::/kubepods/pod1/dns\n");
        let limit = with(
            &[
                MACHINE,
                V2,
                deep,
                ("sys/fs/cgroup/kubepods/memory.max", "4294967296\n"),
                ("sys/fs/cgroup/kubepods/pod1/memory.max", "1000000\n"),
                ("sys/fs/cgroup/kubepods/pod1/dns/memory.max", "max\n"),
            ],
            None,
        );
        assert_eq!(limit, Memory::Limited(1_000_000));
    }

    #[test]
    fn version_1_limits_are_read_from_the_mount_of_the_memory_controller() {
        let groups = (
            "proc/self/cgroup",
            "9:cpu,cpuacct:/docker/abc\n8:memory:/docker/abc\n0::/docker/abc\n",
        );
        let mounts = |top: &str| {
            format!(
                "33 30 0:28 {top} /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n\
                 34 30 0:29 {top} /sys/fs/cgroup/memory ro,relatime master:15 - cgroup cgroup rw,memory\n"
            )
        };
        for (top, file) in [
            ("/", "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes"),
            ("/docker/abc", "sys/fs/cgroup/memory/memory.limit_in_bytes"),
            (
                "/docker/other",
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
            ),
        ] {
            let mounts = mounts(top);
            let read = |limit| {
                let mounts = ("proc/self/mountinfo", &*mounts);
                with(&[MACHINE, groups, mounts, (file, limit)], None)
            };
            assert_eq!(read("178257920\n"), Memory::Limited(170 << 20), "{top}");
            let none = read("9223372036854771712\n");
            assert_eq!(none, Memory::Machine(8 * GIB), "{top}");
        }
    }

    #[test]
    fn a_size_is_parsed_as_by_go() {
        for (text, bytes) in [
            ("1000", Some(1000)),
            ("1000B", Some(1000)),
            ("2KiB", Some(2048)),
            ("170MiB", Some(170 << 20)),
            ("1GiB", Some(GIB)),
            ("off", None),
            ("MiB", None),
            ("1MB", None),
            ("-1", None),
            ("99999999TiB", None),
        ] {
            assert_eq!(go_limit(text), bytes, "{text}");
        }
    }
}
