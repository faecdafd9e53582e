//! Verification of TLS peers by trusted certificates from files.
//!
//! A trusted certificate is a CA: certificates that it signed are accepted (RFC 5280 section 6). It
//! is also accepted as the peer's own certificate, compared byte for byte, for self-signed
//! certificates configured as CA. OpenSSL and Go accept those too, and they are common (`openssl
//! req -x509` creates them); webpki alone refuses them because they are marked as CA. Name,
//! validity period and purpose are always checked.

mod certificate;

use std::{
    convert::Infallible,
    fmt::Display,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use crate::{error_text, files::Cached, pem};

use self::certificate::{Certificate, Purpose};

/// Supported key types of peer certificates.
pub const PEER_KEYS: &str = "ECDSA P-256 or P-384, Ed25519, or RSA";

/// Supported private keys.
pub const KEYS: &str = "ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits";

/// Whether a private key is of a supported type.
pub fn is_usable(key: &PrivateKeyDer<'_>) -> bool {
    rustls::crypto::ring::sign::any_supported_type(key).is_ok()
}

/// Trusted certificates.
#[derive(Clone, Debug)]
pub struct Trusted {
    authorities: Arc<RootCertStore>,
    /// Certificates that a peer may present itself.
    end_entities: Arc<[CertificateDer<'static>]>,
}

impl Trusted {
    /// Trusts the certificates of `source`. Invalid ones are left out with a warning, as in Go; an error if
    /// there are no others.
    pub fn of(
        certificates: Vec<CertificateDer<'static>>,
        source: impl Display,
    ) -> Result<Self, Error> {
        let mut authorities = RootCertStore::empty();
        let mut end_entities = Vec::with_capacity(certificates.len());
        let (count, mut invalid) = (certificates.len(), None);
        for certificate in certificates {
            match authorities.add(certificate.clone()) {
                Ok(()) => end_entities.push(certificate),
                Err(error) => invalid = Some(error),
            }
        }
        if let Some(error) = invalid {
            let usable = end_entities.len();
            if usable == 0 {
                return Err(error);
            }
            let why = pem::unusable_text(&error);
            tracing::warn!("{source}: {usable} of {count} certificates are trusted: {why}");
        }
        Ok(Self {
            authorities: Arc::new(authorities),
            end_entities: end_entities.into(),
        })
    }

    /// The valid certificates of the system's store, possibly none.
    pub fn system() -> Self {
        let certificates = rustls_native_certs::load_native_certs().certs;
        let mut authorities = RootCertStore::empty();
        // Nearly all are CAs only. A certificate without host names is never accepted for a host.
        let has_host_names = |one: &CertificateDer<'_>| {
            Certificate::read(one).is_some_and(|read| read.has_alternative_names)
        };
        let end_entities = certificates
            .iter()
            .filter(|one| has_host_names(one))
            .cloned();
        let end_entities = end_entities.collect();
        authorities.add_parsable_certificates(certificates);
        Self {
            authorities: Arc::new(authorities),
            end_entities,
        }
    }

    /// A verifier of servers.
    pub fn server_verifier(
        &self,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, VerifierBuilderError> {
        let authorities = Arc::clone(&self.authorities);
        let chains = WebPkiServerVerifier::builder_with_provider(authorities, provider).build()?;
        Ok(Arc::new(ServerVerifier {
            chains,
            end_entities: Arc::clone(&self.end_entities),
        }))
    }

    /// A verifier of clients. If `optional`, clients without a certificate are accepted.
    pub fn client_verifier(
        &self,
        provider: Arc<CryptoProvider>,
        optional: bool,
    ) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
        let authorities = Arc::clone(&self.authorities);
        let builder = WebPkiClientVerifier::builder_with_provider(authorities, provider);
        let builder = if optional {
            builder.allow_unauthenticated()
        } else {
            builder
        };
        Ok(Arc::new(ClientVerifier {
            chains: builder.build()?,
            end_entities: Arc::clone(&self.end_entities),
        }))
    }
}

#[derive(Debug)]
struct ServerVerifier {
    chains: Arc<WebPkiServerVerifier>,
    end_entities: Arc<[CertificateDer<'static>]>,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        presented: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.end_entities.contains(presented) {
            return self
                .chains
                .verify_server_cert(presented, between, name, ocsp, now);
        }
        is_valid_now(presented, Purpose::Server, now)?;
        verify_server_name(&ParsedCertificate::try_from(presented)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct ClientVerifier {
    chains: Arc<dyn ClientCertVerifier>,
    end_entities: Arc<[CertificateDer<'static>]>,
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.chains.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chains.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        presented: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if !self.end_entities.contains(presented) {
            return self.chains.verify_client_cert(presented, between, now);
        }
        is_valid_now(presented, Purpose::Client, now)?;
        // Parses the rest of the certificate and refuses unknown critical extensions.
        ParsedCertificate::try_from(presented)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

fn is_valid_now(
    certificate: &CertificateDer<'_>,
    purpose: Purpose,
    now: UnixTime,
) -> Result<(), Error> {
    let read = Certificate::read(certificate).ok_or(CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < read.valid.0 {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > read.valid.1 {
        return Err(CertificateError::Expired.into());
    }
    if !read.is_for(purpose) {
        return Err(CertificateError::InvalidPurpose.into());
    }
    Ok(())
}

/// Why the file of a [`ReloadedTrust`] cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each variant's message
pub enum FileError {
    #[error("cannot read certificates from {}: {}", .0.display(), pem::error_text(.1, .0))]
    Pem(PathBuf, pem::Error),
    #[error("a certificate in {0} cannot be used")]
    Certificate(PathBuf, #[source] Error),
    #[error("no certificate in {}: {}", .0.display(), pem::content_text(.0))]
    Empty(PathBuf, #[source] VerifierBuilderError),
}

/// Verifies servers by a certificate file that is read again periodically: a cluster's CA is
/// rotated in place in the service account volume.
#[derive(Debug)]
pub struct ReloadedTrust {
    path: PathBuf,
    provider: Arc<CryptoProvider>,
    verifier: Cached<Arc<dyn ServerCertVerifier>>,
}

impl ReloadedTrust {
    /// Interval between reads.
    const INTERVAL: Duration = Duration::from_mins(1);

    /// Reads the file.
    pub fn open(path: &Path, provider: Arc<CryptoProvider>) -> Result<Self, FileError> {
        let read = read(path, &provider)?;
        Ok(Self {
            path: path.to_owned(),
            provider,
            verifier: Cached::new(read, Self::INTERVAL),
        })
    }

    /// If the file becomes unusable, the last certificates stay trusted.
    fn current(&self) -> Arc<dyn ServerCertVerifier> {
        let read = || {
            let read = read(&self.path, &self.provider).map_err(|error| {
                let why = error_text::chain(&error.into());
                tracing::warn!("the previously read certificates stay trusted: {why}");
            });
            Ok::<_, Infallible>(read.ok())
        };
        let Ok(verifier) = self.verifier.get(read);
        verifier
    }
}

fn read(
    path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, FileError> {
    let certificates =
        pem::certificates(path).map_err(|error| FileError::Pem(path.to_owned(), error))?;
    Trusted::of(certificates, path.display())
        .map_err(|error| FileError::Certificate(path.to_owned(), error))?
        .server_verifier(Arc::clone(provider))
        .map_err(|error| FileError::Empty(path.to_owned(), error))
}

impl ServerCertVerifier for ReloadedTrust {
    fn verify_server_cert(
        &self,
        presented: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.current()
            .verify_server_cert(presented, between, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.current()
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.current()
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current().supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
