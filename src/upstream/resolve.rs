//! Resolves the host names of upstreams: when serving begins, retried until it has succeeded once.
//!
//! Names are absolute: the search list of resolv.conf is not applied, because in a pod (`ndots:5`) most
//! names would be looked up in the cluster's domains first. The C library's resolver applies it (and
//! differs between glibc and musl), so it is not used.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};

use tokio::{runtime::Handle, time::timeout};

use super::{Failure, Host, Packet, Settings, Target, TransportPolicy, Upstream, read_nameservers};
use crate::{
    interfaces::HostAddress,
    metrics::Metrics,
    query::Question,
    reply::{Reply, Section},
    wire::{Class, Name, Rcode, Type},
};

/// Timeout of one query to one server.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Bound on the bytes of a hosts file.
const MAX_HOSTS: u64 = 4 << 20;

/// These queries do not come from clients, so they are counted in metrics that are never scraped.
static UNCOUNTED: LazyLock<Arc<Metrics>> = LazyLock::new(Metrics::new);

/// Why a host has no address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages describe them
pub enum ResolveError {
    #[error("{0} answers {1}")]
    Code(SocketAddr, Rcode),
    #[error("{0}: {1}")]
    Failed(SocketAddr, Failure),
    #[error("there are no addresses")]
    NoAddress,
}

/// The files and the port of the machine's own resolver.
#[derive(Clone, Debug)]
pub struct ResolverFiles {
    /// The hosts file, which takes precedence.
    pub hosts: PathBuf,
    /// The file that lists name servers.
    pub resolv_conf: PathBuf,
    /// The port of these name servers.
    pub port: u16,
}

impl Default for ResolverFiles {
    fn default() -> Self {
        Self {
            hosts: "/etc/hosts".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            port: 53,
        }
    }
}

/// Resolves `host` as an absolute name: with queries to `servers` in order or, if that is empty, in the
/// hosts file of `system` and then with queries to the servers of its resolv.conf.
pub async fn resolve(
    host: &Host,
    servers: &[SocketAddr],
    system: &ResolverFiles,
    runtime: &Handle,
) -> Result<Vec<HostAddress>, ResolveError> {
    let name = host.host.trim_end_matches('.');
    let name = Name::parse(name).map_err(|_| ResolveError::NoAddress)?;
    if !servers.is_empty() {
        return query_all(name, servers, runtime).await;
    }
    let found = in_hosts_file(name, &system.hosts);
    if !found.is_empty() {
        return Ok(found);
    }
    // `localhost` is not queried in the DNS (RFC 6761 section 6.3).
    if name.to_lower().as_ref().labels().last() == Some(b"localhost") {
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Ok(loopback.map(HostAddress::from).into());
    }
    let servers = system_servers(system);
    query_all(name, &servers, runtime).await
}

/// The listed name servers; without any, the one on this machine (resolv.conf(5)).
fn system_servers(system: &ResolverFiles) -> Vec<SocketAddr> {
    let listed = read_nameservers(&system.resolv_conf).unwrap_or_default();
    if listed.is_empty() {
        return vec![(Ipv4Addr::LOCALHOST, system.port).into()];
    }
    let servers = listed.iter();
    servers
        .map(|server| server.with_port(system.port))
        .collect()
}

/// The addresses of the lines that contain the name. An unreadable file has none.
fn in_hosts_file(name: Name, path: &Path) -> Vec<HostAddress> {
    let is_small = std::fs::metadata(path).is_ok_and(|file| file.len() <= MAX_HOSTS);
    let bytes = is_small.then(|| std::fs::read(path).ok()).flatten();
    let text = String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned();
    let name = name.to_lower();
    let is_it = |word: &str| Name::parse(word).is_ok_and(|it| it.to_lower() == name);
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let address = words.next().and_then(|word| word.parse().ok());
        if let Some(address) = address
            && words.any(is_it)
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

/// Queries A and AAAA of each server in order until one returns addresses: sorted, IPv4 first, without
/// duplicates.
async fn query_all(
    name: Name,
    servers: &[SocketAddr],
    runtime: &Handle,
) -> Result<Vec<HostAddress>, ResolveError> {
    let mut last = ResolveError::NoAddress;
    for server in servers {
        let upstream = Arc::new(Upstream::new(
            Target::at(*server),
            &Settings::unpooled(),
            runtime.clone(),
            &UNCOUNTED,
        ));
        let mut found: Vec<IpAddr> = Vec::new();
        for rtype in [Type::A, Type::AAAA] {
            match query(&upstream, name, rtype).await {
                Ok(reply) if reply.rcode == Rcode::NOERROR => found.extend(addresses(&reply)),
                Ok(reply) => last = ResolveError::Code(*server, reply.rcode),
                Err(failure) => {
                    last = ResolveError::Failed(*server, failure);
                    break;
                }
            }
        }
        if !found.is_empty() {
            found.sort_unstable();
            found.dedup();
            return Ok(found.into_iter().map(HostAddress::from).collect());
        }
    }
    Err(last)
}

async fn query(server: &Arc<Upstream>, name: Name, rtype: Type) -> Result<Reply, Failure> {
    let packet = Packet::probe(&Question::new(name, rtype, Class::IN), true);
    let exchange = server.query(packet, TransportPolicy::UdpThenTcp);
    let answer = timeout(TIMEOUT, exchange).await;
    answer.unwrap_or(Err(Failure::Silent))
}

/// The addresses in the answer section of a reply, whatever their owner.
pub fn addresses(reply: &Reply) -> impl Iterator<Item = IpAddr> {
    let answer = reply.section(Section::Answer).iter();
    answer.filter_map(|record| match (record.rtype, reply.data(record)) {
        (Type::A, data) => <[u8; 4]>::try_from(data).ok().map(IpAddr::from),
        (Type::AAAA, data) => <[u8; 16]>::try_from(data).ok().map(IpAddr::from),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use tokio::net::UdpSocket;

    use super::*;
    use crate::{message::read_query, upstream::UpstreamProtocol, wire::Header};

    fn host(name: &str) -> Host {
        Host {
            host: name.to_owned(),
            port: 53,
            protocol: UpstreamProtocol::Dns,
            name: None,
        }
    }

    /// Answers every A query with 192.0.2.1, other types with no data, and sends the questions to `asked`.
    async fn answer(socket: UdpSocket, asked: tokio::sync::mpsc::UnboundedSender<String>) {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let header = Header::read(&buffer[..length]).unwrap();
            let question = read_query(&buffer[..length], &header).unwrap().question;
            let _ = asked.send(format!("{} {}", question.name, question.rtype));
            let mut reply = vec![buffer[0], buffer[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0];
            reply.extend(question.name.as_wire());
            reply.extend(question.rtype.0.to_be_bytes());
            reply.extend([0, 1]);
            if question.rtype == Type::A {
                reply[7] = 1;
                reply.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
            }
            let _ = socket.send_to(&reply, from).await;
        }
    }

    #[tokio::test]
    async fn names_are_absolute_whatever_the_search_list() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let system = ResolverFiles {
            hosts: folder.path().join("hosts"),
            resolv_conf: folder.path().join("resolv.conf"),
            port: socket.local_addr().unwrap().port(),
        };
        let text = "nameserver 127.0.0.1\nsearch corp.test\noptions ndots:5\n";
        std::fs::write(&system.resolv_conf, text).unwrap();
        let (asked, mut questions) = tokio::sync::mpsc::unbounded_channel();
        let server = tokio::spawn(answer(socket, asked));
        let runtime = Handle::current();
        let address = HostAddress::from(IpAddr::from([192, 0, 2, 1]));
        for (name, asked) in [
            ("my-dns.test", "my-dns.test."),
            ("single", "single."),
            ("dotted.", "dotted."),
        ] {
            let found = resolve(&host(name), &[], &system, &runtime).await;
            assert_eq!(found, Ok(vec![address]), "{name}");
            assert_eq!(questions.recv().await.unwrap(), format!("{asked} A"));
            assert_eq!(questions.recv().await.unwrap(), format!("{asked} AAAA"));
        }
        std::fs::write(
            &system.hosts,
            "# local\n10.0.0.9 other\n10.0.0.1 a Single # b\nfe80::1%7 single\nx single\n",
        )
        .unwrap();
        let found = resolve(&host("single"), &[], &system, &runtime).await;
        let found: Vec<_> = found.unwrap().iter().map(HostAddress::to_string).collect();
        assert_eq!(found, ["10.0.0.1", "fe80::1%7"]);
        let found = resolve(&host("localhost"), &[], &system, &runtime).await;
        let found: Vec<_> = found.unwrap().iter().map(HostAddress::to_string).collect();
        assert_eq!(found, ["127.0.0.1", "::1"]);
        assert!(questions.try_recv().is_err(), "no further queries");
        server.abort();
    }
}
