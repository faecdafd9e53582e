//! QUIC listeners, by quinn: one accept loop for DNS over QUIC and for HTTP/3.
//!
//! hickory-server implements both, and was considered. It bounds neither connections nor handshakes, allows
//! 100 queries per connection (over QUIC sequentially), aborts queries in flight at shutdown, does not
//! report what it answered, and has no hooks for that. `max_streams`, `max_connections` and
//! `worker_pool_size` need quinn and h3 directly.
//!
//! There is no 0-RTT: early data can be replayed by an attacker (RFC 9250 section 4.5).

mod bounded;
mod doq;
mod http3;

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use quinn::{
    Connection, Endpoint, EndpointConfig, IdleTimeout, Incoming, ServerConfig, TokioRuntime,
    TransportConfig, VarInt, crypto::rustls::QuicServerConfig,
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::timeout,
};

use super::{
    Scheme,
    accept_loops::{AcceptContext, AcceptLoops},
    caller::Caller,
    connection_limit::{ConnectionLimit, ConnectionPermits},
    connection_settings::ConnectionSettings,
    handle::MessageHandler,
    limits::StreamSettings,
};
use crate::{query::Transport, tls::AlpnProtocol};

/// Bound on the handshakes in progress per address. Above half of it, clients must first validate their
/// address (Retry, RFC 9000 section 8.1.2).
const HALF_OPEN: usize = 512;

/// Timeout for sending CONNECTION_CLOSE frames.
const LINGER: Duration = Duration::from_millis(500);

/// Flow control windows: received bytes per stream and per connection, and unacknowledged sent bytes per
/// connection.
const STREAM_WINDOW: u32 = 66 * 1024;
const CONNECTION_WINDOW: u32 = 512 * 1024;
const SEND_WINDOW: u64 = 1024 * 1024;

/// Unidirectional streams of HTTP/3: three, and some of reserved types (RFC 9114 section 6.2.3).
const HTTP3_CONTROL: u32 = 16;

/// Lower bound on QUIC's idle timeout, whatever is configured: a forwarded query may take several seconds.
const SILENCE: Duration = Duration::from_secs(10);

/// A connection whose handshake is done.
struct QuicConnection {
    connection: Connection,
    handler: MessageHandler,
    transport: Transport,
    /// The address of the listener.
    bound: SocketAddr,
    settings: StreamSettings,
    workers: Arc<Semaphore>,
    permits: ConnectionPermits,
}

/// Starts an accept loop for each socket.
pub(super) fn start(
    sockets: Vec<UdpSocket>,
    scheme: Scheme,
    loops: &AcceptLoops,
    runtime: &Handle,
) -> io::Result<()> {
    let _in_runtime = runtime.enter();
    let transport = if scheme == Scheme::Https3 {
        Transport::Https3
    } else {
        Transport::Quic
    };
    let config = QuicConfig::from(&loops.settings(), transport)?;
    for socket in sockets {
        let bound = socket.local_addr()?;
        let first = ServerConfig::clone(&config.quic);
        let endpoint = Endpoint::new(
            EndpointConfig::default(),
            Some(first),
            socket,
            Arc::new(TokioRuntime),
        )?;
        let accept_loop = AcceptLoop {
            endpoint,
            bound,
            transport,
            config: config.clone(),
            half_open: Arc::new(Semaphore::new(HALF_OPEN)),
            context: loops.context(),
        };
        runtime.spawn(accept_loop.run());
    }
    Ok(())
}

struct AcceptLoop {
    endpoint: Endpoint,
    bound: SocketAddr,
    transport: Transport,
    config: QuicConfig,
    half_open: Arc<Semaphore>,
    context: AcceptContext,
}

/// quinn's configuration, and the settings that it was made from.
#[derive(Clone)]
struct QuicConfig {
    tls: Arc<rustls::ServerConfig>,
    settings: StreamSettings,
    quic: Arc<ServerConfig>,
}

impl AcceptLoop {
    async fn run(mut self) {
        let mut connections = JoinSet::new();
        loop {
            let incoming = tokio::select! {
                incoming = self.endpoint.accept() => incoming,
                Some(_) = connections.join_next() => continue,
                // Also completes if the sender was dropped.
                _ = self.context.stop.wait_for(|stop| *stop) => break,
            };
            let Some(incoming) = incoming else {
                break;
            };
            self.admit(incoming, &mut connections);
        }
        self.endpoint.set_server_config(None); // new connections are refused
        while connections.join_next().await.is_some() {}
        let _ = timeout(LINGER, self.endpoint.wait_idle()).await;
        drop(self.context);
    }

    fn admit(&mut self, incoming: Incoming, connections: &mut JoinSet<()>) {
        let crowded = self.half_open.available_permits() < HALF_OPEN / 2;
        if crowded && !incoming.remote_address_validated() && incoming.may_retry() {
            let _ = incoming.retry();
            return;
        }
        let Ok(permit) = Arc::clone(&self.half_open).try_acquire_owned() else {
            incoming.refuse();
            return;
        };
        let settings = self.context.settings.borrow_and_update().clone();
        if let Err(error) = self.config.renew(&settings, self.transport) {
            tracing::warn!(%error, "the certificate cannot be used for QUIC");
        }
        let handshake = Handshake {
            config: Arc::clone(&self.config.quic),
            handler: self.context.handler.clone(),
            transport: self.transport,
            bound: self.bound,
            limit: self.context.connection_limit.clone(),
            settings,
            permit,
        };
        connections.spawn(handshake.serve(incoming, self.context.stop.clone()));
    }
}

/// A connection whose handshake is in progress.
struct Handshake {
    config: Arc<ServerConfig>,
    handler: MessageHandler,
    transport: Transport,
    bound: SocketAddr,
    limit: ConnectionLimit,
    settings: ConnectionSettings,
    permit: OwnedSemaphorePermit,
}

impl Handshake {
    async fn serve(self, incoming: Incoming, mut stop: watch::Receiver<bool>) {
        let client = incoming.remote_address();
        let settings = self.settings.streams;
        let Ok(connecting) = incoming.accept_with(self.config) else {
            return;
        };
        let connected = tokio::select! {
            connected = timeout(settings.first_query, connecting) => connected,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let connection = match connected {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                tracing::debug!(%error, %client, "a handshake failed");
                return;
            }
            Err(_) => return,
        };
        drop(self.permit);
        let own_limit = self.settings.own_limit;
        // Not before the handshake: a spoofed address must not evict a connection.
        let Some(permits) =
            ConnectionPermits::acquire(&self.limit, own_limit.as_ref(), client.ip()).await
        else {
            tracing::debug!(%client, "all connections are busy, one more is refused");
            let busy = if self.transport == Transport::Https3 {
                http3::EXCESSIVE_LOAD
            } else {
                doq::EXCESSIVE_LOAD
            };
            connection.close(busy, b"too many connections");
            return;
        };
        let client = QuicConnection {
            connection,
            handler: self.handler,
            transport: self.transport,
            bound: self.bound,
            settings,
            workers: self.settings.workers,
            permits,
        };
        if client.transport == Transport::Https3 {
            http3::serve(client, stop).await;
        } else {
            doq::serve(client, stop).await;
        }
    }
}

impl QuicConnection {
    /// The client at its present address: it may have migrated.
    fn caller(&self) -> Caller {
        let local = self.connection.local_ip().unwrap_or(self.bound.ip());
        Caller {
            handler: self.handler.clone(),
            client: self.connection.remote_address(),
            local: SocketAddr::new(local, self.bound.port()),
            transport: self.transport,
        }
    }
}

impl QuicConfig {
    fn from(settings: &ConnectionSettings, transport: Transport) -> io::Result<Self> {
        let identity = settings.tls.as_ref().ok_or(io::ErrorKind::InvalidInput)?;
        let tls = identity.config(protocol(transport));
        let crypto = QuicServerConfig::try_from(Arc::clone(&tls)).map_err(io::Error::other)?;
        let mut quic = ServerConfig::with_crypto(Arc::new(crypto));
        quic.transport_config(Arc::new(transport_config(&settings.streams, transport)?));
        Ok(Self {
            tls,
            settings: settings.streams,
            quic: Arc::new(quic),
        })
    }

    /// Rebuilds it if the settings or their certificate have changed.
    fn renew(&mut self, settings: &ConnectionSettings, transport: Transport) -> io::Result<()> {
        let identity = settings.tls.as_ref();
        let now = identity.map(|identity| identity.config(protocol(transport)));
        let same = now.is_some_and(|now| Arc::ptr_eq(&now, &self.tls));
        if !same || settings.streams != self.settings {
            *self = Self::from(settings, transport)?;
        }
        Ok(())
    }
}

/// The protocol to negotiate (ALPN).
fn protocol(transport: Transport) -> AlpnProtocol {
    if transport == Transport::Https3 {
        AlpnProtocol::Http3
    } else {
        AlpnProtocol::Doq
    }
}

fn transport_config(
    settings: &StreamSettings,
    transport: Transport,
) -> io::Result<TransportConfig> {
    let streams = u32::try_from(settings.in_flight).unwrap_or(u32::MAX);
    let one_way = if transport == Transport::Https3 {
        HTTP3_CONTROL
    } else {
        0
    };
    let idle = IdleTimeout::try_from(settings.idle.max(SILENCE)).map_err(io::Error::other)?;
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .max_concurrent_uni_streams(VarInt::from_u32(one_way))
        .max_idle_timeout(Some(idle))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None);
    Ok(config)
}
