//! Ending a query that would be pending, because there is no room or no time for it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Handled, PendingQuery, Scratch, write};
use crate::{
    plugin::{Block, Outcome, Suspended},
    reply::{Reply, Why},
    wire::Rcode,
};

/// Why an overloaded thread sheds a query that needs an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overloaded {
    /// The client has had its share of the thread.
    ClientShare,
    /// The thread forwards nothing until it has caught up.
    AllClients,
}

impl Overloaded {
    fn text(self) -> &'static str {
        match self {
            Self::ClientShare => "this client sends more than its share",
            Self::AllClients => "names of the cluster are answered first",
        }
    }

    fn reply(self, reply: &mut Reply) {
        reply.fail(Rcode::SERVFAIL, Why::Overload);
        reply.cause = Some(self.text().into());
    }
}

impl PendingQuery {
    /// Ends the query with SERVFAIL; the outcome is as of
    /// [`MessageHandler::handle`](super::MessageHandler::handle).
    pub fn shed(self, overloaded: Overloaded, scratch: &mut Scratch, out: &mut Vec<u8>) -> Handled {
        let Self {
            suspended,
            handler,
            arrival,
        } = self;
        out.clear();
        let walk = AssertUnwindSafe(|| {
            let block = suspended.block().clone();
            shed(
                suspended,
                &block,
                |reply| overloaded.reply(reply),
                scratch,
                out,
            )
        });
        catch_unwind(walk).unwrap_or_else(|_| {
            *scratch = Scratch::default();
            let failure = AssertUnwindSafe(|| handler.fail(&arrival.borrow(), out));
            catch_unwind(failure).unwrap_or(Handled::Nothing)
        })
    }
}

/// Answers a query that is not to be pending as `overload` does. The reply passes the chain's response hooks, so
/// it is logged and counted.
pub(super) fn shed(
    mut suspended: Box<Suspended>,
    block: &Block,
    overload: impl Fn(&mut Reply),
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Handled {
    let Scratch { reply, writer, .. } = scratch;
    loop {
        overload(reply);
        match suspended.end(reply) {
            Outcome::Done => break,
            Outcome::Dropped => {
                let query = suspended.query();
                block.chain.dropped(block, query, query.received.elapsed());
                return Handled::Nothing;
            }
            // A response hook suspended it again; it is ended once more.
            Outcome::Pending(()) => {}
        }
    }
    write(writer, block, suspended.query(), reply, out);
    Handled::Reply
}
