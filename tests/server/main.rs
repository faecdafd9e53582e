//! Real sockets, real octets: what goes in to a listener and what comes out of it.

#![allow(missing_docs, clippy::unwrap_used)]

mod client;
mod life;
mod notify;
mod plugins;
mod streams;
mod tls;
mod transfer;
mod tsig;
mod udp;
mod wire;
