//! Questions over QUIC (RFC 9250): each on a stream of its own, on one kept connection.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, VarInt, crypto::rustls::QuicClientConfig,
};

use super::{
    failure::Failure,
    line::{Dialled, Driver, Line},
    meter::Account,
    packet::{MAX_QUERY, Packet},
    tls::{Tls, TlsError},
};
use crate::{reply::Reply, wire::MAX_MESSAGE};

/// Nothing went wrong (RFC 9250 §4.3).
const NO_ERROR: VarInt = VarInt::from_u32(0);

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
        Ok(Self {
            server,
            source,
            name: tls.name().to_str().into_owned(),
            config: ClientConfig::new(Arc::new(config)),
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
            let message = converse(&connection, packet).await?;
            self.account.read(packet, &message)
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
    let any = match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let bound = Endpoint::client((source.unwrap_or(any), 0).into());
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

/// One question and its answer, each behind its length; the id is 0 (RFC 9250 §4.2).
async fn converse(connection: &Connection, packet: &Packet) -> Result<Vec<u8>, Failure> {
    let opened = connection.open_bi().await;
    let (mut sending, mut receiving) = opened.map_err(|error| explain(&error, ""))?;
    let mut framed = Vec::with_capacity(2 + MAX_QUERY);
    let mut room = [0; MAX_QUERY];
    let octets = packet.under(0, &mut room);
    let length = u16::try_from(octets.len()).expect("a query has some hundred octets");
    framed.extend(length.to_be_bytes());
    framed.extend(octets);
    let written = sending.write_all(&framed).await;
    written.map_err(|_| Failure::Closed)?;
    sending.finish().map_err(|_| Failure::Closed)?;
    let read = receiving.read_to_end(2 + MAX_MESSAGE).await;
    let mut message = read.map_err(|error| match error {
        quinn::ReadToEndError::TooLong => Failure::Malformed,
        quinn::ReadToEndError::Read(_) => Failure::Closed,
    })?;
    let (length, rest) = message.split_first_chunk().ok_or(Failure::Malformed)?;
    if usize::from(u16::from_be_bytes(*length)) != rest.len() {
        return Err(Failure::Malformed);
    }
    message.drain(..2);
    Ok(message)
}

fn explain(error: &ConnectionError, expected: &str) -> Failure {
    match error {
        ConnectionError::TimedOut => Failure::Silent,
        // Alerts of TLS have codes of their own (RFC 9001 §4.8).
        ConnectionError::TransportError(error)
            if (0x100..0x200).contains(&u64::from(error.code)) =>
        {
            Failure::Tls(format!("{} (expected {expected})", error.reason).into())
        }
        ConnectionError::ConnectionClosed(close)
            if (0x100..0x200).contains(&u64::from(close.error_code)) =>
        {
            Failure::Tls(format!("refused by the other side: {}", close.error_code).into())
        }
        _ => Failure::Closed,
    }
}
