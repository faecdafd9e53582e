//! The capability to listen on ports below 1024, where the file has it as permitted only.

/// Takes NET_BIND_SERVICE into effect if it is permitted. Capabilities are those of a thread, and inherited by new
/// ones: to be called before any is started.
///
/// The file of the image has it as permitted, not as effective (`=p`, see `deploy/Containerfile`): the kernel refuses to
/// execute a file with an effective capability that the container lacks, also where the port needs none.
#[cfg(target_os = "linux")]
pub(super) fn raise_net_bind_service() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    // Where this fails, nothing is lost: the error of the listener that needs it says what to do.
    let Ok(mut sets) = capabilities(None) else {
        return;
    };
    if sets.permitted.contains(CapabilitySet::NET_BIND_SERVICE)
        && !sets.effective.contains(CapabilitySet::NET_BIND_SERVICE)
    {
        sets.effective |= CapabilitySet::NET_BIND_SERVICE;
        let _ = set_capabilities(None, sets);
    }
}

/// Other systems have no capabilities.
#[cfg(not(target_os = "linux"))]
pub(super) fn raise_net_bind_service() {}
