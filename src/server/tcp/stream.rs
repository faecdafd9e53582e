//! The byte stream of an accepted connection: behind a PROXY header, and within TLS.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use crate::server::proxy::{ProxyPolicy, Start, Treatment};

/// A socket whose first bytes may have been read already, in search of a PROXY header.
pub(in crate::server) struct PrefixedStream {
    head: Bytes,
    stream: TcpStream,
}

/// A connection's stream, with TLS or without.
pub(in crate::server) enum ClientStream {
    Plain(PrefixedStream),
    Tls(Box<TlsStream<PrefixedStream>>),
}

/// Closing without sending what is unsent.
pub(in crate::server) trait Abort {
    /// Makes closing reset the connection.
    fn abort(&self);
}

impl Abort for TcpStream {
    fn abort(&self) {
        // It fails if the connection is gone already.
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Abort for ClientStream {
    fn abort(&self) {
        match self {
            Self::Plain(stream) => stream.stream.abort(),
            Self::Tls(stream) => stream.get_ref().0.stream.abort(),
        }
    }
}

impl PrefixedStream {
    /// A socket from which nothing was read.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            head: Bytes::new(),
            stream,
        }
    }

    /// Reads the PROXY header, if there is one. Returns the socket behind it and the addresses of client and
    /// server, `ends` unless the header has others. Waits for the client's first bytes.
    pub(super) async fn after_proxy_header(
        mut stream: TcpStream,
        policy: &ProxyPolicy,
        ends: (SocketAddr, SocketAddr),
    ) -> io::Result<(Self, (SocketAddr, SocketAddr))> {
        let treatment = policy.of(ends.0.ip());
        if treatment == Treatment::Skip {
            return Ok((Self::new(stream), ends));
        }
        let mut head = BytesMut::new();
        let header = loop {
            match Start::read(&head).map_err(io::Error::other)? {
                Start::Bare => break None,
                Start::Header(header) => break Some(header),
                Start::Unfinished => {
                    if stream.read_buf(&mut head).await? == 0 {
                        break None; // the next read finds the end again
                    }
                }
            }
        };
        let mut ends = ends;
        if let Some(header) = header {
            if treatment == Treatment::Reject {
                return Err(io::Error::other("its PROXY header is not wanted"));
            }
            head.advance(header.length);
            if let (Treatment::Use, Some(named)) = (treatment, header.addresses) {
                ends = (named.client, named.asked);
            }
        }
        let head = head.freeze();
        Ok((Self { head, stream }, ends))
    }
}

impl AsyncRead for PrefixedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.head.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let count = self.head.len().min(buffer.remaining());
        buffer.put_slice(&self.head.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PrefixedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, octets),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, octets),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
