//! DNS over HTTPS with HTTP/3 (RFC 8484, RFC 9114), by h3.

use std::{pin::pin, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{StreamExt, stream::FuturesUnordered};
use h3::{
    error::StreamError,
    server::{RequestResolver, RequestStream, builder},
};
use hyper::{Response, header::CONTENT_LENGTH};
use quinn::VarInt;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{
    LINGER, QuicConnection,
    bounded::{Both, Bounded},
};
use crate::server::{doh, limits::HEADERS};

/// The error code of a refused connection (RFC 9114 section 8.1).
pub(super) const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(0x107);

type Connection = Bounded<h3_quinn::Connection>;
type Stream = RequestStream<Both<Bytes>, Bytes>;

/// Serves the connection to its end; `stop` ends it gracefully.
pub(super) async fn serve(client: QuicConnection, mut stop: watch::Receiver<bool>) {
    let settings = client.settings;
    let mut deadline = Instant::now() + settings.first_query;
    let building = async {
        builder()
            .max_field_section_size(HEADERS.into())
            .build::<_, Bytes>(Bounded::new(client.connection.clone()))
            .await
    };
    let Ok(Ok(mut connection)) = timeout(settings.first_query, building).await else {
        return;
    };
    let mut timer = pin!(sleep_until(deadline));
    let mut stopping = pin!(async { drop(stop.wait_for(|stop| *stop).await) });
    let mut evicted = pin!(client.permits.evicted());
    let mut answering = FuturesUnordered::new();
    let mut leaving = false;
    loop {
        tokio::select! {
            // This also handles everything else on the connection.
            accepted = connection.accept() => match accepted {
                Ok(Some(resolver)) => {
                    client.permits.busy();
                    answering.push(answer(&client, resolver));
                }
                Ok(None) | Err(_) => return,
            },
            Some(()) = answering.next() => {
                if answering.is_empty() {
                    client.permits.idle();
                }
                let now = Instant::now();
                deadline = now + if leaving { LINGER } else { settings.idle };
            }
            () = stopping.as_mut(), if !leaving => {
                leaving = true;
                // GOAWAY: the client closes once it has its responses.
                if connection.shutdown(0).await.is_err() {
                    return;
                }
                deadline = Instant::now() + LINGER;
            }
            () = evicted.as_mut() => return,
            () = timer.as_mut() => {
                let now = Instant::now();
                if answering.is_empty() && now >= deadline {
                    return;
                }
                let busy = now + if leaving { LINGER } else { settings.idle };
                timer.as_mut().reset(if answering.is_empty() { deadline } else { busy });
            }
        }
        if deadline < timer.deadline() {
            timer.as_mut().reset(deadline);
        }
    }
}

/// One request and its response.
async fn answer(client: &QuicConnection, resolver: RequestResolver<Connection, Bytes>) {
    let patience = client.settings.first_query;
    let Ok(Ok((request, mut stream))) = timeout(patience, resolver.resolve_request()).await else {
        return;
    };
    let (head, ()) = request.into_parts();
    let message = match doh::asked(&head) {
        Err(fault) => Err(fault),
        Ok(doh::Asked::Message(message)) => Ok(message.into()),
        Ok(doh::Asked::Body) => body(&mut stream, patience).await,
    };
    // What is left of a body is refused when the stream is dropped, behind the response.
    let response = doh::respond(&client.caller(), message).await;
    let sent = timeout(client.settings.write, send(&mut stream, response)).await;
    if let Ok(Err(error)) = sent {
        tracing::debug!(%error, "a response could not be sent");
    }
}

async fn body(stream: &mut Stream, patience: Duration) -> Result<Bytes, doh::Fault> {
    let read = async {
        let mut body = BytesMut::new();
        while let Some(part) = stream.recv_data().await.map_err(|_| doh::Fault::BROKEN)? {
            if body.len() + part.remaining() > doh::MAX_MESSAGE {
                return Err(doh::Fault::TOO_LARGE);
            }
            bytes::BufMut::put(&mut body, part);
        }
        Ok(body.freeze())
    };
    let read = timeout(patience, read).await;
    read.unwrap_or(Err(doh::Fault::TOO_SLOW))
}

async fn send(stream: &mut Stream, response: Response<Bytes>) -> Result<(), StreamError> {
    let (mut head, body) = response.into_parts();
    head.headers.insert(CONTENT_LENGTH, body.len().into());
    stream.send_response(Response::from_parts(head, ())).await?;
    stream.send_data(body).await?;
    stream.finish().await
}
