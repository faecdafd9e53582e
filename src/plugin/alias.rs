//! Following an alias (CNAME): the server itself resolves the target, as the client could have done,
//! and what was found stands behind the alias.
//!
//! The one place for all plugins that make or store aliases: `kubernetes`, `k8s_external`, `template`,
//! `etcd`, and the zones of `file`, `auto` and `secondary`.

use std::future::Future;

use super::{Context, Pending, Resolved};
use crate::{
    query::{Query, Question},
    reply::{Owner, Reply, Section, Why},
    wire::{Name, Rcode, Type},
};

/// The target of an alias, and the response to the question for it.
pub struct Target {
    name: Name,
    asked: Type,
    found: Reply,
}

/// Completes `reply`, whose answer section ends with an alias to `target`.
pub fn follow(context: &Context<'_>, query: &Query, target: Name, reply: &mut Reply) -> Pending {
    let target = resolve(context, query, target);
    let mut reply = std::mem::take(reply);
    Box::pin(async move {
        let target = target.await;
        target.append_to(&mut reply);
        target.end(&mut reply);
        Resolved::Answer(reply)
    })
}

/// Asks the server itself for what the client asked, at another name.
pub fn resolve(
    context: &Context<'_>,
    query: &Query,
    name: Name,
) -> impl Future<Output = Target> + Send + use<> {
    resolve_as(context, query, name, query.question.rtype)
}

/// Asks the server itself for data of a type, for the client of `query`.
pub fn resolve_as(
    context: &Context<'_>,
    query: &Query,
    name: Name,
    asked: Type,
) -> impl Future<Output = Target> + Send + use<> {
    let found = context.again(query, Question::new(name, asked, query.question.class));
    async move {
        let found = found.await;
        Target { name, asked, found }
    }
}

impl Target {
    /// Its name.
    #[cfg(feature = "etcd")]
    pub fn name(&self) -> Name {
        self.name
    }

    /// The response to the question for it.
    #[cfg(feature = "etcd")]
    pub fn found(&self) -> &Reply {
        &self.found
    }

    /// Whether the chain of aliases is known to end without data of the type that was asked for, or
    /// could not be followed to its end.
    ///
    /// A target for which this server has neither a zone nor an upstream is not denied by that: the
    /// alias alone is the answer, as from an authoritative server.
    pub fn is_dead_end(&self) -> bool {
        let is_known = !matches!(self.found.why, Why::NoZone | Why::NobodyAnswered);
        is_known && !self.found.answers(self.asked)
    }

    /// Appends the records of the target to the answer section of `reply`, further aliases first.
    pub fn append_to(&self, reply: &mut Reply) {
        let owner = Owner::Name(self.name.as_ref());
        reply.push_all_from(Section::Answer, owner, &self.found);
        reply.truncated |= self.found.truncated;
    }

    /// Ends `reply` as the response for the last name of the chain, where that is a dead end: with its
    /// code (RFC 6604 section 3), and with the SOA record that bounds how long it may be kept (RFC 2308
    /// section 2). The aliases stay, and so does a code that `reply` has already.
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
            reply.extended_error.clone_from(&found.extended_error);
        }
    }
}

#[cfg(test)]
mod tests;
