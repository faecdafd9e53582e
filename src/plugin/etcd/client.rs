//! Asking etcd (version 3 of its API, gRPC): ranges of keys, leases, and who we are.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::{runtime::Handle, time::timeout};

use super::Config;
use crate::upstream::{Failure, Rpc, RpcError};

/// How long all of one question may take: less than resolvers wait.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long one of several servers may take.
const EACH: Duration = Duration::from_millis(1500);

const RANGE: &str = "/etcdserverpb.KV/Range";
const TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";
const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";

/// The servers of one etcd.
pub(super) struct Client {
    servers: Vec<Rpc>,
    /// The one that answered last.
    current: Mutex<usize>,
    credentials: Option<(String, String)>,
    token: Mutex<Option<Arc<str>>>,
}

/// A key and what is there.
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

impl Client {
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

    /// What is at `key`, or at all keys that begin with it.
    pub(super) async fn get(&self, key: &str, prefix: bool) -> Result<Vec<KeyValue>, RpcError> {
        let request = RangeRequest {
            key: key.as_bytes().to_vec(),
            range_end: if prefix { behind(key) } else { Vec::new() },
        };
        let answer: RangeResponse = self.call(RANGE, &request).await?;
        Ok(answer.kvs)
    }

    /// How many seconds a lease has left; 0 or less where it has none.
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
        timeout(PATIENCE, calling).await.unwrap_or(Err(silent()))
    }

    /// Calls the server that answered last, and the others where it fails.
    async fn call_any<Q, A>(&self, path: &str, request: &Q) -> Result<A, RpcError>
    where
        Q: prost::Message,
        A: prost::Message + Default,
    {
        let first = *self.current.lock();
        let mut last = RpcError::Failed(Failure::Silent);
        for offset in 0..self.servers.len() {
            let place = (first + offset) % self.servers.len();
            let server = &self.servers[place];
            let calling = self.call_as_known(server, path, request);
            let answer = if self.servers.len() > 1 {
                let silent = RpcError::Failed(Failure::Silent);
                timeout(EACH, calling).await.unwrap_or(Err(silent))
            } else {
                calling.await
            };
            match answer {
                Err(RpcError::Failed(failure)) => {
                    last = RpcError::Failed(failure);
                }
                answer => {
                    *self.current.lock() = place;
                    return answer;
                }
            }
        }
        Err(last)
    }

    /// Calls with the token that we have, or with a new one where there is none or it is over.
    async fn call_as_known<Q, A>(
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
        let who = AuthenticateRequest { name, password };
        let answer: AuthenticateResponse = server.call(AUTHENTICATE, &who, None).await?;
        let token: Arc<str> = answer.token.into();
        *self.token.lock() = Some(Arc::clone(&token));
        server.call(path, request, Some(&token)).await
    }
}

/// The first key behind all that begin with `prefix`; a zero stands for the end of all keys.
fn behind(prefix: &str) -> Vec<u8> {
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
        assert_eq!(behind("/skydns/local/"), b"/skydns/local0");
        assert_eq!(behind(""), [0]);
    }
}
