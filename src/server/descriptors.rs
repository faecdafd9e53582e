//! The limit on file descriptors (`RLIMIT_NOFILE`); each connection takes one.

/// Raises the soft limit to the hard limit, as Go's runtime does: the soft limit is often 1,024, for programs
/// that use `select`.
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

/// The soft limit, if there is one.
pub fn limit() -> Option<usize> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, getrlimit};
        usize::try_from(getrlimit(Resource::Nofile).current?).ok()
    }
    #[cfg(not(target_os = "linux"))]
    None
}
