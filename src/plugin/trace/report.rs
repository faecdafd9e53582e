//! The bounded backlog of spans, posted to the collector in batches as JSON.

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

use super::{Config, Format};
use crate::tls::ClientFiles;

/// Timeout of a post.
const POST_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of spans per post, unless the configured batch is larger.
const MAX_PER_POST: usize = 1000;

/// The backlog. When it is dropped, its task posts the remaining spans and ends.
pub(super) struct Reporter {
    backlog: Arc<SpanBacklog>,
    task: Mutex<Option<Task>>,
}

/// Handle of the posting task: it ends when `held` is dropped, and then closes `done`.
struct Task {
    held: oneshot::Sender<()>,
    done: oneshot::Receiver<()>,
}

/// Unsent spans as JSON, each with its sequence number.
struct SpanBacklog {
    spans: Mutex<VecDeque<(u64, String)>>,
    next: AtomicU64,
    capacity: usize,
    batch: usize,
    full: Notify,
    dropped: AtomicU64,
}

impl Reporter {
    /// Starts the posting task.
    pub(super) fn open(config: &Config, runtime: &Handle) -> Result<Self, anyhow::Error> {
        let collector = Collector::new(&config.endpoint, config.format)?;
        let backlog = Arc::new(SpanBacklog {
            spans: Mutex::default(),
            next: AtomicU64::new(0),
            capacity: config.backlog,
            batch: config.batch,
            full: Notify::new(),
            dropped: AtomicU64::new(0),
        });
        let (held, gone) = oneshot::channel();
        let (finish, done) = oneshot::channel();
        let posting = post_all(collector, Arc::clone(&backlog), config.interval, gone);
        runtime.spawn(async move {
            posting.await;
            // The receiver may be gone.
            let _ = finish.send(());
        });
        Ok(Self {
            backlog,
            task: Mutex::new(Some(Task { held, done })),
        })
    }

    /// Posts the remaining spans and ends the task.
    pub(super) fn end(&self) -> impl Future<Output = ()> + Send + 'static {
        let task = self.task.lock().take();
        async move {
            if let Some(Task { held, done }) = task {
                drop(held);
                let _ = done.await;
            }
        }
    }

    /// Adds a span. If the backlog is full, the oldest one is dropped.
    pub(super) fn push(&self, span: &Value) {
        let text = span.to_string();
        let backlog = &self.backlog;
        let mut spans = backlog.spans.lock();
        let number = backlog.next.fetch_add(1, Ordering::Relaxed);
        spans.push_back((number, text));
        if spans.len() > backlog.capacity {
            spans.pop_front();
            backlog.dropped.fetch_add(1, Ordering::Relaxed);
        }
        if spans.len() >= backlog.batch {
            backlog.full.notify_one();
        }
    }
}

impl SpanBacklog {
    /// The spans of the next post, and the sequence number of the last one.
    fn first(&self) -> (Vec<String>, u64) {
        let spans = self.spans.lock();
        let first = spans.iter().take(self.batch.max(MAX_PER_POST));
        let list: Vec<_> = first.map(|(_, text)| text.clone()).collect();
        let last = list.len().checked_sub(1).and_then(|last| spans.get(last));
        (list, last.map_or(0, |(number, _)| *number))
    }
}

async fn post_all(
    collector: Collector,
    backlog: Arc<SpanBacklog>,
    interval: Duration,
    mut gone: oneshot::Receiver<()>,
) {
    let mut fails = false;
    loop {
        let ends = tokio::select! {
            _ = &mut gone => true,
            () = tokio::time::sleep(interval) => false,
            // After a failure, the next attempt is after the interval.
            () = backlog.full.notified(), if !fails => false,
        };
        let (spans, last) = backlog.first();
        if !spans.is_empty() {
            let posted = timeout(POST_TIMEOUT, collector.post(&spans)).await;
            match posted.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())) {
                Ok(()) => {
                    fails = false;
                    // Removes the posted spans. Newer ones follow them; dropped ones preceded them.
                    let mut unsent = backlog.spans.lock();
                    while unsent.front().is_some_and(|(number, _)| *number <= last) {
                        unsent.pop_front();
                    }
                }
                Err(error) if !fails => {
                    fails = true;
                    let address = &collector.address;
                    tracing::warn!(
                        target: "plugin/trace",
                        "Cannot post spans to {address}: {}; trying again",
                        crate::error_text::chain(&error)
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

/// The collector to which spans are posted.
struct Collector {
    address: Uri,
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    method: Method,
}

impl Collector {
    fn new(address: &str, format: Format) -> Result<Self, anyhow::Error> {
        let address: Uri = address.parse()?;
        let secure = match address.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => bail!("neither http:// nor https://"),
        };
        let host = address.host().context("no host")?;
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
            method: match format {
                Format::Zipkin => Method::POST,
                Format::Datadog(_) => Method::PUT,
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
            // The connection may be closed right after the response.
            _ = connection => sending.await?,
        };
        if !response.status().is_success() {
            bail!("status {}", response.status());
        }
        Ok(())
    }
}
