//! Plain DNS by hickory-server's loops in place of our own: where datagrams cannot be taken in batches (any
//! system but Linux), and on request, to compare the two.
//!
//! The answers are those of our loops, since both go through [`MessageHandler`]. The differences:
//!
//! * UDP: the reply leaves as the bytes that our handler has written, past hickory-server's encoder. From a
//!   socket that is bound to all addresses it leaves from the one that the system chooses.
//! * TCP: hickory-server encodes the reply again (see [`crate::hickory`]), answers the queries of a connection
//!   one after the other, and has no limit of connections.
//! * A message that hickory-proto cannot decode is answered with FORMERR before it comes here.
//!
//! [`refuses`] names what cannot be carried like this.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use hickory_server::{
    Server,
    net::{runtime::Time, xfer::Protocol},
    proto::{
        op::{Header, ResponseCode},
        serialize::binary::{BinDecodable, BinDecoder},
    },
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use tokio::{runtime::Handle, sync::watch, time::Instant};

use super::{
    ListenerConfig, accept, caller::Caller, exchange::Replies, handle::MessageHandler,
    limits::StreamSettings,
};
use crate::{hickory::Response, plugin::Plugin, query::Transport};

/// How long hickory-server may take to write replies that it was given: it reports none of them as written.
const FLUSH: Duration = Duration::from_millis(100);

/// What of a listener hickory-server's loops cannot carry, if anything.
pub(super) fn refuses(wanted: &ListenerConfig) -> Option<&'static str> {
    if wanted.proxy.is_some() {
        return Some("proxyproto: hickory-server reads no PROXY headers");
    }
    let StreamSettings {
        first_query,
        write,
        queries,
        ..
    } = StreamSettings::default();
    let streams = &wanted.streams;
    if (streams.first_query, streams.write, streams.queries) != (first_query, write, queries) {
        return Some("timeouts: hickory-server has no limit of a connection but 'idle'");
    }
    let any = |has: fn(&Plugin) -> bool| {
        let mut blocks = wanted.routes.blocks();
        blocks.any(|block| block.chain.plugins().iter().any(has))
    };
    if any(|plugin| plugin.verify_signature.is_some()) {
        return Some("tsig: hickory-server encodes replies again, behind their signature");
    }
    if any(|plugin| plugin.properties.transfers) {
        return Some(
            "transfer: hickory-server sends nothing before a reply has all of its messages",
        );
    }
    None
}

/// The loops at one address. They end when this is dropped.
pub(super) struct Serving {
    stop: watch::Sender<bool>,
    pending: Arc<QueriesInFlight>,
    /// Closed once hickory-server's tasks have ended.
    ended: watch::Receiver<()>,
}

impl Serving {
    /// Serves these sockets, which are bound to the same address.
    pub(super) fn start(
        udp: Vec<UdpSocket>,
        tcp: std::net::TcpListener,
        handler: &MessageHandler,
        streams: StreamSettings,
        runtime: &Handle,
    ) -> io::Result<Self> {
        let _in_runtime = runtime.enter();
        let local = tcp.local_addr()?;
        let pending = Arc::new(QueriesInFlight::default());
        let mut server = Server::new(Adapter {
            handler: handler.clone(),
            local,
            replies: udp.first().map(UdpSocket::try_clone).transpose()?,
            pending: Arc::clone(&pending),
        });
        for socket in udp {
            socket.set_nonblocking(true)?;
            server.register_socket(tokio::net::UdpSocket::from_std(socket)?);
        }
        server.register_listener(accept::listen(tcp)?, streams.idle, streams.in_flight);
        let (stop, mut stopped) = watch::channel(false);
        let (running, ended) = watch::channel(());
        runtime.spawn(async move {
            // An error says that the sender was dropped, which stops the loops too.
            let stopped = async { drop(stopped.wait_for(|stop| *stop).await) };
            tokio::select! {
                end = server.block_until_done() => {
                    let why = end.err().map_or_else(|| "no socket is left".to_owned(), |it| it.to_string());
                    tracing::error!("hickory-server does not serve {local} any more: {why}");
                }
                () = stopped => {
                    // An error is about a socket that was lost; all of them are closed now.
                    let _ = server.shutdown_gracefully().await;
                }
            }
            // Closes the sockets before `ended` is reported.
            drop(server);
            drop(running);
        });
        Ok(Self {
            stop,
            pending,
            ended,
        })
    }

    /// Waits for the replies to what was asked until now, then closes the sockets; by `deadline` at the
    /// latest. Whether all were answered. Queries that come meanwhile are answered too, but not waited for:
    /// hickory-server drops its pending queries when it stops reading.
    pub(super) async fn drain(mut self, deadline: Instant) -> bool {
        let answered = self.pending.end(deadline).await;
        tokio::time::sleep_until(deadline.min(Instant::now() + FLUSH)).await;
        self.stop.send_replace(true);
        // The error of a dropped sender: the task has ended.
        let _ = tokio::time::timeout_at(deadline, self.ended.changed()).await;
        answered
    }
}

/// Our handler of messages as hickory-server's request handler.
struct Adapter {
    handler: MessageHandler,
    /// The address that the sockets are bound to: hickory-server passes no destination address on.
    local: SocketAddr,
    /// Where replies to datagrams leave from.
    replies: Option<UdpSocket>,
    pending: Arc<QueriesInFlight>,
}

#[async_trait]
impl RequestHandler for Adapter {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        response_handler: R,
    ) -> ResponseInfo {
        let _pending = self.pending.begin();
        let transport = match request.protocol() {
            Protocol::Udp => Transport::Udp,
            _ => Transport::Tcp,
        };
        let caller = Caller {
            handler: self.handler.clone(),
            client: request.src(),
            local: self.local,
            transport,
        };
        let sent = match caller.answer(request.as_slice()).await {
            Replies::None => None,
            Replies::One(bytes) => match &self.replies {
                Some(socket) if transport == Transport::Udp => {
                    // A datagram that cannot be sent is lost, as it may be behind the socket too.
                    let _ = socket.send_to(&bytes, request.src());
                    info(&bytes)
                }
                _ => send(request, &bytes, response_handler).await,
            },
            // Without the plugin `transfer`, the one message that refuses it.
            Replies::Several(transfer) => {
                let (messages, _) = transfer.next().await;
                match unframed(&messages) {
                    Some(bytes) => send(request, bytes, response_handler).await,
                    None => None,
                }
            }
        };
        sent.unwrap_or_else(|| none(request))
    }
}

/// Sends a reply by hickory-server, and SERVFAIL where it has no form for it.
async fn send<R: ResponseHandler>(
    request: &Request,
    bytes: &[u8],
    mut response_handler: R,
) -> Option<ResponseInfo> {
    let sent = if let Some(response) = Response::read(bytes) {
        response.send(&mut response_handler).await
    } else {
        tracing::debug!("hickory-server has no form for a reply; SERVFAIL was answered");
        let builder = MessageResponseBuilder::from_message_request(request);
        let failure = builder.error_msg(&request.metadata, ResponseCode::ServFail);
        response_handler.send_response(failure).await
    };
    sent.ok()
}

/// The header of a reply, for hickory-server's log.
fn info(message: &[u8]) -> Option<ResponseInfo> {
    let header = Header::read(&mut BinDecoder::new(message)).ok()?;
    Some(header.into())
}

/// The same where no reply was sent.
fn none(request: &Request) -> ResponseInfo {
    let metadata = request.metadata;
    let counts = hickory_server::proto::op::HeaderCounts::default();
    Header { metadata, counts }.into()
}

/// The first of the messages of a stream, each with its length before it (RFC 1035 section 4.2.2).
fn unframed(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.get(..u16::from_be_bytes(*length).into())
}

/// Queries in flight.
struct QueriesInFlight {
    count: watch::Sender<usize>,
    /// Whether those that come now are not waited for.
    is_ending: AtomicBool,
}

impl Default for QueriesInFlight {
    fn default() -> Self {
        Self {
            count: watch::Sender::new(0),
            is_ending: AtomicBool::new(false),
        }
    }
}

/// A query in flight, until this is dropped.
struct QueryInFlight<'a>(&'a QueriesInFlight);

impl Drop for QueryInFlight<'_> {
    fn drop(&mut self) {
        self.0.count.send_modify(|count| *count -= 1);
    }
}

impl QueriesInFlight {
    /// A query has come; nothing where it is not waited for.
    fn begin(&self) -> Option<QueryInFlight<'_>> {
        if self.is_ending.load(Ordering::Relaxed) {
            return None;
        }
        self.count.send_modify(|count| *count += 1);
        Some(QueryInFlight(self))
    }

    /// Waits until those that have come are answered; whether they were.
    async fn end(&self, deadline: Instant) -> bool {
        self.is_ending.store(true, Ordering::Relaxed);
        let mut count = self.count.subscribe();
        let none = count.wait_for(|count| *count == 0);
        tokio::time::timeout_at(deadline, none).await.is_ok()
    }
}
