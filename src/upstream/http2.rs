//! HTTP/2 client: connecting, and one request with one response of bounded size.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Limited};
use hyper::{
    body::{Body, Frame, SizeHint},
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{
    failure::Failure,
    pooled_connection::{self, Dialled, Driver, ExchangeError},
    stream::dial,
    tls::Tls,
};

/// The sending half of a connection.
#[derive(Clone)]
pub(super) struct RequestSender {
    requests: SendRequest<OneFrame>,
    /// A permit held while a request body is being sent. Given several requests at once, h2 sends the
    /// HEADERS frames of all before the first DATA frame, which BIND 9.18 and Knot Resolver 5.6 answer late
    /// or not at all. So the next HEADERS frame is queued only after the previous body was written.
    permit: Arc<Semaphore>,
}

impl pooled_connection::Sender for RequestSender {
    fn received(&self) -> Option<u64> {
        None
    }
}

/// A body that is sent as one DATA frame.
struct OneFrame(Option<Payload>);

/// Bytes to be sent, and the permit, which is released when they are written or dropped.
struct Payload {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl Body for OneFrame {
    type Data = Payload;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Payload>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|payload| Ok(Frame::data(payload))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.0.as_ref().map_or(0, |payload| payload.bytes.len());
        SizeHint::with_exact(length as u64)
    }
}

impl Buf for Payload {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

/// A response: status, headers, body and trailers.
pub(super) struct HttpResponse {
    pub(super) status: u16,
    pub(super) head: HeaderMap,
    pub(super) body: Bytes,
    #[cfg(any(feature = "grpc", feature = "etcd"))]
    pub(super) trailers: HeaderMap,
}

/// Connects; calls `seen` with the local address.
pub(super) async fn connect(
    server: SocketAddr,
    source: Option<IpAddr>,
    tls: Option<Tls>,
    seen: impl FnOnce(Option<SocketAddr>) + Send,
) -> Dialled<RequestSender> {
    let stream = dial(server, source)
        .await
        .map_err(|error| Failure::from(&error))?;
    seen(stream.local_addr().ok());
    match tls {
        None => handshake(stream).await,
        Some(tls) => {
            let stream = tls.connect(stream).await?;
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                return Err(Failure::Tls("the server does not speak HTTP/2".into()));
            }
            handshake(stream).await
        }
    }
}

async fn handshake<S>(stream: S) -> Dialled<RequestSender>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connected = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (requests, connection) = connected.map_err(|error| explain(&error))?;
    let sender = RequestSender {
        requests,
        permit: Arc::new(Semaphore::new(1)),
    };
    let driver: Driver = Box::pin(async move {
        // Errors are reported to the requests in flight.
        let _ = connection.await;
    });
    Ok((sender, driver))
}

/// Sends a request and reads the complete response, whose body has at most `limit` bytes.
pub(super) async fn send(
    mut sender: RequestSender,
    request: Request<Bytes>,
    limit: usize,
) -> Result<HttpResponse, ExchangeError> {
    let (head, bytes) = request.into_parts();
    let body = if bytes.is_empty() {
        OneFrame(None)
    } else {
        let permit = Arc::clone(&sender.permit).acquire_owned().await;
        OneFrame(Some(Payload {
            bytes,
            _permit: permit.map_err(|_| Failure::Closed)?,
        }))
    };
    sender
        .requests
        .ready()
        .await
        .map_err(|error| classify(&error))?;
    let sent = sender
        .requests
        .send_request(Request::from_parts(head, body));
    let response = sent.await.map_err(|error| classify(&error))?;
    let status = response.status().as_u16();
    let head = response.headers().clone();
    let body = Limited::new(response.into_body(), limit).collect().await;
    let body = body.map_err(|error| match error.downcast_ref::<hyper::Error>() {
        Some(error) => classify(error),
        None => Failure::Malformed.into(),
    })?;
    #[cfg(any(feature = "grpc", feature = "etcd"))]
    let trailers = body.trailers().cloned().unwrap_or_default();
    Ok(HttpResponse {
        status,
        head,
        body: body.to_bytes(),
        #[cfg(any(feature = "grpc", feature = "etcd"))]
        trailers,
    })
}

/// RST_STREAM ends only its stream (RFC 9113 section 5.4.2); other errors end the connection.
fn classify(error: &hyper::Error) -> ExchangeError {
    let mut cause = std::error::Error::source(error);
    while let Some(one) = cause {
        if one
            .downcast_ref::<h2::Error>()
            .is_some_and(h2::Error::is_reset)
        {
            return ExchangeError::Stream(Failure::Closed);
        }
        cause = one.source();
    }
    explain(error).into()
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

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt, task::JoinSet};

    use super::*;

    /// The kinds of frames (RFC 9113 section 6).
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;

    #[tokio::test]
    async fn headers_and_body_of_a_request_are_sent_without_interleaving() {
        const REQUESTS: usize = 50;
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let (sender, driver) = handshake(ours).await.unwrap();
        tokio::spawn(driver);
        let mut requests = JoinSet::new();
        for _ in 0..REQUESTS {
            let request = Request::post("https://dns.test/dns-query");
            let request = request.body(Bytes::from_static(&[7; 40])).unwrap();
            requests.spawn(send(sender.clone(), request, 100));
        }
        let mut preface = [0; 24];
        theirs.read_exact(&mut preface).await.unwrap();
        let mut sent = Vec::new();
        while sent.len() < 2 * REQUESTS {
            let mut head = [0; 9];
            theirs.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            theirs.read_exact(&mut vec![0; length]).await.unwrap();
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            if [DATA, HEADERS].contains(&head[3]) {
                sent.push((stream, head[3], head[4] & 1));
            }
        }
        for pair in sent.chunks(2) {
            let (stream, ..) = pair[0];
            assert_eq!(pair, [(stream, HEADERS, 0), (stream, DATA, 1)], "{sent:?}");
        }
    }
}
