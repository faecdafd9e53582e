//! The program as a process: command line, signals and sockets.

#![allow(clippy::unwrap_used)] // helpers of tests

mod aliases;
#[path = "../apiserver/mod.rs"]
mod apiserver;
mod cluster;
mod command_line;
mod companions;
mod control;
mod dnstap;
mod etcd;
mod forwarded;
mod grpc;
#[cfg(feature = "hickory")]
mod hickory;
mod limits;
mod load;
mod log_format;
mod loops;
mod reference;
mod reload;
mod reloads;
mod rpc;
mod server;
mod settings;
mod shortage;
mod shutdown;
mod snapshot;
mod sockets;
mod stock;
mod takeover;
mod trace;
