//! What reads and writes the sockets of plain DNS.

use super::{BindError, Scheme, Wanted};

#[cfg(not(any(target_os = "linux", feature = "hickory")))]
compile_error!(
    "on this system datagrams are served by hickory-server: build with the feature 'hickory'"
);

/// What reads and writes the sockets of plain DNS, by UDP and TCP. All other transports have one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Lodestone's own loops, with many datagrams a system call.
    #[cfg(target_os = "linux")]
    Batches,
    /// hickory-server's loops.
    #[cfg(feature = "hickory")]
    Hickory,
}

impl Default for Backend {
    /// The own loops where the system has the calls for them.
    fn default() -> Self {
        #[cfg(target_os = "linux")]
        return Self::Batches;
        #[cfg(not(target_os = "linux"))]
        return Self::Hickory;
    }
}

impl Backend {
    /// Whether it can serve a listener.
    pub(super) fn check(self, wanted: &Wanted) -> Result<(), BindError> {
        if !self.is_hickory(wanted.listener.scheme) {
            return Ok(());
        }
        #[cfg(feature = "hickory")]
        if let Some(why) = super::hickory::refuses(wanted) {
            let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, why);
            let listener = wanted.listener;
            return Err(BindError::new(listener, listener.address, source));
        }
        Ok(())
    }

    /// Whether listeners of this kind are hickory-server's.
    pub(super) fn is_hickory(self, scheme: Scheme) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Self::Batches => {
                let _ = scheme;
                false
            }
            #[cfg(feature = "hickory")]
            Self::Hickory => scheme == Scheme::Dns,
        }
    }
}
