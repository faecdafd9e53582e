//! Connections of QUIC, by quinn: one accept loop for DNS over QUIC and for HTTP/3.
//!
//! hickory-server speaks both, and was weighed for them. It takes any number of connections and of
//! handshakes, a hundred questions a connection (of QUIC one after the other), cuts off what is under
//! way where it shuts down, tells nobody what it answered, and leaves no way to add to that from
//! outside. So it is quinn's and h3's own doors that are used here, as `max_streams`,
//! `max_connections` and `worker_pool_size` need it.
//!
//! There is no 0-RTT: what is asked in it can be replayed by whoever recorded it (RFC 9250 §4.5).

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
    caller::Caller,
    gate::{Gate, Places},
    handle::Entrance,
    limits::StreamSettings,
    reception::{Desk, Reception},
    terms::Terms,
};
use crate::{query::Transport, tls::Protocol};

/// Handshakes that may be under way at an address. From half of it on, whoever begins one must show
/// first that it can be reached where it says it is.
const HALF_OPEN: usize = 512;

/// How long the last words of closed connections may take to go out.
const LINGER: Duration = Duration::from_millis(500);

/// Octets that a client may send ahead on a stream, and on all streams of a connection; and those
/// that are held for it until it says that it has them.
const STREAM_WINDOW: u32 = 66 * 1024;
const CONNECTION_WINDOW: u32 = 512 * 1024;
const SEND_WINDOW: u64 = 1024 * 1024;

/// Streams of one direction that HTTP/3 needs: three, and some that mean nothing.
const HTTP3_CONTROL: u32 = 16;

/// A connection without a packet is gone after this time, whatever shorter time is configured:
/// what is forwarded may take as long.
const SILENCE: Duration = Duration::from_secs(10);

/// A connection whose handshake is done.
struct Visit {
    connection: Connection,
    entrance: Entrance,
    transport: Transport,
    /// Where the listener is bound.
    bound: SocketAddr,
    settings: StreamSettings,
    workers: Arc<Semaphore>,
    places: Places,
}

/// Begins to serve, with an accept loop for each socket.
pub(super) fn start(
    sockets: Vec<UdpSocket>,
    scheme: Scheme,
    reception: &Reception,
    runtime: &Handle,
) -> io::Result<()> {
    let _in_runtime = runtime.enter();
    let transport = if scheme == Scheme::Https3 {
        Transport::Https3
    } else {
        Transport::Quic
    };
    let config = Made::from(&reception.terms(), transport)?;
    for socket in sockets {
        let bound = socket.local_addr()?;
        let first = ServerConfig::clone(&config.quic);
        let endpoint = Endpoint::new(
            EndpointConfig::default(),
            Some(first),
            socket,
            Arc::new(TokioRuntime),
        )?;
        let acceptor = Acceptor {
            endpoint,
            bound,
            transport,
            config: config.clone(),
            half_open: Arc::new(Semaphore::new(HALF_OPEN)),
            desk: reception.desk(),
        };
        runtime.spawn(acceptor.run());
    }
    Ok(())
}

struct Acceptor {
    endpoint: Endpoint,
    bound: SocketAddr,
    transport: Transport,
    config: Made,
    half_open: Arc<Semaphore>,
    desk: Desk,
}

/// quinn's configuration, and what it was made from.
#[derive(Clone)]
struct Made {
    tls: Arc<rustls::ServerConfig>,
    settings: StreamSettings,
    quic: Arc<ServerConfig>,
}

impl Acceptor {
    async fn run(mut self) {
        let mut connections = JoinSet::new();
        loop {
            let incoming = tokio::select! {
                incoming = self.endpoint.accept() => incoming,
                Some(_) = connections.join_next() => continue,
                // Both where it was said and where nobody is left to say it.
                _ = self.desk.stop.wait_for(|stop| *stop) => break,
            };
            let Some(incoming) = incoming else {
                break;
            };
            self.admit(incoming, &mut connections);
        }
        self.endpoint.set_server_config(None); // who comes now is turned away
        while connections.join_next().await.is_some() {}
        let _ = timeout(LINGER, self.endpoint.wait_idle()).await;
        drop(self.desk);
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
        let terms = self.desk.terms.borrow_and_update().clone();
        if let Err(error) = self.config.renew(&terms, self.transport) {
            tracing::warn!(%error, "the certificate cannot be used for QUIC");
        }
        let newcomer = Newcomer {
            config: Arc::clone(&self.config.quic),
            entrance: self.desk.entrance.clone(),
            transport: self.transport,
            bound: self.bound,
            gate: self.desk.gate.clone(),
            terms,
            permit,
        };
        connections.spawn(newcomer.serve(incoming, self.desk.stop.clone()));
    }
}

/// Whoever begins a handshake.
struct Newcomer {
    config: Arc<ServerConfig>,
    entrance: Entrance,
    transport: Transport,
    bound: SocketAddr,
    gate: Gate,
    terms: Terms,
    permit: OwnedSemaphorePermit,
}

impl Newcomer {
    async fn serve(self, incoming: Incoming, mut stop: watch::Receiver<bool>) {
        let client = incoming.remote_address();
        let settings = self.terms.settings;
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
        // Not before the handshake: a forged address must not push a connection out.
        let Some(places) =
            Places::enter(&self.gate, self.terms.own_gate.as_ref(), client.ip()).await
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
        let visit = Visit {
            connection,
            entrance: self.entrance,
            transport: self.transport,
            bound: self.bound,
            settings,
            workers: self.terms.workers,
            places,
        };
        if visit.transport == Transport::Https3 {
            http3::serve(visit, stop).await;
        } else {
            doq::serve(visit, stop).await;
        }
    }
}

impl Visit {
    /// The client as it is now: it may have moved to another address.
    fn caller(&self) -> Caller {
        let local = self.connection.local_ip().unwrap_or(self.bound.ip());
        Caller {
            entrance: self.entrance.clone(),
            client: self.connection.remote_address(),
            local: SocketAddr::new(local, self.bound.port()),
            transport: self.transport,
        }
    }
}

impl Made {
    fn from(terms: &Terms, transport: Transport) -> io::Result<Self> {
        let identity = terms.tls.as_ref().ok_or(io::ErrorKind::InvalidInput)?;
        let tls = identity.config(protocol(transport));
        let crypto = QuicServerConfig::try_from(Arc::clone(&tls)).map_err(io::Error::other)?;
        let mut quic = ServerConfig::with_crypto(Arc::new(crypto));
        quic.transport_config(Arc::new(transport_config(&terms.settings, transport)?));
        Ok(Self {
            tls,
            settings: terms.settings,
            quic: Arc::new(quic),
        })
    }

    /// Follows the terms and their certificate.
    fn renew(&mut self, terms: &Terms, transport: Transport) -> io::Result<()> {
        let identity = terms.tls.as_ref();
        let now = identity.map(|identity| identity.config(protocol(transport)));
        let same = now.is_some_and(|now| Arc::ptr_eq(&now, &self.tls));
        if !same || terms.settings != self.settings {
            *self = Self::from(terms, transport)?;
        }
        Ok(())
    }
}

/// What is agreed on in the handshake.
fn protocol(transport: Transport) -> Protocol {
    if transport == Transport::Https3 {
        Protocol::Http3
    } else {
        Protocol::Doq
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
