//! An accepted connection up to the first query: the PROXY header and the TLS handshake, which together may
//! take as long as a client has for its first query. Until they are done the connection counts as idle, and
//! is evicted first at the connection limit.

use std::{io, net::SocketAddr, pin::pin};

use tokio::{net::TcpStream, sync::watch, time::timeout};
use tokio_rustls::TlsAcceptor;

use super::{
    connection::Connection,
    stream::{ClientStream, PrefixedStream},
};
#[cfg(any(feature = "https", feature = "grpc"))]
use crate::server::http;
use crate::{
    query::Transport,
    server::{
        Scheme, caller::Caller, connection_limit::ConnectionPermits,
        connection_settings::ConnectionSettings, handle::Entrance,
    },
    tls::Protocol,
};

/// An accepted connection.
pub(super) struct AcceptedConnection {
    pub(super) stream: TcpStream,
    pub(super) scheme: Scheme,
    pub(super) entrance: Entrance,
    pub(super) settings: ConnectionSettings,
    /// The addresses of the client and of the server.
    pub(super) ends: (SocketAddr, SocketAddr),
    pub(super) permits: ConnectionPermits,
}

impl AcceptedConnection {
    /// Serves the connection to its end; `stop` ends it gracefully.
    pub(super) async fn serve(self, stop: watch::Receiver<bool>) -> io::Result<()> {
        let plain = self.settings.tls.is_none() && self.settings.proxy.is_none();
        if self.scheme == Scheme::Dns && plain {
            let caller = caller(self.entrance, self.ends, Transport::Tcp);
            let streams = self.settings.streams;
            return Connection::new(self.stream, caller, streams, self.permits)
                .serve(stop)
                .await;
        }
        // The future of everything else is far larger; plain TCP does without it.
        Box::pin(self.serve_within(stop)).await
    }

    async fn serve_within(self, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        let Self {
            stream,
            scheme,
            entrance,
            settings,
            ends,
            permits,
        } = self;
        let streams = settings.streams;
        let established = {
            let establishing = pin!(timeout(
                streams.first_query,
                establish(stream, scheme, &settings, ends)
            ));
            tokio::select! {
                established = establishing => established??,
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                () = permits.evicted() => return Ok(()),
            }
        };
        let (stream, ends) = established;
        let encrypted = matches!(stream, ClientStream::Tls(_));
        let transport = match scheme {
            Scheme::Https => Transport::Https,
            Scheme::Grpc => Transport::Grpc,
            _ if encrypted => Transport::Tls,
            _ => Transport::Tcp,
        };
        let caller = caller(entrance, ends, transport);
        match transport {
            #[cfg(feature = "https")]
            Transport::Https => http::serve_https(stream, caller, streams, permits, stop).await,
            #[cfg(feature = "grpc")]
            Transport::Grpc => http::serve_grpc(stream, caller, streams, permits, stop).await,
            _ => {
                let connection = Connection::new(stream, caller, streams, permits);
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
    settings: &ConnectionSettings,
    ends: (SocketAddr, SocketAddr),
) -> io::Result<(ClientStream, (SocketAddr, SocketAddr))> {
    let (stream, ends) = match &settings.proxy {
        Some(policy) => PrefixedStream::after_proxy_header(stream, policy, ends).await?,
        None => (PrefixedStream::new(stream), ends),
    };
    let protocol = match scheme {
        Scheme::Https => Protocol::Http,
        Scheme::Grpc => Protocol::Grpc,
        _ => Protocol::Dot,
    };
    // The certificate of a block may be for other keys of it than those with dns://.
    let tls = settings.tls.as_ref().filter(|_| scheme != Scheme::Dns);
    let stream = match tls {
        Some(identity) => {
            let acceptor = TlsAcceptor::from(identity.config(protocol));
            ClientStream::Tls(Box::new(acceptor.accept(stream).await?))
        }
        None => ClientStream::Plain(stream),
    };
    Ok((stream, ends))
}
