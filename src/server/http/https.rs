//! DNS over HTTPS (RFC 8484) on such connections, in HTTP/1.1 and HTTP/2.

use std::{io, pin::Pin, sync::Arc};

use http_body_util::BodyExt;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::HttpService};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;

use super::{Body, Graceful, Guest, HEADERS, NoBody, Respond, drive, serve_second, service};
use crate::server::{caller::Caller, doh, gate::Places, limits::StreamSettings, tcp::Wire};

/// Speaks DNS over HTTPS (RFC 8484) to the connection's end: HTTP/2 where the client said so in the
/// TLS handshake.
pub(in crate::server) async fn serve_https(
    wire: Wire,
    caller: Caller,
    settings: StreamSettings,
    places: Places,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let guest = Guest::new(caller, settings, places);
    let second = match &wire {
        Wire::Encrypted(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        Wire::Bare(_) => false,
    };
    let respond: Respond = |guest, request| Box::pin(answer_https(guest, request));
    if second {
        serve_second(wire, guest, respond, stop).await
    } else {
        serve_first(wire, guest, respond, stop).await
    }
}

async fn serve_first(
    wire: Wire,
    guest: Arc<Guest>,
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
    let service = service(Arc::clone(&guest), respond);
    let connection = builder.serve_connection(TokioIo::new(wire), service);
    drive(connection, &guest, stop).await
}

impl<I, S> Graceful for http1::Connection<I, S>
where
    S: HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

async fn answer_https(guest: Arc<Guest>, request: Request<Incoming>) -> Response<Body> {
    let _busy = guest.begin();
    let (head, body) = request.into_parts();
    let message = match doh::asked(&head) {
        Err(fault) => Err(fault),
        Ok(doh::Asked::Message(message)) => Ok(message.into()),
        Ok(doh::Asked::Body) => match guest.body(body, doh::MAX_MESSAGE).await {
            Ok(message) => Ok(message),
            Err(NoBody::TooLarge) => Err(doh::Fault::TOO_LARGE),
            Err(NoBody::TooSlow) => Err(doh::Fault::TOO_SLOW),
            Err(NoBody::Broken) => Err(doh::Fault::BROKEN),
        },
    };
    let response = doh::respond(&guest.caller, message).await;
    response.map(|octets| http_body_util::Full::new(octets).boxed())
}
