//! The HTTP client of the API server: built like `kube`'s own, except for certificate verification
//! (see [`crate::trust`]) and socket options, which `kube` does not expose.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::{ClientBuilder, ConfigExt};
use kube::{Client, Config};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName};
use tower::{BoxError, ServiceBuilder};

use crate::trust::{ReloadedTrust, Trusted};

/// Idle time before TCP keepalive probes, which repeat every [`KEEPALIVE_INTERVAL`]. With
/// [`USER_TIMEOUT`], a server that disappeared without a FIN is detected in seconds, although a
/// watch may be silent for minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);

/// See [`KEEPALIVE_IDLE`].
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);

/// A connection with data or a probe unacknowledged for this long is closed (`TCP_USER_TIMEOUT`,
/// RFC 5482).
const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout of connection establishment.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that connects on the first request.
pub(super) fn client(config: Config) -> Result<Client, Box<dyn Error>> {
    // Returns kube's error: proxies are not supported.
    if config.proxy_url.is_some() {
        return Ok(Client::try_from(config)?);
    }
    let mut tls = config.rustls_client_config()?;
    if let Some(verifier) = verifier(&config)? {
        tls.dangerous().set_certificate_verifier(verifier);
    }
    let mut https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = ServerName::try_from(name.clone())?;
        https = https.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let https = https.enable_http1().wrap_connector(connector());
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(legacy::Client::builder(TokioExecutor::new()).build(https));
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

/// A connector whose sockets detect a lost server in seconds.
fn connector() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(KEEPALIVE_IDLE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(3));
    tcp.set_tcp_user_timeout(Some(USER_TIMEOUT));
    tcp
}

/// The verifier of the server's certificate, if a CA is configured.
fn verifier(config: &Config) -> Result<Option<Arc<dyn ServerCertVerifier>>, Box<dyn Error>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    if config.accept_invalid_certs {
        return Ok(None);
    }
    if let Some(path) = &config.root_cert_file {
        return Ok(Some(Arc::new(ReloadedTrust::open(path, provider)?)));
    }
    let Some(authorities) = &config.root_cert else {
        return Ok(None);
    };
    let authorities = authorities.iter().cloned().map(CertificateDer::from);
    let trusted = Trusted::of(authorities.collect(), "certificate-authority-data")?;
    Ok(Some(trusted.server_verifier(provider)?))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::SocketAddr;

    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use kube::client::Body;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A self-signed CA certificate for 127.0.0.1.
    fn self_signed() -> (rcgen::Certificate, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let der = PrivatePkcs8KeyDer::from(key.serialize_der());
        (params.self_signed(&key).unwrap(), PrivateKeyDer::Pkcs8(der))
    }

    /// Serves 200 to every request.
    async fn serve(certificate: &rcgen::Certificate, key: PrivateKeyDer<'static>) -> SocketAddr {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let answer =
                    service_fn(async |_| Ok::<_, Infallible>(http::Response::new(String::new())));
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answer);
                tokio::spawn(serving);
            }
        });
        address
    }

    async fn reaches(config: Config) -> bool {
        let client = client(config).unwrap();
        let request = http::Request::get("/version").body(Body::empty()).unwrap();
        client.send(request).await.is_ok()
    }

    #[tokio::test]
    async fn a_self_signed_server_certificate_is_trusted_only_if_it_is_the_configured_ca() {
        let ((own, key), (other, _)) = (self_signed(), self_signed());
        let address = serve(&own, key).await;
        let config = || Config::new(format!("https://{address}").parse().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        for (authority, trusted) in [(&own, true), (&other, false)] {
            let mut inline = config();
            inline.root_cert = Some(vec![authority.der().to_vec()]);
            assert_eq!(reaches(inline).await, trusted);
            std::fs::write(&path, authority.pem()).unwrap();
            let mut file = config();
            file.root_cert_file = Some(path.clone());
            assert_eq!(reaches(file).await, trusted);
        }
    }
}
