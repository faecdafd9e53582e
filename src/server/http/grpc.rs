//! CoreDNS's gRPC service `coredns.dns.DnsService`, whose one method `Query` takes a DNS message and
//! returns one.
//!
//! gRPC is HTTP/2 with a frame around each message and the status in the trailers (gRPC over HTTP2,
//! "Requests" and "Responses"). One unary method needs only that.

use std::{io, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use prost::Message;
use tokio::sync::watch;

use super::{Body, BodyError, HttpConnection, Respond, Stream, serve_http2};
use crate::server::{
    caller::Caller,
    connection_limit::ConnectionPermits,
    exchange::{Replies, is_query},
    limits::StreamSettings,
};

const METHOD: &str = "/coredns.dns.DnsService/Query";
const CONTENT: &str = "application/grpc";
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Bytes before each message: a flag for compression, and its length.
const FRAME: usize = 5;

/// Bound on the bytes of a request: frame header, the field's tag and length, and the longest message.
const MAX_REQUEST: usize = FRAME + 4 + crate::wire::MAX_MESSAGE;

/// Request and response.
#[derive(Clone, PartialEq, prost::Message)]
struct DnsPacket {
    /// A message in wire form.
    #[prost(bytes = "bytes", tag = "1")]
    msg: Bytes,
}

/// A gRPC status code and its message.
struct GrpcFailure(u8, &'static str);

impl GrpcFailure {
    const TOO_SLOW: Self = Self(4, "the message came too slowly");
    const NO_QUERY: Self = Self(3, "not a DNS query");
    const TOO_LARGE: Self = Self(8, "a DNS message has at most 65535 bytes");
    const NO_REPLY: Self = Self(10, "the query was dropped");
    const UNKNOWN_METHOD: Self = Self(12, "the one method is coredns.dns.DnsService/Query");
    const COMPRESSED: Self = Self(12, "compressed messages are not supported");
    const BROKEN: Self = Self(13, "the message is incomplete");
}

/// Serves gRPC, which is always HTTP/2, to the connection's end.
pub(in crate::server) async fn serve_grpc(
    stream: impl Stream,
    caller: Caller,
    settings: StreamSettings,
    permits: ConnectionPermits,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let client = HttpConnection::new(caller, settings, permits);
    let respond: Respond = |client, request| Box::pin(answer(client, request));
    serve_http2(stream, client, respond, stop).await
}

async fn answer(client: Arc<HttpConnection>, request: Request<Incoming>) -> Response<Body> {
    let _busy = client.begin();
    let given = request.headers().get(CONTENT_TYPE);
    let is_grpc = given.is_some_and(|given| given.as_bytes().starts_with(CONTENT.as_bytes()));
    if request.method() != Method::POST || !is_grpc {
        // A client that does not speak gRPC cannot read its status.
        let mut response = Response::new(Empty::new().boxed());
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    match reply(&client, request).await {
        Ok(message) => success(&DnsPacket { msg: message }),
        Err(failure) => failed(&failure),
    }
}

async fn reply(client: &HttpConnection, request: Request<Incoming>) -> Result<Bytes, GrpcFailure> {
    if request.uri().path() != METHOD {
        return Err(GrpcFailure::UNKNOWN_METHOD);
    }
    let body = client.body(request.into_body(), MAX_REQUEST).await;
    let body = body.map_err(|why| match why {
        BodyError::TooLarge => GrpcFailure::TOO_LARGE,
        BodyError::TooSlow => GrpcFailure::TOO_SLOW,
        BodyError::Broken => GrpcFailure::BROKEN,
    })?;
    let query = unframed(body)?;
    if !is_query(&query) {
        return Err(GrpcFailure::NO_QUERY);
    }
    match client.caller.answer(&query).await {
        Replies::One(bytes) => Ok(bytes.into()),
        Replies::None | Replies::Several(_) => Err(GrpcFailure::NO_REPLY),
    }
}

/// The message of a request, which must be the only one.
fn unframed(mut body: Bytes) -> Result<Bytes, GrpcFailure> {
    if body.len() < FRAME {
        return Err(GrpcFailure::BROKEN);
    }
    if body.get_u8() != 0 {
        return Err(GrpcFailure::COMPRESSED);
    }
    let length = body.get_u32();
    if usize::try_from(length) != Ok(body.len()) {
        return Err(GrpcFailure::BROKEN);
    }
    let packet = DnsPacket::decode(body);
    packet
        .map(|packet| packet.msg)
        .map_err(|_| GrpcFailure::BROKEN)
}

fn success(packet: &DnsPacket) -> Response<Body> {
    let length = packet.encoded_len();
    let mut framed = BytesMut::with_capacity(FRAME + length);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(length).expect("a DNS message and a few bytes"));
    packet
        .encode(&mut framed)
        .expect("the capacity is the encoded length");
    let mut trailers = HeaderMap::new();
    trailers.insert(STATUS, HeaderValue::from_static("0"));
    let body = Full::new(framed.freeze());
    let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
    with_content(body.boxed())
}

fn failed(GrpcFailure(number, reason): &GrpcFailure) -> Response<Body> {
    let mut response = with_content(Empty::new().boxed());
    let headers = response.headers_mut();
    headers.insert(STATUS, HeaderValue::from(u16::from(*number)));
    headers.insert(MESSAGE, HeaderValue::from_static(reason));
    response
}

fn with_content(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let content = HeaderValue::from_static(CONTENT);
    response.headers_mut().insert(CONTENT_TYPE, content);
    response
}
