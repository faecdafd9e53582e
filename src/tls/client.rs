//! TLS towards servers: the files of a `tls [CERT KEY] [CA]` line as rustls's configuration.

use std::{path::PathBuf, sync::Arc};

use rustls::ClientConfig;

use super::{
    TlsError,
    credentials::{self, authorities},
    unchecked::Unchecked,
};
use crate::{files::Stamp, trust::Trusted};

/// Files that TLS is set up from; without any, the system's roots and no certificate of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientFiles {
    /// Our certificate chain and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The authorities that are trusted instead of the system's.
    pub authorities: Option<PathBuf>,
}

impl ClientFiles {
    /// Reads the files.
    pub fn load(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let trusted = match &self.authorities {
            Some(path) => authorities(path)?,
            None => Trusted::system(),
        };
        let verifier = trusted.server_verifier(Arc::clone(&provider));
        let verifier = verifier.map_err(|_| TlsError::NoSystemRoots)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let (chain, key) = credentials::identity(certificate, key)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(TlsError::Identity)?
            }
        };
        Ok(Arc::new(config))
    }

    /// Changes when another file is named or the content of one changes, as its `Stamp` shows.
    pub fn fingerprint(&self) -> String {
        let identity = self.identity.iter().flat_map(|(chain, key)| [chain, key]);
        let stamps = identity
            .chain(&self.authorities)
            .map(|path| Stamp::of(path));
        format!("{self:?} {:?}", stamps.collect::<Vec<_>>())
    }
}

/// TLS towards a server whose certificate is not checked.
pub fn unchecked() -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Unchecked::new(&provider, true));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    Ok(Arc::new(builder.with_no_client_auth()))
}
