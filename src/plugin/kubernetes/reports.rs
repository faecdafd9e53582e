//! Names whose TXT records describe this server and its answers: `NAME.why.ZONE`, for clients without EDNS,
//! and `status.lodestone` in class CH, for the replica itself.

use std::{fmt::Write, sync::Arc};

use super::Kubernetes;
use crate::{
    cluster::{Cluster, Kind},
    plugin::{Context, Resolved, Step},
    query::{Query, Question},
    reply::{Data, Reply, Section, Why},
    wire::{Class, Rcode, Type},
    zone::Hints,
};

/// `status.lodestone`, in wire format.
const STATUS: &[u8] = b"\x06status\x09lodestone\x00";

impl Kubernetes {
    /// Answers a TXT query for `NAME.why.ZONE` with the response code of `NAME`, type A, and its addresses
    /// or its reason. `None` for other names.
    pub(super) fn explanation(
        &self,
        context: &Context<'_>,
        query: &Query,
        reply: &mut Reply,
    ) -> Option<Step> {
        let name = self.view.explained_name(&query.question)?;
        let question = Question::new(name, Type::A, Class::IN);
        let found = context.with_reason(query, question);
        let mut reply = std::mem::take(reply);
        Some(Step::Wait(Box::pin(async move {
            let found = found.await;
            reply.why = Why::ClusterRecord;
            reply.authoritative = true;
            reply.answer(Type::TXT, 0, Data::Txt(summary(&found).as_bytes()));
            Resolved::Answer(reply)
        })))
    }

    /// Answers a query of class CH: the state of this replica. Passes other names.
    pub(super) fn status(&self, query: &Query, reply: &mut Reply) -> Step {
        let question = &query.question;
        let is_status = question.class == Class::CH && question.lower.as_wire() == STATUS;
        if !is_status || question.rtype != Type::TXT || self.view.hints() == Hints::None {
            return Step::Pass;
        }
        reply.why = Why::ClusterRecord;
        let hash = self
            .config_hash
            .as_ref()
            .map_or(0.0, prometheus::Gauge::get);
        for text in status(self.view.cluster(), hash) {
            reply.answer(Type::TXT, 0, Data::Txt(text.as_bytes()));
        }
        for record in reply.records_mut() {
            record.class = Class::CH;
        }
        Step::Answer
    }
}

/// `NXDOMAIN: namespace "payrol" not found; nearest: "payroll"`
fn summary(found: &Reply) -> String {
    let mut text = found.rcode.to_string();
    let mut separator = ": ";
    for record in found.section(Section::Answer) {
        // A character-string has at most 255 bytes (RFC 1035 section 3.3), and none is cut.
        if text.len() > 150 {
            text.push_str(", ...");
            break;
        }
        let data = found.data(record);
        let written = match record.rtype {
            Type::A => <[u8; 4]>::try_from(data)
                .map(|bytes| write!(text, "{separator}{}", std::net::Ipv4Addr::from(bytes))),
            Type::CNAME => Ok(match found.data_name(record) {
                Some(target) => write!(text, "{separator}alias of {target}"),
                None => Ok(()),
            }),
            _ => continue,
        };
        debug_assert!(written.is_ok_and(|written| written.is_ok()));
        separator = ", ";
    }
    if found.extended_error.is_some() || found.rcode != Rcode::NOERROR || separator == ": " {
        text.push_str(separator);
        text.push_str(found.reason());
    }
    text
}

/// One text each: version, configuration, and the state of each kind of object.
fn status(cluster: &Arc<Cluster>, hash: f64) -> Vec<String> {
    // The gauge holds 48 bits, which an f64 represents exactly.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let hash = hash as u64;
    let state = cluster.sync_state();
    let mut texts = vec![
        format!("version {}", env!("CARGO_PKG_VERSION")),
        format!("configuration {hash:012x}"),
        format!("cluster {state}"),
    ];
    texts.extend(resources(cluster));
    texts
}

/// One text for each watched resource: objects, and time since the last event or bookmark.
pub(super) fn resources(cluster: &Cluster) -> Vec<String> {
    let stats = cluster.stats();
    let unsynced: Vec<_> = cluster.unsynced().collect();
    let text = |kind: Kind| {
        let (name, count) = (kind.resource(), stats.objects(kind));
        match stats.age(kind) {
            Some(age) => Some(format!(
                "{name} {count}, last contact {} s ago",
                age.as_secs()
            )),
            None => unsynced
                .contains(&kind)
                .then(|| format!("{name} {count}, no contact yet")),
        }
    };
    Kind::ALL.into_iter().filter_map(text).collect()
}
