//! Looking up the hosts that upstreams are given by: once, when serving begins, and until it has
//! succeeded once.
//!
//! Names are absolute: the search list of resolv.conf is not applied, since in a pod (`ndots:5`)
//! most names would be looked up in the cluster's domains first. That is why the C library's resolver
//! is not used, which applies it (and which differs between glibc and musl).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};

use tokio::{runtime::Handle, time::timeout};

use super::{
    Check, Failure, Host, Keeping, Packet, Settings, Target, TransportPolicy, Upstream,
    read_nameservers,
};
use crate::{
    interfaces::HostAddress,
    metrics::Metrics,
    query::Question,
    reply::{Reply, Section},
    wire::{Class, Name, Rcode, Type},
};

/// How long one server has for one question.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of a hosts file that are read at most.
const MAX_HOSTS: u64 = 4 << 20;

/// These queries are no client's: they are counted in metrics that are never scraped.
static UNCOUNTED: LazyLock<Arc<Metrics>> = LazyLock::new(Metrics::new);

/// Why a host has no addresses.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // each says it
pub enum ResolveError {
    #[error("{0} answers {1}")]
    Code(SocketAddr, Rcode),
    #[error("{0}: {1}")]
    Failed(SocketAddr, Failure),
    #[error("there are no addresses")]
    NoAddress,
}

/// Where the machine's own resolver finds names.
#[derive(Clone, Debug)]
pub struct System {
    /// The hosts file, which is looked at first.
    pub hosts: PathBuf,
    /// The file that lists name servers.
    pub resolv_conf: PathBuf,
    /// The port at which these are asked.
    pub port: u16,
}

impl Default for System {
    fn default() -> Self {
        Self {
            hosts: "/etc/hosts".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            port: 53,
        }
    }
}

/// The addresses of `host`, as an absolute name: asked of `servers` one after the other, or without
/// any found in the files of `system` and asked of the servers that it lists.
pub async fn resolve(
    host: &Host,
    servers: &[SocketAddr],
    system: &System,
    runtime: &Handle,
) -> Result<Vec<HostAddress>, ResolveError> {
    let name = host.host.trim_end_matches('.');
    let name = Name::parse(name).map_err(|_| ResolveError::NoAddress)?;
    if !servers.is_empty() {
        return ask_all(name, servers, runtime).await;
    }
    let found = in_hosts_file(name, &system.hosts);
    if !found.is_empty() {
        return Ok(found);
    }
    // Never a question for the DNS (RFC 6761 section 6.3).
    if name.to_lower().as_ref().labels().last() == Some(b"localhost") {
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Ok(loopback.map(HostAddress::from).into());
    }
    let servers = system_servers(system);
    ask_all(name, &servers, runtime).await
}

/// As resolv.conf(5) has it: without any, the name server of this machine.
fn system_servers(system: &System) -> Vec<SocketAddr> {
    let listed = read_nameservers(&system.resolv_conf).unwrap_or_default();
    if listed.is_empty() {
        return vec![(Ipv4Addr::LOCALHOST, system.port).into()];
    }
    let servers = listed.iter();
    servers
        .map(|server| server.with_port(system.port))
        .collect()
}

/// The addresses in the lines that have the name. A file that cannot be read has none.
fn in_hosts_file(name: Name, path: &Path) -> Vec<HostAddress> {
    let is_small = std::fs::metadata(path).is_ok_and(|file| file.len() <= MAX_HOSTS);
    let octets = is_small.then(|| std::fs::read(path).ok()).flatten();
    let text = String::from_utf8_lossy(octets.as_deref().unwrap_or_default()).into_owned();
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

/// IPv4 first, each address once.
async fn ask_all(
    name: Name,
    servers: &[SocketAddr],
    runtime: &Handle,
) -> Result<Vec<HostAddress>, ResolveError> {
    let mut last = ResolveError::NoAddress;
    for server in servers {
        let asked = Arc::new(Upstream::new(
            Target::at(*server),
            &settings(),
            runtime.clone(),
            &UNCOUNTED,
        ));
        let mut found: Vec<IpAddr> = Vec::new();
        for rtype in [Type::A, Type::AAAA] {
            match ask(&asked, name, rtype).await {
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

fn settings() -> Settings {
    Settings {
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
    }
}

async fn ask(server: &Arc<Upstream>, name: Name, rtype: Type) -> Result<Reply, Failure> {
    let packet = Packet::probe(&Question::new(name, rtype, Class::IN), true);
    let asking = server.query(packet, TransportPolicy::UdpThenTcp);
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

#[cfg(test)]
mod tests {
    use tokio::net::UdpSocket;

    use super::*;
    use crate::{message::read_query, upstream::Over, wire::Header};

    fn host(name: &str) -> Host {
        Host {
            host: name.to_owned(),
            port: 53,
            over: Over::Dns,
            name: None,
        }
    }

    /// Answers 192.0.2.1 to every A question, nothing to others, and passes the questions on.
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
        let system = System {
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
        assert!(questions.try_recv().is_err(), "no further questions");
        server.abort();
    }
}
