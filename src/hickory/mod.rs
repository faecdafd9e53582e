//! hickory-server's types: replies as its messages, and zones of the cluster as its zone handlers.
//!
//! ```text
//! record   one record, as hickory-proto has it
//! response a reply in wire format, as hickory-server sends it
//! zone     zones of the cluster for a Catalog: the face of this library for hickory-based servers
//! ```
//!
//! A server made of hickory-server serves the Services of a cluster, or of a directory of manifests, with
//! [`ClusterZones`]:
//!
//! ```no_run
//! use hickory_server::Server;
//! use lodestone::{cluster::{Backend, Settings}, hickory::ClusterZones, zone::AnswerRules};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = Settings::new(Backend::InCluster);
//! let zones = ["cluster.local", "in-addr.arpa"];
//! let zones = ClusterZones::start(&zones, settings, AnswerRules::default(), &[])?;
//! zones.synced().await;
//! let mut server = Server::new(zones.catalog());
//! server.register_socket(tokio::net::UdpSocket::bind("[::1]:1053").await?);
//! server.block_until_done().await?;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/hickory_zone.rs` is the whole of such a server. The version of hickory-server must be the one
//! that this library is built with, re-exported as [`hickory_server`].

mod record;
mod response;
mod zone;

pub use hickory_server;

pub(crate) use response::Response;
pub use zone::{ClusterZone, ClusterZones, ZonesError};
