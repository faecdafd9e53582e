//! TLS towards upstreams: whom to trust, who we are, and the name that the other side must prove.

use std::{fmt, io, net::IpAddr, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{failure::Failure, handshake};
use crate::{
    files::Stamp,
    plain,
    trust::{self, Trusted},
};

/// Files that TLS is set up from; without any, the system's roots and no certificate of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsFiles {
    /// Our certificate chain and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The authorities that are trusted instead of the system's.
    pub authorities: Option<PathBuf>,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each says it
pub enum TlsError {
    #[error("cannot read certificates or keys from {}: {}", .0.display(), plain::pem(.1, .0))]
    Pem(PathBuf, rustls::pki_types::pem::Error),
    #[error("no certificate in {}: {}", .0.display(), plain::instead_of_pem(.0))]
    NoCertificate(PathBuf),
    #[error("the certificate and key cannot be used: {}", plain::tls(.0))]
    Identity(rustls::Error),
    #[error("the private key in {0} cannot be used: keys are {keys}", keys = trust::KEYS)]
    Key(PathBuf),
    #[error("a certificate in {} cannot be used: {}", .0.display(), plain::tls(.1))]
    Authority(PathBuf, rustls::Error),
    #[error("the system has no root certificates that can be read: name a CA file")]
    NoSystemRoots,
    #[error("QUIC cannot be set up: it needs TLS 1.3")]
    Quic,
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// TLS towards one upstream.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl TlsFiles {
    /// Reads the files.
    pub fn load(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = self.trusted()?.of_servers(Arc::clone(&provider));
        let verifier = verifier.map_err(|_| TlsError::NoSystemRoots)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificates, key)) => {
                let read =
                    plain::private_key(key).map_err(|error| TlsError::Pem(key.clone(), error))?;
                if !trust::is_usable(&read) {
                    return Err(TlsError::Key(key.clone()));
                }
                builder
                    .with_client_auth_cert(read_certificates(certificates)?, read)
                    .map_err(TlsError::Identity)?
            }
        };
        Ok(Arc::new(config))
    }

    /// Changes when another file is named or the content of one changes, as its [`Stamp`] shows.
    pub fn fingerprint(&self) -> String {
        let identity = self.identity.iter().flat_map(|(chain, key)| [chain, key]);
        let stamps = identity
            .chain(&self.authorities)
            .map(|path| Stamp::of(path));
        format!("{self:?} {:?}", stamps.collect::<Vec<_>>())
    }

    fn trusted(&self) -> Result<Trusted, TlsError> {
        let Some(path) = &self.authorities else {
            return Ok(Trusted::system());
        };
        let certificates = read_certificates(path)?;
        Trusted::all(certificates).map_err(|error| TlsError::Authority(path.clone(), error))
    }
}

fn read_certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates =
        plain::certificates(path).map_err(|error| TlsError::Pem(path.clone(), error))?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate(path.clone()));
    }
    Ok(certificates)
}

impl Tls {
    /// `name` is what the certificate must be for; without one, the address itself.
    pub(super) fn new(
        config: Arc<ClientConfig>,
        name: Option<&ServerName<'static>>,
        ip: IpAddr,
    ) -> Self {
        Self {
            connector: TlsConnector::from(config),
            name: name.cloned().unwrap_or_else(|| ServerName::from(ip)),
        }
    }

    /// The same for a protocol that is to be agreed on in the handshake (RFC 7301).
    #[cfg(any(
        feature = "https",
        feature = "quic",
        feature = "grpc",
        feature = "etcd"
    ))]
    pub(super) fn speaking(
        config: &Arc<ClientConfig>,
        name: Option<&ServerName<'static>>,
        ip: IpAddr,
        protocol: &[u8],
    ) -> Self {
        let mut config = ClientConfig::clone(config);
        config.alpn_protocols = vec![protocol.to_vec()];
        Self::new(Arc::new(config), name, ip)
    }

    /// The name that the other side must prove.
    #[cfg(any(feature = "https", feature = "quic"))]
    pub(super) fn name(&self) -> &ServerName<'static> {
        &self.name
    }

    /// How TLS is spoken.
    #[cfg(feature = "quic")]
    pub(super) fn config(&self) -> &Arc<ClientConfig> {
        self.connector.config()
    }

    pub(super) async fn connect(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Failure> {
        let name = self.name.clone();
        let connecting = self.connector.connect(name, stream);
        connecting.await.map_err(|error| self.explain(&error))
    }

    fn explain(&self, error: &io::Error) -> Failure {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        if let Some(error) = inner {
            return Failure::Tls(handshake::explain(error, &self.name.to_str()).into());
        }
        match Failure::from(error) {
            Failure::Closed => Failure::Tls("closed in the handshake".into()),
            other => other,
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Tls({:?})", self.name)
    }
}
