//! Streams of HTTP/3 with a bound on the bytes that each may receive.
//!
//! h3 buffers a frame until it is complete, whatever its length field says, and gives the client new flow
//! control credit for all that it buffers. So a stream that is longer than any valid request is ended here,
//! beneath h3.

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h3::{
    error::Code,
    quic::{
        BidiStream, Connection, ConnectionErrorIncoming, OpenStreams, RecvStream, SendStream,
        StreamErrorIncoming, StreamId, WriteBuf,
    },
};

use super::STREAM_WINDOW;
use crate::server::{doh, limits::HEADERS};

/// Bytes of a request at most: its head, a message, and the headers of their frames.
const REQUEST: usize = HEADERS as usize + doh::MAX_MESSAGE + 4096;

/// Bytes of a control stream over the life of a connection: no more than a client may send ahead. Settings and
/// the like take some tens.
const CONTROL: usize = STREAM_WINDOW as usize;

/// A connection, or what opens streams on it.
pub(super) struct Bounded<T>(T);

/// A stream in both directions.
pub(super) struct Both<B: Buf> {
    send: h3_quinn::SendStream<B>,
    receive: Receive,
}

/// The receiving half of a stream.
pub(super) struct Receive {
    stream: h3_quinn::RecvStream,
    id: StreamId,
    /// Bytes that may still come.
    left: usize,
    /// Whether a read waits. Then h3-quinn has lent the stream to it, and panics where it is asked for
    /// the stream's number or to end it (hyperium/h3#330 and #351).
    reading: bool,
}

impl Bounded<h3_quinn::Connection> {
    pub(super) fn new(connection: quinn::Connection) -> Self {
        Self(h3_quinn::Connection::new(connection))
    }
}

impl<B: Buf> Connection<B> for Bounded<h3_quinn::Connection> {
    type RecvStream = Receive;
    type OpenStreams = Bounded<h3_quinn::OpenStreams>;

    fn poll_accept_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Receive, ConnectionErrorIncoming>> {
        let accepted = Connection::<B>::poll_accept_recv(&mut self.0, context);
        accepted.map_ok(|stream| Receive::new(stream, CONTROL))
    }

    fn poll_accept_bidi(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Both<B>, ConnectionErrorIncoming>> {
        self.0.poll_accept_bidi(context).map_ok(Both::new)
    }

    fn opener(&self) -> Self::OpenStreams {
        Bounded(Connection::<B>::opener(&self.0))
    }
}

impl<B, T> OpenStreams<B> for Bounded<T>
where
    B: Buf,
    T: OpenStreams<B, SendStream = h3_quinn::SendStream<B>, BidiStream = h3_quinn::BidiStream<B>>,
{
    type BidiStream = Both<B>;
    type SendStream = h3_quinn::SendStream<B>;

    fn poll_open_bidi(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Both<B>, StreamErrorIncoming>> {
        self.0.poll_open_bidi(context).map_ok(Both::new)
    }

    fn poll_open_send(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Self::SendStream, StreamErrorIncoming>> {
        self.0.poll_open_send(context)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.0.close(code, reason);
    }
}

impl<B: Buf> Both<B> {
    fn new(stream: h3_quinn::BidiStream<B>) -> Self {
        let (send, receive) = stream.split();
        Self {
            send,
            receive: Receive::new(receive, REQUEST),
        }
    }
}

impl Receive {
    fn new(stream: h3_quinn::RecvStream, left: usize) -> Self {
        Self {
            id: stream.recv_id(),
            stream,
            left,
            reading: false,
        }
    }
}

impl RecvStream for Receive {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.reading = true;
        let read = ready!(self.stream.poll_data(context));
        self.reading = false;
        if let Ok(Some(octets)) = &read {
            let Some(left) = self.left.checked_sub(octets.len()) else {
                // To h3 it is as if the client had ended it.
                self.stop_sending(Code::H3_EXCESSIVE_LOAD.value());
                return Poll::Ready(Err(StreamErrorIncoming::StreamTerminated {
                    error_code: Code::H3_EXCESSIVE_LOAD.value(),
                }));
            };
            self.left = left;
        }
        Poll::Ready(read)
    }

    fn stop_sending(&mut self, error_code: u64) {
        // While a read waits, the stream is ended when it is dropped.
        if !self.reading {
            self.stream.stop_sending(error_code);
        }
    }

    fn recv_id(&self) -> StreamId {
        self.id
    }
}

impl<B: Buf> RecvStream for Both<B> {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.receive.poll_data(context)
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.receive.stop_sending(error_code);
    }

    fn recv_id(&self) -> StreamId {
        self.receive.recv_id()
    }
}

impl<B: Buf> SendStream<B> for Both<B> {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(context)
    }

    fn send_data<T: Into<WriteBuf<B>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(context)
    }

    fn reset(&mut self, reset_code: u64) {
        self.send.reset(reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}
