//! The one adapter from hickory-server's transports to the door.
//!
//! The question goes in as it came, in octets, and our own reply's octets are read back into the
//! records that hickory-server wants to write itself: so its transports say what ours say. What it
//! cannot read as a question it answers itself, with FORMERR.
//!
//! hickory-server has no limit on connections, answers a connection's questions one after the
//! other, does not tell which of a listener's addresses was asked, and logs two lines a question at
//! `info`, which the log's filter must keep down. See `tcp` for why TCP does not come this way.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Header, HeaderCounts, Message, Metadata, ResponseCode},
    serialize::binary::BinDecoder,
};
use hickory_server::{
    net::{NetError, runtime::Time},
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::{MessageResponseBuilder, Queries},
};

use tokio::sync::Semaphore;

use super::handle::{Arrival, Entrance, Handled, Scratch};
use crate::query::Transport;

/// A server as hickory-server sees it.
pub(super) struct Adapter {
    pub(super) entrance: Entrance,
    /// Where the listener is bound.
    pub(super) local: SocketAddr,
    pub(super) transport: Transport,
    /// A permit for each transfer under way: each is held whole until the client has taken it.
    pub(super) transfers: Arc<Semaphore>,
}

/// How many transfers may be under way on a listener.
const TRANSFERS: usize = 16;

/// How long a client may take no part of a transfer before it is given up, and how often is tried.
const PATIENCE: Duration = Duration::from_secs(5);
const PACE: Duration = Duration::from_millis(10);

/// What is to be sent.
enum Replies {
    None,
    One(Vec<u8>),
    /// Each with its length before it.
    Several(Vec<u8>),
}

impl Adapter {
    /// Room for as many transfers as may be under way.
    pub(super) fn transfers() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(TRANSFERS))
    }

    /// The reply's octets.
    async fn reply(&self, request: &Request) -> Replies {
        let mut out = Vec::with_capacity(512);
        let arrival = Arrival {
            octets: request.as_slice(),
            client: request.src(),
            local: self.local,
            transport: self.transport,
            received: Instant::now(),
        };
        let handled = {
            let routes = self.entrance.server().routes();
            let mut scratch = Scratch::default();
            self.entrance
                .handle(&routes, &mut scratch, &arrival, &mut out)
        };
        match handled {
            Handled::Reply => Replies::One(out),
            Handled::Replies => Replies::Several(out),
            Handled::Nothing => Replies::None,
            Handled::Wait(wait) => {
                if wait.finish(&mut out).await {
                    Replies::One(out)
                } else {
                    Replies::None
                }
            }
        }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Adapter {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let octets = match self.reply(request).await {
            Replies::None => return nothing_sent(request),
            Replies::One(octets) => octets,
            Replies::Several(octets) => return self.transfer(request, response_handle, octets),
        };
        let Ok(message) = Message::from_vec(&octets) else {
            // An upstream may send data that hickory-proto does not take; octets would have
            // carried them.
            tracing::debug!("a reply's data cannot be handed on");
            return fail(request, &mut response_handle).await;
        };
        match send(&message, &request.queries, &mut response_handle).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, client = %request.src(), "a reply could not be sent");
                nothing_sent(request)
            }
        }
    }
}

impl Adapter {
    /// Hands on a transfer, part by part. It is done beside the connection, which must go on to be
    /// written to: hickory-server keeps no more than a few messages for a client.
    fn transfer<R: ResponseHandler>(
        &self,
        request: &Request,
        mut response_handle: R,
        octets: Vec<u8>,
    ) -> ResponseInfo {
        let octets_asked = request.as_slice().to_vec();
        let copied = Request::from_bytes(octets_asked, request.src(), request.protocol());
        let Ok(copied) = copied else {
            return nothing_sent(request);
        };
        let permit = Arc::clone(&self.transfers).try_acquire_owned();
        tokio::spawn(async move {
            if permit.is_err() {
                tracing::warn!(client = %copied.src(), "too many zone transfers at once");
                fail(&copied, &mut response_handle).await;
                return;
            }
            let mut rest = octets.as_slice();
            while let Some((length, behind)) = rest.split_first_chunk::<2>() {
                let (part, behind) = behind.split_at(u16::from_be_bytes(*length).into());
                rest = behind;
                let Ok(message) = Message::from_vec(part) else {
                    fail(&copied, &mut response_handle).await;
                    return;
                };
                if !send_in_turn(&message, &copied, &mut response_handle).await {
                    return;
                }
            }
        });
        nothing_sent(request)
    }
}

/// Sends a part once there is room for it; false where the client does not take it.
async fn send_in_turn<R: ResponseHandler>(
    message: &Message,
    request: &Request,
    response_handle: &mut R,
) -> bool {
    let begun = Instant::now();
    loop {
        match send(message, &request.queries, response_handle).await {
            Ok(_) => return true,
            Err(error) if begun.elapsed() > PATIENCE => {
                tracing::debug!(%error, client = %request.src(), "a transfer was given up");
                return false;
            }
            Err(_) => tokio::time::sleep(PACE).await,
        }
    }
}

async fn send<R: ResponseHandler>(
    message: &Message,
    asked: &Queries,
    response_handle: &mut R,
) -> Result<ResponseInfo, NetError> {
    // A reply of a header alone repeats no question.
    let no_queries = Queries::read(&mut BinDecoder::new(&[]), 0);
    let queries = match &no_queries {
        Ok(none) if message.queries.is_empty() => none,
        _ => asked,
    };
    let mut builder = MessageResponseBuilder::new(queries, None);
    if let Some(edns) = &message.edns {
        builder.edns(edns);
    }
    let response = builder.build(
        message.metadata,
        &message.answers,
        &message.authorities,
        [],
        &message.additionals,
    );
    response_handle.send_response(response).await
}

async fn fail<R: ResponseHandler>(request: &Request, response_handle: &mut R) -> ResponseInfo {
    let builder = MessageResponseBuilder::from_message_request(request);
    let failure = builder.error_msg(&request.metadata, ResponseCode::ServFail);
    let sent = response_handle.send_response(failure).await;
    sent.unwrap_or_else(|_| nothing_sent(request))
}

fn nothing_sent(request: &Request) -> ResponseInfo {
    Header {
        metadata: Metadata::response_from_request(&request.metadata),
        counts: HeaderCounts::default(),
    }
    .into()
}
