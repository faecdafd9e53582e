//! DNS over HTTPS (RFC 8484), in HTTP/1.1 and HTTP/2.

use std::{io, pin::Pin, sync::Arc};

use http_body_util::BodyExt;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::HttpService};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;

use super::{
    Body, BodyError, Graceful, HEADERS, HttpConnection, Respond, drive, serve_http2, service,
};
use crate::server::{
    caller::Caller, connection_limit::ConnectionPermits, doh, limits::StreamSettings,
    tcp::ClientStream,
};

/// Serves DNS over HTTPS to the connection's end: HTTP/2 if it was negotiated in the TLS handshake.
pub(in crate::server) async fn serve_https(
    stream: ClientStream,
    caller: Caller,
    settings: StreamSettings,
    permits: ConnectionPermits,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let client = HttpConnection::new(caller, settings, permits);
    let is_http2 = match &stream {
        ClientStream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        ClientStream::Plain(_) => false,
    };
    let respond: Respond = |client, request| Box::pin(answer_https(client, request));
    if is_http2 {
        serve_http2(stream, client, respond, stop).await
    } else {
        serve_http1(stream, client, respond, stop).await
    }
}

async fn serve_http1(
    stream: ClientStream,
    client: Arc<HttpConnection>,
    respond: Respond,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(HEADERS as usize)
        .max_headers(64)
        .half_close(true);
    let service = service(Arc::clone(&client), respond);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    drive(connection, &client, stop).await
}

impl<I, S> Graceful for http1::Connection<I, S>
where
    S: HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    fn shut_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

async fn answer_https(client: Arc<HttpConnection>, request: Request<Incoming>) -> Response<Body> {
    let _busy = client.begin();
    let (head, body) = request.into_parts();
    let message = match doh::asked(&head) {
        Err(fault) => Err(fault),
        Ok(doh::Asked::Message(message)) => Ok(message.into()),
        Ok(doh::Asked::Body) => match client.body(body, doh::MAX_MESSAGE).await {
            Ok(message) => Ok(message),
            Err(BodyError::TooLarge) => Err(doh::Fault::TOO_LARGE),
            Err(BodyError::TooSlow) => Err(doh::Fault::TOO_SLOW),
            Err(BodyError::Broken) => Err(doh::Fault::BROKEN),
        },
    };
    let response = doh::respond(&client.caller, message).await;
    response.map(|octets| http_body_util::Full::new(octets).boxed())
}
