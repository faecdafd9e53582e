//! An API server for tests: lists and watches as the real one does, and misbehaves on request.
//!
//! It supports resource versions, pages with `limit` and `continue`, watches as chunked streams,
//! bookmarks, streamed lists, label and field selectors, and 410 for compacted versions. Objects are
//! stored without validation.

#![allow(dead_code)] // each user of this module takes what it needs
#![allow(clippy::unwrap_used)] // a test that asks for nonsense is to fail

mod respond;
mod store;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::header::{ACCEPT, AUTHORIZATION};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use axum::serve::ListenerExt;
use lodestone::cluster::Kind;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
pub use store::Store;
use store::Stored;
use tokio::sync::watch;

/// A running server, stopped on drop.
pub struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

/// State shared by all connections.
struct Shared {
    inner: Mutex<Inner>,
    /// Wakes watches and tasks that wait for requests.
    changed: watch::Sender<u64>,
}

struct Inner {
    store: Store,
    streamed_lists: StreamedLists,
    /// Pending faults, in order.
    faults: Vec<(On, Fault)>,
    /// Path and query of every request.
    requests: Vec<String>,
    /// The `authorization` header of the last request.
    authorization: Option<String>,
    /// Incremented to send a bookmark on all watches.
    bookmarks: u64,
    /// Incremented to break all watches.
    hang_ups: u64,
    page: usize,
    /// The last lists that have a further page, by their number.
    paged_lists: VecDeque<(u64, Arc<Vec<Arc<Stored>>>)>,
    next_list: u64,
    /// Total size of the lists.
    list_bytes: usize,
    /// Pages after the first are answered with 410.
    refuse_pages: bool,
    /// A kind that is not installed.
    unknown: Option<Kind>,
    /// Verbs and resources that access reviews deny.
    denied: Vec<(String, String)>,
}

/// Handling of `sendInitialEvents`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamedLists {
    /// Supported, as in current servers.
    Spoken,
    /// Refused with this status, as with the feature disabled.
    Refused(u16),
    /// Ignored: objects are streamed, but no bookmark ends the list.
    Ignored,
}

/// The request that a fault applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// The first page of a list.
    List(Kind),
    /// A later page.
    Page(Kind),
    /// A watch from a version.
    Watch(Kind),
    /// A watch that starts with a list.
    Streamed(Kind),
}

/// A fault; each occurs once.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answers with this status.
    Status(u16),
    /// Never answers.
    Silence,
    /// Answers with a valid head and never sends a body.
    Stall,
    /// Breaks the connection in the middle of the first object.
    Cut,
    /// Ends a watch regularly, at once.
    End,
    /// Sends this first: an object of a list, or a line of a watch.
    Insert(String),
    /// An ERROR event with this code.
    Error(u16),
    /// Sends each event twice.
    Twice,
    /// Sends two events in reverse order.
    Reorder,
    /// Sends a line, or an object, of this many bytes first.
    Long(usize),
}

impl ApiServer {
    /// Starts a server on a free port.
    pub async fn start() -> Self {
        Self::bind("127.0.0.1:0".parse().unwrap()).await
    }

    /// Starts a server on this address.
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
                paged_lists: VecDeque::new(),
                next_list: 1,
                list_bytes: 0,
                refuse_pages: false,
                unknown: None,
                denied: Vec::new(),
            }),
            changed: watch::Sender::new(0),
        });
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        // TCP_NODELAY, as the real one: an event must not wait for the acknowledgement of the last.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            shared,
            task,
        }
    }

    /// Its URL, for `endpoint`.
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

    /// Compacts: requests for an older version get 410.
    pub fn compact(&self) {
        self.change(|inner| inner.store.compact());
    }

    /// Makes all watches send a bookmark.
    pub fn bookmark(&self) {
        self.change(|inner| inner.bookmarks += 1);
    }

    /// Breaks all watches, and changes the store before they resume.
    pub fn unseen(&self, change: impl FnOnce(&mut Store)) {
        self.change(|inner| {
            inner.hang_ups += 1;
            change(&mut inner.store);
        });
    }

    /// Sets the handling of streamed lists.
    pub fn streamed_lists(&self, how: StreamedLists) {
        self.change(|inner| inner.streamed_lists = how);
    }

    /// Uninstalls this kind; None installs all kinds.
    pub fn unknown(&self, kind: Option<Kind>) {
        self.change(|inner| inner.unknown = kind);
    }

    /// Makes access reviews deny a verb on a kind.
    pub fn deny(&self, verb: &str, kind: Kind) {
        let denied = (verb.to_owned(), kind.resource().to_owned());
        self.change(|inner| inner.denied.push(denied));
    }

    /// Limits the items of a page, whatever the requested limit.
    pub fn longest_page(&self, items: usize) {
        self.change(|inner| inner.page = items);
    }

    /// Answers 410 for pages after the first, which then has at most
    /// [`longest_page`](Self::longest_page) items if the client set a limit. A list without a limit is
    /// complete.
    pub fn refuse_pages(&self, refuse: bool) {
        self.change(|inner| inner.refuse_pages = refuse);
    }

    /// Adds a fault for the next such request. Faults for one kind of request are queued.
    pub fn fault(&self, on: On, fault: Fault) {
        self.change(|inner| inner.faults.push((on, fault)));
    }

    /// The requests received so far.
    pub fn requests(&self) -> Vec<String> {
        self.shared.inner.lock().requests.clone()
    }

    /// Total size in bytes of the lists sent so far, without those that were streamed.
    pub fn list_bytes(&self) -> usize {
        self.shared.inner.lock().list_bytes
    }

    /// Changes the store without an event for watches.
    pub fn lose_events(&self, change: impl FnOnce(&mut Store)) {
        self.change(|inner| inner.store.lose_events(change));
    }

    /// The header `authorization` of the last request.
    pub fn authorization(&self) -> Option<String> {
        self.shared.inner.lock().authorization.clone()
    }

    /// Waits until this many requests have been received whose path and query contain `part`.
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
                "{part} was requested {} times of {times}: {:#?}",
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
    body: Bytes,
) -> Response {
    let kind = match uri.path() {
        "/version" => return respond::version(),
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => {
            return respond::review(&shared.inner.lock().denied, &body);
        }
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
        On::List(_) | On::Page(_) => {
            let accept = headers.get(ACCEPT).map(|it| it.to_str().unwrap());
            let metadata_only =
                accept.is_some_and(|it| it.contains("as=PartialObjectMetadataList"));
            respond::list(&shared, kind, &query, fault, metadata_only)
        }
        On::Watch(_) | On::Streamed(_) => respond::watch(shared, kind, &query, fault),
    }
}
