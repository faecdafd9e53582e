//! A live feed of answered queries, for `lodestone tail`, `lodestone top` and the page.
//!
//! While nothing watches the feed, a query costs the load of one flag.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::RwLock;

use crate::{
    query::Query,
    reply::{ReasonText, Reply},
};

/// The feed of a process.
#[derive(Default)]
pub struct QueryFeed {
    is_watched: AtomicBool,
    watchers: RwLock<Vec<Arc<dyn QueryWatcher>>>,
}

/// A client's query and the reply that was sent.
#[derive(Clone, Copy)]
pub struct AnsweredQuery<'a> {
    /// The query.
    pub query: &'a Query,
    /// The reply.
    pub reply: &'a Reply,
    /// From the reading of the query to the sending of the reply.
    pub took: Duration,
    /// Writes why there is no answer, with particulars.
    pub describe: &'a dyn Fn(&mut ReasonText),
}

/// An observer of the feed. It runs on the thread that answers queries: it must neither block nor take long.
pub trait QueryWatcher: Send + Sync {
    /// A query was answered.
    fn on_answered(&self, answered: &AnsweredQuery<'_>);
}

/// Keeps a watcher in the feed until it is dropped.
pub struct Subscription {
    feed: Arc<QueryFeed>,
    watcher: Arc<dyn QueryWatcher>,
}

impl QueryFeed {
    /// Whether anything watches.
    pub fn is_watched(&self) -> bool {
        self.is_watched.load(Relaxed)
    }

    /// Calls the watchers.
    #[cold]
    pub fn publish(&self, answered: &AnsweredQuery<'_>) {
        for watcher in &*self.watchers.read() {
            watcher.on_answered(answered);
        }
    }

    /// Adds a watcher.
    #[must_use]
    pub fn subscribe(self: &Arc<Self>, watcher: Arc<dyn QueryWatcher>) -> Subscription {
        let mut watchers = self.watchers.write();
        watchers.push(Arc::clone(&watcher));
        self.is_watched.store(true, Relaxed);
        Subscription {
            feed: Arc::clone(self),
            watcher,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut watchers = self.feed.watchers.write();
        watchers.retain(|it| !Arc::ptr_eq(it, &self.watcher));
        self.feed.is_watched.store(!watchers.is_empty(), Relaxed);
    }
}

impl AnsweredQuery<'_> {
    /// Why there is no answer, with particulars; `None` where there is one.
    pub fn reason(&self) -> Option<ReasonText> {
        if !self.reply.lacks_answer() && self.reply.extended_error.is_none() {
            return None;
        }
        let mut text = ReasonText::default();
        (self.describe)(&mut text);
        Some(text)
    }
}

impl fmt::Debug for QueryFeed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let watchers = self.watchers.read().len();
        write!(out, "QueryFeed({watchers} watchers)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    struct Count(Mutex<usize>);

    impl QueryWatcher for Count {
        fn on_answered(&self, _: &AnsweredQuery<'_>) {
            *self.0.lock() += 1;
        }
    }

    #[test]
    fn a_watcher_is_called_until_its_subscription_ends() {
        let feed = Arc::new(QueryFeed::default());
        let (query, reply) = (Query::default(), Reply::default());
        let answered = AnsweredQuery {
            query: &query,
            reply: &reply,
            took: Duration::ZERO,
            describe: &|_| {},
        };
        assert!(!feed.is_watched());
        let count = Arc::new(Count(Mutex::new(0)));
        let first = feed.subscribe(Arc::clone(&count) as _);
        let second = feed.subscribe(Arc::clone(&count) as _);
        feed.publish(&answered);
        assert_eq!(*count.0.lock(), 2);
        drop(first);
        drop(second);
        assert!(!feed.is_watched());
        feed.publish(&answered);
        assert_eq!(*count.0.lock(), 2);
    }
}
