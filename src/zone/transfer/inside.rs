//! The cluster's own zones.

use std::{net::IpAddr, sync::Arc};

use super::{Glue, Teller, WholeZones};
use crate::{
    cluster::{Cluster, Entry, Service, ServiceImport, ServiceKind},
    query::Question,
    reply::{Owner, Reply, Section},
    wire::{Name, NameRef},
    zone::{
        View, Zones, apex::name_server, distinct::Distinct, endpoint::Only, import::is_imported_up,
        lookup::is_up, target::Target,
    },
};

impl View {
    /// Writes the zone whose name is asked for into `reply`, which comes empty; false where that is
    /// the name of no zone, or of a reverse zone: those are not told as a whole. The records are
    /// [`Reply::rest`], all of them as they stand when the first of them is written.
    ///
    /// Who holds it at this serial already, or at a later one, is told the SOA record alone
    /// (RFC 1995 §2). Until everything is known the answer is SERVFAIL: half a zone would deny the
    /// rest.
    pub fn transfer(
        self: &Arc<Self>,
        question: &Question,
        held: Option<u32>,
        reply: &mut Reply,
    ) -> bool {
        self.tell(question, held, reply)
    }

    /// The zones that can be told as a whole, with their serial; none before everything is known.
    pub fn serials(&self) -> Vec<(Name, u32)> {
        WholeZones::serials(self)
    }

    fn tell_service(&self, entry: &Entry, service: &Service, teller: &mut Teller<'_>) {
        let zone = teller.zone();
        let Some(target) = Target::service(&service.name, &service.namespace, zone) else {
            return;
        };
        match service.kind {
            ServiceKind::ExternalName => tell_alias(service, target.name(), teller),
            ServiceKind::ClusterIp => {
                if !self.rules.ignore_empty_service || is_up(entry) {
                    teller.front(&service.cluster_ips, &service.ports, &target);
                }
            }
            ServiceKind::Headless => {
                teller.endpoints(self.select(entry, Only::All), &target);
            }
        }
    }

    fn tell_import(&self, entry: &Entry, import: &ServiceImport, teller: &mut Teller<'_>) {
        let zone = teller.zone();
        let Some(target) = Target::service(&import.name, &import.namespace, zone) else {
            return;
        };
        if import.headless {
            teller.endpoints(self.select_imported(entry, Only::All), &target);
        } else if !self.rules.ignore_empty_service || is_imported_up(entry) {
            teller.front(&import.ips, &import.ports, &target);
        }
    }
}

impl WholeZones for View {
    fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    fn zones(&self) -> &Zones {
        &self.zones
    }

    fn start(&self, zone: NameRef<'_>, serial: u32, reply: &mut Reply) {
        self.soa(zone, serial, Section::Answer, Owner::Question, reply);
    }

    fn servers(&self, zone: NameRef<'_>) -> (Vec<Name>, Glue) {
        let (mut names, mut glue) = (Vec::new(), Glue::default());
        let mut named = Distinct::new();
        self.each_name_server(zone, |name, address| {
            let known = name.to_name();
            if named.insert(known) {
                names.push(known);
            }
            glue.put(name, address);
        });
        // A zone has a name server, though where it is may not be known.
        if names.is_empty() {
            names.extend(name_server(zone).map(|it| it.name().to_name()));
        }
        (names, glue)
    }

    fn has(&self, entry: &Entry) -> bool {
        self.shows(&entry.key.namespace)
    }

    fn teller<'a>(&self, zone: NameRef<'a>, glue: &'a Glue, reply: &'a mut Reply) -> Teller<'a> {
        Teller::new(zone, self.rules.ttl, glue, reply)
    }

    fn entry(&self, entry: &Entry, teller: &mut Teller<'_>) {
        let imports = self.zones.is_multicluster(teller.zone());
        match (&entry.service, &entry.import) {
            (_, Some(import)) if imports => self.tell_import(entry, import, teller),
            (Some(service), _) if !imports => self.tell_service(entry, service, teller),
            _ => {}
        }
    }
}

fn tell_alias(service: &Service, owner: NameRef<'_>, teller: &mut Teller<'_>) {
    let text = service.external_name.as_deref().unwrap_or_default();
    if let Ok(address) = text.parse::<IpAddr>() {
        teller.address(owner, address);
    } else if let Ok(target) = Name::parse(text)
        && !target.as_ref().is_root()
    {
        teller.alias(owner, target.as_ref());
    }
}
