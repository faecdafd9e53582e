//! Certificates in files, and TLS clients that trust them.

use std::{net::SocketAddr, sync::Arc};

use lodestone::{
    server::{Listener, Scheme},
    tls::{ClientAuth, Files, Identity},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::plugins::{Serving, serve_with};

/// A self-signed certificate for `dns.test` and its key.
pub struct Certificate {
    folder: tempfile::TempDir,
    made: rcgen::CertifiedKey<rcgen::KeyPair>,
}

impl Certificate {
    pub fn new() -> Self {
        let certificate = Self {
            folder: tempfile::tempdir().unwrap(),
            made: made(),
        };
        certificate.write();
        certificate
    }

    fn write(&self) {
        let texts = [
            ("tls.crt", self.made.cert.pem()),
            ("tls.key", self.made.signing_key.serialize_pem()),
        ];
        for (name, text) in texts {
            let new = self.folder.path().join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, self.folder.path().join(name)).unwrap();
        }
    }

    /// Replaces the files by a new certificate.
    pub fn renew(&mut self) {
        self.made = made();
        self.write();
    }

    pub fn files(&self) -> Files {
        let path = |name| self.folder.path().join(name);
        Files::new(path("tls.crt"), path("tls.key"))
    }

    pub fn identity(&self) -> Arc<Identity> {
        Identity::load(self.files()).unwrap()
    }

    /// Requests client certificates, with this one as the CA.
    pub fn asking(&self, client_auth: ClientAuth) -> Arc<Identity> {
        let mut files = self.files();
        files.authority = Some(files.certificate.clone());
        files.client_auth = client_auth;
        Identity::load(files).unwrap()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.made.cert.der().clone()).unwrap();
        roots
    }

    /// A client configuration that trusts it, with these ALPN protocols.
    pub fn client(&self, protocols: &[&str]) -> ClientConfig {
        let mut config = client_builder(self.roots()).with_no_client_auth();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().into())
            .collect();
        config
    }

    /// A client configuration with the client certificate `own`.
    pub fn client_with(&self, own: &Self) -> ClientConfig {
        let chain: Vec<CertificateDer<'static>> = vec![own.made.cert.der().clone()];
        let key = PrivateKeyDer::try_from(own.made.signing_key.serialize_der()).unwrap();
        client_builder(self.roots())
            .with_client_auth_cert(chain, key)
            .unwrap()
    }
}

fn made() -> rcgen::CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed(["dns.test".to_owned()]).unwrap()
}

fn client_builder(
    roots: RootCertStore,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
}

/// A server with one listener and this certificate.
pub fn serve_over(scheme: Scheme, certificate: &Certificate) -> Serving {
    let identity = certificate.identity();
    serve_with(lodestone::server::limits::Limits::default(), |wanted| {
        wanted.listener = listener(scheme);
        wanted.tls = Some(identity);
    })
}

pub fn listener(scheme: Scheme) -> Listener {
    Listener {
        scheme,
        address: "127.0.0.1:0".parse().unwrap(),
    }
}

/// A TLS connection.
pub async fn connect(at: SocketAddr, config: ClientConfig) -> TlsStream<TcpStream> {
    try_connect(at, config).await.unwrap()
}

pub async fn try_connect(
    at: SocketAddr,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    within(TcpStream::connect(at).await.unwrap(), config).await
}

/// TLS over an existing stream.
pub async fn within<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    config: ClientConfig,
) -> std::io::Result<TlsStream<S>> {
    let name = ServerName::try_from("dns.test").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}
