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

use super::{Engine, QueryOwner};
use crate::{
    reply::{Reply, Why},
    upstream::{Failure, UpstreamQuery, group::servfail, inbox::Inbox, pending},
};

/// How long the thread pauses where the system lacks the resources to wait.
const PAUSE: Duration = Duration::from_millis(100);

/// The shared engine, as its callers see it.
pub(crate) struct SharedEngine {
    submitted: Mutex<Vec<(Box<UpstreamQuery>, ReplyReceiver)>>,
    inbox: Arc<Inbox>,
}

/// A future that waits for a reply.
enum ReplyReceiver {
    Reply(oneshot::Sender<Reply>),
    Result(oneshot::Sender<Result<Reply, Failure>>),
}

impl QueryOwner for ReplyReceiver {
    fn is_gone(&self) -> bool {
        match self {
            Self::Reply(sender) => sender.is_closed(),
            Self::Result(sender) => sender.is_closed(),
        }
    }
}

impl ReplyReceiver {
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
        self.push(query, ReplyReceiver::Reply(sender));
        receiver
    }

    /// Submits a query of our own, whose failure is of interest.
    pub(crate) fn probe(
        &self,
        query: Box<UpstreamQuery>,
    ) -> oneshot::Receiver<Result<Reply, Failure>> {
        let (sender, receiver) = oneshot::channel();
        self.push(query, ReplyReceiver::Result(sender));
        receiver
    }

    fn push(&self, query: Box<UpstreamQuery>, caller: ReplyReceiver) {
        self.submitted.lock().push((query, caller));
        self.inbox.wake();
    }

    fn run(&self, mut engine: Engine<ReplyReceiver>) {
        let mut reply = Reply::default();
        loop {
            let turn = AssertUnwindSafe(|| self.turn(&mut engine, &mut reply));
            if catch_unwind(turn).is_err() {
                tracing::error!("a reply from an upstream made the server panic; it was dropped");
                reply = Reply::default();
                let recover = AssertUnwindSafe(|| engine.recover(Instant::now()));
                let _ = catch_unwind(recover);
            }
        }
    }

    fn turn(&self, engine: &mut Engine<ReplyReceiver>, reply: &mut Reply) {
        if let Err(error) = engine.wait(true) {
            tracing::warn!(
                "cannot wait for upstreams: {}",
                crate::error_text::io(&error)
            );
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

impl UpstreamQuery {
    /// Carries the query out in the process's shared engine: for callers that are futures. Where no upstream
    /// answers, the reply is SERVFAIL with the reason.
    pub async fn reply(mut self: Box<Self>) -> Reply {
        let in_flight = self.in_flight.clone();
        // Given back with this future, which may be dropped before the engine is through with the query.
        let _permit = self.permit.take();
        let cancelled = Cancelled;
        let submitted = match SharedEngine::get() {
            Ok(engine) => engine.submit(self),
            Err(error) => {
                let failure = Failure::from(&error);
                return servfail(failure.why(), &failure.to_string());
            }
        };
        let reply = submitted.await;
        std::mem::forget(cancelled);
        reply.unwrap_or_else(|_| {
            // A panic in the engine's thread lost the query.
            if let Some(in_flight) = in_flight {
                in_flight.count_panic();
            }
            servfail(Why::Internal, "a query to upstreams made the server panic")
        })
    }
}

/// Has the engines look for cancelled queries when it is dropped.
struct Cancelled;

impl Drop for Cancelled {
    fn drop(&mut self) {
        pending::count_eviction();
    }
}
