//! DNS over QUIC (RFC 9250): a stream for each query, each message preceded by its length (section 4.2).

use std::pin::pin;

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use quinn::{ReadExactError, RecvStream, SendStream, VarInt};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::QuicConnection;
use crate::{
    edns::Options,
    message::has_option,
    server::{
        caller::Caller,
        exchange::{Replies, is_query},
        idle::expired,
    },
    wire::{Header, MAX_MESSAGE},
};

// Error codes of streams and connections (section 4.3).
const NO_ERROR: VarInt = VarInt::from_u32(0);
const INTERNAL_ERROR: VarInt = VarInt::from_u32(1);
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
pub(super) const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(4);
const UNSPECIFIED_ERROR: VarInt = VarInt::from_u32(5);

/// Bytes of a transfer per write; the write timeout applies to each.
const PART: usize = 64 * 1024;

/// A protocol error of the client, which closes the connection (section 4.3.3).
struct Violation;

/// Serves the connection to its end; `stop` ends it gracefully.
pub(super) async fn serve(client: QuicConnection, mut stop: watch::Receiver<bool>) {
    let (connection, settings) = (&client.connection, client.settings);
    let mut deadline = Instant::now() + settings.first_query;
    let mut timer = pin!(sleep_until(deadline));
    let mut stopping = pin!(async { drop(stop.wait_for(|stop| *stop).await) });
    let mut evicted = pin!(client.permits.evicted());
    let mut answering = FuturesUnordered::new();
    // The receiving halves of answered streams: dropped unread, they would send STOP_SENDING, which is a
    // protocol error to the client (section 4.3.3). Their number is bounded by that of open streams.
    let mut ending = FuturesUnordered::new();
    let mut closing = false;
    let code = 'serving: loop {
        if closing && answering.is_empty() {
            break NO_ERROR;
        }
        let due = answering.is_empty().then_some(deadline);
        let expired = expired(timer.as_mut(), settings.idle, || due);
        tokio::select! {
            opened = connection.accept_bi(), if !closing => match opened {
                Ok((send, receive)) => {
                    client.permits.busy();
                    answering.push(answer(&client, send, receive));
                }
                Err(_) => return, // the connection is gone, with its queries
            },
            Some(answered) = answering.next() => {
                deadline = Instant::now() + settings.idle;
                if answering.is_empty() {
                    client.permits.idle();
                }
                match answered {
                    Ok(rest) => ending.push(rest.end()),
                    Err(Violation) => break 'serving PROTOCOL_ERROR,
                }
            }
            Some(ended) = ending.next() => if let Err(Violation) = ended {
                break 'serving PROTOCOL_ERROR;
            },
            () = stopping.as_mut(), if !closing => closing = true,
            () = evicted.as_mut() => break NO_ERROR,
            () = expired => break NO_ERROR,
        }
    };
    if code == PROTOCOL_ERROR {
        count(&client.caller(), "0x2");
    }
    // Before the streams are dropped, so that dropping them sends nothing.
    connection.close(code, b"");
}

/// Answers one query; completes once the client has acknowledged the reply.
async fn answer(
    client: &QuicConnection,
    mut send: SendStream,
    mut receive: RecvStream,
) -> Result<Rest, Violation> {
    let Ok(_token) = client.workers.acquire().await else {
        return Ok(Rest::of_half(receive));
    };
    let read = timeout(client.settings.first_query, read(&mut receive)).await;
    let query = match read {
        Ok(Ok(Some(query))) => query,
        Ok(Err(violation)) => return Err(violation),
        // The query was cancelled, or was incomplete at the timeout.
        Ok(Ok(None)) | Err(_) => {
            let _ = send.reset(INTERNAL_ERROR);
            count(&client.caller(), "0x1");
            return Ok(Rest::of_half(receive));
        }
    };
    let caller = client.caller();
    let (mut framed, mut rest) = match caller.answer(&query).await {
        Replies::None => {
            let _ = send.reset(UNSPECIFIED_ERROR);
            return Ok(Rest { receive, left: 0 });
        }
        Replies::One(reply) => {
            let length =
                u16::try_from(reply.len()).expect("the writer limits replies to 65,535 bytes");
            ([&length.to_be_bytes()[..], &reply].concat(), None)
        }
        Replies::Several(transfer) => transfer.next().await,
    };
    loop {
        for part in framed.chunks(PART) {
            let written = timeout(client.settings.write, send.write_all(part)).await;
            if !matches!(written, Ok(Ok(()))) {
                // A drop would finish the stream as if the reply were complete.
                let _ = send.reset(INTERNAL_ERROR);
                return Ok(Rest { receive, left: 0 });
            }
        }
        let Some(transfer) = rest else { break };
        (framed, rest) = transfer.next().await;
    }
    let _ = send.finish();
    count(&caller, "0x0");
    // Data after the query is a protocol error: each query has a stream of its own (sections 4.2 and
    // 4.3.3).
    if let Some(Ok(Some(_))) = receive.read(&mut [0]).now_or_never() {
        return Err(Violation);
    }
    let _ = timeout(client.settings.write, send.stopped()).await;
    Ok(Rest { receive, left: 0 })
}

/// The receiving half of a stream, and the bytes that may still be received.
struct Rest {
    receive: RecvStream,
    left: usize,
}

impl Rest {
    /// Of an abandoned query: at most the rest of a message may follow.
    fn of_half(receive: RecvStream) -> Self {
        let left = 2 + MAX_MESSAGE;
        Self { receive, left }
    }

    /// Reads and discards the stream to its end.
    async fn end(mut self) -> Result<(), Violation> {
        let mut part = [0; 512];
        while let Ok(Some(length)) = self.receive.read(&mut part).await {
            self.left = self.left.checked_sub(length).ok_or(Violation)?;
        }
        Ok(())
    }
}

/// Reads the query of a stream; `None` if the client reset it or the connection was lost.
async fn read(receive: &mut RecvStream) -> Result<Option<Vec<u8>>, Violation> {
    let mut length = [0; 2];
    if !completed(&receive.read_exact(&mut length).await)? {
        return Ok(None);
    }
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    if !completed(&receive.read_exact(&mut message).await)? {
        return Ok(None);
    }
    if is_allowed(&message) {
        Ok(Some(message))
    } else {
        Err(Violation)
    }
}

/// Whether the read succeeded; a stream that ends within its message is a protocol error (section 4.3.3).
fn completed(read: &Result<(), ReadExactError>) -> Result<bool, Violation> {
    match read {
        Ok(()) => Ok(true),
        Err(ReadExactError::FinishedEarly(_)) => Err(Violation),
        Err(ReadExactError::ReadError(_)) => Ok(false),
    }
}

/// Whether a query is allowed: its ID is 0 (section 4.2.1), and it has no edns-tcp-keepalive option
/// (section 5.5.2).
fn is_allowed(message: &[u8]) -> bool {
    let header = Header::read(message);
    let keeps_alive = |header: &Header| has_option(message, header, Options::KEEPALIVE);
    header.is_some_and(|header| header.id == 0 && !keeps_alive(&header)) && is_query(message)
}

fn count(caller: &Caller, status: &str) {
    let metrics = caller.handler.server().metrics();
    metrics
        .quic_responses_total
        .with_label_values(&[&*caller.label(), status])
        .inc();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_options_of_tcp_are_refused() {
        let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        message.extend(b"\x01a\0\0\x01\0\x01");
        let with_option = |code: u8| {
            let mut message = message.clone();
            message.extend(b"\0\0\x29\x04\xD0\0\0\0\0\0\x04");
            message.extend([0, code, 0, 0]);
            message
        };
        assert!(is_allowed(&with_option(12)));
        assert!(!is_allowed(&with_option(11)));
        let mut other_id = with_option(12);
        other_id[1] = 1;
        assert!(!is_allowed(&other_id));
        assert!(!is_allowed(&message), "its OPT record is missing");
        assert!(!is_allowed(&[]));
    }
}
