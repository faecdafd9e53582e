//! Spans on their way to the collector: a bounded backlog, posted in batches as JSON.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime::Handle,
    sync::{Notify, oneshot},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{Config, Form};
use crate::tls::ClientFiles;

/// How long one post may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Spans in one post at most, unless a batch has more.
const AT_ONCE: usize = 1000;

/// The backlog; its task posts what is left and ends when this goes.
pub(super) struct Reporter {
    backlog: Arc<Backlog>,
    task: Mutex<Option<Task>>,
}

/// The task that posts: it ends when the first one goes, and so does the second one's other end.
struct Task {
    held: oneshot::Sender<()>,
    done: oneshot::Receiver<()>,
}

/// Spans that wait, each as JSON, with the number that it came under.
struct Backlog {
    spans: Mutex<VecDeque<(u64, String)>>,
    next: AtomicU64,
    most: usize,
    batch: usize,
    full: Notify,
    dropped: AtomicU64,
}

impl Reporter {
    /// Begins to post.
    pub(super) fn open(config: &Config, runtime: &Handle) -> Result<Self, anyhow::Error> {
        let collector = Collector::new(&config.endpoint, config.form)?;
        let backlog = Arc::new(Backlog {
            spans: Mutex::default(),
            next: AtomicU64::new(0),
            most: config.backlog,
            batch: config.batch,
            full: Notify::new(),
            dropped: AtomicU64::new(0),
        });
        let (held, gone) = oneshot::channel();
        let (finish, done) = oneshot::channel();
        let posting = post_all(collector, Arc::clone(&backlog), config.interval, gone);
        runtime.spawn(async move {
            posting.await;
            // Nobody may be waiting for it.
            let _ = finish.send(());
        });
        Ok(Self {
            backlog,
            task: Mutex::new(Some(Task { held, done })),
        })
    }

    /// Posts what is left, and ends.
    pub(super) fn end(&self) -> impl Future<Output = ()> + Send + 'static {
        let task = self.task.lock().take();
        async move {
            if let Some(Task { held, done }) = task {
                drop(held);
                let _ = done.await;
            }
        }
    }

    /// Adds a span; the oldest makes room for it.
    pub(super) fn push(&self, span: &Value) {
        let text = span.to_string();
        let backlog = &self.backlog;
        let mut spans = backlog.spans.lock();
        let number = backlog.next.fetch_add(1, Ordering::Relaxed);
        spans.push_back((number, text));
        if spans.len() > backlog.most {
            spans.pop_front();
            backlog.dropped.fetch_add(1, Ordering::Relaxed);
        }
        if spans.len() >= backlog.batch {
            backlog.full.notify_one();
        }
    }
}

impl Backlog {
    /// The spans to post next, and the number of the last of them.
    fn first(&self) -> (Vec<String>, u64) {
        let spans = self.spans.lock();
        let first = spans.iter().take(self.batch.max(AT_ONCE));
        let list: Vec<_> = first.map(|(_, text)| text.clone()).collect();
        let last = list.len().checked_sub(1).and_then(|last| spans.get(last));
        (list, last.map_or(0, |(number, _)| *number))
    }
}

async fn post_all(
    collector: Collector,
    backlog: Arc<Backlog>,
    interval: Duration,
    mut gone: oneshot::Receiver<()>,
) {
    let mut fails = false;
    loop {
        let ends = tokio::select! {
            _ = &mut gone => true,
            () = tokio::time::sleep(interval) => false,
            // A collector that fails is not asked again before its time.
            () = backlog.full.notified(), if !fails => false,
        };
        let (spans, last) = backlog.first();
        if !spans.is_empty() {
            let posted = timeout(PATIENCE, collector.post(&spans)).await;
            match posted.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())) {
                Ok(()) => {
                    fails = false;
                    // What came meanwhile stands behind; what was pushed out, before.
                    let mut waiting = backlog.spans.lock();
                    while waiting.front().is_some_and(|(number, _)| *number <= last) {
                        waiting.pop_front();
                    }
                }
                Err(error) if !fails => {
                    fails = true;
                    let address = &collector.address;
                    tracing::warn!(
                        target: "plugin/trace",
                        "Cannot post spans to {address}: {}; trying again",
                        crate::plain::chain(&error)
                    );
                }
                Err(_) => {}
            }
            let dropped = backlog.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                tracing::warn!(target: "plugin/trace", "Dropped spans: {dropped}");
            }
        }
        if ends {
            return;
        }
    }
}

/// Where spans are posted.
struct Collector {
    address: Uri,
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    method: Method,
}

impl Collector {
    fn new(address: &str, form: Form) -> Result<Self, anyhow::Error> {
        let address: Uri = address.parse()?;
        let secure = match address.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => bail!("neither http:// nor https://"),
        };
        let host = address.host().context("there is no host")?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let port = address.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tls = if secure {
            Some(TlsConnector::from(ClientFiles::default().load()?))
        } else {
            None
        };
        Ok(Self {
            address,
            host,
            port,
            tls,
            method: match form {
                Form::Zipkin => Method::POST,
                Form::Datadog(_) => Method::PUT,
            },
        })
    }

    async fn post(&self, spans: &[String]) -> Result<(), anyhow::Error> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        match &self.tls {
            None => self.send(stream, spans).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone())?;
                self.send(tls.connect(name, stream).await?, spans).await
            }
        }
    }

    async fn send<S>(&self, stream: S, spans: &[String]) -> Result<(), anyhow::Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let body = format!("[{}]", spans.join(","));
        let path = self
            .address
            .path_and_query()
            .map_or("/", |path| path.as_str());
        let host = self.address.authority().map_or("", |host| host.as_str());
        let request = Request::builder()
            .method(self.method.clone())
            .uri(path)
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let mut sending = std::pin::pin!(sender.send_request(request));
        let response = tokio::select! {
            biased;
            response = &mut sending => response?,
            // It may have been closed right behind the answer.
            _ = connection => sending.await?,
        };
        if !response.status().is_success() {
            bail!("status {}", response.status());
        }
        Ok(())
    }
}
