//! The one adapter from hickory-server's transports to the door.
//!
//! The question goes in as it came, in octets, and our own reply's octets are read back into the
//! records that hickory-server wants to write itself: so its transports say what ours say. What it
//! cannot read as a question it answers itself, with FORMERR.
//!
//! hickory-server has no limit on connections, answers a connection's questions one after the
//! other, does not tell which of a listener's addresses was asked, and logs two lines a question at
//! `info`, which the log's filter must keep down. See `tcp` for why TCP does not come this way.

use std::{net::SocketAddr, time::Instant};

use hickory_proto::{
    op::{Header, HeaderCounts, Message, Metadata, ResponseCode},
    serialize::binary::BinDecoder,
};
use hickory_server::{
    net::runtime::Time,
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::{MessageResponseBuilder, Queries},
};

use super::handle::{Arrival, Entrance, Handled, Scratch};
use crate::query::Transport;

/// A server as hickory-server sees it.
pub(super) struct Adapter {
    pub(super) entrance: Entrance,
    /// Where the listener is bound.
    pub(super) local: SocketAddr,
    pub(super) transport: Transport,
}

impl Adapter {
    /// The reply's octets, or nothing where none is to be sent.
    async fn reply(&self, request: &Request) -> Option<Vec<u8>> {
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
        let answered = match handled {
            Handled::Reply => true,
            Handled::Nothing => false,
            Handled::Wait(wait) => wait.finish(&mut out).await,
        };
        answered.then_some(out)
    }
}

#[async_trait::async_trait]
impl RequestHandler for Adapter {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let Some(octets) = self.reply(request).await else {
            return nothing_sent(request);
        };
        let Ok(message) = Message::from_vec(&octets) else {
            // An upstream may send data that hickory-proto does not take; octets would have
            // carried them.
            tracing::debug!("a reply's data cannot be handed on");
            let builder = MessageResponseBuilder::from_message_request(request);
            let failure = builder.error_msg(&request.metadata, ResponseCode::ServFail);
            let sent = response_handle.send_response(failure).await;
            return sent.unwrap_or_else(|_| nothing_sent(request));
        };
        // A reply of a header alone repeats no question.
        let no_queries = Queries::read(&mut BinDecoder::new(&[]), 0);
        let queries = match &no_queries {
            Ok(none) if message.queries.is_empty() => none,
            _ => &request.queries,
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
        match response_handle.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, client = %request.src(), "a reply could not be sent");
                nothing_sent(request)
            }
        }
    }
}

fn nothing_sent(request: &Request) -> ResponseInfo {
    Header {
        metadata: Metadata::response_from_request(&request.metadata),
        counts: HeaderCounts::default(),
    }
    .into()
}
