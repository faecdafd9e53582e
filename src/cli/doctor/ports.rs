//! The addresses that the server listens on: free, or served by a process that answers.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs, UdpSocket},
    time::Instant,
};

use futures_util::future::join_all;
use tokio::{net::TcpStream, time::timeout};

use super::{
    Facts, NO_COREFILE,
    probe::{DEADLINE, Probe, Took},
    report::Finding,
};
use crate::{
    corefile::Transport,
    error_text,
    query::Question,
    upstream::TransportPolicy,
    wire::{Class, Name, Type},
};

const PORT: &str = "port";

/// A listener of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Listener {
    address: SocketAddr,
    /// As in the Corefile: `dns`, `tls`, `health`, ...
    kind: String,
    udp: bool,
    tcp: bool,
    is_plain_dns: bool,
}

/// A question that a server answers by itself, whatever becomes of its upstreams.
fn about_server() -> Question {
    let name = Name::parse("status.lodestone").unwrap_or(Name::ROOT);
    Question::new(name, Type::TXT, Class::CH)
}

/// Checks all listeners.
pub async fn check(facts: &Facts) -> Vec<Finding> {
    let Some(listeners) = listeners(facts) else {
        let why = NO_COREFILE;
        return vec![Finding::skipped(PORT, "", why)];
    };
    join_all(listeners.iter().map(|listener| listener.check(facts))).await
}

fn listeners(facts: &Facts) -> Option<BTreeSet<Listener>> {
    let config = facts.config.as_ref()?;
    let mut found = BTreeSet::new();
    for block in &config.blocks {
        let everywhere = [IpAddr::from(Ipv4Addr::UNSPECIFIED).into()];
        let bound = match block.settings.bind.as_slice() {
            [] => &everywhere[..],
            bound => bound,
        };
        for key in &block.keys {
            let quic = matches!(key.transport, Transport::Quic | Transport::Https3);
            let is_plain_dns = key.transport == Transport::Dns;
            found.extend(bound.iter().map(|address| Listener {
                address: address.with_port(key.port_or(facts.port)),
                kind: key.transport.to_string(),
                udp: quic || is_plain_dns,
                tcp: !quic,
                is_plain_dns,
            }));
        }
        for page in block.pages() {
            let host = match page.listen.host.as_str() {
                "" => "0.0.0.0",
                host => host,
            };
            let Some(address) = (host, page.listen.port)
                .to_socket_addrs()
                .ok()
                .and_then(|mut found| found.next())
            else {
                continue;
            };
            found.insert(Listener {
                address,
                kind: page.page.plugin().to_owned(),
                udp: false,
                tcp: true,
                is_plain_dns: false,
            });
        }
    }
    // Port 0 is chosen by the system.
    found.retain(|listener| listener.address.port() != 0);
    Some(found)
}

impl Listener {
    async fn check(&self, facts: &Facts) -> Finding {
        let subject = format!("{} {}", self.kind, self.address);
        let Err(error) = self.bind() else {
            return Finding::ok(PORT, subject, "free; no server is running here");
        };
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => return self.served(facts, subject).await,
            io::ErrorKind::PermissionDenied => {
                "Add the capability NET_BIND_SERVICE, set the sysctl net.ipv4.ip_unprivileged_port_start, or use \
                 a port from 1024 up (-dns.port)"
            }
            io::ErrorKind::AddrNotAvailable => {
                "Correct bind: no interface of this machine has the address"
            }
            _ => "Correct bind, or this machine's network",
        };
        Finding::fail(PORT, subject, error_text::io(&error), remedy)
    }

    /// Binds the sockets for a moment, without sharing them as the server does.
    fn bind(&self) -> io::Result<()> {
        if self.udp {
            UdpSocket::bind(self.address)?;
        }
        if self.tcp {
            TcpListener::bind(self.address)?;
        }
        Ok(())
    }

    /// The address is taken: whether a process answers there.
    async fn served(&self, facts: &Facts, subject: String) -> Finding {
        let mut server = self.address;
        if server.ip().is_unspecified() {
            server.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        if self.is_plain_dns {
            let own = about_server();
            let by = |policy| Probe::plain(server, &own, policy, &facts.metrics);
            let (udp, tcp) = tokio::join!(by(TransportPolicy::Udp), by(TransportPolicy::Tcp));
            let detail = format!("served: UDP {udp}, TCP {tcp}");
            if udp.is_answered() && tcp.is_answered() {
                return Finding::ok(PORT, subject, detail);
            }
            let remedy = format!(
                "Find the process that has the port and does not answer: ss -lnp 'sport = :{}'",
                server.port()
            );
            let detail = detail.replacen("served", "taken", 1);
            return Finding::fail(PORT, subject, detail, remedy);
        }
        if !self.tcp {
            return Finding::ok(PORT, subject, "served, as far as it shows over UDP");
        }
        let begun = Instant::now();
        match timeout(DEADLINE, TcpStream::connect(server)).await {
            Ok(Ok(_)) => {
                let took = Took(begun.elapsed());
                Finding::ok(
                    PORT,
                    subject,
                    format!("served: accepts a connection in {took}"),
                )
            }
            other => {
                let why = match other {
                    Ok(Err(error)) => error_text::io(&error),
                    _ => format!("no connection in {} s", DEADLINE.as_secs()),
                };
                let remedy = format!(
                    "Find the process that has the port: ss -lntp 'sport = :{}'",
                    server.port()
                );
                Finding::fail(PORT, subject, format!("taken: {why}"), remedy)
            }
        }
    }
}
