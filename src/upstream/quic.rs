//! Questions over QUIC (RFC 9250): each on a stream of its own, on one kept connection.

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
    line::{Dialled, Driver, Line, Lost, Sender},
    meter::Account,
    packet::{MAX_QUERY, Packet},
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

// How a stream or a connection is ended (RFC 9250 section 4.3).
const NO_ERROR: VarInt = VarInt::from_u32(0);
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
const REQUEST_CANCELLED: VarInt = VarInt::from_u32(3);

impl Sender for Connection {
    fn received(&self) -> Option<u64> {
        Some(self.stats().udp_rx.datagrams)
    }
}

/// The connection to one upstream.
#[derive(Debug)]
pub(super) struct Quic {
    server: SocketAddr,
    source: Option<IpAddr>,
    name: String,
    config: ClientConfig,
    line: Arc<Line<Connection>>,
    account: Arc<Account>,
}

impl Quic {
    pub(super) fn new(
        server: SocketAddr,
        source: Option<IpAddr>,
        tls: &Tls,
        line: Arc<Line<Connection>>,
        account: Arc<Account>,
    ) -> Result<Self, TlsError> {
        let config =
            QuicClientConfig::try_from(Arc::clone(tls.config())).map_err(|_| TlsError::Quic)?;
        // A server opens no streams (RFC 9250 section 4.2); one that tries breaks QUIC itself.
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
            line,
            account,
        })
    }

    /// Asks and waits for as long as the caller does.
    pub(super) async fn exchange(&self, packet: &Packet) -> Result<Reply, Failure> {
        let dial = || {
            let (name, config) = (self.name.clone(), self.config.clone());
            let account = Arc::clone(&self.account);
            connect(self.server, self.source, name, config, move |local| {
                account.connected(local);
            })
        };
        let ask = |connection: Connection| async move {
            match converse(&connection, packet).await? {
                Answer::Message(message) => Ok(self.account.read(packet, &message)?),
                Answer::Violation => {
                    connection.close(PROTOCOL_ERROR, b"");
                    // Asked again, it would do the same.
                    Err(Lost::Connection(self.account.wrong()))
                }
            }
        };
        self.line.ask(dial, ask).await
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

/// Closes what is open when its driver goes.
struct Closing(Endpoint);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close(NO_ERROR, b"");
    }
}

/// What came on a stream.
enum Answer {
    Message(Vec<u8>),
    /// What the protocol forbids (RFC 9250 section 4.3.3).
    Violation,
}

/// A stream, which is cancelled where it is dropped before its answer came (RFC 9250 section 4.3.1):
/// quinn by itself would say that nothing went wrong.
struct Stream {
    sending: SendStream,
    receiving: RecvStream,
    answered: bool,
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.answered {
            // Errors say that there is nothing left to cancel.
            let _ = self.receiving.stop(REQUEST_CANCELLED);
            let _ = self.sending.reset(REQUEST_CANCELLED);
        }
    }
}

/// One question and its answer, each behind its length; the id is 0 (RFC 9250 section 4.2).
async fn converse(connection: &Connection, packet: &Packet) -> Result<Answer, Lost> {
    let opened = connection.open_bi().await;
    let (sending, receiving) = opened.map_err(|error| explain(&error, ""))?;
    let mut stream = Stream {
        sending,
        receiving,
        answered: false,
    };
    let mut framed = Vec::with_capacity(2 + MAX_QUERY);
    let mut room = [0; MAX_QUERY];
    let octets = packet.under(0, &mut room);
    let length = u16::try_from(octets.len()).expect("a query has some hundred octets");
    framed.extend(length.to_be_bytes());
    framed.extend(octets);
    // A server that has read enough (`Stopped`) may answer all the same.
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
        // The server does not answer this one, whatever it does with others.
        Err(ReadToEndError::Read(_)) => Err(Lost::Stream(Failure::Closed)),
    }
}

/// The one message of a stream; nothing where the protocol is broken: less or more than one message,
/// an id, an option of TCP (RFC 9250 sections 4.2, 4.2.1 and 5.5.2).
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
    // Alerts of TLS have codes of their own (RFC 9001 section 4.8).
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
