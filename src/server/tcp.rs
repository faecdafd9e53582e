//! Streams: an accept loop of our own, bytes to bytes into the same door (RFC 7766).
//!
//! hickory-server has a TCP listener too. It answers a connection's questions one after the other,
//! so that one slow forward holds up the cluster names that were asked behind it; it takes any
//! number of connections, cuts them off where it shuts down, and logs two lines a question. Here
//! connections are counted, a connection's questions wait side by side and are answered as they
//! come to be (§6.2.1.1), and what was asked is answered before the end. Sixteen connections with
//! pipelined questions cost 1.7 us of CPU a question here and 6.7 us there, by way of the adapter.

mod connection;
mod gate;

use std::{io, net::SocketAddr, time::Duration};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::watch,
};

pub use gate::Gate;

use self::connection::Connection;
use super::{
    handle::Entrance,
    limits::{StreamSettings, Work, Working},
};

/// Connections that the system keeps until they are accepted; it cuts this to what it allows.
const BACKLOG: i32 = 4096;

/// How long to wait before accepting again where the system is out of something.
const PAUSE: Duration = Duration::from_millis(20);

/// The accept loops of one listener. They and their connections end when this is dropped.
pub(super) struct Streams {
    stop: watch::Sender<bool>,
    settings: watch::Sender<StreamSettings>,
    work: Work,
}

/// Binds a listening socket that several may share, so that a new one can stand beside an old one.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    // A server that starts again need not wait for the connections of the one before it.
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

impl Streams {
    /// Begins to serve.
    pub(super) fn start(
        listeners: Vec<std::net::TcpListener>,
        entrance: &Entrance,
        settings: StreamSettings,
        gate: &Gate,
        runtime: &Handle,
    ) -> io::Result<Self> {
        let _in_runtime = runtime.enter();
        let streams = Self {
            stop: watch::Sender::new(false),
            settings: watch::Sender::new(settings),
            work: Work::new(),
        };
        for listener in listeners {
            let acceptor = Acceptor {
                listener: TcpListener::from_std(listener)?,
                entrance: entrance.clone(),
                settings: streams.settings.subscribe(),
                gate: gate.clone(),
                stop: streams.stop.subscribe(),
                working: streams.work.begin(),
            };
            runtime.spawn(acceptor.run());
        }
        Ok(streams)
    }

    /// Treats connections from now on like this.
    pub(super) fn set(&self, settings: StreamSettings) {
        self.settings.send_replace(settings);
    }

    /// Takes no more connections and no more questions, and waits until those that were taken are
    /// answered, at most until `deadline`; whether all were.
    pub(super) async fn drain(self, deadline: tokio::time::Instant) -> bool {
        self.stop.send_replace(true);
        self.work.end(deadline).await
    }
}

struct Acceptor {
    listener: TcpListener,
    entrance: Entrance,
    settings: watch::Receiver<StreamSettings>,
    gate: Gate,
    stop: watch::Receiver<bool>,
    working: Working,
}

impl Acceptor {
    async fn run(mut self) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                // Both where it was said and where nobody is left to say it.
                _ = self.stop.wait_for(|stop| *stop) => return,
            };
            match accepted {
                Ok((stream, client)) => self.admit(stream, client).await,
                Err(error) if belongs_to_connection(&error) => {}
                Err(error) => {
                    // Most likely there is no file descriptor left: one can be had.
                    tracing::warn!(%error, "cannot accept a connection");
                    self.gate.close_longest_idle();
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn admit(&self, stream: TcpStream, client: SocketAddr) {
        let Some(place) = self.gate.enter().await else {
            tracing::debug!(%client, "all connections are busy, one more is refused");
            return;
        };
        let Ok(local) = stream.local_addr() else {
            return; // it is gone again
        };
        // Replies are written whole; to hold them back would only delay them.
        let _ = stream.set_nodelay(true);
        let settings = *self.settings.borrow();
        let connection = Connection::new(
            stream,
            self.entrance.clone(),
            settings,
            client,
            local,
            place,
        );
        let (stop, working) = (self.stop.clone(), self.working.clone());
        tokio::spawn(async move {
            if let Err(error) = connection.serve(stop).await {
                tracing::debug!(%error, %client, "a connection ended");
            }
            drop(working);
        });
    }
}

/// Whether only the connection that was about to be accepted has failed.
fn belongs_to_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
