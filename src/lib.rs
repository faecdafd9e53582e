//! Lodestone, the DNS server of a Kubernetes cluster. This page is the map.
//!
//! ```text
//! cli        the command line: serve, check, fmt, diff, lab
//! process    the serving process: start, replacement of the configuration, drain
//! reload     detects changes of the Corefile
//! pipeline   a built configuration: listeners, their zones, and the plugin chains of these
//! server     listeners: udp, tcp, tls, http, quic; the entrance of queries; routing; limits
//! admin      HTTP pages: health, ready, metrics, profiles
//! http_page  which of these pages a configuration requires, and at which addresses
//! plugin     the plugins, one file a Corefile word; chain.rs runs a block's
//! hickory    hickory-server's types: the cluster as its zone handlers
//! upstream   asking other servers: exchange, pool, policy, health
//! zone       names and records of the cluster's objects (kubernetes, k8s_external); no I/O
//! authority  zones of records from zone files and transfers; no I/O
//! cluster    Kubernetes objects, events, state; sources: API server, manifests; no DNS
//! config     the Corefile's meaning: typed keys, settings and plugins; lints; order.rs is the table of
//!            directives and of the plugins' order
//! corefile   the Corefile language, independent of plugins
//! message    DNS messages: bytes to query or reply, and back
//! query      a query: the request as received, and its state on the way through a chain
//! reply      the response: rcode, records, and the reason for it
//! tsig       transaction signatures with shared keys (RFC 8945)
//! tls        a server's certificate: its files, what it asks of clients, reloading
//! trust      verification of TLS certificates
//! edns       EDNS options of the OPT record
//! wire       wire format of names, integers and records
//! logging    log output: text and JSON
//! memory     how much memory the process may use: cgroup, GOMEMLIMIT, machine
//! plain      messages for errors of the system and of libraries
//! backoff    delays between attempts
//! datagrams  batched datagram I/O (recvmmsg, sendmmsg): the only unsafe code
//! files      files that are read again when they change: polling, notifications
//! interfaces network interfaces of the machine
//! features   the parts that a build can leave out
//! metrics    metric families, their names and labels
//! ```
//!
//! Imports point one way: `corefile` <- `plugin` <- `config`; `cluster` <- `zone` <- `plugin::kubernetes`;
//! `upstream` <- `plugin::forward`; `plugin` <- `server` <- `pipeline` <- `process` <- `cli`. `corefile`, `zone`,
//! `authority` and `wire` know neither tokio nor kube: they are values and functions.
//!
//! The way of one query:
//!
//! ```text
//! server/udp     a batch of datagrams in
//! server/handle  octets -> Query, or FORMERR, or nothing          (every transport enters here)
//! server/route   longest matching zone -> its block
//! plugin/chain   inward: on_query of each plugin -> Pass | Answer | Drop | Forward(upstreams) | Wait(future)
//!                outward: on_response of those that passed, in reverse
//! zone/lookup    (from plugin/kubernetes) names to records, from the published cluster state, as
//!                many as fit the client's response size
//! server/handle  Reply -> octets, cut to the client's size; the batch out
//! ```
//!
//! A cluster name is answered where its datagram was read, without an allocation. A forwarded one is
//! asked by the same thread (`server/udp/asking`, `upstream/asker`), which goes on outward when it reads
//! the answer. Only what waits for anything else, or longer than usual, or came by a stream meets the
//! scheduler. A zone transfer is written part by part (`server/transfer`).
//!
//! # As a library
//!
//! `hickory` is for other programs: zones of a cluster for servers made of hickory-server, with what it takes
//! ([`cluster::Settings`], [`zone::AnswerRules`]). All other public modules are so for the tests, benchmarks and
//! examples of this crate, and change without notice.

/// The version of CoreDNS that Lodestone is compared with, as in `docs/differences.md`. Elsewhere a version
/// stands only with what that version brought.
pub const COREDNS: &str = "1.15.0";

pub(crate) mod admin;
pub mod authority;
mod backoff;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod corefile;
pub(crate) mod datagrams;
pub mod edns;
pub mod features;
mod files;
#[cfg(feature = "hickory")]
pub mod hickory;
pub mod http_page;
pub mod interfaces;
pub(crate) mod logging;
pub mod memory;
pub mod message;
pub mod metrics;
pub mod pipeline;
mod plain;
pub mod plugin;
pub mod process;
pub mod query;
pub(crate) mod reload;
pub mod reply;
pub mod server;
pub mod tls;
pub(crate) mod trust;
pub mod tsig;
pub mod upstream;
pub mod wire;
pub mod zone;
