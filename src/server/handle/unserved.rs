//! Messages that no chain of plugins answers: NOTIFY, other opcodes, zone transfers over transports that
//! cannot carry them. Replies to signed messages are signed (RFC 8945 section 5.3).

use std::sync::Arc;

use super::Arrival;
use crate::{
    message::{read_signature, write_header_only},
    plugin::Block,
    query::{Query, Question, Request, Transport},
    reply::Why,
    server::route::Routes,
    tsig::Signed,
    wire::{Class, Header, Opcode, Rcode, Type},
};

/// The reply to a NOTIFY (RFC 1996 section 4.7).
pub(super) fn notified(routes: &Routes, query: &mut Query) -> (Rcode, Why) {
    let plugins = routes.find(query).map(|block| block.chain.plugins());
    let rcodes = plugins.into_iter().flatten();
    let mut rcodes = rcodes.filter_map(|plugin| plugin.on_notify(query));
    match rcodes.next() {
        Some(Rcode::NOERROR) => (Rcode::NOERROR, Why::Synthesized),
        Some(rcode) => (rcode, Why::Policy),
        None => (Rcode::NOTIMP, Why::NotServed),
    }
}

/// Verifies the signature of a message that no chain answers, if it has one; returns the rcode if
/// verification failed.
pub(super) fn verified(routes: &Routes, query: &mut Query) -> Option<Rcode> {
    query.signed.as_ref()?;
    let block = routes.find(query)?;
    let mut plugins = block.chain.plugins().iter();
    plugins.find_map(|plugin| plugin.verify_signature(query))
}

/// Signs a header-only reply if the message was signed (RFC 8945 section 5.3). Only the question and the
/// signature are parsed: other opcodes, such as UPDATE (RFC 2136), have sections of their own.
pub(super) fn sign_bare(
    routes: &Routes,
    arrival: &Arrival<'_>,
    header: &Header,
    out: &mut Vec<u8>,
) {
    let Ok((question, Some(tsig_at))) = read_signature(arrival.bytes, header) else {
        return;
    };
    let mut query = Query::new(Request {
        opcode: header.opcode(),
        signed: Some(Arc::new(Signed::new(arrival.bytes, tsig_at))),
        client: arrival.client,
        local: arrival.local,
        transport: arrival.transport,
        ..Request::internal(Question::default())
    });
    // A message without a question is handled by the root zone's block, if there is one.
    query.question.class = Class::IN;
    if let Some(question) = question {
        query.question = question;
    }
    if let Some(rcode) = verified(routes, &mut query) {
        write_header_only(header, rcode, out);
    }
    if let Some(signer) = &query.signer {
        signer.sign(out);
    }
}

/// The rcode for a query that is well-formed but not supported: NOTIMP, BADVERS (RFC 6891 section 6.1.3),
/// REFUSED.
pub(super) fn not_served(routes: &Routes, query: &Query) -> Option<Rcode> {
    if query.opcode != Opcode::QUERY {
        return Some(Rcode::NOTIMP);
    }
    if query.edns.is_some_and(|edns| edns.version > 0) {
        return Some(Rcode::BADVERS);
    }
    let transfer = matches!(query.original.rtype, Type::AXFR | Type::IXFR);
    if !transfer || query.takes_several_messages() {
        return None;
    }
    // A reply to IXFR over UDP holds the SOA record; the secondary retries over TCP if its serial is newer
    // (RFC 1995 section 2).
    let incremental = query.original.rtype == Type::IXFR && query.transport == Transport::Udp;
    if incremental && routes.find(query).is_some_and(|block| transfers(block)) {
        return None;
    }
    // A zone does not fit into a datagram, and spoofed senders could use it for amplification; nor does it
    // fit into an HTTP response, which holds one message (RFC 8484 section 6).
    Some(Rcode::REFUSED)
}

/// Whether a block transfers zones.
fn transfers(block: &Block) -> bool {
    let mut plugins = block.chain.plugins().iter();
    plugins.any(|plugin| plugin.properties.transfers)
}
