//! One socket of an [`Asker`](super::Asker): who waits at it for what, and what it has to send.

use std::{
    collections::HashMap,
    io,
    net::UdpSocket,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    datagrams::Connected,
    reply::{Reply, UpstreamSource},
    upstream::{
        Ask, Failure, Packet, Upstream,
        packet::{Judged, MAX_QUERY},
        udp::{LIFETIME, QUESTIONS},
    },
    wire::Header,
};

/// A socket, connected to its upstream. It takes at most twice [`QUESTIONS`], which bounds its table.
pub(super) struct Socket<T> {
    io: UdpSocket,
    heard: Arc<UpstreamSource>,
    upstream: Weak<Upstream>,
    opened: Instant,
    used: Instant,
    questions_left: u32,
    /// SipHash is not needed: keys are our own random ids.
    waiting: HashMap<u16, Asked<T>, foldhash::fast::RandomState>,
    unsent: Unsent,
}

/// A question under way, and whoever is told of the answer.
enum Asked<T> {
    Here(Box<Ask>, T),
    Elsewhere(Box<Elsewhere>),
}

struct Elsewhere {
    tell: oneshot::Sender<Result<Reply, Failure>>,
    packet: Arc<Packet>,
    upstream: Arc<Upstream>,
    at: Instant,
}

/// Messages that are to be sent, one behind the other.
#[derive(Default)]
struct Unsent {
    octets: Vec<u8>,
    /// The id of each, and where it ends.
    ends: Vec<(u16, usize)>,
}

/// What a message was.
pub(super) enum Took<T> {
    /// The answer, which is in the reply.
    Answer(T),
    /// One that is not to be believed without asking somebody else.
    Return(Box<Ask>, T),
    /// Somebody else's answer.
    Elsewhere,
    /// Nothing that anybody waits for.
    Nothing,
}

impl<T> Socket<T> {
    pub(super) fn new(
        io: UdpSocket,
        heard: UpstreamSource,
        upstream: &Arc<Upstream>,
        now: Instant,
    ) -> Self {
        Self {
            io,
            heard: Arc::new(heard),
            upstream: Arc::downgrade(upstream),
            opened: now,
            used: now,
            questions_left: rand::random_range(QUESTIONS..=2 * QUESTIONS),
            waiting: HashMap::default(),
            unsent: Unsent::default(),
        }
    }

    /// Whether it can be used for one more question.
    pub(super) fn takes_one_more(&self, now: Instant) -> bool {
        self.questions_left > 0 && now.saturating_duration_since(self.opened) < LIFETIME
    }

    /// It is not to be used any more, and goes with the last question that waits at it.
    pub(super) fn retire(&mut self) {
        self.questions_left = 0;
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody needs it: it was replaced, or has not been used for `idle`.
    pub(super) fn can_go(&self, now: Instant, idle: Duration) -> bool {
        let is_unused = now.saturating_duration_since(self.used) > idle;
        self.waiting.is_empty()
            && (is_unused || !self.takes_one_more(now) || self.upstream.strong_count() == 0)
    }

    /// Takes a question in, under a random id. True where it is the first that is to be sent.
    pub(super) fn enter(&mut self, ask: Box<Ask>, asker: T, now: Instant) -> bool {
        self.used = now;
        self.questions_left = self.questions_left.saturating_sub(1);
        let id = loop {
            let id = rand::random();
            if !self.waiting.contains_key(&id) {
                break id;
            }
        };
        let mut room = [0; MAX_QUERY];
        let is_first = self.unsent.ends.is_empty();
        self.unsent.push(id, ask.packet.under(id, &mut room));
        self.waiting.insert(id, Asked::Here(ask, asker));
        is_first
    }

    /// Sends what is to be sent; false where the socket has no room for all of it now. Questions that
    /// cannot be sent, and those whose upstream turns out not to be there, end in `returned`.
    pub(super) fn send(
        &mut self,
        messages: &mut Connected,
        returned: &mut Vec<(Box<Ask>, T)>,
    ) -> bool {
        let mut failed_before = false;
        let mut done = 0;
        while done < self.unsent.ends.len() {
            match messages.send(&self.io, self.unsent.messages(done)) {
                Ok(count) => {
                    done += count;
                    failed_before = false;
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => {
                        self.unsent.forget(done);
                        return false;
                    }
                    _ if failed_before => {
                        let (id, _) = self.unsent.ends[done];
                        if let Some(asked) = self.waiting.remove(&id) {
                            asked.fail(&Failure::from(&error), returned);
                        }
                        done += 1;
                        failed_before = false;
                    }
                    _ => {
                        failed_before = true;
                        self.unsent.forget(done);
                        done = 0;
                        let failure = Failure::reported(&error);
                        // It may be the answer to an earlier datagram: then it is its askers' (RFC
                        // 1122 §4.1.3.3), and this one has not been sent yet.
                        if failure.blames_upstream() {
                            self.fail(&failure, returned);
                        }
                    }
                },
            }
        }
        self.unsent.forget(done);
        true
    }

    /// Ends every wait for what was sent.
    pub(super) fn fail(&mut self, failure: &Failure, returned: &mut Vec<(Box<Ask>, T)>) {
        let unsent = &self.unsent;
        let was_sent = |id: &u16, _: &mut Asked<T>| !unsent.has(*id);
        for (_, asked) in self.waiting.extract_if(was_sent) {
            asked.fail(failure, returned);
        }
    }

    /// The socket itself.
    pub(super) fn io(&self) -> &UdpSocket {
        &self.io
    }

    /// Finds the question that a message answers. One to another question changes nothing: the wait for
    /// the right one goes on. One that cannot be read ends the try.
    pub(super) fn take(&mut self, message: &[u8], reply: &mut Reply, now: Instant) -> Took<T> {
        let header = Header::read(message);
        let judged = header.and_then(|header| {
            let asked = self.waiting.get(&header.id)?;
            let judged = asked.packet().judge(message, &header, true, reply);
            (judged != Judged::Other).then_some((header.id, judged))
        });
        if !matches!(judged, Some((_, Judged::Answer)))
            && let Some(upstream) = self.upstream.upgrade()
        {
            upstream.meter.wrong_reply();
        }
        let Some((id, judged)) = judged else {
            return Took::Nothing;
        };
        let Some(asked) = self.waiting.remove(&id) else {
            return Took::Nothing;
        };
        if judged == Judged::Unreadable {
            return asked.fail_try(&Failure::Malformed);
        }
        reply.source = Some(Arc::clone(&self.heard));
        match asked {
            Asked::Here(ask, asker) => {
                if let Some((at, upstream)) = ask.asked() {
                    upstream.answered(reply, now.saturating_duration_since(at));
                }
                if ask.is_answered_by(reply) {
                    ask.answered(reply);
                    return Took::Answer(asker);
                }
                let mut ask = ask;
                let _ = ask.go_on().send(Ok(std::mem::take(reply)));
                Took::Return(ask, asker)
            }
            Asked::Elsewhere(other) => {
                let took = now.saturating_duration_since(other.at);
                other.upstream.answered(reply, took);
                // They may have given up.
                let _ = other.tell.send(Ok(std::mem::take(reply)));
                Took::Elsewhere
            }
        }
    }

    /// Returns what is overdue, and forgets what nobody waits for any more.
    pub(super) fn sweep(&mut self, now: Instant, returned: &mut Vec<(Box<Ask>, T)>) {
        let is_overdue = |_: &u16, asked: &mut Asked<T>| match asked {
            Asked::Here(ask, _) => ask.is_overdue(now) || ask.is_evicted(),
            Asked::Elsewhere(other) => other.tell.is_closed(),
        };
        let overdue: Vec<_> = self.waiting.extract_if(is_overdue).collect();
        for (id, asked) in overdue {
            let Asked::Here(mut ask, asker) = asked else {
                continue;
            };
            if let Some((at, upstream)) = ask.asked() {
                let (packet, upstream) = (Arc::clone(&ask.packet), Arc::clone(upstream));
                let tell = ask.go_on();
                let other = Elsewhere {
                    tell,
                    packet,
                    upstream,
                    at,
                };
                self.waiting.insert(id, Asked::Elsewhere(Box::new(other)));
            }
            returned.push((ask, asker));
        }
    }
}

impl<T> Asked<T> {
    fn packet(&self) -> &Packet {
        match self {
            Self::Here(ask, _) => &ask.packet,
            Self::Elsewhere(other) => &other.packet,
        }
    }

    /// The try has come to nothing.
    fn fail(self, failure: &Failure, returned: &mut Vec<(Box<Ask>, T)>) {
        if let Took::Return(ask, asker) = self.fail_try(failure) {
            returned.push((ask, asker));
        }
    }

    /// The same: what has become of the question then.
    fn fail_try(self, failure: &Failure) -> Took<T> {
        match self {
            Self::Here(mut ask, asker) => {
                let _ = ask.go_on().send(Err(failure.clone()));
                Took::Return(ask, asker)
            }
            Self::Elsewhere(other) => {
                let _ = other.tell.send(Err(failure.clone()));
                Took::Elsewhere
            }
        }
    }
}

impl Unsent {
    fn push(&mut self, id: u16, message: &[u8]) {
        self.octets.extend_from_slice(message);
        self.ends.push((id, self.octets.len()));
    }

    fn has(&self, id: u16) -> bool {
        self.ends.iter().any(|(unsent, _)| *unsent == id)
    }

    /// The messages from the one at `first` on.
    fn messages(&self, first: usize) -> impl Iterator<Item = &[u8]> {
        (first..self.ends.len()).map(|at| {
            let start = match at.checked_sub(1) {
                Some(before) => self.ends[before].1,
                None => 0,
            };
            &self.octets[start..self.ends[at].1]
        })
    }

    /// Forgets the first `done` messages.
    fn forget(&mut self, done: usize) {
        if done == self.ends.len() {
            self.octets.clear();
            self.ends.clear();
        } else if let Some(before) = done.checked_sub(1) {
            let (_, gone) = self.ends[before];
            self.octets.drain(..gone);
            self.ends.drain(..done);
            for (_, end) in &mut self.ends {
                *end -= gone;
            }
        }
    }
}
