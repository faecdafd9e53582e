//! The records of all zones, as a zone transfer contains them.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use axum::body::Bytes;
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{Serving, respond::ApiError};
use crate::{
    authority::presentation::presentation,
    cluster::Kind,
    plugin::transfer::Transferable,
    query::Question,
    reply::{Owner, Reply, Section},
    wire::{Class, Name, NameRef, Type},
};

/// A namespace with its number of Services.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Services and ServiceImports in it.
    pub services: usize,
}

/// The namespaces that are served, by name.
pub(super) fn namespaces(serving: &Serving) -> Vec<Namespace> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for view in &serving.clusters {
        let cluster = view.cluster();
        let names = cluster.namespaces().map(|it| it.name.to_string());
        for name in names.filter(|name| view.serves_namespace(name)) {
            counts.entry(name).or_default();
        }
        let entries = cluster.entries();
        for entry in entries.filter(|it| it.service.is_some() || it.import.is_some()) {
            if let Some(count) = counts.get_mut(&*entry.key.namespace) {
                *count += 1;
            }
        }
    }
    let counts = counts.into_iter();
    let namespaces = counts.map(|(name, services)| Namespace { name, services });
    namespaces.collect()
}

/// Which records are wanted.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    namespace: Option<String>,
}

/// A record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Owner, with a dot at the end.
    pub name: String,
    /// TTL in seconds.
    pub ttl: u32,
    /// Type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// Data in presentation format.
    pub data: String,
}

/// Parts of the list that are ready before they are read, of some 64 KiB each.
const READY_PARTS: usize = 2;

/// One line for each record. The zones are consistent snapshots, read part by part as the client takes them.
pub(super) fn lines(
    serving: &Serving,
    selection: Selection,
) -> Result<impl Stream<Item = Result<Bytes, Infallible>> + use<>, ApiError> {
    if let Some(view) = serving.clusters.iter().find(|it| !it.cluster().is_ready()) {
        let kinds: Vec<_> = view.cluster().unsynced().map(Kind::resource).collect();
        let message = format!("not synced: {} are not listed yet", kinds.join(", "));
        return Err(ApiError::unavailable(message));
    }
    let zones = zones(&serving.transferable);
    let (sender, receiver) = mpsc::channel(READY_PARTS);
    tokio::task::spawn_blocking(move || {
        for (source, name) in zones {
            let mut reply = Reply::default();
            let question = Question::new(name, Type::AXFR, Class::IN);
            if !source.transfer(&question, None, &mut reply) {
                continue;
            }
            let mut is_first = true;
            while reply.remaining.is_some() {
                let mut part = Reply::default();
                part.remaining = reply.remaining.take();
                part.add_batch();
                let text = part_lines(&part, &name, &selection, is_first);
                is_first = false;
                if sender.blocking_send(Ok(text)).is_err() {
                    return; // the client has closed the connection
                }
                reply.remaining = part.remaining.take();
            }
        }
    });
    Ok(stream::unfold(receiver, async |mut receiver| {
        Some((receiver.recv().await?, receiver))
    }))
}

/// The zones with what has their records; of several blocks with the same zone, the first.
fn zones(transferable: &[Arc<dyn Transferable>]) -> Vec<(Arc<dyn Transferable>, Name)> {
    let mut zones: Vec<(Arc<dyn Transferable>, Name)> = Vec::new();
    for source in transferable {
        for (zone, _) in source.serials() {
            if zones.iter().all(|(_, known)| *known != zone) {
                zones.push((Arc::clone(source), zone));
            }
        }
    }
    zones
}

fn part_lines(part: &Reply, zone: &Name, selection: &Selection, is_first: bool) -> Bytes {
    let mut text = Vec::new();
    for (number, record) in part.section(Section::Answer).iter().enumerate() {
        // A transfer ends with its first record.
        if record.rtype == Type::SOA && !(is_first && number == 0) {
            continue;
        }
        let owner = match part.owner(record) {
            Owner::Name(name) => name,
            Owner::Question => zone.as_ref(),
        };
        if !selection.includes(owner, zone.as_ref()) {
            continue;
        }
        let data = part.data(record);
        let line = Record {
            name: owner.to_string(),
            ttl: record.ttl,
            rtype: record.rtype.to_string(),
            data: presentation(record.rtype, data, 0..data.len(), 0),
        };
        // Fails for no value of this type.
        if serde_json::to_writer(&mut text, &line).is_ok() {
            text.push(b'\n');
        }
    }
    text.into()
}

impl Selection {
    /// Whether a name is in the namespace: `....NAMESPACE.svc.ZONE`, or `....NAMESPACE.ZONE` in the zones of
    /// `k8s_external`.
    fn includes(&self, owner: NameRef<'_>, zone: NameRef<'_>) -> bool {
        let Some(namespace) = &self.namespace else {
            return true;
        };
        let labels: Vec<&[u8]> = owner.strip(zone).into_iter().flatten().collect();
        let label = match labels.as_slice() {
            [.., namespace, b"svc"] | [.., namespace] => *namespace,
            [] => return false,
        };
        label.eq_ignore_ascii_case(namespace.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_selected_by_namespace() {
        let zone = Name::parse("cluster.local.").unwrap();
        let shop = Selection {
            namespace: Some("shop".to_owned()),
        };
        let includes = |name: &str| {
            let name = Name::parse(name).unwrap();
            shop.includes(name.as_ref(), zone.as_ref())
        };
        assert!(includes("web.shop.svc.cluster.local."));
        assert!(includes("_http._tcp.web.shop.svc.cluster.local."));
        assert!(includes("web.shop.cluster.local."));
        assert!(!includes("shop.web.svc.cluster.local."));
        assert!(!includes("cluster.local."));
        assert!(!includes("svc.cluster.local."));
    }
}
