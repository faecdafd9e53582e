//! Zones as a whole, for those who hold a copy (AXFR, RFC 5936; IXFR, RFC 1995).
//!
//! Told are the zone's own records and those of Services, in the order of their names. Not told
//! are the names of pods and of addresses, `dns-version`, and the names of endpoints below Services
//! that have a cluster address.
//!
//! ```text
//! inside     the cluster's own zones      outside    those of k8s_external
//! teller     what both have: Services by their addresses, or by their endpoints
//! ```

mod inside;
mod outside;
mod teller;

use self::teller::Teller;
use super::{Zones, form::Form, name::Labels};
use crate::{
    cluster::{Cluster, Kind},
    query::Question,
    reply::{Reply, Why},
    wire::{Name, NameRef, Rcode, is_later},
};

/// Whether all is known that a zone holds; pods are not part of it.
fn is_known(cluster: &Cluster) -> bool {
    let kinds = [Kind::Namespace, Kind::Service, Kind::Slice, Kind::Import];
    cluster.is_ready() && kinds.into_iter().all(|kind| cluster.knows(kind))
}

/// Zones of the cluster, of which one may be told as a whole.
trait Whole {
    fn cluster(&self) -> &Cluster;
    fn zones(&self) -> &Zones;
    /// Adds the SOA record to the answer.
    fn start(&self, zone: NameRef<'_>, serial: u32, reply: &mut Reply);
    /// Adds all other records.
    fn content(&self, zone: NameRef<'_>, reply: &mut Reply);

    /// See [`View::transfer`](super::View::transfer).
    fn tell(&self, question: &Question, held: Option<u32>, reply: &mut Reply) -> bool {
        let labels = Labels::new(&question.name, &question.lower);
        let place = self.zones().find(&labels);
        let Some(place) = place.filter(|it| it.form() == Form::Apex && !it.zone().is_reverse())
        else {
            return false;
        };
        if !is_known(self.cluster()) {
            reply.fail(Rcode::SERVFAIL, Why::NotSynced);
            return true;
        }
        // Before anything is read: what changes meanwhile has a later serial.
        let serial = self.cluster().tell_serial();
        let zone = place.suffix();
        reply.authoritative = true;
        reply.why = Why::ClusterRecord;
        self.start(zone, serial, reply);
        if held.is_some_and(|held| !is_later(serial, held)) {
            return true;
        }
        self.content(zone, reply);
        self.start(zone, serial, reply);
        true
    }

    /// The zones that can be told, with their serial; none before everything is known.
    fn serials(&self) -> Vec<(Name, u32)> {
        if !is_known(self.cluster()) {
            return Vec::new();
        }
        let serial = self.cluster().serial();
        let named = self.zones().iter().filter(|zone| !zone.is_reverse());
        named.map(|zone| (*zone.name(), serial)).collect()
    }
}
