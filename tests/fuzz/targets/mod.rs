//! What parses input of others, as functions of bytes that panic if a property does not hold. The same
//! functions are run by `tests/hostile` with mutants of the corpus, and by a fuzzer (`tests/fuzz/Cargo.toml`).

mod cluster;
mod messages;
mod served;
mod texts;

/// A target: what is parsed, and how often `tests/hostile` runs it.
pub struct Target {
    /// Its name, and that of its directory in `tests/fuzz/corpus`.
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub runs: u32,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    // Messages of clients.
    target("query", served::query, 60_000),
    target("framing", served::framing, 2_000),
    target("names", messages::names, 20_000),
    target("edns", messages::edns, 40_000),
    target("proxy", messages::proxy, 40_000),
    // Messages of upstreams.
    target("reply", messages::reply, 60_000),
    // Files. Corefiles have mutants of their own: tests/mutants.rs.
    target("corefile", texts::corefile, 2_000),
    target("zone", texts::zone, 10_000),
    target("manifests", cluster::manifests, 300),
    target("snapshot", cluster::snapshot, 600),
    // Objects of the API server.
    target("objects", cluster::objects, 2_000),
    target("list", cluster::list, 40_000),
];

const fn target(name: &'static str, run: fn(&[u8]), runs: u32) -> Target {
    Target { name, run, runs }
}

/// Runs the target of this name.
#[allow(dead_code, reason = "for the fuzzer")]
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of that name").run)(bytes);
}
