//! Messages that no chain of plugins answers: notifications, other opcodes, transfers over what has no
//! room for them. Their replies are signed as all others are where the message was (RFC 8945 §5.3).

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

/// The answer to a notification that a zone has changed (RFC 1996 §3.11).
pub(super) fn notified(routes: &Routes, query: &mut Query) -> (Rcode, Why) {
    let plugins = routes.find(query).map(|block| block.chain.plugins());
    let told = plugins.into_iter().flatten();
    let mut told = told.filter_map(|plugin| plugin.on_notify(query));
    match told.next() {
        Some(Rcode::NOERROR) => (Rcode::NOERROR, Why::Synthesized),
        Some(rcode) => (rcode, Why::Policy),
        None => (Rcode::NOTIMP, Why::NotServed),
    }
}

/// Has the signature of a message verified that no chain answers, if it has one; what to answer if it
/// is wrong.
pub(super) fn verified(routes: &Routes, query: &mut Query) -> Option<Rcode> {
    query.signed.as_ref()?;
    let block = routes.find(query)?;
    let mut plugins = block.chain.plugins().iter();
    plugins.find_map(|plugin| plugin.verify_signature(query))
}

/// Signs the reply that is nothing but a header, where the message was signed (RFC 8945 §5.3). Read is
/// no more of it than that takes: an UPDATE (RFC 2136), say, has sections of its own.
pub(super) fn sign_bare(
    routes: &Routes,
    arrival: &Arrival<'_>,
    header: &Header,
    out: &mut Vec<u8>,
) {
    let Ok((question, Some(tsig_at))) = read_signature(arrival.octets, header) else {
        return;
    };
    let mut query = Query::new(Request {
        opcode: header.opcode(),
        signed: Some(Arc::new(Signed::new(arrival.octets, tsig_at))),
        client: arrival.client,
        local: arrival.local,
        transport: arrival.transport,
        ..Request::internal(Question::default())
    });
    // One without a question belongs to the root zone's block, if there is one.
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

/// The code for a query that is readable and yet not one for us.
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
    // The serial fits, by which a secondary knows whether to come again by TCP (RFC 1995 §2).
    let incremental = query.original.rtype == Type::IXFR && query.transport == Transport::Udp;
    if incremental && routes.find(query).is_some_and(|block| transfers(block)) {
        return None;
    }
    // A zone does not fit into a datagram, and a spoofed sender would get much for little; nor does
    // it fit into a response of HTTP, which holds one message.
    Some(Rcode::REFUSED)
}

/// Whether zones of a block are transferred from it.
fn transfers(block: &Block) -> bool {
    let mut plugins = block.chain.plugins().iter();
    plugins.any(|plugin| plugin.properties.transfers)
}
