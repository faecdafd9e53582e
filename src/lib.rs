//! Lodestone, the DNS server of a Kubernetes cluster. This page is the map.
//!
//! ```text
//! cli        the command line: serve, check, fmt, diff, explain, records, tail, top, dig, doctor, migrate,
//!            node-address, lab
//! explain    how a name is resolved: search list, recorded walk
//! process    the serving process: start, reload, lame duck, drain
//! control    control API of a running server: records, live queries, explain, the page
//! reload     detects changes of the Corefile
//! pipeline   a built configuration: listeners, their zones, and the plugin chains of these
//! server     listeners: UDP, TCP, TLS, HTTP, QUIC; handling of messages; routing; limits
//! admin      HTTP pages: health, ready, metrics, profiles
//! http_page  the pages that a configuration requires, and their addresses
//! plugin     the plugins, one file or directory per Corefile word; chain.rs runs a block's
//! hickory    zones of the cluster as zone handlers of hickory-server
//! upstream   queries to upstream servers: attempts, connections, server selection, health checks
//! zone       names and records of the cluster's objects (kubernetes, k8s_external); no I/O
//! authority  zones of records from zone files and transfers; no I/O
//! cluster    Kubernetes objects, events, state; sources: API server, manifests; no DNS
//! config     typed configuration of a Corefile: keys, settings, plugins; lints; order.rs is the table of
//!            directives and of the plugins' order
//! corefile   the Corefile language, independent of plugins
//! message    DNS messages: bytes to query or reply, and back
//! query      a query: the request as received, and its state in a chain
//! query_feed answered queries one by one, for live views
//! reply      the response: rcode, records, and the reason for it
//! tsig       transaction signatures with shared keys (RFC 8945)
//! tls        certificates and keys from their files, of servers and of clients; reloading
//! trust      verification of TLS certificates
//! edns       EDNS options of the OPT record
//! wire       wire format of names, integers and records
//! logging    log output: text and JSON
//! memory     the memory limit of the process: cgroup, GOMEMLIMIT, machine
//! error_text texts for errors of the operating system and of libraries
//! pem        certificates and private keys of PEM files, and error texts for files without
//! backoff    delays between attempts
//! datagrams  batched datagram I/O (recvmmsg, sendmmsg): the only unsafe code
//! files      files that are reread when they change: polling, notifications
//! interfaces network interfaces of the machine
//! features   cargo features, and the errors where one is disabled
//! metrics    metric families, their names and labels
//! ```
//!
//! Imports point one way: `corefile` <- `plugin` <- `config`; `cluster` <- `zone` <- `plugin::kubernetes`;
//! `upstream` <- `plugin::forward`; `plugin` <- `server` <- `pipeline` <- `process` <- `cli`. `corefile`, `zone`,
//! `authority` and `wire` know neither tokio nor kube: they are values and functions.
//!
//! The path of one query:
//!
//! ```text
//! server/udp     reads a batch of datagrams
//! server/handle  bytes to Query, or FORMERR, or no reply          (common to all transports)
//! server/route   longest matching zone -> its block
//! plugin/chain   on_query of each plugin in order, until one answers, drops or suspends the query;
//!                then on_response of those before it, in reverse
//! zone/lookup    (from plugin/kubernetes) names to records, from the published cluster state, as
//!                many as fit the client's response size
//! server/handle  Reply to bytes, truncated to the client's size
//! server/udp     writes a batch of datagrams
//! ```
//!
//! A cluster name is answered on the thread that read its datagram, without an allocation. A forwarded query is
//! sent by the same thread (`upstream/engine`), which resumes the chain when it reads the reply, and which polls the
//! futures that other queries are suspended on. The async runtime runs connections, and attempts over TCP, TLS,
//! HTTPS and QUIC. A zone transfer is written part by part (`server/transfer`).
//!
//! # As a library
//!
//! `hickory` is for other programs: zones of a cluster for servers made of hickory-server, with what it takes
//! ([`cluster::Settings`], [`zone::AnswerRules`]). All other public modules are so for the tests, benchmarks and
//! examples of this crate, and change without notice.

/// The version of CoreDNS to which Lodestone is compared, as in `docs/differences.md`. Comments name another version
/// only for what that version introduced.
pub const COREDNS: &str = "1.15.0";

pub(crate) mod admin;
pub mod authority;
mod backoff;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod control;
pub mod corefile;
pub(crate) mod datagrams;
pub mod edns;
mod error_text;
pub mod explain;
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
mod pem;
pub mod pipeline;
pub mod plugin;
pub mod process;
pub mod query;
pub mod query_feed;
pub(crate) mod reload;
pub mod reply;
pub mod server;
pub mod tls;
pub(crate) mod trust;
pub mod tsig;
pub mod upstream;
pub mod wire;
pub mod zone;
