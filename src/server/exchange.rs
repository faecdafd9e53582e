//! One query and its reply, for transports where each query has a stream of its own: QUIC, HTTP.

use std::{sync::Arc, time::Instant};

use super::{
    caller::Caller,
    handle::{Handled, Scratch},
    transfer::Transfer,
};
use crate::{message::read_query, wire::Header};

/// What is sent in return.
pub(super) enum Replies {
    /// Nothing, ever.
    None,
    One(Vec<u8>),
    /// A zone transfer, part by part.
    Several(Box<Transfer>),
}

impl Caller {
    /// What metrics and logs call the server.
    pub(super) fn label(&self) -> Arc<str> {
        self.entrance.server().label()
    }

    /// Resolves a query, and waits for its reply.
    pub(super) async fn ask(&self, octets: &[u8]) -> Replies {
        let mut out = Vec::with_capacity(512);
        let handled = {
            let routes = self.entrance.server().routes();
            let arrival = self.arrival(octets, Instant::now());
            let mut scratch = Scratch::default();
            self.entrance
                .handle(&routes, &mut scratch, &arrival, &mut out)
        };
        match handled {
            Handled::Reply => Replies::One(out),
            Handled::Transfer(transfer) => Replies::Several(transfer),
            Handled::Nothing => Replies::None,
            Handled::Pending(query) => {
                if query.finish(&mut out).await {
                    Replies::One(out)
                } else {
                    Replies::None
                }
            }
        }
    }
}

/// Whether `octets` are a query at all. Where a transport has an error of its own for what is none,
/// a reply of FORMERR is not sent.
pub(super) fn is_query(octets: &[u8]) -> bool {
    Header::read(octets)
        .is_some_and(|header| !header.has(Header::RESPONSE) && read_query(octets, &header).is_ok())
}
