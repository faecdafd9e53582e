//! Asks upstreams from a thread that has no scheduler: its own sockets, a table of what is under way,
//! and one wait for all of it.
//!
//! A question costs an entry in a table here, and its datagram leaves together with the others of its
//! batch. Whoever reads the answer finishes the question, in the same thread. That is the usual case
//! and no more: what is not usual from the start is not taken ([`Asker::ask`]), and what turns out not
//! to be (silence, a refusal, a code to fail over from, an eviction) is given back ([`Asker::returned`]), to be gone
//! on with by [`Ask::answer`]. An answer to the first try that comes after all is handed to whoever
//! goes on.
//!
//! Ports and ids are as hard to guess as in [`super::udp`], by the same rules: a few sockets at a time,
//! each renewed before it is learnt. All questions of a batch take the same one.

mod socket;

use std::{
    io,
    mem::MaybeUninit,
    net::UdpSocket,
    os::fd::OwnedFd,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use rustix::event::{
    Timespec,
    epoll::{self, Event, EventData, EventFlags},
};

use self::socket::{Socket, Took};
use super::{
    Ask, Failure, Upstream,
    meter::Proto,
    udp::{SOCKETS, TICK},
};
use crate::{
    datagrams::{Connected, take_errors},
    reply::Reply,
};

/// How often it is looked for questions whose first try has been silent for too long. Their patience
/// is a matter of hundreds of milliseconds.
const SWEEP: Duration = Duration::from_millis(20);

/// How long a full socket is left alone.
const PAUSE: Duration = Duration::from_millis(1);

/// Times that one socket is read before others get their turn.
const BURST: usize = 8;

/// What the clients' socket is called among those that are waited for.
const CLIENTS: u64 = u64::MAX;

/// What one thread asks; `T` is who asked it.
pub struct Asker<T> {
    epoll: OwnedFd,
    /// One for each upstream that was asked lately.
    desks: Vec<Desk>,
    /// Their sockets, and those that are not used any more and still waited at.
    sockets: Vec<Option<Socket<T>>>,
    /// Places of those sockets that have something to send.
    sending: Vec<usize>,
    /// Places of those that have something to read or an error to report.
    ready: Vec<Ready>,
    returned: Vec<(Box<Ask>, T)>,
    under_way: usize,
    swept: Instant,
    messages: Connected,
}

/// A socket's place, and whether it has an error to report.
type Ready = (usize, bool);

/// The sockets towards one upstream, by their places.
struct Desk {
    upstream: Weak<Upstream>,
    places: [Option<usize>; SOCKETS],
    /// Which of them takes the questions of this batch.
    chosen: Option<usize>,
}

impl<T> Asker<T> {
    /// An asker for the thread that reads `clients`, too.
    pub fn new(clients: &UdpSocket) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, clients, EventData::new_u64(CLIENTS), EventFlags::IN)?;
        Ok(Self {
            epoll,
            desks: Vec::new(),
            sockets: Vec::new(),
            sending: Vec::new(),
            ready: Vec::new(),
            returned: Vec::new(),
            under_way: 0,
            swept: Instant::now(),
            messages: Connected::default(),
        })
    }

    /// Whether no answer is waited for.
    pub fn is_idle(&self) -> bool {
        self.under_way == 0
    }

    /// Whether any socket is open.
    pub fn is_open(&self) -> bool {
        self.sockets.iter().any(Option::is_some)
    }

    /// Does not wait for clients any more.
    pub fn close(&mut self, clients: &UdpSocket) {
        // Where it fails, they were not waited for.
        let _ = epoll::delete(&self.epoll, clients);
    }

    /// Takes a question in, for the next [`Self::flush`]; or gives it back, because it is not of the
    /// usual kind or has no socket.
    pub fn ask(&mut self, mut ask: Box<Ask>, asker: T, now: Instant) -> Result<(), (Box<Ask>, T)> {
        let Some(place) = ask.begin(now).and_then(|upstream| {
            let upstream = Arc::clone(upstream);
            self.seat(&upstream, now)
        }) else {
            return Err((ask, asker));
        };
        let Some(socket) = &mut self.sockets[place] else {
            return Err((ask, asker));
        };
        if socket.enter(ask, asker, now) {
            self.sending.push(place);
        }
        self.under_way += 1;
        Ok(())
    }

    /// The place of the socket over which an upstream is asked in this batch.
    fn seat(&mut self, upstream: &Arc<Upstream>, now: Instant) -> Option<usize> {
        let is_its = |desk: &Desk| std::ptr::eq(desk.upstream.as_ptr(), Arc::as_ptr(upstream));
        let at = self.desks.iter().position(is_its).unwrap_or_else(|| {
            self.desks.push(Desk {
                upstream: Arc::downgrade(upstream),
                places: [None; SOCKETS],
                chosen: None,
            });
            self.desks.len() - 1
        });
        let desk = &mut self.desks[at];
        let chosen = *desk
            .chosen
            .get_or_insert_with(|| rand::random_range(0..SOCKETS));
        if let Some(place) = desk.places[chosen]
            && let Some(socket) = &mut self.sockets[place]
        {
            if socket.takes_one_more(now) {
                upstream.meter.hit(Proto::Udp);
                return Some(place);
            }
            socket.retire();
        }
        let Ok(place) = self.open(upstream, now) else {
            return self
                .other(at, now)
                .inspect(|_| upstream.meter.hit(Proto::Udp));
        };
        upstream.meter.miss(Proto::Udp);
        self.desks[at].places[chosen] = Some(place);
        Some(place)
    }

    /// Whichever socket of a desk can be used, where none can be opened.
    fn other(&mut self, at: usize, now: Instant) -> Option<usize> {
        let desk = &mut self.desks[at];
        let mut taken = desk.places.iter().enumerate();
        let (number, place) = taken.find_map(|(number, place)| {
            let place = (*place)?;
            let socket = self.sockets[place].as_ref()?;
            socket.takes_one_more(now).then_some((number, place))
        })?;
        desk.chosen = Some(number);
        Some(place)
    }

    fn open(&mut self, upstream: &Arc<Upstream>, now: Instant) -> io::Result<usize> {
        let place = self.sockets.iter().position(Option::is_none);
        let place = place.unwrap_or_else(|| {
            self.sockets.push(None);
            self.sockets.len() - 1
        });
        let udp = upstream.datagrams().ok_or(io::ErrorKind::Unsupported)?;
        let (io, heard) = udp.connected()?;
        let name = EventData::new_u64(place as u64);
        epoll::add(&self.epoll, &io, name, EventFlags::IN)?;
        self.sockets[place] = Some(Socket::new(io, heard, upstream, now));
        Ok(place)
    }

    /// Sends what was taken in.
    pub fn flush(&mut self) {
        for desk in &mut self.desks {
            desk.chosen = None;
        }
        let mut sending = std::mem::take(&mut self.sending);
        sending.retain(|place| {
            let socket = self.sockets[*place].as_mut();
            // It stays where the socket is full.
            socket.is_some_and(|socket| !socket.send(&mut self.messages, &mut self.returned))
        });
        self.sending = sending;
    }

    /// Waits for answers and for clients, until one of them is there or something may be overdue.
    /// Whether clients have come.
    pub fn wait(&mut self) -> io::Result<bool> {
        let patience = if self.sending.is_empty() {
            SWEEP
        } else {
            PAUSE
        };
        let patience = Timespec {
            tv_sec: 0,
            tv_nsec: patience.subsec_nanos().into(),
        };
        let mut room = [MaybeUninit::<Event>::uninit(); 16];
        let (events, _) = match epoll::wait(&self.epoll, &mut room, Some(&patience)) {
            Ok(events) => events,
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let mut clients = false;
        for event in events {
            match usize::try_from(event.data.u64()) {
                Ok(place) if event.data.u64() != CLIENTS => {
                    // Copied: the structure is packed.
                    let flags = event.flags;
                    self.ready.push((place, flags.contains(EventFlags::ERR)));
                }
                _ => clients = true,
            }
        }
        Ok(clients)
    }

    /// Reads what has come, each into `reply`, and hands it with whoever asked to `answered`.
    pub fn read(&mut self, reply: &mut Reply, mut answered: impl FnMut(&mut Reply, T)) {
        if self.ready.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut ready = std::mem::take(&mut self.ready);
        for (place, has_error) in ready.drain(..) {
            let Some(socket) = &mut self.sockets[place] else {
                continue;
            };
            for _ in 0..BURST {
                let count = match self.messages.receive(socket.io()) {
                    Ok(count) => count,
                    Err(error) => {
                        let is_none = matches!(
                            error.kind(),
                            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                        );
                        if !is_none {
                            // Nobody is there, for all that is under way (RFC 1122 §4.1.3.3).
                            socket.fail(&Failure::reported(&error), &mut self.returned);
                        }
                        break;
                    }
                };
                for index in 0..count {
                    match socket.take(self.messages.message(index), reply, now) {
                        Took::Answer(asker) => {
                            self.under_way -= 1;
                            answered(reply, asker);
                        }
                        Took::Return(ask, asker) => self.returned.push((ask, asker)),
                        Took::Elsewhere | Took::Nothing => {}
                    }
                }
                // Whatever comes now is found at the next wait.
                if count < Connected::RECEIVED {
                    break;
                }
            }
            if has_error {
                // Read or sent on, the socket has reported the error itself; this ends its being ready.
                take_errors(socket.io());
            }
        }
        self.ready = ready;
    }

    /// The questions that are to be gone on with in another way, with those who asked them.
    pub fn returned(&mut self) -> impl Iterator<Item = (Box<Ask>, T)> {
        self.returned.drain(..)
    }

    /// Looks for what is overdue and for sockets that can go, if it is time to.
    pub fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        self.under_way = 0;
        for place in &mut self.sockets {
            let Some(socket) = place else {
                continue;
            };
            socket.sweep(now, &mut self.returned);
            self.under_way += socket.waiting();
            if socket.can_go(now, TICK) {
                *place = None;
            }
        }
        let sockets = &self.sockets;
        self.desks.retain_mut(|desk| {
            for place in &mut desk.places {
                *place = place.filter(|place| sockets[*place].is_some());
            }
            desk.upstream.strong_count() > 0 || desk.places.iter().any(Option::is_some)
        });
    }
}
