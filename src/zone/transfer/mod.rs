//! Outgoing zone transfers (AXFR, RFC 5936; IXFR, RFC 1995, always a full zone).
//!
//! A transfer contains the apex records and those of Services, sorted by name. It does not contain
//! the names of pods and of addresses, `dns-version`, and endpoint names of Services with a cluster
//! IP.
//!
//! A zone is written in parts, from a snapshot taken with the first part: pointers to the entries,
//! 8 bytes per Service. Later changes get a higher serial.
//!
//! ```text
//! cluster    kubernetes zones          external   k8s_external zones
//! writer     records of Services, common to both
//! weights    weights of SRV records
//! ```

mod cluster;
mod external;
mod weights;
mod writer;

use std::sync::{Arc, OnceLock};

use self::writer::{Glue, RecordWriter};
use super::{Zones, name::SplitName, name_kind::NameKind};
use crate::{
    cluster::{Cluster, Kind, ServiceEntry},
    query::Question,
    reply::{RecordSource, RemainingRecords, Reply, Why},
    wire::{Name, NameRef, Rcode, is_later},
};

/// Whether all kinds that a zone contains have been listed; pods are not part of it.
fn is_complete(cluster: &Cluster) -> bool {
    let kinds = [
        Kind::Namespace,
        Kind::Service,
        Kind::EndpointSlice,
        Kind::ServiceImport,
    ];
    cluster.is_ready() && kinds.into_iter().all(|kind| cluster.is_listed(kind))
}

/// Transferable zones of the cluster.
pub(crate) trait ZoneTransfer: Send + Sync + 'static {
    fn cluster(&self) -> &Cluster;
    fn zones(&self) -> &Zones;
    /// Adds the SOA record to the answer section.
    fn write_soa(&self, zone: NameRef<'_>, serial: u32, reply: &mut Reply);
    /// The zone's name servers and their addresses.
    fn name_servers(&self, zone: NameRef<'_>) -> (Vec<Name>, Glue);
    /// Whether the entry's records may be in the zones.
    fn includes(&self, entry: &ServiceEntry) -> bool;
    /// A writer of a zone's records into `reply`.
    fn writer<'a>(
        &self,
        zone: NameRef<'a>,
        glue: &'a Glue,
        reply: &'a mut Reply,
    ) -> RecordWriter<'a>;
    /// Adds the records of an entry.
    fn write_entry(&self, entry: &ServiceEntry, writer: &mut RecordWriter<'_>);

    /// Prepares a transfer of the queried zone in the empty `reply`. Returns false if the name is
    /// not a zone, or is a reverse zone: reverse zones are not transferred. The records are
    /// [`Reply::remaining`], from a snapshot taken when the first of them is written.
    ///
    /// If the secondary has this serial or a later one, only the SOA record is sent (RFC 1995
    /// section 2). SERVFAIL until all kinds have been listed: a partial zone would deny the rest.
    fn transfer(self: &Arc<Self>, question: &Question, held: Option<u32>, reply: &mut Reply) -> bool
    where
        Self: Sized,
    {
        let labels = SplitName::new(&question.name, &question.lower);
        let matched = self.zones().find(&labels);
        let Some(matched) =
            matched.filter(|it| it.kind() == NameKind::Apex && !it.zone().is_reverse())
        else {
            return false;
        };
        if !is_complete(self.cluster()) {
            reply.fail(Rcode::SERVFAIL, Why::NotSynced);
            return true;
        }
        reply.authoritative = true;
        reply.why = Why::ClusterRecord;
        let serial = self.cluster().serial();
        if held.is_some_and(|held| !is_later(serial, held)) {
            let serial = self.cluster().publish_serial();
            self.write_soa(matched.suffix(), serial, reply);
            return true;
        }
        reply.remaining = Some(RemainingRecords::new(Arc::new(TransferSource {
            zones: Arc::clone(self),
            zone: matched.suffix().to_name(),
            snapshot: OnceLock::new(),
        })));
        true
    }

    /// The transferable zones with their serial; none until all kinds have been listed.
    fn serials(&self) -> Vec<(Name, u32)> {
        if !is_complete(self.cluster()) {
            return Vec::new();
        }
        let serial = self.cluster().serial();
        let named = self.zones().iter().filter(|zone| !zone.is_reverse());
        named.map(|zone| (*zone.name(), serial)).collect()
    }
}

/// A zone transfer in progress.
struct TransferSource<W> {
    zones: Arc<W>,
    /// In the query's spelling.
    zone: Name,
    /// Taken when the first part is written.
    snapshot: OnceLock<Snapshot>,
}

/// A consistent snapshot of a zone: 8 bytes per Service.
struct Snapshot {
    serial: u32,
    servers: Vec<Name>,
    glue: Glue,
    /// Sorted by name.
    entries: Vec<Arc<ServiceEntry>>,
}

impl<W: ZoneTransfer> TransferSource<W> {
    /// Takes a snapshot. The cluster's writer is blocked meanwhile; sorting happens afterwards.
    fn take(&self) -> Snapshot {
        let zones = &self.zones;
        let mut snapshot = zones.cluster().consistent(|cluster| {
            let (servers, glue) = zones.name_servers(self.zone.as_ref());
            Snapshot {
                serial: cluster.publish_serial(),
                servers,
                glue,
                entries: cluster.entries().filter(|it| zones.includes(it)).collect(),
            }
        });
        snapshot.entries.sort_unstable_by(|one, other| {
            let (one, other) = (&one.key, &other.key);
            (&one.name, &one.namespace).cmp(&(&other.name, &other.namespace))
        });
        snapshot
    }
}

impl<W: ZoneTransfer> RecordSource for TransferSource<W> {
    fn write(&self, at: usize, reply: &mut Reply) -> Option<usize> {
        let snapshot = self.snapshot.get_or_init(|| self.take());
        let (zones, zone) = (&self.zones, self.zone.as_ref());
        if at == 0 {
            zones.write_soa(zone, snapshot.serial, reply);
            let mut writer = zones.writer(zone, &snapshot.glue, reply);
            writer.name_servers(&snapshot.servers);
        }
        for (number, entry) in snapshot.entries.iter().enumerate().skip(at) {
            // At least one entry per part: the name servers alone may exceed a part.
            if number > at && reply.is_batch_full() {
                return Some(number);
            }
            zones.write_entry(entry, &mut zones.writer(zone, &snapshot.glue, reply));
        }
        zones.write_soa(zone, snapshot.serial, reply);
        None
    }
}

#[cfg(test)]
mod tests;
