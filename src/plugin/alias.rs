//! Following an alias (CNAME): the server resolves the target through its own plugin chain and
//! appends the records found after the alias (RFC 1034 section 4.3.2 step 3a).
//!
//! Shared by all plugins that synthesize or store aliases: `kubernetes`, `k8s_external`, `template`,
//! `etcd`, and the zones of `file`, `auto` and `secondary`.

use std::future::Future;

use super::{Context, Pending, Resolved};
use crate::{
    query::{Query, Question},
    reply::{ExtendedError, Owner, ReasonText, Reply, Section, Why},
    wire::{Name, Rcode, Type},
};

/// The target of an alias, and the response to the query for it.
pub struct AliasTarget {
    name: Name,
    rtype: Type,
    found: Reply,
}

/// Completes `reply`, whose answer section ends with an alias to `target`. Beside data of the target
/// stands what `beside` adds.
pub fn follow(
    context: &Context<'_>,
    query: &Query,
    target: Name,
    reply: &mut Reply,
    beside: impl FnOnce(&mut Reply) + Send + 'static,
) -> Pending {
    let target = resolve(context, query, target);
    let mut reply = std::mem::take(reply);
    Box::pin(async move {
        let target = target.await;
        target.append_to(&mut reply);
        if target.is_dead_end() {
            target.end(&mut reply);
        } else {
            beside(&mut reply);
        }
        Resolved::Answer(reply)
    })
}

/// Resolves another name through the server, with the type of the client's query.
pub fn resolve(
    context: &Context<'_>,
    query: &Query,
    name: Name,
) -> impl Future<Output = AliasTarget> + Send + use<> {
    resolve_as(context, query, name, query.question.rtype)
}

/// Resolves a name and type through the server, on behalf of the client of `query`.
pub fn resolve_as(
    context: &Context<'_>,
    query: &Query,
    name: Name,
    rtype: Type,
) -> impl Future<Output = AliasTarget> + Send + use<> {
    let found = context.again(query, Question::new(name, rtype, query.question.class));
    async move {
        let found = found.await;
        AliasTarget { name, rtype, found }
    }
}

impl AliasTarget {
    /// Its name.
    #[cfg(feature = "etcd")]
    pub fn name(&self) -> Name {
        self.name
    }

    /// The response to the query for it.
    #[cfg(feature = "etcd")]
    pub fn found(&self) -> &Reply {
        &self.found
    }

    /// Whether the chain of aliases ends without data of the queried type, or could not be followed
    /// to its end.
    ///
    /// A target for which this server has neither a zone nor an upstream is no dead end: the alias
    /// alone is the answer, as from an authoritative server.
    pub fn is_dead_end(&self) -> bool {
        let is_known = !matches!(self.found.why, Why::NoZone | Why::NoPluginAnswered);
        is_known && !self.found.answers(self.rtype)
    }

    /// Appends the records of the target to the answer section of `reply`, further aliases first.
    pub fn append_to(&self, reply: &mut Reply) {
        let owner = Owner::Name(self.name.as_ref());
        reply.push_all_from(Section::Answer, owner, &self.found);
        reply.truncated |= self.found.truncated;
    }

    /// Ends `reply` as the response for the last name of the chain, where that is a dead end: with its
    /// code (RFC 6604 section 3), and with the SOA record that bounds how long it may be cached (RFC
    /// 2308 section 2). The aliases stay; an error code that `reply` has already is not replaced.
    pub fn end(&self, reply: &mut Reply) {
        if !self.is_dead_end() || reply.rcode != Rcode::NOERROR {
            return;
        }
        let found = &self.found;
        let owner = Owner::Name(self.name.as_ref());
        reply.push_all_from(Section::Authority, owner, found);
        reply.rcode = found.rcode;
        if !matches!(found.rcode, Rcode::NOERROR | Rcode::NXDOMAIN) {
            reply.why = found.why;
            reply.cause.clone_from(&found.cause);
        }
        reply.extended_error = found.extended_error.as_ref().map(|error| {
            let mut text = ReasonText::default();
            text.push("target ");
            text.push(&self.name.to_string());
            text.push(": ");
            text.push(&error.text);
            ExtendedError {
                code: error.code,
                text: text.as_str().into(),
            }
        });
    }
}

#[cfg(test)]
mod tests;
