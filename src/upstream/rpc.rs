//! A gRPC client for unary calls over HTTP/2.
//!
//! A message is one frame: a compression flag, always 0 here, the length and the bytes. The status of a
//! call is `grpc-status` in the trailers or, without a response body, in the headers.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, header};
use prost::Message;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::runtime::Handle;

use super::{
    failure::Failure,
    http2::{self, HttpResponse, RequestSender},
    pooled_connection::{Dialled, PooledConnection},
    stream::PoolSettings,
    tls::Tls,
};

/// Bound on a response's bytes: the default of gRPC's own clients.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Idle timeout of a connection.
const EXPIRE: Duration = Duration::from_mins(1);

/// A gRPC server, with its pooled connection.
#[derive(Debug)]
pub struct Rpc {
    host: Arc<str>,
    port: u16,
    authority: String,
    tls: Option<Tls>,
    connection: Arc<PooledConnection<RequestSender>>,
}

/// Why a call returned no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// The server was not reached, or did not respond.
    #[error("{0}")]
    Failed(Failure),
    /// The server returned a status other than OK.
    #[error("status {code}: {message}")]
    Status {
        /// The gRPC status code: 5 is `NOT_FOUND`, 16 `UNAUTHENTICATED`.
        code: u32,
        /// The server's message.
        message: String,
    },
}

impl RpcError {
    /// The requested entity does not exist.
    pub const NOT_FOUND: u32 = 5;
    /// The credentials are missing, invalid or expired.
    pub const UNAUTHENTICATED: u32 = 16;
}

impl Rpc {
    /// A server at a name or an address, without TLS or with it; its certificate must be for `name`,
    /// otherwise for `host`. Nothing is opened yet.
    pub fn new(
        host: &str,
        port: u16,
        tls: Option<&Arc<ClientConfig>>,
        name: Option<&ServerName<'static>>,
        runtime: Handle,
    ) -> Self {
        // The zone of a link-local address (`%eth0`) is local to this machine and not sent.
        let bare = host.split('%').next().unwrap_or_default();
        let own = ServerName::try_from(bare.to_owned()).ok();
        let name = name.or(own.as_ref());
        let nowhere = Ipv4Addr::UNSPECIFIED.into();
        let tls = tls.map(|config| Tls::speaking(config, name, nowhere, b"h2"));
        let pool = PoolSettings {
            expire: EXPIRE,
            max_age: Duration::ZERO,
            max_idle: 0,
        };
        let authority = if bare.contains(':') {
            format!("[{bare}]:{port}")
        } else {
            format!("{bare}:{port}")
        };
        Self {
            host: host.into(),
            port,
            authority,
            tls,
            connection: PooledConnection::new(pool, runtime, None),
        }
    }

    /// Host and port.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Calls `path`, such as `/package.Service/Method`, and waits for the response; the caller applies the
    /// timeout. `token` is sent as a header, if there is one.
    pub async fn call<Q, A>(
        &self,
        path: &str,
        question: &Q,
        token: Option<&str>,
    ) -> Result<A, RpcError>
    where
        Q: Message,
        A: Message + Default,
    {
        let dial = || connect(Arc::clone(&self.host), self.port, self.tls.clone());
        let exchange = |sender| async move {
            let request = self.request(path, question, token)?;
            http2::send(sender, request, MAX_ANSWER).await
        };
        let exchange = self.connection.exchange(dial, exchange);
        let response = Box::pin(exchange).await.map_err(RpcError::Failed)?;
        read(&response)
    }

    fn request(
        &self,
        path: &str,
        question: &impl Message,
        token: Option<&str>,
    ) -> Result<Request<Bytes>, Failure> {
        let length = question.encoded_len();
        let mut body = BytesMut::with_capacity(5 + length);
        body.put_u8(0);
        body.put_u32(u32::try_from(length).map_err(|_| Failure::Malformed)?);
        question.encode(&mut body).map_err(|_| Failure::Malformed)?;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut request = Request::post(format!("{scheme}://{}{path}", self.authority))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers");
        if let Some(token) = token {
            request = request.header("token", token);
        }
        let request = request.body(body.freeze());
        request.map_err(|_| Failure::Unreachable(io::ErrorKind::InvalidInput))
    }
}

/// Connects to the first of the host's addresses that accepts the connection.
async fn connect(host: Arc<str>, port: u16, tls: Option<Tls>) -> Dialled<RequestSender> {
    let found = tokio::net::lookup_host((&*host, port)).await;
    let found = found.map_err(|error| match Failure::from(&error) {
        // getaddrinfo's errors have no `ErrorKind` of their own.
        Failure::Unreachable(_) => Failure::Unreachable(io::ErrorKind::NotFound),
        failure => failure,
    })?;
    let addresses: Vec<SocketAddr> = found.collect();
    let mut last = Failure::Unreachable(io::ErrorKind::NotFound);
    for address in addresses {
        match http2::connect(address, None, tls.clone(), |_| ()).await {
            Ok(connected) => return Ok(connected),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

fn read<A: Message + Default>(response: &HttpResponse) -> Result<A, RpcError> {
    if response.status != 200 {
        return Err(RpcError::Failed(Failure::Http(response.status)));
    }
    let malformed = || RpcError::Failed(Failure::Malformed);
    let status = status(&response.trailers).or_else(|| status(&response.head));
    let (code, message) = status.ok_or_else(malformed)?;
    if code != 0 {
        return Err(RpcError::Status { code, message });
    }
    let (head, body) = response
        .body
        .split_first_chunk::<5>()
        .ok_or_else(malformed)?;
    let [compressed, length @ ..] = *head;
    if compressed != 0 || u32::from_be_bytes(length) as usize != body.len() {
        return Err(malformed());
    }
    A::decode(body).map_err(|_| malformed())
}

fn status(fields: &HeaderMap) -> Option<(u32, String)> {
    let code = fields.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let message = fields.get("grpc-message");
    let message = message.map_or(Ok(""), |message| message.to_str());
    Some((code, message.unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, prost::Message)]
    struct Text {
        #[prost(string, tag = "1")]
        text: String,
    }

    fn response(body: &[u8], status: &str, in_head: bool) -> HttpResponse {
        let mut fields = HeaderMap::new();
        fields.insert("grpc-status", status.parse().unwrap());
        fields.insert("grpc-message", "why".parse().unwrap());
        let (head, trailers) = if in_head {
            (fields, HeaderMap::new())
        } else {
            (HeaderMap::new(), fields)
        };
        HttpResponse {
            status: 200,
            head,
            body: Bytes::copy_from_slice(body),
            trailers,
        }
    }

    #[test]
    fn a_response_is_exactly_one_frame() {
        let good = b"\0\0\0\0\x04\x0a\x02hi";
        assert_eq!(
            read::<Text>(&response(good, "0", false)).unwrap().text,
            "hi"
        );
        let malformed = Err(RpcError::Failed(Failure::Malformed));
        for end in 0..good.len() {
            assert_eq!(read::<Text>(&response(&good[..end], "0", false)), malformed);
        }
        for bad in [&b"\x01\0\0\0\x04\x0a\x02hi"[..], b"\0\0\0\0\x02\x0a\x02"] {
            assert_eq!(read::<Text>(&response(bad, "0", false)), malformed);
        }
        assert_eq!(read::<Text>(&response(good, "x", false)), malformed);
    }

    #[test]
    fn an_error_status_may_be_in_the_headers() {
        for in_head in [true, false] {
            let error = read::<Text>(&response(b"", "16", in_head)).unwrap_err();
            let (code, message) = (RpcError::UNAUTHENTICATED, "why".to_owned());
            assert_eq!(error, RpcError::Status { code, message });
        }
    }
}
