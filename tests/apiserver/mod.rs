//! An API server for tests: lists and watches as the real one does, and misbehaves on request.
//!
//! It knows resource versions, pages with `limit` and `continue`, watches as chunked streams,
//! bookmarks, streamed lists, label and field selectors, and 410 for what it has forgotten. It
//! stores whatever it is given and has no opinion on it.

#![allow(dead_code)] // each user of this module takes what it needs
#![allow(clippy::unwrap_used)] // a test that asks for nonsense is to fail

mod respond;
mod store;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use axum::serve::ListenerExt;
use lodestone::cluster::Kind;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
pub use store::Store;
use tokio::sync::watch;

/// A running server; it stops when it is dropped.
pub struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

/// What all its connections share.
struct Shared {
    inner: Mutex<Inner>,
    /// Wakes watches and those who wait for requests.
    changed: watch::Sender<u64>,
}

struct Inner {
    store: Store,
    streamed_lists: StreamedLists,
    /// Misbehaviour that is yet to come, in order.
    faults: Vec<(On, Fault)>,
    /// Every request that has come, path and query.
    requests: Vec<String>,
    /// What the last one was authorized with.
    authorization: Option<String>,
    /// Each number is a bookmark to be sent by all watches.
    bookmarks: u64,
    /// Watches that began before this number grew break off.
    hang_ups: u64,
    page: usize,
    /// Every page of a list but the first is gone before it is asked for.
    refuse_pages: bool,
    /// A kind that is an extension and not installed.
    unknown: Option<Kind>,
}

/// How it takes `sendInitialEvents`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamedLists {
    /// As a server of today does.
    Spoken,
    /// Refused with this status, as one does that has the feature switched off.
    Refused(u16),
    /// Ignored: everything is streamed, but no bookmark ends the list.
    Ignored,
}

/// Which request of a kind misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// The first page of a list.
    List(Kind),
    /// A later page.
    Page(Kind),
    /// A watch from a version.
    Watch(Kind),
    /// A watch with a list at its head.
    Streamed(Kind),
}

/// A misbehaviour; each comes once.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answers with this status.
    Status(u16),
    /// Never answers.
    Silence,
    /// Answers with a good head and never sends a body.
    Stall,
    /// Cuts the connection in the middle of the first object.
    Cut,
    /// Ends a watch properly, at once.
    End,
    /// Puts this in front of everything else: an object of a list, or a line of a watch.
    Insert(String),
    /// An ERROR event with this code.
    Error(u16),
    /// Sends each event twice.
    Twice,
    /// Waits for two events and sends the later one first.
    Reorder,
    /// Sends a line, or an object, of so many octets first.
    Long(usize),
}

impl ApiServer {
    /// Starts one on a port of its own.
    pub async fn start() -> Self {
        Self::bind("127.0.0.1:0".parse().unwrap()).await
    }

    /// Starts one on this address.
    pub async fn bind(address: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            inner: Mutex::new(Inner {
                store: Store::default(),
                streamed_lists: StreamedLists::Spoken,
                faults: Vec::new(),
                requests: Vec::new(),
                authorization: None,
                bookmarks: 0,
                hang_ups: 0,
                page: usize::MAX,
                refuse_pages: false,
                unknown: None,
            }),
            changed: watch::Sender::new(0),
        });
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        // As the real one does: an event must not wait for the last one to be acknowledged.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            shared,
            task,
        }
    }

    /// Where it listens, as `endpoint` takes it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Creates an object, or replaces it.
    pub fn apply(&self, kind: Kind, object: &Value) {
        self.change(|inner| inner.store.apply(kind, object));
    }

    /// Deletes an object.
    pub fn delete(&self, kind: Kind, namespace: &str, name: &str) {
        self.change(|inner| inner.store.delete(kind, namespace, name));
    }

    /// Forgets every version but the present one: who asks for an older one gets 410.
    pub fn compact(&self) {
        self.change(|inner| inner.store.compact());
    }

    /// Makes all watches send a bookmark.
    pub fn bookmark(&self) {
        self.change(|inner| inner.bookmarks += 1);
    }

    /// Breaks all watches off and changes the store while none is there to see it.
    pub fn unseen(&self, change: impl FnOnce(&mut Store)) {
        self.change(|inner| {
            inner.hang_ups += 1;
            change(&mut inner.store);
        });
    }

    /// How it takes streamed lists from now on.
    pub fn streamed_lists(&self, how: StreamedLists) {
        self.change(|inner| inner.streamed_lists = how);
    }

    /// Knows nothing of this kind, or of all kinds again.
    pub fn unknown(&self, kind: Option<Kind>) {
        self.change(|inner| inner.unknown = kind);
    }

    /// No page is longer than this, whatever the limit asked for.
    pub fn longest_page(&self, items: usize) {
        self.change(|inner| inner.page = items);
    }

    /// Answers 410 for every page of a list but the first, which then has no more items than
    /// [`longest_page`](Self::longest_page) where the client set a limit. A list without limit is
    /// given whole.
    pub fn refuse_pages(&self, refuse: bool) {
        self.change(|inner| inner.refuse_pages = refuse);
    }

    /// Misbehaves once, on the next such request. Faults of one kind of request queue up.
    pub fn fault(&self, on: On, fault: Fault) {
        self.change(|inner| inner.faults.push((on, fault)));
    }

    /// The requests that have come so far.
    pub fn requests(&self) -> Vec<String> {
        self.shared.inner.lock().requests.clone()
    }

    /// The header `authorization` of the last request.
    pub fn authorization(&self) -> Option<String> {
        self.shared.inner.lock().authorization.clone()
    }

    /// Waits until so many requests have come whose path and query contain this.
    pub async fn requested(&self, part: &str, times: usize) {
        let mut changed = self.shared.changed.subscribe();
        let count = || {
            self.requests()
                .iter()
                .filter(|it| it.contains(part))
                .count()
        };
        let wait = async {
            while count() < times {
                changed.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), wait)
            .await
            .is_err()
        {
            panic!(
                "{part} was asked for {} times of {times}: {:#?}",
                count(),
                self.requests()
            );
        }
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.shared.inner.lock());
        self.shared.changed.send_modify(|revision| *revision += 1);
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers any request.
async fn answer(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let kind = match uri.path() {
        "/api/v1/namespaces" => Kind::Namespace,
        "/api/v1/services" => Kind::Service,
        "/apis/discovery.k8s.io/v1/endpointslices" => Kind::EndpointSlice,
        "/api/v1/pods" => Kind::Pod,
        "/apis/multicluster.x-k8s.io/v1alpha1/serviceimports" => Kind::ServiceImport,
        _ => return respond::status(404),
    };
    let on = match (
        query.contains_key("watch"),
        query.contains_key("sendInitialEvents"),
    ) {
        (true, true) => On::Streamed(kind),
        (true, false) => On::Watch(kind),
        (false, _) if query.contains_key("continue") => On::Page(kind),
        (false, _) => On::List(kind),
    };
    let fault = {
        let mut inner = shared.inner.lock();
        inner.requests.push(uri.to_string());
        let authorization = headers.get(AUTHORIZATION);
        inner.authorization = authorization.map(|it| it.to_str().unwrap().to_owned());
        if inner.unknown == Some(kind) {
            Some(Fault::Status(404))
        } else if inner.refuse_pages && matches!(on, On::Page(_)) {
            Some(Fault::Status(410))
        } else {
            let at = inner.faults.iter().position(|it| it.0 == on);
            at.map(|at| inner.faults.remove(at).1)
        }
    };
    shared.changed.send_modify(|revision| *revision += 1);
    match fault {
        Some(Fault::Status(code)) => return respond::status(code),
        Some(Fault::Silence) => std::future::pending::<()>().await,
        _ => {}
    }
    match on {
        On::List(_) | On::Page(_) => respond::list(&shared, kind, &query, fault),
        On::Watch(_) | On::Streamed(_) => respond::watch(shared, kind, &query, fault),
    }
}
