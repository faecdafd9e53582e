//! HTTP/2 towards a server: dialling, and one request with one bounded answer.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    failure::Failure,
    line::{Dialled, Driver},
    stream::dial,
    tls::Tls,
};

/// The end of a connection to send requests on.
pub(super) type Sender = SendRequest<Full<Bytes>>;

/// What came: the status, the head's fields, the body and the fields behind it.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: HeaderMap,
}

/// Connects; `seen` hears of our address.
pub(super) async fn connect(
    server: SocketAddr,
    source: Option<IpAddr>,
    tls: Option<Tls>,
    seen: impl FnOnce(Option<SocketAddr>) + Send,
) -> Dialled<Sender> {
    let stream = dial(server, source)
        .await
        .map_err(|error| Failure::from(&error))?;
    seen(stream.local_addr().ok());
    match tls {
        None => shake(stream).await,
        Some(tls) => {
            let stream = tls.connect(stream).await?;
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                return Err(Failure::Tls("the server does not speak HTTP/2".into()));
            }
            shake(stream).await
        }
    }
}

async fn shake<S>(stream: S) -> Dialled<Sender>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(|error| explain(&error))?;
    let driver: Driver = Box::pin(async move {
        // Whoever asks on it hears of its end.
        let _ = connection.await;
    });
    Ok((sender, driver))
}

/// Sends a request and takes the whole answer, whose body has at most `limit` octets.
pub(super) async fn send(
    mut sender: Sender,
    request: Request<Full<Bytes>>,
    limit: usize,
) -> Result<Answer, Failure> {
    sender.ready().await.map_err(|error| explain(&error))?;
    let sent = sender.send_request(request).await;
    let response = sent.map_err(|error| explain(&error))?;
    let status = response.status().as_u16();
    let head = response.headers().clone();
    let body = Limited::new(response.into_body(), limit).collect().await;
    let body = body.map_err(|error| match error.downcast_ref::<hyper::Error>() {
        Some(error) => explain(error),
        None => Failure::Malformed,
    })?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    Ok(Answer {
        status,
        head,
        body: body.to_bytes(),
        trailers,
    })
}

fn explain(error: &hyper::Error) -> Failure {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(one) = cause {
        if let Some(error) = one.downcast_ref::<io::Error>() {
            return match Failure::from(error) {
                Failure::Unreachable(io::ErrorKind::Other) => Failure::Closed,
                failure => failure,
            };
        }
        cause = one.source();
    }
    Failure::Closed
}
