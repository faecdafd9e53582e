//! The file descriptors that this process may have: each connection takes one.

/// Raises the number to what the system lets this process raise it to, as Go's runtime does: what
/// a process starts with is often 1,024, for programs that use `select`.
pub fn raise() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        if limit.current != limit.maximum {
            let raised = Rlimit {
                current: limit.maximum,
                ..limit
            };
            if let Err(error) = setrlimit(Resource::Nofile, raised) {
                tracing::warn!("cannot raise the limit of file descriptors: {error}");
            }
        }
    }
}

/// How many it may have, if the number is limited and known.
pub fn limit() -> Option<usize> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, getrlimit};
        usize::try_from(getrlimit(Resource::Nofile).current?).ok()
    }
    #[cfg(not(target_os = "linux"))]
    None
}
