//! TLS of a server: the files of a `tls CERT KEY [CA]` line as rustls's configuration.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{ServerConfig, crypto::CryptoProvider, server::danger::ClientCertVerifier};

use super::{
    TlsError,
    credentials::{authorities, identity, unusable},
    key_log::KeyLogFile,
    unchecked::Unchecked,
};

/// The files of a TLS server, and whether its clients authenticate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerFiles {
    /// Its certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// CA certificates that client certificates are verified against, PEM.
    pub authority: Option<PathBuf>,
    /// Whether clients present a certificate.
    pub client_auth: ClientAuth,
    /// The file that secrets of connections are written to, for decrypting captured traffic.
    pub key_log: Option<PathBuf>,
}

/// Whether clients present a certificate (`client_auth`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClientAuth {
    /// None is requested: `nocert`, the default.
    #[default]
    NoCertificate,
    /// One is requested; any is accepted, or none: `request`.
    Request,
    /// One is required, and any is accepted: `require`.
    Require,
    /// One is requested, and verified if it is presented: `verify_if_given`.
    VerifyIfGiven,
    /// A valid one is required: `require_and_verify`.
    RequireAndVerify,
}

impl ClientAuth {
    /// Whether client certificates are verified.
    pub fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }
}

impl ServerFiles {
    /// A certificate and its key, without client authentication.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            certificate: certificate.into(),
            key: key.into(),
            authority: None,
            client_auth: ClientAuth::default(),
            key_log: None,
        }
    }

    /// The files that are read, and reloaded when they change.
    pub(super) fn read(&self) -> impl Iterator<Item = &Path> {
        [&self.certificate, &self.key]
            .into_iter()
            .chain(&self.authority)
            .map(PathBuf::as_path)
    }

    /// Reads them all. ALPN is not set yet.
    pub fn load(&self) -> Result<ServerConfig, TlsError> {
        let (chain, key) = identity(&self.certificate, &self.key)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Identity)?;
        let builder = match self.verifier(provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(TlsError::Identity)?;
        if let Some(path) = &self.key_log {
            let log = KeyLogFile::open(path).map_err(|source| TlsError::KeyLog {
                path: path.clone(),
                source,
            })?;
            config.key_log = Arc::new(log);
        }
        Ok(config)
    }

    fn verifier(
        &self,
        provider: Arc<CryptoProvider>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
        // Read even if it is not needed: a file that is named and cannot be used is a mistake.
        let trusted = self.authority.as_deref().map(authorities).transpose()?;
        Ok(match self.client_auth {
            ClientAuth::NoCertificate => None,
            ClientAuth::Request => Some(Arc::new(Unchecked::new(&provider, false))),
            ClientAuth::Require => Some(Arc::new(Unchecked::new(&provider, true))),
            ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify => {
                let (path, trusted) = self
                    .authority
                    .as_deref()
                    .zip(trusted)
                    .ok_or(TlsError::NoAuthority)?;
                let optional = self.client_auth == ClientAuth::VerifyIfGiven;
                let built = trusted.client_verifier(provider, optional);
                Some(built.map_err(|error| unusable(path, error.to_string()))?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P521: &str = "-----BEGIN EC PRIVATE KEY-----\n\
        MIHcAgEBBEIBywTX3Q5dsoQyX3sB4AxMDrn3JvHsCRk+YHCTNsxPQDei06f02SCz\n\
        NtG64Zk5ErFDfdrQR9YFX6EfFC0HRSFssqKgBwYFK4EEACOhgYkDgYYABAFKmRTh\n\
        cB3Cr5TT9aPfwcGHwP0We/i7bXdgb0skL7HLFg90s1YZZe5pwWenWDZLKV1lkynY\n\
        W6EHXmR6ODpXCzc9vwF9oZdEJtmuxa+4Vn3S4o4vV3Do0Hd/E2olwEqpjy8xMQj8\n\
        G4UTEBN/jXWGMGo7yrpDEOZXj6TT4S4dSC5zEVUqIw==\n\
        -----END EC PRIVATE KEY-----\n";

    #[test]
    fn what_is_missing_is_named() {
        let nowhere = Path::new("/nonexistent/tls.crt");
        let error = ServerFiles::new(nowhere, nowhere).load().unwrap_err();
        assert!(
            error.to_string().contains("/nonexistent/tls.crt"),
            "{error}"
        );

        let identity = rcgen::generate_simple_self_signed(["dns.test".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let [certificate, key] = ["tls.crt", "tls.key"].map(|name| folder.path().join(name));
        std::fs::write(&certificate, identity.cert.pem()).unwrap();
        std::fs::write(&key, identity.signing_key.serialize_pem()).unwrap();
        let files = ServerFiles::new(&certificate, &key);
        assert!(files.load().is_ok());
        let with = |client_auth, authority: Option<&PathBuf>| ServerFiles {
            client_auth,
            authority: authority.cloned(),
            ..files.clone()
        };
        assert!(matches!(
            with(ClientAuth::RequireAndVerify, None).load(),
            Err(TlsError::NoAuthority)
        ));
        for client_auth in [
            ClientAuth::Request,
            ClientAuth::Require,
            ClientAuth::VerifyIfGiven,
            ClientAuth::RequireAndVerify,
        ] {
            assert!(with(client_auth, Some(&certificate)).load().is_ok());
        }
        assert!(matches!(
            ServerFiles::new(&key, &key).load(),
            Err(TlsError::Empty(_))
        ));
        assert!(with(ClientAuth::NoCertificate, Some(&key)).load().is_err());
        // A key of P-521, as `openssl ecparam -name secp521r1 -genkey` makes them.
        let p521 = folder.path().join("p521.key");
        std::fs::write(&p521, P521).unwrap();
        let error = ServerFiles::new(&certificate, &p521).load().unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("p521.key") && error.contains("P-384"),
            "{error}"
        );
        let unwritable = ServerFiles {
            key_log: Some("/nonexistent/keys".into()),
            ..files.clone()
        };
        assert!(matches!(unwritable.load(), Err(TlsError::KeyLog { .. })));
    }
}
