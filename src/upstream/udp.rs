//! Questions by datagram: a few connected sockets per upstream, renewed before they are learnt.
//!
//! A blind forger must hit the id (16 bits) and the port of the one socket that the question went
//! over (some 28,000 ephemeral ports by default), so about 31 bits, for each datagram and within
//! the time that the answer takes. Sockets are connected: the kernel drops what does not come from
//! the upstream's own address and port, and does not tell scanners that the port is open. A socket
//! takes questions for half a minute or about a thousand of them and is then replaced by one on
//! another port of the kernel's random choice. Identical questions are under way once only (see
//! [`super::flight`]), so that no birthday odds are offered (CVE-2023-30464). Mixed case in names
//! would add bits and is left out: the client's own spelling is handed on.

use std::{
    cell::RefCell,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{io::Interest, net::UdpSocket, runtime::Handle, time::Instant};

use super::{
    failure::Failure,
    meter::{Meter, Proto},
    packet::{MAX_QUERY, Packet},
    waiters::{Delivery, Waiters},
};
use crate::{
    datagrams::{report_errors, take_errors},
    interfaces::local_end,
    reply::{Reply, UpstreamSource},
    wire::MAX_MESSAGE,
};

/// Sockets of one upstream that take questions at a time.
pub(super) const SOCKETS: usize = 4;
/// How long a socket takes questions.
pub(super) const LIFETIME: Duration = Duration::from_secs(30);
/// Questions that a socket takes: between one and two times this, so that nobody can count along.
pub(super) const QUESTIONS: u32 = 768;
/// How often a socket looks whether it can go.
pub(super) const TICK: Duration = Duration::from_secs(2);
/// Datagrams read in one go before others get their turn.
const BURST: usize = 64;

thread_local! {
    /// One thread reads one datagram at a time: the largest fits, and only what is used is paid.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; MAX_MESSAGE].into());
}

/// The sockets towards one upstream.
#[derive(Debug)]
pub(super) struct Udp {
    server: SocketAddr,
    source: Option<IpAddr>,
    runtime: Handle,
    meter: Arc<Meter>,
    sockets: [Mutex<Option<Arc<Socket>>>; SOCKETS],
}

#[derive(Debug)]
struct Socket {
    io: UdpSocket,
    waiters: Arc<Waiters>,
    opened: Instant,
    questions_left: AtomicU32,
}

impl Udp {
    pub(super) fn new(
        server: SocketAddr,
        source: Option<IpAddr>,
        runtime: Handle,
        meter: Arc<Meter>,
    ) -> Arc<Self> {
        Arc::new(Self {
            server,
            source,
            runtime,
            meter,
            sockets: Default::default(),
        })
    }

    /// Asks once and waits for as long as the caller does.
    pub(super) async fn exchange(self: &Arc<Self>, packet: &Arc<Packet>) -> Result<Reply, Failure> {
        let (socket, ticket) = self.enter(packet)?;
        let mut failed_before = false;
        while let Err(error) = socket.send(packet, ticket.id()) {
            if error.kind() == io::ErrorKind::WouldBlock {
                let writable = socket.io.writable().await;
                writable.map_err(|error| Failure::from(&error))?;
            } else if failed_before {
                return Err(Failure::from(&error));
            } else {
                failed_before = true;
                let failure = Failure::reported(&error);
                // It may be the answer to an earlier datagram: then it is its askers' (RFC 1122
                // §4.1.3.3), and this one has not been sent yet.
                if failure.blames_upstream() {
                    socket.waiters.fail(&failure, Some(ticket.serial()));
                }
            }
        }
        drop(socket);
        ticket.await
    }

    /// A place on one of the sockets, which is opened where there is none that can be used.
    fn enter(
        self: &Arc<Self>,
        packet: &Arc<Packet>,
    ) -> Result<(Arc<Socket>, super::waiters::Ticket), Failure> {
        let at = rand::random_range(0..SOCKETS);
        let mut place = self.sockets[at].lock();
        if let Some(socket) = place.as_ref().filter(|socket| socket.takes_one_more()) {
            match socket.waiters.enter(packet) {
                Ok(ticket) => {
                    self.meter.hit(Proto::Udp);
                    return Ok((Arc::clone(socket), ticket));
                }
                Err(Failure::Closed) => {}
                Err(failure) => return Err(failure),
            }
        }
        let socket = match self.open() {
            Ok(socket) => socket,
            Err(error) => {
                drop(place);
                return self.enter_other(packet).ok_or(Failure::from(&error));
            }
        };
        self.meter.miss(Proto::Udp);
        let ticket = socket.waiters.enter(packet)?;
        let reader = read(Arc::clone(&socket), Arc::downgrade(self), at);
        self.runtime.spawn(reader);
        *place = Some(Arc::clone(&socket));
        Ok((socket, ticket))
    }

    /// A place on whichever socket can be used, where none can be opened.
    fn enter_other(&self, packet: &Arc<Packet>) -> Option<(Arc<Socket>, super::waiters::Ticket)> {
        self.sockets.iter().find_map(|place| {
            let place = place.lock();
            let socket = place.as_ref().filter(|socket| socket.takes_one_more())?;
            let ticket = socket.waiters.enter(packet).ok()?;
            self.meter.hit(Proto::Udp);
            Some((Arc::clone(socket), ticket))
        })
    }

    /// A socket on a port of the kernel's choice, and where what it hears comes from.
    pub(super) fn connected(&self) -> io::Result<(std::net::UdpSocket, UpstreamSource)> {
        let socket = std::net::UdpSocket::bind(local_end(self.source, self.server))?;
        socket.connect(self.server)?;
        socket.set_nonblocking(true)?;
        report_errors(&socket, self.server)?;
        let heard = self.meter.heard(socket.local_addr().ok(), Proto::Udp);
        Ok((socket, heard))
    }

    fn open(&self) -> io::Result<Arc<Socket>> {
        let (socket, heard) = self.connected()?;
        let waiters = Arc::new(Waiters::default());
        waiters.hears(heard);
        let _inside = self.runtime.enter();
        Ok(Arc::new(Socket {
            io: UdpSocket::from_std(socket)?,
            waiters,
            opened: Instant::now(),
            questions_left: AtomicU32::new(rand::random_range(QUESTIONS..=2 * QUESTIONS)),
        }))
    }

    /// Takes a socket out of its place, if it is still there.
    fn forget(&self, at: usize, socket: &Arc<Socket>) {
        let mut place = self.sockets[at].lock();
        if place.as_ref().is_some_and(|one| Arc::ptr_eq(one, socket)) {
            *place = None;
        }
    }
}

impl Drop for Udp {
    fn drop(&mut self) {
        for place in &self.sockets {
            if let Some(socket) = place.lock().take() {
                socket.waiters.close(&Failure::Closed);
            }
        }
    }
}

impl Socket {
    fn takes_one_more(&self) -> bool {
        let left = self.questions_left.load(Ordering::Relaxed);
        self.questions_left
            .store(left.saturating_sub(1), Ordering::Relaxed);
        left > 0 && self.opened.elapsed() < LIFETIME
    }

    /// An ICMP error says that nobody is there, for all that is under way. It shows as an error of
    /// the socket, without anything to be read, and as an entry in its queue of errors.
    fn take_refusal(&self) {
        let take = || {
            let error = self.io.take_error()?;
            let is_reported = take_errors(&self.io) > 0;
            match error {
                Some(error) => Err(error),
                // Whatever sent meanwhile has met the error itself.
                None if is_reported => Ok(()),
                None => Err(io::ErrorKind::WouldBlock.into()),
            }
        };
        let taken: io::Result<()> = self.io.try_io(Interest::ERROR, take);
        if let Err(error) = taken
            && error.kind() != io::ErrorKind::WouldBlock
        {
            self.waiters.fail(&Failure::reported(&error), None);
        }
    }

    fn send(&self, packet: &Packet, id: u16) -> io::Result<()> {
        // Not held while waiting: a question under way is small.
        let mut room = [0; MAX_QUERY];
        self.io.try_send(packet.under(id, &mut room)).map(drop)
    }
}

/// Reads until nobody waits any more and nobody will ask.
async fn read(socket: Arc<Socket>, owner: Weak<Udp>, at: usize) {
    let mut tick = tokio::time::interval(TICK);
    tick.tick().await;
    loop {
        tokio::select! {
            biased;
            ready = socket.io.ready(Interest::READABLE | Interest::ERROR) => {
                if ready.is_err() || owner.strong_count() == 0 {
                    break;
                }
                socket.take_refusal();
                drain(&socket, &owner);
            }
            _ = tick.tick() => {
                if owner.strong_count() == 0 {
                    break;
                }
                // Whoever has taken nobody in for a tick is idle or has been replaced.
                let idle = socket.waiters.load().moved.is_none_or(|moved| moved.elapsed() > TICK);
                if idle && socket.waiters.close_if_empty() {
                    break;
                }
            }
        }
    }
    socket.waiters.close(&Failure::Closed);
    if let Some(udp) = owner.upgrade() {
        udp.forget(at, &socket);
    }
}

/// Takes what has come.
fn drain(socket: &Socket, owner: &Weak<Udp>) {
    BUFFER.with_borrow_mut(|buffer| {
        for _ in 0..BURST {
            match socket.io.try_recv(buffer) {
                Ok(length) => {
                    if socket.waiters.deliver(&buffer[..length]) == Delivery::Wrong
                        && let Some(udp) = owner.upgrade()
                    {
                        udp.meter.wrong_reply();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => socket.waiters.fail(&Failure::reported(&error), None),
            }
        }
    });
}
