//! A client of etcd (API version 3, gRPC): ranges of keys, leases, and authentication.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::{runtime::Handle, time::timeout};

use super::Config;
use crate::upstream::{Failure, Rpc, RpcError};

/// Timeout of a call over all servers: less than the 5 s of stub resolvers.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Timeout of a call to one of several servers.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1500);

const RANGE: &str = "/etcdserverpb.KV/Range";
const TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";
const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";

/// The servers of one etcd cluster.
pub(super) struct EtcdClient {
    servers: Vec<Rpc>,
    /// Index of the server that answered last.
    current: Mutex<usize>,
    credentials: Option<(String, String)>,
    token: Mutex<Option<Arc<str>>>,
}

/// A key and its value.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) value: Vec<u8>,
    #[prost(int64, tag = "6")]
    pub(super) lease: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    range_end: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LeaseRequest {
    #[prost(int64, tag = "1")]
    id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LeaseResponse {
    #[prost(int64, tag = "3")]
    ttl: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AuthenticateRequest {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    password: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AuthenticateResponse {
    #[prost(string, tag = "2")]
    token: String,
}

impl EtcdClient {
    pub(super) fn new(config: &Config, tls: Option<&Arc<ClientConfig>>, runtime: &Handle) -> Self {
        let servers = config.endpoints.iter().map(|endpoint| {
            let tls = tls.filter(|_| endpoint.secure);
            Rpc::new(&endpoint.host, endpoint.port, tls, None, runtime.clone())
        });
        Self {
            servers: servers.collect(),
            current: Mutex::new(0),
            credentials: config.credentials.clone(),
            token: Mutex::new(None),
        }
    }

    /// The value of `key`, or those of all keys that begin with it.
    pub(super) async fn get(&self, key: &str, prefix: bool) -> Result<Vec<KeyValue>, RpcError> {
        let request = RangeRequest {
            key: key.as_bytes().to_vec(),
            range_end: if prefix { range_end(key) } else { Vec::new() },
        };
        let answer: RangeResponse = self.call(RANGE, &request).await?;
        Ok(answer.kvs)
    }

    /// The remaining seconds of a lease; 0 or less if it has expired or does not exist.
    pub(super) async fn time_to_live(&self, lease: i64) -> Result<i64, RpcError> {
        let request = LeaseRequest { id: lease };
        let answer: LeaseResponse = self.call(TIME_TO_LIVE, &request).await?;
        Ok(answer.ttl)
    }

    async fn call<Q, A>(&self, path: &str, request: &Q) -> Result<A, RpcError>
    where
        Q: prost::Message,
        A: prost::Message + Default,
    {
        let silent = || RpcError::Failed(Failure::Silent);
        let calling = self.call_any(path, request);
        timeout(TIMEOUT, calling).await.unwrap_or(Err(silent()))
    }

    /// Calls the server that answered last, and the others if it fails.
    async fn call_any<Q, A>(&self, path: &str, request: &Q) -> Result<A, RpcError>
    where
        Q: prost::Message,
        A: prost::Message + Default,
    {
        let first = *self.current.lock();
        let mut last = RpcError::Failed(Failure::Silent);
        for offset in 0..self.servers.len() {
            let index = (first + offset) % self.servers.len();
            let server = &self.servers[index];
            let calling = self.call_authenticated(server, path, request);
            let answer = if self.servers.len() > 1 {
                let silent = RpcError::Failed(Failure::Silent);
                timeout(ATTEMPT_TIMEOUT, calling)
                    .await
                    .unwrap_or(Err(silent))
            } else {
                calling.await
            };
            match answer {
                Err(RpcError::Failed(failure)) => {
                    last = RpcError::Failed(failure);
                }
                answer => {
                    *self.current.lock() = index;
                    return answer;
                }
            }
        }
        Err(last)
    }

    /// Calls with the cached token, or authenticates first if there is none or it has expired.
    async fn call_authenticated<Q, A>(
        &self,
        server: &Rpc,
        path: &str,
        request: &Q,
    ) -> Result<A, RpcError>
    where
        Q: prost::Message,
        A: prost::Message + Default,
    {
        let Some(credentials) = &self.credentials else {
            return server.call(path, request, None).await;
        };
        let known = self.token.lock().clone();
        if let Some(token) = known {
            match server.call(path, request, Some(&token)).await {
                Err(RpcError::Status { code, .. }) if code == RpcError::UNAUTHENTICATED => {}
                answer => return answer,
            }
        }
        let (name, password) = credentials.clone();
        let login = AuthenticateRequest { name, password };
        let answer: AuthenticateResponse = server.call(AUTHENTICATE, &login, None).await?;
        let token: Arc<str> = answer.token.into();
        *self.token.lock() = Some(Arc::clone(&token));
        server.call(path, request, Some(&token)).await
    }
}

/// The first key after all that begin with `prefix`; a zero byte stands for the end of all keys.
fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_where_the_prefix_does() {
        assert_eq!(range_end("/skydns/local/"), b"/skydns/local0");
        assert_eq!(range_end(""), [0]);
    }
}
