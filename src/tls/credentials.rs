//! Certificates and keys in PEM files, and why they cannot be used.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::{
    pem,
    trust::{self, Trusted},
};

/// A certificate chain, the end-entity certificate first, and the private key of that.
pub(super) type ChainAndKey = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Why there can be no TLS.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each says it
pub enum TlsError {
    #[error("cannot read {what} from {}: {}", path.display(), pem::error_text(error, path))]
    File {
        what: &'static str,
        path: PathBuf,
        error: pem::Error,
    },
    #[error("no certificate in {}: {}", .0.display(), pem::content_text(.0))]
    Empty(PathBuf),
    #[error("the private key in {} cannot be used: keys are {keys}", .0.display(), keys = trust::KEYS)]
    Key(PathBuf),
    #[error("the certificate and its key cannot be used: {}", pem::unusable_text(.0))]
    Identity(rustls::Error),
    #[error("the authority's certificates in {} cannot be used: {reason}", path.display())]
    Authority { path: PathBuf, reason: String },
    #[error("clients' certificates are to be checked, but no authority is given to check them by")]
    NoAuthority,
    #[error("the system has no root certificates that can be read: name a CA file")]
    NoSystemRoots,
    #[error("cannot write the key log {}", path.display())]
    KeyLog {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("QUIC cannot be set up: it needs TLS 1.3")]
    Quic,
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// Reads a certificate and its key.
pub(super) fn identity(certificate: &Path, key: &Path) -> Result<ChainAndKey, TlsError> {
    let chain = certificates(certificate, "a certificate")?;
    let read = pem::private_key(key).map_err(|error| TlsError::File {
        what: "a private key",
        path: key.to_owned(),
        error,
    })?;
    if !trust::is_usable(&read) {
        return Err(TlsError::Key(key.to_owned()));
    }
    Ok((chain, read))
}

/// Reads the certificates of authorities.
pub(super) fn authorities(path: &Path) -> Result<Trusted, TlsError> {
    let certificates = certificates(path, "an authority's certificate")?;
    Trusted::of(certificates, path.display())
        .map_err(|error| unusable(path, pem::unusable_text(&error)))
}

/// Reads certificates, of which there must be one at least; `what` they are, for the error.
pub(super) fn certificates(
    path: &Path,
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = pem::certificates(path).map_err(|error| TlsError::File {
        what,
        path: path.to_owned(),
        error,
    })?;
    if certificates.is_empty() {
        return Err(TlsError::Empty(path.to_owned()));
    }
    Ok(certificates)
}

/// Authorities by which nothing can be checked.
pub(super) fn unusable(path: &Path, reason: String) -> TlsError {
    TlsError::Authority {
        path: path.to_owned(),
        reason,
    }
}
