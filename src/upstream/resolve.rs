//! Looking up the hosts that upstreams are given by: once, when serving begins, and until it has
//! succeeded once.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{runtime::Handle, time::timeout};

use super::{Check, Failure, Host, Keeping, Packet, Settings, Target, Upstream, Way};
use crate::{
    metrics::Metrics,
    query::Question,
    reply::{Reply, Section},
    wire::{Class, Name, Rcode, Type},
};

/// How long one server has for one question.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a host has no addresses.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // each says it
pub enum ResolveError {
    #[error("{0}")]
    System(String),
    #[error("{0} says {1}")]
    Code(SocketAddr, Rcode),
    #[error("{0}: {1}")]
    Failed(SocketAddr, Failure),
    #[error("there are no addresses")]
    NoAddress,
}

/// The addresses of `host`: asked of `servers` one after the other, or of the system without any.
pub async fn resolve(
    host: &Host,
    servers: &[SocketAddr],
    runtime: &Handle,
) -> Result<Vec<IpAddr>, ResolveError> {
    let found = if servers.is_empty() {
        let looked_up = tokio::net::lookup_host((host.host.as_str(), host.port)).await;
        let addresses = looked_up.map_err(|error| ResolveError::System(error.to_string()))?;
        addresses.map(|address| address.ip()).collect()
    } else {
        ask_all(host, servers, runtime).await?
    };
    if found.is_empty() {
        return Err(ResolveError::NoAddress);
    }
    Ok(Vec::from_iter(found))
}

/// IPv4 first, each address once.
async fn ask_all(
    host: &Host,
    servers: &[SocketAddr],
    runtime: &Handle,
) -> Result<BTreeSet<IpAddr>, ResolveError> {
    let name = Name::parse(&host.host).map_err(|_| ResolveError::NoAddress)?;
    let mut last = ResolveError::NoAddress;
    for server in servers {
        let mut found = BTreeSet::new();
        for rtype in [Type::A, Type::AAAA] {
            match ask(name, rtype, *server, runtime).await {
                Ok(reply) if reply.rcode == Rcode::NOERROR => found.extend(addresses(&reply)),
                Ok(reply) => last = ResolveError::Code(*server, reply.rcode),
                Err(failure) => {
                    last = ResolveError::Failed(*server, failure);
                    break;
                }
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(last)
}

async fn ask(
    name: Name,
    rtype: Type,
    server: SocketAddr,
    runtime: &Handle,
) -> Result<Reply, Failure> {
    let settings = Settings {
        keeping: Keeping {
            expire: Duration::ZERO,
            max_age: Duration::ZERO,
            max_idle: 0,
        },
        max_fails: 0,
        check: Check::default(),
        by_stream: false,
        source: None,
        tls_name: None,
        tls: None,
        doh_method: super::DohMethod::default(),
    };
    // These questions are no client's: they are counted where nobody looks.
    let metrics = Metrics::new();
    let upstream = Upstream::new(Target::at(server), &settings, runtime.clone(), &metrics);
    let packet = Arc::new(Packet::probe(&Question::new(name, rtype, Class::IN), true));
    let asking = upstream.exchange(&packet, Way::DatagramFirst);
    let answer = timeout(PATIENCE, asking).await;
    answer.unwrap_or(Err(Failure::Silent))
}

fn addresses(reply: &Reply) -> impl Iterator<Item = IpAddr> {
    let answer = reply.section(Section::Answer).iter();
    answer.filter_map(|record| match (record.rtype, reply.data(record)) {
        (Type::A, data) => <[u8; 4]>::try_from(data).ok().map(IpAddr::from),
        (Type::AAAA, data) => <[u8; 16]>::try_from(data).ok().map(IpAddr::from),
        _ => None,
    })
}
