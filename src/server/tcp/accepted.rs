//! An accepted connection up to the first query: PROXY header and TLS handshake, with one timeout for both
//! (`first_query`). Until then the connection counts as idle, so it can be evicted at the connection limit.

use std::{io, net::SocketAddr, pin::pin, time::Duration};

use tokio::{
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};
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
        connection_settings::ConnectionSettings, handle::MessageHandler,
    },
    tls::AlpnProtocol,
};

/// Timeout for a PROXY header and a TLS handshake when the listener stops: the last connections have just been accepted.
const HANDSHAKE_AT_STOP: Duration = Duration::from_secs(1);

/// An accepted connection.
pub(super) struct AcceptedConnection {
    pub(super) stream: TcpStream,
    pub(super) scheme: Scheme,
    pub(super) handler: MessageHandler,
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
            let caller = caller(self.handler, self.ends, Transport::Tcp);
            let streams = self.settings.streams;
            return Connection::new(self.stream, caller, streams, self.permits)
                .serve(stop)
                .await;
        }
        // Boxed because this future is far larger than that of plain TCP.
        Box::pin(self.serve_within(stop)).await
    }

    async fn serve_within(self, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        let Self {
            stream,
            scheme,
            handler,
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
            let stopped = async {
                let _ = stop.wait_for(|stop| *stop).await;
                sleep(HANDSHAKE_AT_STOP).await;
            };
            tokio::select! {
                biased;
                established = establishing => established??,
                () = stopped => return Ok(()),
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
        let caller = caller(handler, ends, transport);
        match transport {
            #[cfg(feature = "https")]
            Transport::Https => {
                let is_http2 = stream.protocol() == Some(b"h2");
                http::serve_https(stream, is_http2, caller, streams, permits, stop).await
            }
            #[cfg(feature = "grpc")]
            Transport::Grpc => http::serve_grpc(stream, caller, streams, permits, stop).await,
            _ => {
                let connection = Connection::new(stream, caller, streams, permits);
                connection.serve(stop).await
            }
        }
    }
}

fn caller(handler: MessageHandler, ends: (SocketAddr, SocketAddr), transport: Transport) -> Caller {
    Caller {
        handler,
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
        Scheme::Https => AlpnProtocol::Http,
        Scheme::Grpc => AlpnProtocol::Grpc,
        _ => AlpnProtocol::Dot,
    };
    // A block with a certificate may also have keys with dns://, which are served without TLS.
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
