//! Arguments in, exit code out.

use std::process::ExitCode;

/// musl's own allocator is far too slow with more than one thread, and a static image uses musl.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    lodestone::cli::run(std::env::args_os())
}
