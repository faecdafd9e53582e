//! HTTP/2 towards a server: dialling, and one request with one bounded answer.

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
    line::{self, Dialled, Driver, Lost},
    stream::dial,
    tls::Tls,
};

/// The end of a connection to send requests on.
#[derive(Clone)]
pub(super) struct Sender {
    requests: SendRequest<Whole>,
    /// Held by the body that is being sent. Given several requests at once, h2 sends the heads of all
    /// before the first body, which BIND 9.18 and Knot Resolver 5.6 do not cope with: they answer late
    /// or not at all. So the next head goes to h2 when the body before it is written.
    turn: Arc<Semaphore>,
}

impl line::Sender for Sender {
    fn received(&self) -> Option<u64> {
        None
    }
}

/// A body that is sent in one piece.
struct Whole(Option<Piece>);

/// Octets to be sent, and the turn, which ends when they are written or no longer wanted.
struct Piece {
    octets: Bytes,
    _turn: OwnedSemaphorePermit,
}

impl Body for Whole {
    type Data = Piece;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.0.as_ref().map_or(0, |piece| piece.octets.len());
        SizeHint::with_exact(length as u64)
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.octets.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.octets.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.octets.advance(count);
    }
}

/// What came: the status, the head's fields, the body and the fields behind it.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: HeaderMap,
    pub(super) body: Bytes,
    #[cfg(any(feature = "grpc", feature = "etcd"))]
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
    let (requests, connection) = shaken.map_err(|error| explain(&error))?;
    let sender = Sender {
        requests,
        turn: Arc::new(Semaphore::new(1)),
    };
    let driver: Driver = Box::pin(async move {
        // Whoever asks on it hears of its end.
        let _ = connection.await;
    });
    Ok((sender, driver))
}

/// Sends a request and takes the whole answer, whose body has at most `limit` octets.
pub(super) async fn send(
    mut sender: Sender,
    request: Request<Bytes>,
    limit: usize,
) -> Result<Answer, Lost> {
    let (head, octets) = request.into_parts();
    let body = if octets.is_empty() {
        Whole(None)
    } else {
        let turn = Arc::clone(&sender.turn).acquire_owned().await;
        Whole(Some(Piece {
            octets,
            _turn: turn.map_err(|_| Failure::Closed)?,
        }))
    };
    sender
        .requests
        .ready()
        .await
        .map_err(|error| lost(&error))?;
    let sent = sender
        .requests
        .send_request(Request::from_parts(head, body));
    let response = sent.await.map_err(|error| lost(&error))?;
    let status = response.status().as_u16();
    let head = response.headers().clone();
    let body = Limited::new(response.into_body(), limit).collect().await;
    let body = body.map_err(|error| match error.downcast_ref::<hyper::Error>() {
        Some(error) => lost(error),
        None => Failure::Malformed.into(),
    })?;
    #[cfg(any(feature = "grpc", feature = "etcd"))]
    let trailers = body.trailers().cloned().unwrap_or_default();
    Ok(Answer {
        status,
        head,
        body: body.to_bytes(),
        #[cfg(any(feature = "grpc", feature = "etcd"))]
        trailers,
    })
}

/// A stream that the server resets costs nothing but itself.
fn lost(error: &hyper::Error) -> Lost {
    let mut cause = std::error::Error::source(error);
    while let Some(one) = cause {
        if one
            .downcast_ref::<h2::Error>()
            .is_some_and(h2::Error::is_reset)
        {
            return Lost::Stream(Failure::Closed);
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
    async fn each_request_goes_out_whole() {
        const REQUESTS: usize = 50;
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let (sender, driver) = shake(ours).await.unwrap();
        tokio::spawn(driver);
        let mut asking = JoinSet::new();
        for _ in 0..REQUESTS {
            let request = Request::post("https://dns.test/dns-query");
            let request = request.body(Bytes::from_static(&[7; 40])).unwrap();
            asking.spawn(send(sender.clone(), request, 100));
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
