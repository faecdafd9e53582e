//! The API server client: configuration, credentials, rate limits, timeouts.

use super::super::error::SourceError;
use super::super::event::Kind;
use super::super::settings::{Backend, ClientTls, RateLimits, Settings, Timing};
use super::super::state::Cluster;
use super::error::WatchError;
use super::explain;
use super::token::BearerToken;
use futures_util::FutureExt;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::Config;
use kube::client::Body;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout};

use crate::trust;

/// Maximum number of bytes read of an error response.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// The form of responses.
const JSON: &str = "application/json";

/// The client shared by all watches.
pub(super) struct ApiClient {
    client: kube::Client,
    token: Option<BearerToken>,
    bucket: Option<TokenBucket>,
    in_flight: Option<Semaphore>,
    timing: Timing,
    /// For request statistics.
    cluster: Arc<Cluster>,
}

impl ApiClient {
    /// Reads the configuration; connects on the first request.
    pub(super) fn new(
        settings: &Settings,
        cluster: &Arc<Cluster>,
        runtime: &Handle,
    ) -> Result<Self, SourceError> {
        let mut config = kube_config(&settings.backend)?;
        // The reflectors retry: they know the version to resume from.
        config.default_retry = false;
        let token = BearerToken::take(&mut config.auth_info)?;
        if config.root_cert.as_ref().is_some_and(Vec::is_empty) {
            return Err(SourceError::Authority);
        }
        if let Some(host) = config.cluster_url.authority() {
            cluster.stats().requests().set_host(host.as_str());
        }
        // The client spawns its tasks on the runtime.
        let _entered = runtime.enter();
        let client = super::connect::client(config);
        let client = client.map_err(|error| SourceError::Client(explain::client(&*error)))?;
        let RateLimits { in_flight, .. } = settings.limits;
        Ok(Self {
            client,
            token,
            bucket: TokenBucket::new(&settings.limits),
            in_flight: (in_flight > 0).then(|| Semaphore::new(in_flight as usize)),
            timing: settings.timing.clone(),
            cluster: Arc::clone(cluster),
        })
    }

    /// Sends a GET request and waits for the head of a 200 response. The caller holds the permit
    /// while it reads a list, and drops it once a watch is established.
    pub(super) async fn get(
        &self,
        verb: &'static str,
        kind: Kind,
        path_and_query: &str,
    ) -> Result<(Body, Option<SemaphorePermit<'_>>), WatchError> {
        self.get_as(verb, kind, path_and_query, JSON).await
    }

    /// Like [`get`](Self::get), in another form.
    pub(super) async fn get_as(
        &self,
        verb: &'static str,
        kind: Kind,
        path_and_query: &str,
        accept: &'static str,
    ) -> Result<(Body, Option<SemaphorePermit<'_>>), WatchError> {
        let request = Request::get(path_and_query).header(ACCEPT, accept);
        let (response, permit) = self.send(request, Body::empty()).await?;
        if response.status() == StatusCode::OK {
            return Ok((response.into_body(), permit));
        }
        let wait = self.timing.response;
        Err(error_response(verb, kind, response, wait).await)
    }

    /// Sends a request with the credentials, in JSON unless it accepts something else, and waits for the head of the response.
    pub(super) async fn send(
        &self,
        mut request: http::request::Builder,
        body: Body,
    ) -> Result<(Response<Body>, Option<SemaphorePermit<'_>>), WatchError> {
        let stats = self.cluster.stats().requests();
        let queued = Instant::now();
        let permit = self.acquire().await;
        stats.queued(queued.elapsed());
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.header());
        }
        let accepts = |it: &http::HeaderMap| it.contains_key(ACCEPT);
        if !request.headers_ref().is_some_and(accepts) {
            request = request.header(ACCEPT, JSON);
        }
        let request = request
            // A compressed stream would have to be flushed and decompressed per event, and a list
            // would gain only bandwidth.
            .header(ACCEPT_ENCODING, "identity")
            .body(body)
            .map_err(|_| WatchError::Malformed("the request cannot be built".into()))?;
        let wait = self.timing.response;
        let sent = Instant::now();
        let response = timeout(wait, self.client.send(request)).await;
        let code = match &response {
            Ok(Ok(response)) => response.status().as_u16(),
            _ => 0,
        };
        stats.finished(code, sent.elapsed());
        let response = response
            .map_err(|_| WatchError::TimedOut(wait))?
            .map_err(|error| WatchError::connect(stats.host(), error))?;
        Ok((response, permit))
    }

    /// The state, with the statistics of requests.
    pub(super) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Host and port of the server.
    pub(super) fn host(&self) -> &str {
        self.cluster.stats().requests().host()
    }

    /// Waits for the rate limiter and for a concurrency permit.
    async fn acquire(&self) -> Option<SemaphorePermit<'_>> {
        if let Some(bucket) = &self.bucket {
            sleep(bucket.take(Instant::now())).await;
        }
        match &self.in_flight {
            Some(semaphore) => semaphore.acquire().await.ok(),
            None => None,
        }
    }
}

/// Reads an error response.
async fn error_response(
    verb: &'static str,
    kind: Kind,
    response: Response<Body>,
    wait: Duration,
) -> WatchError {
    let code = response.status().as_u16();
    let body = Limited::new(response.into_body(), MAX_ERROR_BYTES).collect();
    let body = match timeout(wait, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        _ => bytes::Bytes::new(),
    };
    WatchError::from_response(verb, kind, code, &body)
}

fn kube_config(origin: &Backend) -> Result<Config, SourceError> {
    match origin {
        Backend::InCluster => in_cluster(),
        Backend::Kubeconfig { file, context } => {
            let bad = |error| SourceError::Kubeconfig(file.clone(), explain::kubeconfig(&error));
            let kubeconfig = Kubeconfig::read_from(file).map_err(|error| match error {
                KubeconfigError::ReadConfig(error, _) => SourceError::Read(file.clone(), error),
                error => bad(error),
            })?;
            let options = KubeConfigOptions {
                context: context.clone(),
                ..Default::default()
            };
            // Async in signature only: it reads files.
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).now_or_never();
            let config = config.unwrap_or(Err(KubeconfigError::FindPath));
            config.map_err(bad)
        }
        Backend::Endpoint { url, tls } => endpoint(url, tls.as_ref()),
        // Unreachable: the manifests source handles it.
        Backend::Manifests { .. } => Err(SourceError::Endpoint(String::new())),
    }
}

fn endpoint(url: &str, tls: Option<&ClientTls>) -> Result<Config, SourceError> {
    let bad = || SourceError::Endpoint(url.to_owned());
    let uri: http::Uri = url.parse().map_err(|_| bad())?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
        return Err(bad());
    }
    let mut config = Config::new(uri);
    if let Some(ClientTls {
        certificate,
        key,
        authority,
    }) = tls
    {
        check_certificates(certificate)?;
        check_certificates(authority)?;
        let key_text = read(key)?;
        let read = PrivateKeyDer::from_pem_slice(&key_text)
            .map_err(|_| SourceError::Pem(key.clone(), "private key"))?;
        if !trust::is_usable(&read) {
            return Err(SourceError::Key(key.clone()));
        }
        let text = |path: &Path| Some(path.to_string_lossy().into_owned());
        config.root_cert_file = Some(authority.clone());
        config.auth_info.client_certificate = text(certificate);
        config.auth_info.client_key = text(key);
    }
    Ok(config)
}

/// The configuration from the pod's service account.
fn in_cluster() -> Result<Config, SourceError> {
    Config::incluster().map_err(|error| match error {
        InClusterError::ReadEnvironmentVariable(_) => SourceError::NoCluster,
        error => SourceError::InCluster(explain::chain(&error)),
    })
}

/// Reports which file is unusable, which the TLS library does not.
fn check_certificates(file: &Path) -> Result<(), SourceError> {
    let text = read(file)?;
    let mut certificates = CertificateDer::pem_slice_iter(&text);
    match certificates.next() {
        Some(Ok(_)) if certificates.all(|it| it.is_ok()) => Ok(()),
        _ => Err(SourceError::Pem(file.to_owned(), "certificate")),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, SourceError> {
    let read = crate::files::not_a_pipe(file).and_then(|()| std::fs::read(file));
    read.map_err(|error| SourceError::Read(file.to_owned(), error))
}

/// Token bucket: `burst` requests at once, then `per_second`.
struct TokenBucket {
    per_second: f64,
    burst: f64,
    /// Number of tokens, and when it was computed. Negative if future tokens are reserved.
    level: Mutex<(f64, Instant)>,
}

impl TokenBucket {
    fn new(limits: &RateLimits) -> Option<Self> {
        let burst = f64::from(limits.burst.max(1));
        let per_second = limits.per_thousand_seconds as f64 / 1000.0;
        (per_second > 0.0).then(|| Self {
            per_second,
            burst,
            level: Mutex::new((burst, Instant::now())),
        })
    }

    /// Takes a token; returns how long to wait for it.
    fn take(&self, now: Instant) -> Duration {
        let mut level = self.level.lock();
        let gained = now.saturating_duration_since(level.1).as_secs_f64() * self.per_second;
        let tokens = (level.0 + gained).min(self.burst) - 1.0;
        *level = (tokens, now);
        Duration::try_from_secs_f64(-tokens / self.per_second).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_bucket_allows_its_burst_and_then_its_rate() {
        let limits = RateLimits {
            per_thousand_seconds: 2000,
            burst: 2,
            in_flight: 0,
        };
        let bucket = TokenBucket::new(&limits).unwrap();
        let now = bucket.level.lock().1;
        let waits: Vec<_> = (0..4).map(|_| bucket.take(now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 500, 1000]);
        assert_eq!(bucket.take(now + Duration::from_mins(1)), Duration::ZERO);
    }
}
