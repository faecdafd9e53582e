//! A connection before anything is said on it: who is at its other end, and whether it is encrypted.

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

use crate::server::proxy::{Start, Treatment, Trust};

/// A socket of which the first octets may have been read already.
pub(in crate::server) struct Front {
    head: Bytes,
    stream: TcpStream,
}

/// What is spoken on.
pub(in crate::server) enum Wire {
    Bare(Front),
    Encrypted(Box<TlsStream<Front>>),
}

/// Ends without sending what is left to send.
pub(in crate::server) trait Abort {
    /// From now on, to close is to reset.
    fn abort(&self);
}

impl Abort for TcpStream {
    fn abort(&self) {
        // Where it fails, the connection is gone already.
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Abort for Wire {
    fn abort(&self) {
        match self {
            Self::Bare(front) => front.stream.abort(),
            Self::Encrypted(stream) => stream.get_ref().0.stream.abort(),
        }
    }
}

impl Wire {
    #[cfg(feature = "https")]
    /// What is spoken within TLS, as the handshake agreed on it (ALPN).
    pub(in crate::server) fn protocol(&self) -> Option<&[u8]> {
        match self {
            Self::Encrypted(stream) => stream.get_ref().1.alpn_protocol(),
            Self::Bare(_) => None,
        }
    }
}

impl Front {
    /// A socket of which nothing was read.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            head: Bytes::new(),
            stream,
        }
    }

    /// Reads the PROXY header, if there is one: the socket behind it, and its two ends, client
    /// first, in the place of `ends`. A client that says nothing is waited for.
    pub(super) async fn behind_proxy(
        mut stream: TcpStream,
        trust: &Trust,
        ends: (SocketAddr, SocketAddr),
    ) -> io::Result<(Self, (SocketAddr, SocketAddr))> {
        let treatment = trust.of(ends.0.ip());
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
                        break None; // whoever reads on finds the end again
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
            if let (Treatment::Use, Some(told)) = (treatment, header.addresses) {
                ends = (told.client, told.asked);
            }
        }
        let head = head.freeze();
        Ok((Self { head, stream }, ends))
    }
}

impl AsyncRead for Front {
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

impl AsyncWrite for Front {
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

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Bare(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Encrypted(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Bare(stream) => Pin::new(stream).poll_write(context, octets),
            Self::Encrypted(stream) => Pin::new(stream).poll_write(context, octets),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Bare(stream) => Pin::new(stream).poll_flush(context),
            Self::Encrypted(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Bare(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Encrypted(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
