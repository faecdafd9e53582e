//! An accepted connection, until it is known what is spoken on it: the PROXY header and the TLS
//! handshake, which together may take as long as a client may take for its first question. Until
//! they are done the connection counts as idle, and goes first where there is no room for another.

use std::{io, net::SocketAddr, pin::pin};

use tokio::{net::TcpStream, sync::watch, time::timeout};
use tokio_rustls::TlsAcceptor;

use super::{
    connection::Connection,
    front::{Front, Wire},
};
#[cfg(any(feature = "https", feature = "grpc"))]
use crate::server::http;
use crate::{
    query::Transport,
    server::{Scheme, caller::Caller, gate::Places, handle::Entrance, terms::Terms},
    tls::Protocol,
};

/// An accepted connection.
pub(super) struct Visit {
    pub(super) stream: TcpStream,
    pub(super) scheme: Scheme,
    pub(super) entrance: Entrance,
    pub(super) terms: Terms,
    /// Who connected, and to where.
    pub(super) ends: (SocketAddr, SocketAddr),
    pub(super) places: Places,
}

impl Visit {
    /// Serves it to its end, which comes soon once `stop` says so.
    pub(super) async fn serve(self, stop: watch::Receiver<bool>) -> io::Result<()> {
        let plain = self.terms.tls.is_none() && self.terms.proxy.is_none();
        if self.scheme == Scheme::Dns && plain {
            let caller = caller(self.entrance, self.ends, Transport::Tcp);
            let settings = self.terms.settings;
            return Connection::new(self.stream, caller, settings, self.places)
                .serve(stop)
                .await;
        }
        // Everything else takes far more room, which those who do without shall not hold.
        Box::pin(self.serve_within(stop)).await
    }

    async fn serve_within(self, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        let Self {
            stream,
            scheme,
            entrance,
            terms,
            ends,
            places,
        } = self;
        let settings = terms.settings;
        let established = {
            let establishing = pin!(timeout(
                settings.first_query,
                establish(stream, scheme, &terms, ends)
            ));
            tokio::select! {
                established = establishing => established??,
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                () = places.evicted() => return Ok(()),
            }
        };
        let (wire, ends) = established;
        let encrypted = matches!(wire, Wire::Encrypted(_));
        let spoken = match scheme {
            Scheme::Https => Transport::Https,
            Scheme::Grpc => Transport::Grpc,
            _ if encrypted => Transport::Tls,
            _ => Transport::Tcp,
        };
        let caller = caller(entrance, ends, spoken);
        match spoken {
            #[cfg(feature = "https")]
            Transport::Https => http::serve_https(wire, caller, settings, places, stop).await,
            #[cfg(feature = "grpc")]
            Transport::Grpc => http::serve_grpc(wire, caller, settings, places, stop).await,
            _ => {
                let connection = Connection::new(wire, caller, settings, places);
                connection.serve(stop).await
            }
        }
    }
}

fn caller(entrance: Entrance, ends: (SocketAddr, SocketAddr), transport: Transport) -> Caller {
    Caller {
        entrance,
        client: ends.0,
        local: ends.1,
        transport,
    }
}

async fn establish(
    stream: TcpStream,
    scheme: Scheme,
    terms: &Terms,
    ends: (SocketAddr, SocketAddr),
) -> io::Result<(Wire, (SocketAddr, SocketAddr))> {
    let (front, ends) = match &terms.proxy {
        Some(trust) => Front::behind_proxy(stream, trust, ends).await?,
        None => (Front::new(stream), ends),
    };
    let protocol = match scheme {
        Scheme::Https => Protocol::Http,
        Scheme::Grpc => Protocol::Grpc,
        _ => Protocol::Dot,
    };
    // A block of dns:// keys may have a certificate, for others of its keys.
    let tls = terms.tls.as_ref().filter(|_| scheme != Scheme::Dns);
    let wire = match tls {
        Some(identity) => {
            let acceptor = TlsAcceptor::from(identity.config(protocol));
            Wire::Encrypted(Box::new(acceptor.accept(front).await?))
        }
        None => Wire::Bare(front),
    };
    Ok((wire, ends))
}
