//! Accepting connections and serving them, within limits.
//!
//! These ports are open to every pod of a cluster. `axum::serve` neither limits connections nor
//! gives hyper the timer without which a client may take for ever over its request, so the loop is
//! our own and hands axum's router to hyper.

use std::{collections::HashMap, net::IpAddr, pin::pin, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

/// What clients of a listener may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once. Those beyond are closed as they come.
    pub connections: u32,
    /// Connections at once of one client, so that no pod can keep out the kubelet.
    pub per_client: u32,
    /// How long a client may take over the head of a request; also how long a connection may idle.
    pub head: Duration,
    /// How long a connection lives, whatever it does.
    pub life: Duration,
    /// How long a connection that is to end has for the answer under way.
    pub last_answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 128,
            per_client: 32,
            // Shorter than the time between two scrapes: a new connection for each costs less than
            // places that somebody can occupy.
            head: Duration::from_secs(10),
            life: Duration::from_mins(1),
            last_answer: Duration::from_secs(5),
        }
    }
}

/// Octets of a request's head: those of kubelet and Prometheus have some hundred.
const MAX_HEAD: usize = 16 * 1024;

/// How long to leave the system alone when it cannot give a connection (no descriptors left).
const RECOVER: Duration = Duration::from_millis(100);

/// What a listener shows to those who connect.
#[derive(Default)]
pub(super) struct Face {
    pub(super) router: Router,
    pub(super) tls: Option<Arc<ServerConfig>>,
}

/// The connections of a listener.
pub(super) struct Places {
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: u32,
    by_client: HashMap<IpAddr, u32>,
}

/// One connection's right to be; it ends when dropped.
struct Place {
    places: Arc<Places>,
    client: IpAddr,
}

impl Places {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            taken: Mutex::default(),
        })
    }

    fn take(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let client = client.to_canonical();
        let mut taken = self.taken.lock();
        let of_client = taken.by_client.get(&client).copied().unwrap_or(0);
        if taken.all >= self.limits.connections || of_client >= self.limits.per_client {
            return None;
        }
        taken.all += 1;
        taken.by_client.insert(client, of_client + 1);
        Some(Place {
            places: Arc::clone(self),
            client,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all -= 1;
        if let Some(of_client) = taken.by_client.get_mut(&self.client) {
            *of_client -= 1;
            if *of_client == 0 {
                taken.by_client.remove(&self.client);
            }
        }
    }
}

/// Accepts until `stop` says so or its sender is gone.
pub(super) async fn accept(
    listener: TcpListener,
    face: Arc<ArcSwap<Face>>,
    places: Arc<Places>,
    mut stop: watch::Receiver<()>,
) {
    loop {
        let accepted = tokio::select! {
            _ = stop.changed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => {
                if let Some(place) = places.take(client.ip()) {
                    tokio::spawn(connection(stream, face.load_full(), place, stop.clone()));
                }
            }
            Err(error) => {
                tracing::debug!("cannot accept a connection: {error}");
                sleep(RECOVER).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, face: Arc<Face>, place: Place, stop: watch::Receiver<()>) {
    let limits = place.places.limits;
    let router = face.router.clone();
    let Some(tls) = &face.tls else {
        return serve(stream, router, limits, stop).await;
    };
    let accepted = TlsAcceptor::from(Arc::clone(tls)).accept(stream);
    if let Ok(Ok(stream)) = timeout(limits.head, accepted).await {
        serve(stream, router, limits, stop).await;
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<()>,
) {
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
    );
    // What goes wrong with a connection is its client's affair.
    tokio::select! {
        _ = served.as_mut() => return,
        _ = stop.changed() => {}
        () = sleep(limits.life) => {}
    }
    served.as_mut().graceful_shutdown();
    let _ = timeout(limits.last_answer, served).await;
}
