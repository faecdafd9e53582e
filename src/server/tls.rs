//! What a `tls CERT KEY [CA]` line becomes: rustls's configuration for DNS over TLS (RFC 7858).

use std::{path::Path, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

/// Whether clients show a certificate (`client_auth`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// None is asked for: `nocert`, and what is done unless it is said.
    #[default]
    NoCertificate,
    /// One is asked for, and checked where it is shown: `verify_if_given`.
    VerifyIfGiven,
    /// Without a valid one there is no connection: `require_and_verify`.
    RequireAndVerify,
}

/// Why there can be no TLS.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each says it
pub enum TlsError {
    #[error("cannot read {what} from {path}")]
    File {
        what: &'static str,
        path: String,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("no certificate in {0}")]
    Empty(String),
    #[error("the certificate and its key cannot be used")]
    Identity(#[source] rustls::Error),
    #[error("the authority's certificates in {path} cannot be used: {reason}")]
    Authority { path: String, reason: String },
    #[error("clients' certificates are to be checked, but no authority is given to check them by")]
    NoAuthority,
}

/// A configuration from PEM files: the server's certificate with its chain, its key, and the
/// authority by which clients' certificates are checked.
pub fn server_config(
    certificate: &Path,
    key: &Path,
    authority: Option<&Path>,
    client_auth: ClientAuth,
) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(certificate, "a certificate")?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::File {
        what: "a private key",
        path: key.display().to_string(),
        source,
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Identity)?;
    let builder = if client_auth == ClientAuth::NoCertificate {
        builder.with_no_client_auth()
    } else {
        let authority = authority.ok_or(TlsError::NoAuthority)?;
        let required = client_auth == ClientAuth::RequireAndVerify;
        builder.with_client_cert_verifier(verifier(authority, required, provider)?)
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(TlsError::Identity)?;
    config.alpn_protocols = vec![b"dot".to_vec()];
    Ok(Arc::new(config))
}

fn verifier(
    authority: &Path,
    required: bool,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let unusable = |reason: String| TlsError::Authority {
        path: authority.display().to_string(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority, "an authority's certificate")? {
        let added = roots.add(certificate);
        added.map_err(|error| unusable(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if required {
        builder
    } else {
        builder.allow_unauthenticated()
    };
    builder.build().map_err(|error| unusable(error.to_string()))
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|source| TlsError::File {
        what,
        path: path.display().to_string(),
        source,
    })?;
    if certificates.is_empty() {
        return Err(TlsError::Empty(path.display().to_string()));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let nowhere = Path::new("/nonexistent/tls.crt");
        let error = server_config(nowhere, nowhere, None, ClientAuth::default()).unwrap_err();
        assert!(
            error.to_string().contains("/nonexistent/tls.crt"),
            "{error}"
        );

        let identity = rcgen::generate_simple_self_signed(["dns.test".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let [certificate, key] = ["tls.crt", "tls.key"].map(|name| folder.path().join(name));
        std::fs::write(&certificate, identity.cert.pem()).unwrap();
        std::fs::write(&key, identity.signing_key.serialize_pem()).unwrap();
        assert!(server_config(&certificate, &key, None, ClientAuth::default()).is_ok());
        assert!(matches!(
            server_config(&certificate, &key, None, ClientAuth::RequireAndVerify),
            Err(TlsError::NoAuthority)
        ));
        let verified = ClientAuth::VerifyIfGiven;
        assert!(server_config(&certificate, &key, Some(&certificate), verified).is_ok());
        assert!(matches!(
            server_config(&key, &key, None, ClientAuth::default()),
            Err(TlsError::Empty(_))
        ));
    }
}
