//! Zones as a whole, for those who hold a copy (AXFR, RFC 5936; IXFR, RFC 1995).
//!
//! Told are the zone's own records and those of Services, in the order of their names. Not told
//! are the names of pods and of addresses, `dns-version`, and the names of endpoints below Services
//! that have a cluster address.
//!
//! A zone is written part by part, of the state that the cluster is in when the first part is: what
//! is kept meanwhile are pointers to that state's entries, 8 bytes for each Service. What changes after
//! that has a later serial.
//!
//! ```text
//! inside     the cluster's own zones      outside    those of k8s_external
//! teller     what both have: Services by their addresses, or by their endpoints
//! weights    the weights of SRV records in answers
//! ```

mod inside;
mod outside;
mod teller;
mod weights;

use std::sync::{Arc, OnceLock};

use self::teller::{Glue, Teller};
use super::{Zones, form::Form, name::Labels};
use crate::{
    cluster::{Cluster, Entry, Kind},
    query::Question,
    reply::{RecordSource, Reply, Rest, Why},
    wire::{Name, NameRef, Rcode, is_later},
};

/// Whether all is known that a zone holds; pods are not part of it.
fn is_known(cluster: &Cluster) -> bool {
    let kinds = [Kind::Namespace, Kind::Service, Kind::Slice, Kind::Import];
    cluster.is_ready() && kinds.into_iter().all(|kind| cluster.knows(kind))
}

/// Zones of the cluster, of which one may be told as a whole.
pub(crate) trait WholeZones: Send + Sync + 'static {
    fn cluster(&self) -> &Cluster;
    fn zones(&self) -> &Zones;
    /// Adds the SOA record to the answer.
    fn start(&self, zone: NameRef<'_>, serial: u32, reply: &mut Reply);
    /// The zone's name servers and their addresses.
    fn servers(&self, zone: NameRef<'_>) -> (Vec<Name>, Glue);
    /// Whether records of an entry may be in its zones.
    fn has(&self, entry: &Entry) -> bool;
    /// Writes records of a zone into `reply`.
    fn teller<'a>(&self, zone: NameRef<'a>, glue: &'a Glue, reply: &'a mut Reply) -> Teller<'a>;
    /// Adds the records of an entry.
    fn entry(&self, entry: &Entry, teller: &mut Teller<'_>);

    /// See [`View::transfer`](super::View::transfer).
    fn tell(self: &Arc<Self>, question: &Question, held: Option<u32>, reply: &mut Reply) -> bool
    where
        Self: Sized,
    {
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
        reply.authoritative = true;
        reply.why = Why::ClusterRecord;
        let serial = self.cluster().serial();
        if held.is_some_and(|held| !is_later(serial, held)) {
            let serial = self.cluster().tell_serial();
            self.start(place.suffix(), serial, reply);
            return true;
        }
        reply.rest = Some(Rest::new(Arc::new(ZoneParts {
            whole: Arc::clone(self),
            zone: place.suffix().to_name(),
            state: OnceLock::new(),
        })));
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

/// A zone transfer in progress.
struct ZoneParts<W> {
    whole: Arc<W>,
    /// In the spelling of the question.
    zone: Name,
    /// Taken when the first part is written.
    state: OnceLock<State>,
}

/// What a zone is made of at one moment: 8 bytes for each Service. It does not change during the
/// transfer.
struct State {
    serial: u32,
    servers: Vec<Name>,
    glue: Glue,
    /// In the order of their names.
    entries: Vec<Arc<Entry>>,
}

impl<W: WholeZones> ZoneParts<W> {
    /// The writer of the cluster waits while this is taken, and so it is one state; it is put in order
    /// afterwards.
    fn take(&self) -> State {
        let whole = &self.whole;
        let mut state = whole.cluster().frozen(|cluster| {
            let (servers, glue) = whole.servers(self.zone.as_ref());
            State {
                serial: cluster.tell_serial(),
                servers,
                glue,
                entries: cluster.entries().filter(|it| whole.has(it)).collect(),
            }
        });
        state.entries.sort_unstable_by(|one, other| {
            let (one, other) = (&one.key, &other.key);
            (&one.name, &one.namespace).cmp(&(&other.name, &other.namespace))
        });
        state
    }
}

impl<W: WholeZones> RecordSource for ZoneParts<W> {
    fn write(&self, at: usize, reply: &mut Reply) -> Option<usize> {
        let state = self.state.get_or_init(|| self.take());
        let (whole, zone) = (&self.whole, self.zone.as_ref());
        if at == 0 {
            whole.start(zone, state.serial, reply);
            let mut teller = whole.teller(zone, &state.glue, reply);
            teller.name_servers(&state.servers);
        }
        for (number, entry) in state.entries.iter().enumerate().skip(at) {
            // At least one: the name servers alone may be more than a part.
            if number > at && reply.is_part() {
                return Some(number);
            }
            whole.entry(entry, &mut whole.teller(zone, &state.glue, reply));
        }
        whole.start(zone, state.serial, reply);
        None
    }
}

#[cfg(test)]
mod tests;
