//! The world outside of the lab's cluster: name servers on loopback, by hickory-server, so that every
//! exercise works without a network and has the same answers each time.
//!
//! They run on a thread of their own, apart from the server that forwards to them, and end with this value.

mod zone;

use anyhow::Context;
use async_trait::async_trait;
use hickory_server::{
    Server,
    net::runtime::Time,
    proto::{
        op::{Edns, Header, HeaderCounts, Metadata, OpCode, ResponseCode},
        rr::Record,
    },
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use serde::{Deserialize, Serialize};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::sync::{Semaphore, oneshot};
use zone::Zone;

/// First port of the name servers.
const PORT: u16 = 1153;
/// Number of ports above [`PORT`] that are tried.
const MORE_PORTS: u16 = 100;
/// Attempts to find a port that is free for UDP and TCP.
const ATTEMPTS: usize = 16;
/// Delay of every answer of the slow server: shorter than the timeouts of clients, longer than `forward` waits for
/// one upstream of several.
const DELAY: Duration = Duration::from_millis(1500);
/// Queries that a server works on at the same time; others are dropped, as by a busy server.
const MAX_PENDING: usize = 1024;
/// Time until an idle TCP connection is closed.
const IDLE: Duration = Duration::from_secs(10);
/// Replies of a TCP connection that wait to be written.
const MAX_UNWRITTEN: usize = 32;

/// Where the name servers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// A resolver of the internet: `internet.zone`.
    pub internet: SocketAddr,
    /// The name server of a company: `company.zone`.
    pub company: SocketAddr,
    /// Like `internet`, but each answer takes [`DELAY`].
    pub slow: SocketAddr,
    /// Bound and silent: it accepts datagrams and connections, and never answers.
    pub dead: SocketAddr,
}

/// The ports of the name servers.
#[derive(Clone, Copy, Debug)]
pub enum Ports {
    /// From [`PORT`] on.
    Default,
    /// Any that are free.
    Any,
    /// Those of an earlier lab.
    These(Addresses),
}

/// The running name servers.
pub struct Outside {
    addresses: Addresses,
    /// The loops end when it is dropped.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Sockets that are never read.
    _dead: Sockets,
}

type Sockets = (UdpSocket, TcpListener);

impl Outside {
    /// Starts the name servers.
    pub fn start(ports: Ports) -> anyhow::Result<Self> {
        let mut next = match ports {
            Ports::Any => 0,
            _ => PORT,
        };
        let mut bind = |known: fn(&Addresses) -> SocketAddr| match &ports {
            Ports::These(addresses) => {
                let address = known(addresses);
                bind_at(address).with_context(|| format!("cannot listen at {address}"))
            }
            _ => bind_next(&mut next).context("cannot listen at a loopback address"),
        };
        let internet = bind(|it| it.internet)?;
        let company = bind(|it| it.company)?;
        let slow = bind(|it| it.slow)?;
        let dead = bind(|it| it.dead)?;
        let addresses = Addresses {
            internet: internet.1.local_addr()?,
            company: company.1.local_addr()?,
            slow: slow.1.local_addr()?,
            dead: dead.1.local_addr()?,
        };
        let world = || Zone::parse(".", include_str!("outside/internet.zone"));
        let corp = Zone::parse("corp.test.", include_str!("outside/company.zone"))?;
        let servers = [
            (internet, NameServer::new(world()?, Role::Resolver)),
            (company, NameServer::new(corp, Role::Authority)),
            (slow, NameServer::new(world()?, Role::Slow)),
        ];
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a thread")?;
        let in_runtime = runtime.enter();
        let mut running = Vec::new();
        for (sockets, server) in servers {
            running.push(serve(sockets, server)?);
        }
        drop(in_runtime);
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("lab-outside".to_owned());
        let thread = thread.spawn(move || {
            // An error says that the sender was dropped.
            let _ = runtime.block_on(stopped);
            drop(running);
        });
        Ok(Self {
            addresses,
            stop: Some(stop),
            thread: Some(thread.context("cannot start a thread")?),
            _dead: dead,
        })
    }

    /// Where they listen.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was logged when it happened.
            let _ = thread.join();
        }
    }
}

/// Binds UDP and TCP at the first free loopback port from `next` on, or at any port if it is 0.
fn bind_next(next: &mut u16) -> io::Result<Sockets> {
    let last = PORT + MORE_PORTS;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let bound = bind_at((Ipv4Addr::LOCALHOST, *next).into());
        let retry = bound
            .as_ref()
            .is_err_and(|it| it.kind() == io::ErrorKind::AddrInUse)
            && if *next == 0 {
                attempts < ATTEMPTS
            } else {
                *next < last
            };
        if *next != 0 {
            *next += 1;
        }
        if !retry {
            return bound;
        }
    }
}

fn bind_at(address: SocketAddr) -> io::Result<Sockets> {
    let tcp = TcpListener::bind(address)?;
    let udp = UdpSocket::bind(tcp.local_addr()?)?;
    Ok((udp, tcp))
}

/// Serves by hickory-server, in the runtime of this thread.
fn serve((udp, tcp): Sockets, handler: NameServer) -> io::Result<Server<NameServer>> {
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    let mut server = Server::new(handler);
    server.register_socket(tokio::net::UdpSocket::from_std(udp)?);
    let tcp = tokio::net::TcpListener::from_std(tcp)?;
    server.register_listener(tcp, IDLE, MAX_UNWRITTEN);
    Ok(server)
}

/// How a name server behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Answers like a recursive resolver: RA, without AA.
    Resolver,
    /// The same, late.
    Slow,
    /// Answers for its own zone with AA, and REFUSED for other names.
    Authority,
}

/// One name server with its zone.
struct NameServer {
    zone: Zone,
    role: Role,
    pending: Semaphore,
}

impl NameServer {
    fn new(zone: Zone, role: Role) -> Self {
        Self {
            zone,
            role,
            pending: Semaphore::new(MAX_PENDING),
        }
    }

    /// The rcode, the answer section and the authority section for a query.
    fn answer(&self, request: &Request) -> (ResponseCode, Vec<Record>, Vec<Record>) {
        let failed = |code| (code, Vec::new(), Vec::new());
        if request.metadata.op_code != OpCode::Query {
            return failed(ResponseCode::NotImp);
        }
        let Ok(info) = request.request_info() else {
            return failed(ResponseCode::FormErr);
        };
        let (name, rtype) = (info.query.name(), info.query.query_type());
        if !self.zone.contains(name) {
            return failed(ResponseCode::Refused);
        }
        self.zone.answer(name, rtype)
    }
}

#[async_trait]
impl RequestHandler for NameServer {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        if let Ok(_pending) = self.pending.try_acquire() {
            if self.role == Role::Slow {
                tokio::time::sleep(DELAY).await;
            }
            let (code, answers, authority) = self.answer(request);
            metadata.response_code = code;
            metadata.authoritative = self.role == Role::Authority && code != ResponseCode::Refused;
            metadata.recursion_available = self.role != Role::Authority;
            let edns = request.edns.as_ref().map(|_| Edns::new());
            let builder = MessageResponseBuilder::new(&request.queries, edns.as_ref());
            let built = builder.build(metadata, &answers, &authority, [], []);
            // A reply that cannot be sent is lost, as on a network.
            if let Ok(sent) = response.send_response(built).await {
                return sent;
            }
        }
        let counts = HeaderCounts::default();
        Header { metadata, counts }.into()
    }
}

#[cfg(test)]
mod tests;
