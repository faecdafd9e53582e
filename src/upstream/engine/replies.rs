//! The replies that an engine's sockets receive, each matched with the attempt that it answers.

use std::{io, sync::Arc, time::Instant};

use super::{Engine, QueryOwner, SubmittedQuery};
use crate::{
    datagrams::{Connected, take_errors},
    reply::Reply,
    upstream::{Failure, packet::MessageMatch},
    wire::Header,
};

impl<T: QueryOwner> Engine<T> {
    /// Takes the replies that a socket has received, by this number of reads at most. What is left is found at the
    /// next wait.
    pub(super) fn read(
        &mut self,
        at: usize,
        reads: usize,
        has_error: bool,
        reply: &mut Reply,
        now: Instant,
        deliver: &mut impl FnMut(T, &mut Reply, Option<Failure>),
    ) {
        let mut error = None;
        for _ in 0..reads {
            let Some(socket) = self.sockets.get(at) else {
                return;
            };
            let count = match self.messages.receive(socket.io()) {
                Ok(count) => count,
                Err(failed) => {
                    let is_none = matches!(
                        failed.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    );
                    error = (!is_none).then_some(failed);
                    break;
                }
            };
            for index in 0..count {
                self.take_message(at, index, reply, now, deliver);
            }
            if count < Connected::RECEIVED {
                break;
            }
        }
        if (has_error || error.is_some())
            && let Some(socket) = self.sockets.get_mut(at)
            && let Some(error) = take_errors(socket.io()).or(error)
        {
            // An ICMP error is reported to everything that was sent (RFC 1122 section 4.1.3.3).
            socket.fail_sent(&Failure::reported(&error), &mut self.failed);
        }
    }

    /// Matches a message with the attempt that it answers. A message that answers another question changes
    /// nothing: the right one may still come. One that cannot be parsed ends the attempt.
    fn take_message(
        &mut self,
        at: usize,
        index: usize,
        reply: &mut Reply,
        now: Instant,
        deliver: &mut impl FnMut(T, &mut Reply, Option<Failure>),
    ) {
        let message = self.messages.message(index);
        let Some(socket) = self.sockets.get_mut(at) else {
            return;
        };
        let matched = Header::read(message).and_then(|header| {
            let attempt @ (key, _) = socket.attempt(header.id)?;
            let query = self.queries.get(key.slot as usize)?;
            let packet = &query.query.request.packet;
            let verdict = packet.judge(message, &header, true, reply);
            (verdict != MessageMatch::OtherQuestion).then_some((header.id, attempt, verdict))
        });
        if !matches!(matched, Some((.., MessageMatch::Reply)))
            && let Some(upstream) = socket.upstream.upgrade()
        {
            upstream.meter.wrong_reply();
        }
        let Some((id, attempt, verdict)) = matched else {
            return;
        };
        socket.remove(id);
        if verdict == MessageMatch::Unreadable {
            self.failed.push((attempt, Failure::Malformed));
            return;
        }
        reply.source = Some(Arc::clone(&socket.received_at));
        if let Some(slot) = self.report(attempt, Ok(()), reply, now) {
            // The exchange goes first: it holds its upstreams.
            let SubmittedQuery { owner, lead, .. } = self.remove(slot);
            if let Some(lead) = lead {
                lead.publish(reply);
            }
            deliver(owner, reply, None);
        }
    }
}
