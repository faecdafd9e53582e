//! TLS towards upstreams: the handshake, and the name that the server's certificate must be for.

use std::{fmt, io, net::IpAddr, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{failure::Failure, handshake};

/// TLS towards one upstream.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// `name` is the name that the certificate must be for; the default is the address.
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

    /// The same, with a protocol to negotiate in the handshake (ALPN, RFC 7301).
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

    /// The name that the server's certificate must be for.
    #[cfg(any(feature = "https", feature = "quic"))]
    pub(super) fn name(&self) -> &ServerName<'static> {
        &self.name
    }

    /// The rustls configuration.
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
