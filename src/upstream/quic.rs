//! Queries over QUIC (RFC 9250): each on a stream of its own, on one pooled connection.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, ReadError, ReadToEndError, RecvStream,
    SendStream, TransportConfig, VarInt, WriteError, crypto::rustls::QuicClientConfig,
};

use super::{
    failure::Failure,
    handshake,
    meter::ConnectionMetrics,
    packet::{MAX_QUERY, Packet},
    pooled_connection::{Dialled, Driver, ExchangeError, PooledConnection, Sender},
    tls::Tls,
};
use crate::{
    edns::Options,
    interfaces::local_end,
    message::has_option,
    reply::Reply,
    tls::TlsError,
    wire::{Header, MAX_MESSAGE},
};

// Error codes of streams and connections (RFC 9250 section 4.3).
const NO_ERROR: VarInt = VarInt::from_u32(0);
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
const REQUEST_CANCELLED: VarInt = VarInt::from_u32(3);

impl Sender for Connection {
    fn received(&self) -> Option<u64> {
        Some(self.stats().udp_rx.datagrams)
    }
}

/// An upstream over QUIC.
#[derive(Debug)]
pub(super) struct Quic {
    server: SocketAddr,
    source: Option<IpAddr>,
    name: String,
    config: ClientConfig,
    connection: Arc<PooledConnection<Connection>>,
    metrics: Arc<ConnectionMetrics>,
}

impl Quic {
    pub(super) fn new(
        server: SocketAddr,
        source: Option<IpAddr>,
        tls: &Tls,
        connection: Arc<PooledConnection<Connection>>,
        metrics: Arc<ConnectionMetrics>,
    ) -> Result<Self, TlsError> {
        let config =
            QuicClientConfig::try_from(Arc::clone(tls.config())).map_err(|_| TlsError::Quic)?;
        // A server opens no streams (RFC 9250 section 4.3.3); one that tries breaks QUIC itself.
        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(0));
        let mut config = ClientConfig::new(Arc::new(config));
        config.transport_config(Arc::new(transport));
        Ok(Self {
            server,
            source,
            name: tls.name().to_str().into_owned(),
            config,
            connection,
            metrics,
        })
    }

    /// Sends the query and waits for its reply; the caller applies the timeout.
    pub(super) async fn exchange(&self, packet: &Packet) -> Result<Reply, Failure> {
        let dial = || {
            let (name, config) = (self.name.clone(), self.config.clone());
            let metrics = Arc::clone(&self.metrics);
            connect(self.server, self.source, name, config, move |local| {
                metrics.connected(local);
            })
        };
        let exchange = |connection: Connection| async move {
            match exchange_on_stream(&connection, packet).await? {
                Answer::Message(message) => Ok(self.metrics.read(packet, &message)?),
                Answer::Violation => {
                    connection.close(PROTOCOL_ERROR, b"");
                    // Not retried: the server would violate the protocol again.
                    Err(ExchangeError::Connection(self.metrics.wrong()))
                }
            }
        };
        self.connection.exchange(dial, exchange).await
    }
}

async fn connect(
    server: SocketAddr,
    source: Option<IpAddr>,
    name: String,
    config: ClientConfig,
    seen: impl FnOnce(Option<SocketAddr>),
) -> Dialled<Connection> {
    let bound = Endpoint::client(local_end(source, server));
    let endpoint = bound.map_err(|error| Failure::from(&error))?;
    let connecting = endpoint
        .connect_with(config, server, &name)
        .map_err(|_| Failure::Unreachable(io::ErrorKind::InvalidInput))?;
    let connection = connecting.await.map_err(|error| explain(&error, &name))?;
    let port = endpoint.local_addr().map_or(0, |local| local.port());
    seen(connection.local_ip().map(|ip| (ip, port).into()));
    let end = connection.clone();
    let driver: Driver = Box::pin(async move {
        let closing = Closing(endpoint);
        end.closed().await;
        drop(closing);
    });
    Ok((connection, driver))
}

/// Closes the endpoint when its driver is dropped.
struct Closing(Endpoint);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close(NO_ERROR, b"");
    }
}

/// What was received on a stream.
enum Answer {
    Message(Vec<u8>),
    /// A protocol violation (RFC 9250 section 4.3.3).
    Violation,
}

/// A stream, cancelled with DOQ_REQUEST_CANCELLED if dropped before its reply (RFC 9250 section 4.3.1);
/// quinn alone would use code 0, which is DOQ_NO_ERROR.
struct Stream {
    sending: SendStream,
    receiving: RecvStream,
    answered: bool,
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.answered {
            // An error means that there is nothing left to cancel.
            let _ = self.receiving.stop(REQUEST_CANCELLED);
            let _ = self.sending.reset(REQUEST_CANCELLED);
        }
    }
}

/// One query and its reply, each preceded by its length (RFC 9250 section 4.2); the id is 0 (section
/// 4.2.1).
async fn exchange_on_stream(
    connection: &Connection,
    packet: &Packet,
) -> Result<Answer, ExchangeError> {
    let opened = connection.open_bi().await;
    let (sending, receiving) = opened.map_err(|error| explain(&error, ""))?;
    let mut stream = Stream {
        sending,
        receiving,
        answered: false,
    };
    let mut framed = Vec::with_capacity(2 + MAX_QUERY);
    let mut buffer = [0; MAX_QUERY];
    let bytes = packet.under(0, &mut buffer);
    let length = u16::try_from(bytes.len()).expect("a query has some hundred bytes");
    framed.extend(length.to_be_bytes());
    framed.extend(bytes);
    // A server that sent STOP_SENDING (`Stopped`) may still reply.
    if let Err(WriteError::ConnectionLost(error)) = stream.sending.write_all(&framed).await {
        return Err(explain(&error, "").into());
    }
    let _ = stream.sending.finish();
    let read = stream.receiving.read_to_end(2 + MAX_MESSAGE).await;
    stream.answered = read.is_ok();
    match read {
        Ok(framed) => Ok(message(framed).map_or(Answer::Violation, Answer::Message)),
        Err(ReadToEndError::TooLong) => Ok(Answer::Violation),
        Err(ReadToEndError::Read(ReadError::ConnectionLost(error))) => {
            Err(explain(&error, "").into())
        }
        // The server reset this stream; others are unaffected.
        Err(ReadToEndError::Read(_)) => Err(ExchangeError::Stream(Failure::Closed)),
    }
}

/// The message of a stream; `None` on a violation: not exactly one message (RFC 9250 section 4.2), a
/// nonzero id (section 4.2.1), an edns-tcp-keepalive option (section 5.5.2).
fn message(mut framed: Vec<u8>) -> Option<Vec<u8>> {
    let (length, rest) = framed.split_first_chunk()?;
    if usize::from(u16::from_be_bytes(*length)) != rest.len() {
        return None;
    }
    let header = Header::read(rest)?;
    if header.id != 0 || has_option(rest, &header, Options::KEEPALIVE) {
        return None;
    }
    framed.drain(..2);
    Some(framed)
}

fn explain(error: &ConnectionError, expected: &str) -> Failure {
    // TLS alerts are error codes 0x100 to 0x1ff (RFC 9001 section 4.8).
    let alert = |code: u64| u8::try_from(code.checked_sub(0x100)?).ok();
    let words = match error {
        ConnectionError::TimedOut => return Failure::Silent,
        ConnectionError::TransportError(error) => alert(u64::from(error.code))
            .map(|alert| handshake::explain_own_alert(alert, &error.reason, expected)),
        ConnectionError::ConnectionClosed(close) => {
            alert(u64::from(close.error_code)).map(|alert| handshake::refused(alert.into()))
        }
        _ => None,
    };
    words.map_or(Failure::Closed, |words| Failure::Tls(words.into()))
}
