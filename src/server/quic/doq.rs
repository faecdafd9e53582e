//! DNS over QUIC (RFC 9250): a stream a question, each message behind its length.

use std::pin::pin;

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use quinn::{ReadExactError, RecvStream, SendStream, VarInt};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::Visit;
use crate::{
    server::caller::{Caller, Replies, is_query},
    wire::{Header, Reader, Type},
};

// How a stream or a connection is ended (§4.3).
const NO_ERROR: VarInt = VarInt::from_u32(0);
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
pub(super) const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(4);
const UNSPECIFIED_ERROR: VarInt = VarInt::from_u32(5);

/// The EDNS option that means nothing here and must not be sent (§5.5.2).
const TCP_KEEPALIVE: u16 = 11;

/// Octets of a transfer that are written at once: each part may take the time for one.
const PART: usize = 64 * 1024;

/// The client does not keep to the protocol: the connection is closed (§4.3.3).
struct Violation;

/// Serves the connection to its end, which comes soon once `stop` says so.
pub(super) async fn serve(visit: Visit, mut stop: watch::Receiver<bool>) {
    let (connection, settings) = (&visit.connection, visit.settings);
    let mut deadline = Instant::now() + settings.first_query;
    let mut timer = pin!(sleep_until(deadline));
    let mut stopping = pin!(async { drop(stop.wait_for(|stop| *stop).await) });
    let mut evicted = pin!(visit.places.evicted());
    let mut answering = FuturesUnordered::new();
    let mut closing = false;
    while !(closing && answering.is_empty()) {
        tokio::select! {
            opened = connection.accept_bi(), if !closing => match opened {
                Ok((send, receive)) => {
                    visit.places.busy();
                    answering.push(answer(&visit, send, receive));
                }
                Err(_) => return, // it is gone, with everything that was asked
            },
            Some(answered) = answering.next() => {
                deadline = Instant::now() + settings.idle;
                if answering.is_empty() {
                    visit.places.idle();
                }
                if let Err(Violation) = answered {
                    count(&visit.caller(), "0x2");
                    connection.close(PROTOCOL_ERROR, b"");
                    return;
                }
            }
            () = stopping.as_mut(), if !closing => closing = true,
            () = evicted.as_mut(), if answering.is_empty() => break,
            () = timer.as_mut() => {
                let now = Instant::now();
                if answering.is_empty() && now >= deadline {
                    break;
                }
                let busy = now + settings.idle;
                timer.as_mut().reset(if answering.is_empty() { deadline } else { busy });
            }
        }
        if deadline < timer.deadline() {
            timer.as_mut().reset(deadline);
        }
    }
    connection.close(NO_ERROR, b"");
}

/// One question and its reply; done once the client has the reply.
async fn answer(
    visit: &Visit,
    mut send: SendStream,
    mut receive: RecvStream,
) -> Result<(), Violation> {
    let Ok(_working) = visit.workers.acquire().await else {
        return Ok(());
    };
    let asked = match timeout(visit.settings.first_query, read(&mut receive)).await {
        Ok(Ok(Some(asked))) => asked,
        Ok(Ok(None)) => return Ok(()), // it was withdrawn
        Ok(Err(violation)) => return Err(violation),
        Err(_) => {
            let _ = receive.stop(UNSPECIFIED_ERROR);
            let _ = send.reset(UNSPECIFIED_ERROR);
            return Ok(());
        }
    };
    let caller = visit.caller();
    let framed = match caller.ask(&asked).await {
        Replies::None => {
            let _ = send.reset(UNSPECIFIED_ERROR);
            return Ok(());
        }
        Replies::One(reply) => {
            let length = u16::try_from(reply.len()).expect("the writer keeps to 65,535 octets");
            [&length.to_be_bytes()[..], &reply].concat()
        }
        Replies::Several(framed) => framed,
    };
    for part in framed.chunks(PART) {
        let written = timeout(visit.settings.write, send.write_all(part)).await;
        if !matches!(written, Ok(Ok(()))) {
            return Ok(());
        }
    }
    let _ = send.finish();
    count(&caller, "0x0");
    // What is behind the question is no question of its own: each has its stream (§4.2).
    if let Some(Ok(Some(_))) = receive.read(&mut [0]).now_or_never() {
        return Err(Violation);
    }
    let _ = timeout(visit.settings.write, send.stopped()).await;
    Ok(())
}

/// The question of a stream; nothing where the client or the connection has gone away meanwhile.
async fn read(receive: &mut RecvStream) -> Result<Option<Vec<u8>>, Violation> {
    let mut length = [0; 2];
    if !whole(&receive.read_exact(&mut length).await)? {
        return Ok(None);
    }
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    if !whole(&receive.read_exact(&mut message).await)? {
        return Ok(None);
    }
    if is_allowed(&message) {
        Ok(Some(message))
    } else {
        Err(Violation)
    }
}

/// Whether it was read; a stream that ends within its message is an error (§4.3.3).
fn whole(read: &Result<(), ReadExactError>) -> Result<bool, Violation> {
    match read {
        Ok(()) => Ok(true),
        Err(ReadExactError::FinishedEarly(_)) => Err(Violation),
        Err(ReadExactError::ReadError(_)) => Ok(false),
    }
}

/// Whether a message may be asked: its id is 0 (§4.2.1), and it has no option that belongs to TCP.
fn is_allowed(message: &[u8]) -> bool {
    let header = Header::read(message);
    header.is_some_and(|header| header.id == 0 && !keeps_alive(message, &header))
        && is_query(message)
}

fn keeps_alive(message: &[u8], header: &Header) -> bool {
    let mut reader = Reader::new(message);
    let records = header.counts[1..].iter().map(|count| u32::from(*count));
    if (0..header.counts[0]).any(|_| reader.question().is_err()) {
        return false;
    }
    for _ in 0..records.sum() {
        let Ok(record) = reader.record() else {
            return false;
        };
        let mut options = record.data(message);
        while record.rtype == Type::OPT
            && let Some((head, rest)) = options.split_at_checked(4)
        {
            if u16::from_be_bytes([head[0], head[1]]) == TCP_KEEPALIVE {
                return true;
            }
            let length = u16::from_be_bytes([head[2], head[3]]);
            options = rest.get(usize::from(length)..).unwrap_or_default();
        }
    }
    false
}

fn count(caller: &Caller, status: &str) {
    let metrics = caller.entrance.server().metrics();
    metrics
        .quic_responses_total
        .with_label_values(&[caller.label(), status])
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
