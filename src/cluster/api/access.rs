//! Single requests to the API server: whether it answers, what it permits, addresses of Services, and objects as
//! they are. Not for serving: `lodestone doctor` checks with them what a source will need, and `lodestone migrate`
//! reads and changes a Deployment.

use super::super::error::SourceError;
use super::super::event::Kind;
use super::super::settings::{RateLimits, Settings};
use super::super::state::Cluster;
use super::client::ApiClient;
use super::error::WatchError;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use serde::Deserialize;
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Maximum number of bytes read of a response.
const MAX_BYTES: usize = 1 << 20;

/// Maximum number of bytes read of an object, or of a short list. A ConfigMap has 1 MiB at most, which JSON may
/// double.
const MAX_OBJECT_BYTES: usize = 8 << 20;

/// Maximum number of Services of a list.
const MAX_SERVICES: usize = 20;

/// The API server of a source's settings.
pub struct ApiAccess {
    client: ApiClient,
}

/// Why a request failed: the cause and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    message: String,
    status: Option<u16>,
}

impl ApiError {
    /// The status of the response, if there was one and it is an error's.
    pub fn status(&self) -> Option<u16> {
        self.status
    }
}

impl From<WatchError> for ApiError {
    fn from(error: WatchError) -> Self {
        let status = match &error {
            WatchError::Unauthorized(_) => Some(401),
            WatchError::Status(status, _) => Some(*status),
            _ => None,
        };
        Self {
            message: error.to_string(),
            status,
        }
    }
}

/// A Service and its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedService {
    /// `NAMESPACE/NAME`
    pub name: String,
    /// Cluster IPs; none for headless Services.
    pub addresses: Vec<IpAddr>,
}

impl ApiAccess {
    /// Reads the credentials as a source does; connects on the first request.
    pub fn new(settings: &Settings, runtime: &Handle) -> Result<Self, SourceError> {
        let cluster = Arc::new(Cluster::new(&settings.kinds()));
        let settings = Settings {
            limits: RateLimits::default(),
            ..settings.clone()
        };
        let client = ApiClient::new(&settings, &cluster, runtime)?;
        Ok(Self { client })
    }

    /// Host and port of the server.
    pub fn host(&self) -> &str {
        self.client.host()
    }

    /// The server's version, such as `v1.36.3`.
    pub async fn version(&self) -> Result<String, ApiError> {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Version {
            git_version: String,
        }
        let version: Version = self.json(Request::get("/version"), Body::empty()).await?;
        Ok(version.git_version)
    }

    /// Whether the credentials permit a verb on a kind in all namespaces (SelfSubjectAccessReview, which
    /// every authenticated user may create).
    pub async fn is_allowed(&self, verb: &str, kind: Kind) -> Result<bool, ApiError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Review {
            status: Status,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Status {
            allowed: bool,
        }
        let body = serde_json::json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {
                "resourceAttributes": {
                    "verb": verb,
                    "group": kind.group(),
                    "resource": kind.resource(),
                },
            },
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let request = Request::post(path).header(CONTENT_TYPE, "application/json");
        let body = body.to_string().into_bytes();
        let review: Review = self.json(request, body.into()).await?;
        Ok(review.status.allowed)
    }

    /// The Services that a query such as `labelSelector=k8s-app%3Dkube-dns` selects, 20 at most.
    pub async fn services(&self, query: &str) -> Result<Vec<NamedService>, ApiError> {
        #[derive(Deserialize)]
        struct List {
            #[serde(default)]
            items: Vec<Service>,
        }
        #[derive(Deserialize)]
        struct Service {
            metadata: Metadata,
            spec: Spec,
        }
        #[derive(Deserialize)]
        struct Metadata {
            namespace: String,
            name: String,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Spec {
            #[serde(rename = "clusterIP", default)]
            cluster_ip: String,
            #[serde(rename = "clusterIPs", default)]
            cluster_ips: Vec<String>,
        }
        let path = format!("/api/v1/services?limit={MAX_SERVICES}&{query}");
        let list: List = self.json(Request::get(path), Body::empty()).await?;
        let services = list.items.into_iter().map(|service| {
            let Spec {
                cluster_ip,
                mut cluster_ips,
            } = service.spec;
            if cluster_ips.is_empty() {
                cluster_ips.push(cluster_ip);
            }
            let Metadata { namespace, name } = service.metadata;
            // `None` for a headless Service is no address.
            let addresses = cluster_ips.iter().filter_map(|ip| ip.parse().ok());
            NamedService {
                name: format!("{namespace}/{name}"),
                addresses: addresses.collect(),
            }
        });
        Ok(services.collect())
    }

    /// An object, or a short list of them, as the API server sends it; `None` if there is none of this path (404).
    pub async fn object(&self, path: &str) -> Result<Option<Value>, ApiError> {
        match self
            .bytes(Request::get(path), Body::empty(), MAX_OBJECT_BYTES)
            .await
        {
            Ok(bytes) => parsed(&bytes).map(Some),
            Err(error) if error.status == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Changes an object by a strategic merge patch; returns the object as it is then.
    pub async fn patch(&self, path: &str, patch: &Value) -> Result<Value, ApiError> {
        let request =
            Request::patch(path).header(CONTENT_TYPE, "application/strategic-merge-patch+json");
        let body = patch.to_string().into_bytes();
        parsed(&self.bytes(request, body.into(), MAX_OBJECT_BYTES).await?)
    }

    /// A text, such as the end of a pod's log.
    pub async fn text(&self, path: &str) -> Result<String, ApiError> {
        let request = Request::get(path).header(ACCEPT, "*/*");
        let bytes = self.bytes(request, Body::empty(), MAX_BYTES).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn json<T: serde::de::DeserializeOwned>(
        &self,
        request: http::request::Builder,
        body: Body,
    ) -> Result<T, ApiError> {
        parsed(&self.bytes(request, body, MAX_BYTES).await?)
    }

    /// The body of a response that is no error.
    async fn bytes(
        &self,
        request: http::request::Builder,
        body: Body,
        limit: usize,
    ) -> Result<Bytes, ApiError> {
        let (response, _permit) = self.client.send(request, body).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), limit).collect();
        let body = body.await.map_err(|error| {
            let error: &(dyn std::error::Error + 'static) = &*error;
            WatchError::disconnected(error)
        })?;
        let body = body.to_bytes();
        if matches!(status, StatusCode::OK | StatusCode::CREATED) {
            Ok(body)
        } else {
            Err(WatchError::from_answer(status.as_u16(), &body).into())
        }
    }
}

fn parsed<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let malformed = |error: serde_json::Error| WatchError::Malformed(error.to_string()).into();
    serde_json::from_slice(body).map_err(malformed)
}
