//! A certificate in use. Its files are checked every few seconds, since nothing announces a renewal; new
//! handshakes use their present content, open connections stay.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;

use super::{ServerFiles, TlsError};
use crate::{
    error_text,
    files::{Stamp, poll},
};

/// The protocol within TLS, which is negotiated in the handshake (ALPN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlpnProtocol {
    /// DNS over TLS (RFC 7858).
    Dot,
    /// HTTP/2, or else HTTP/1.1.
    Http,
    /// gRPC, which needs HTTP/2.
    Grpc,
    /// DNS over QUIC (RFC 9250).
    Doq,
    /// HTTP/3.
    Http3,
}

/// The content of the files of a `tls` line when they were read last.
pub struct Identity {
    files: ServerFiles,
    current: ArcSwap<[Arc<ServerConfig>; AlpnProtocol::ALL.len()]>,
    /// The stamp of each file when it was read last, whether it could be used or not.
    seen: Mutex<Vec<Option<Stamp>>>,
}

/// How often the files are checked. Certificates are renewed weeks before they expire.
pub const INTERVAL: Duration = Duration::from_secs(10);

impl AlpnProtocol {
    const ALL: [Self; 5] = [Self::Dot, Self::Http, Self::Grpc, Self::Doq, Self::Http3];

    fn names(self) -> &'static [&'static [u8]] {
        match self {
            Self::Dot => &[b"dot"],
            Self::Http => &[b"h2", b"http/1.1"],
            Self::Grpc => &[b"h2"],
            Self::Doq => &[b"doq"],
            Self::Http3 => &[b"h3"],
        }
    }
}

impl Identity {
    /// Reads the files.
    pub fn load(files: ServerFiles) -> Result<Arc<Self>, TlsError> {
        if let Some(path) = &files.key_log {
            let path = path.display();
            tracing::warn!(target: "plugin/tls", "Writing TLS Key Log to \"{path}\"");
        }
        let seen = stamps(&files);
        Ok(Arc::new(Self {
            current: ArcSwap::from_pointee(configs(&files)?),
            files,
            seen: Mutex::new(seen),
        }))
    }

    /// The configuration for the next handshake.
    pub fn config(&self, protocol: AlpnProtocol) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load()[protocol as usize])
    }

    /// Reads the files again if they have changed, and returns whether they had. Files that cannot be used
    /// change nothing, and are reported once. Blocks.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        // Before the files are read: what changes meanwhile is seen the next time. A key may be written after
        // its certificate, and until then the two do not match.
        let mut seen = self.seen.lock();
        let stamps = stamps(&self.files);
        if *seen == stamps {
            return Ok(false);
        }
        *seen = stamps;
        self.current.store(Arc::new(configs(&self.files)?));
        let certificate = self.files.certificate.display();
        tracing::info!(target: "plugin/tls", "{certificate} has changed and is used");
        Ok(true)
    }

    /// Refreshes every `interval`, as long as there is another reference to this.
    pub fn follow(self: &Arc<Self>, interval: Duration) {
        let identity = Arc::downgrade(self);
        tokio::spawn(poll(interval, move || {
            let Some(identity) = identity.upgrade() else {
                return false;
            };
            if let Err(error) = identity.refresh() {
                let certificate = identity.files.certificate.display();
                let why = error_text::chain(&error.into());
                tracing::warn!(
                    target: "plugin/tls",
                    "{certificate} has changed and the one before is used on: {why}"
                );
            }
            true
        }));
    }
}

fn configs(files: &ServerFiles) -> Result<[Arc<ServerConfig>; AlpnProtocol::ALL.len()], TlsError> {
    let config = files.load()?;
    Ok(AlpnProtocol::ALL.map(|protocol| {
        let mut config = config.clone();
        config.alpn_protocols = protocol.names().iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }))
}

fn stamps(files: &ServerFiles) -> Vec<Option<Stamp>> {
    files.read().map(Stamp::of).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn write(folder: &Path, what: &[(&str, &str)]) {
        for (name, text) in what {
            // By renaming, as certificate managers do.
            let new = folder.join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, folder.join(name)).unwrap();
        }
    }

    #[test]
    fn what_is_renewed_is_used_and_what_does_not_fit_is_not() {
        let made = || rcgen::generate_simple_self_signed(["dns.test".to_owned()]).unwrap();
        let (first, second) = (made(), made());
        let (certificate, key) = (first.cert.pem(), first.signing_key.serialize_pem());
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[("crt", &certificate), ("key", &key)]);
        let files = ServerFiles::new(folder.path().join("crt"), folder.path().join("key"));
        let identity = Identity::load(files).unwrap();
        let before = identity.config(AlpnProtocol::Dot);
        assert!(!identity.refresh().unwrap());

        let (certificate, key) = (second.cert.pem(), second.signing_key.serialize_pem());
        write(folder.path(), &[("crt", &certificate)]);
        assert!(matches!(identity.refresh(), Err(TlsError::Identity(_))));
        assert!(!identity.refresh().unwrap(), "told once");
        assert!(Arc::ptr_eq(&before, &identity.config(AlpnProtocol::Dot)));
        write(folder.path(), &[("key", &key)]);
        assert!(identity.refresh().unwrap());
        assert!(!Arc::ptr_eq(&before, &identity.config(AlpnProtocol::Dot)));

        std::fs::remove_file(folder.path().join("key")).unwrap();
        assert!(identity.refresh().is_err());
        assert_eq!(identity.config(AlpnProtocol::Http).alpn_protocols.len(), 2);
    }
}
