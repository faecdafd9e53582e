//! Queries over HTTPS (RFC 8484): requests on one pooled HTTP/2 connection.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Method, Request, header};

use super::{
    failure::Failure,
    http2::{self, HttpResponse, RequestSender},
    meter::ConnectionMetrics,
    packet::{MAX_QUERY, Packet},
    pooled_connection::PooledConnection,
    target::DohMethod,
    tls::Tls,
};
use crate::{reply::Reply, wire::MAX_MESSAGE};

/// The media type of DNS messages (RFC 8484 section 6).
const MESSAGE: &str = "application/dns-message";

/// An upstream over HTTPS.
#[derive(Debug)]
pub(super) struct Https {
    server: SocketAddr,
    source: Option<IpAddr>,
    tls: Tls,
    /// `https://HOST[:PORT]/dns-query`
    address: String,
    method: DohMethod,
    connection: Arc<PooledConnection<RequestSender>>,
    metrics: Arc<ConnectionMetrics>,
}

impl Https {
    pub(super) fn new(
        server: SocketAddr,
        source: Option<IpAddr>,
        tls: Tls,
        method: DohMethod,
        connection: Arc<PooledConnection<RequestSender>>,
        metrics: Arc<ConnectionMetrics>,
    ) -> Self {
        // The authority is the name in the certificate; if that is an address, the address.
        let authority = match (tls.name().to_str(), server.port()) {
            (name, _) if name.parse::<IpAddr>().is_ok() && server.port() != 443 => {
                server.to_string()
            }
            (name, _) if name.contains(':') => format!("[{name}]"),
            (name, 443) => name.into_owned(),
            (name, port) => format!("{name}:{port}"),
        };
        Self {
            server,
            source,
            tls,
            address: format!("https://{authority}/dns-query"),
            method,
            connection,
            metrics,
        }
    }

    /// Sends the query and waits for its reply; the caller applies the timeout.
    pub(super) async fn exchange(&self, packet: &Packet) -> Result<Reply, Failure> {
        let dial = || {
            let (tls, metrics) = (self.tls.clone(), Arc::clone(&self.metrics));
            http2::connect(self.server, self.source, Some(tls), move |local| {
                metrics.connected(local);
            })
        };
        let exchange = |sender| async {
            let response = http2::send(sender, self.request(packet)?, MAX_MESSAGE).await?;
            Ok(self.read(packet, &response)?)
        };
        self.connection.exchange(dial, exchange).await
    }

    fn request(&self, packet: &Packet) -> Result<Request<Bytes>, Failure> {
        let mut buffer = [0; MAX_QUERY];
        // The id is 0, so that equal queries are equal requests for HTTP caches (RFC 8484 section 4.1).
        let bytes = packet.under(0, &mut buffer);
        let request = Request::builder().header(header::ACCEPT, MESSAGE);
        let request = match self.method {
            DohMethod::Post => request
                .method(Method::POST)
                .uri(&self.address)
                .header(header::CONTENT_TYPE, MESSAGE)
                .body(Bytes::copy_from_slice(bytes)),
            DohMethod::Get => {
                let text = URL_SAFE_NO_PAD.encode(bytes);
                request
                    .method(Method::GET)
                    .uri(format!("{}?dns={text}", self.address))
                    .body(Bytes::new())
            }
        };
        // A name that is valid for TLS may be invalid in a URI.
        request.map_err(|_| Failure::Unreachable(std::io::ErrorKind::InvalidInput))
    }

    fn read(&self, packet: &Packet, response: &HttpResponse) -> Result<Reply, Failure> {
        if response.status != 200 {
            return Err(Failure::Http(response.status));
        }
        let kind = response.head.get(header::CONTENT_TYPE);
        if kind.is_none_or(|kind| kind != MESSAGE) {
            return Err(self.metrics.wrong());
        }
        self.metrics.read(packet, &response.body)
    }
}
