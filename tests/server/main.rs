//! Listeners over real sockets.

#![allow(missing_docs, clippy::unwrap_used)]

mod client;
mod corefile;
mod grpc;
#[cfg(feature = "hickory")]
mod hickory;
mod hostile;
mod http3;
mod https;
mod identity;
mod life;
mod notify;
mod payload;
mod plugins;
mod proxy;
mod quic;
mod streams;
mod tls;
mod transfer;
mod transports;
mod tsig;
mod udp;
mod wire;
