//! The reason of a negative or failed reply, as a text: the one source of extended DNS errors (RFC 8914), log
//! lines and `explain`.

mod recent;

use std::{cell::RefCell, sync::Arc};

use self::recent::RecentTexts;
use super::Chain;
use crate::{
    query::Query,
    reply::{ExtendedError, ReasonText, Reply, Why},
    wire::{Rcode, Type},
};

/// INFO-CODE "Cached Error" (RFC 8914 section 4.14).
const CACHED_ERROR: u16 = 13;
/// INFO-CODE "Stale NXDOMAIN Answer" (RFC 8914 section 4.20).
const STALE_NXDOMAIN: u16 = 19;

thread_local! {
    /// Created with the first denial of a client with EDNS.
    static RECENT: RefCell<Option<RecentTexts>> = const { RefCell::new(None) };
}

/// Whether a client should learn the reason: there is no answer, or it is stale.
pub(super) fn is_needed(reply: &Reply) -> bool {
    match reply.why {
        // The records of an endless alias lead to no address.
        Why::Stale | Why::EndlessAlias => true,
        // A referral is an answer.
        Why::Delegated => false,
        _ => reply.lacks_answer(),
    }
}

/// The INFO-CODE of a reply.
fn info_code(reply: &Reply) -> u16 {
    match (reply.why, reply.rcode) {
        (Why::Stale, Rcode::NXDOMAIN) => STALE_NXDOMAIN,
        (Why::Cached, Rcode::SERVFAIL) => CACHED_ERROR,
        (why, _) => why.info_code(),
    }
}

impl Chain {
    /// Attaches the reason as an extended DNS error, unless the reply has one: an upstream's, or one that a
    /// cache has kept.
    pub(super) fn attach_reason(&self, query: &Query, reply: &mut Reply) {
        if reply.extended_error.is_some() {
            return;
        }
        let make = || {
            let mut text = ReasonText::default();
            self.reason(query, reply, &mut text);
            Arc::from(text.as_str())
        };
        // A cause and an upstream differ from query to query.
        let text = if reply.cause.is_some() || reply.source.is_some() {
            make()
        } else {
            RECENT.with_borrow_mut(|recent| {
                let recent = recent.get_or_insert_with(RecentTexts::default);
                let chain = std::ptr::from_ref(self).addr();
                recent.get_or_make(chain, query, reply, make)
            })
        };
        reply.extended_error = Some(ExtendedError {
            code: info_code(reply),
            text,
        });
    }

    /// Writes the reason of a reply of this chain into the empty `text`.
    pub fn reason(&self, query: &Query, reply: &Reply, text: &mut ReasonText) {
        if let Some(error) = &reply.extended_error
            && !error.text.is_empty()
        {
            return text.push(&error.text);
        }
        for plugin in &self.diagnosers {
            if plugin.diagnose(query, reply, text) {
                return;
            }
            text.clear();
        }
        describe(reply, text);
    }
}

/// Attaches the reason of a reply of no chain, if the client uses EDNS.
pub(crate) fn attach_reason(query: &Query, reply: &mut Reply) {
    if query.edns.is_some() && is_needed(reply) && reply.rcode != Rcode::NOERROR {
        let is_transfer = matches!(query.question.rtype, Type::AXFR | Type::IXFR);
        let is_refused = (reply.rcode, reply.why) == (Rcode::REFUSED, Why::NotServed);
        let (code, text) = if is_transfer && is_refused {
            // No chain sees a transfer over UDP.
            let why = Why::TransferRefused;
            (why.info_code(), why.text().into())
        } else {
            let mut text = ReasonText::default();
            describe(reply, &mut text);
            (info_code(reply), text.as_str().into())
        };
        reply.extended_error = Some(ExtendedError { code, text });
    }
}

/// The reason of a reply without a plugin's particulars.
fn describe(reply: &Reply, text: &mut ReasonText) {
    match (&reply.cause, reply.why, &reply.source) {
        (Some(cause), why, _) if why.is_upstream_failure() => {
            text.push("upstream: ");
            text.push(cause);
        }
        (Some(cause), why, _) => {
            text.push(why.text());
            text.push(": ");
            text.push(cause);
        }
        (None, Why::Upstream, Some(source)) => {
            text.push("answer of upstream ");
            text.push(&source.upstream);
        }
        (None, why, _) => text.push(why.text()),
    }
}
