//! The engine of queries that do not come in as datagrams: those of stream clients, sub-queries, health
//! checks. It has a thread of its own, which starts with the first query and lives as long as the process.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Engine, Inbox, Owner};
use crate::{
    reply::Reply,
    upstream::{Failure, UpstreamQuery},
};

/// How long the thread pauses where the system lacks the resources to wait.
const PAUSE: Duration = Duration::from_millis(100);

/// The shared engine, as its callers see it.
pub(crate) struct SharedEngine {
    submitted: Mutex<Vec<(Box<UpstreamQuery>, Caller)>>,
    inbox: Arc<Inbox>,
}

/// A future that waits for a reply.
enum Caller {
    Reply(oneshot::Sender<Reply>),
    Result(oneshot::Sender<Result<Reply, Failure>>),
}

impl Owner for Caller {
    fn is_gone(&self) -> bool {
        match self {
            Self::Reply(sender) => sender.is_closed(),
            Self::Result(sender) => sender.is_closed(),
        }
    }
}

impl Caller {
    fn deliver(self, reply: &mut Reply, failure: Option<Failure>) {
        let reply = std::mem::take(reply);
        // The caller may be gone.
        match (self, failure) {
            (Self::Reply(sender), _) => drop(sender.send(reply)),
            (Self::Result(sender), None) => drop(sender.send(Ok(reply))),
            (Self::Result(sender), Some(failure)) => drop(sender.send(Err(failure))),
        }
    }
}

impl SharedEngine {
    /// The engine, which is started where it does not run yet.
    pub(crate) fn get() -> io::Result<Arc<Self>> {
        static SHARED: Mutex<Option<Arc<SharedEngine>>> = Mutex::new(None);
        let mut shared = SHARED.lock();
        if let Some(shared) = &*shared {
            return Ok(Arc::clone(shared));
        }
        let engine = Engine::new(None)?;
        let started = Arc::new(Self {
            submitted: Mutex::default(),
            inbox: Arc::clone(&engine.inbox),
        });
        let running = Arc::clone(&started);
        thread::Builder::new()
            .name("upstream".to_owned())
            .spawn(move || running.run(engine))?;
        *shared = Some(Arc::clone(&started));
        Ok(started)
    }

    /// Submits a query; the reply is SERVFAIL where no upstream answers.
    pub(crate) fn submit(&self, query: Box<UpstreamQuery>) -> oneshot::Receiver<Reply> {
        let (sender, receiver) = oneshot::channel();
        self.push(query, Caller::Reply(sender));
        receiver
    }

    /// Submits a query of our own, whose failure is of interest.
    pub(crate) fn probe(
        &self,
        query: Box<UpstreamQuery>,
    ) -> oneshot::Receiver<Result<Reply, Failure>> {
        let (sender, receiver) = oneshot::channel();
        self.push(query, Caller::Result(sender));
        receiver
    }

    fn push(&self, query: Box<UpstreamQuery>, caller: Caller) {
        self.submitted.lock().push((query, caller));
        self.inbox.wake();
    }

    fn run(&self, mut engine: Engine<Caller>) {
        let mut reply = Reply::default();
        loop {
            let turn = AssertUnwindSafe(|| self.turn(&mut engine, &mut reply));
            if catch_unwind(turn).is_err() {
                tracing::error!("a reply from an upstream made the server panic; it was dropped");
                reply = Reply::default();
            }
        }
    }

    fn turn(&self, engine: &mut Engine<Caller>, reply: &mut Reply) {
        if let Err(error) = engine.wait() {
            tracing::warn!("cannot wait for upstreams: {}", crate::plain::io(&error));
            thread::sleep(PAUSE);
        }
        let now = Instant::now();
        engine.process_wakeups(now);
        for (query, caller) in std::mem::take(&mut *self.submitted.lock()) {
            engine.submit(query, caller, now);
        }
        engine.process(reply, now, |caller, reply, failure| {
            caller.deliver(reply, failure);
        });
        engine.close_idle(now);
    }
}
