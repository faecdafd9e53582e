//! The zones that show Services to the outside.

use std::sync::Arc;

use super::{Glue, Teller, WholeZones};
use crate::{
    cluster::{Cluster, Entry, Service},
    query::Question,
    reply::{Owner, Reply, Section},
    wire::{Name, NameRef},
    zone::{Zones, endpoint::Only, external::External, target::Target},
};

impl External {
    /// The same as [`View::transfer`](crate::zone::View::transfer).
    pub fn transfer(
        self: &Arc<Self>,
        question: &Question,
        held: Option<u32>,
        reply: &mut Reply,
    ) -> bool {
        self.tell(question, held, reply)
    }

    /// The same as [`View::serials`](crate::zone::View::serials).
    pub fn serials(&self) -> Vec<(Name, u32)> {
        WholeZones::serials(self)
    }

    fn tell_service(&self, entry: &Entry, service: &Service, teller: &mut Teller<'_>) {
        let zone = teller.zone();
        let Some(target) = Target::external(&service.name, &service.namespace, zone) else {
            return;
        };
        match service.external.as_deref() {
            Some(external) if external.addresses.is_empty() => {
                let names = external.hostnames.iter();
                let hosts: Vec<Name> = names.filter_map(|name| Name::parse(name).ok()).collect();
                teller.hosts(&hosts, &service.ports, &target);
            }
            Some(external) => teller.front(&external.addresses, &service.ports, &target),
            None if self.shows_endpoints_of(service) => {
                teller.endpoints(self.view.select(entry, Only::All), &target);
            }
            None => {}
        }
    }
}

impl WholeZones for External {
    fn cluster(&self) -> &Cluster {
        self.view.cluster()
    }

    fn zones(&self) -> &Zones {
        self.view.zones()
    }

    fn start(&self, zone: NameRef<'_>, serial: u32, reply: &mut Reply) {
        self.soa(zone, serial, Section::Answer, Owner::Question, reply);
    }

    fn servers(&self, zone: NameRef<'_>) -> (Vec<Name>, Glue) {
        let mut glue = Glue::default();
        let server = self.name_server(zone);
        if let Some(server) = &server {
            self.each_own_address(|address| glue.put(server.as_ref(), address));
        }
        (server.into_iter().collect(), glue)
    }

    fn has(&self, entry: &Entry) -> bool {
        // What stands below the name server's parent is not a namespace's.
        let namespace = &entry.key.namespace;
        namespace.as_bytes() != &*self.apex && self.view.shows(namespace)
    }

    fn teller<'a>(&self, zone: NameRef<'a>, glue: &'a Glue, reply: &'a mut Reply) -> Teller<'a> {
        Teller::new(zone, self.ttl(), glue, reply).like_answers()
    }

    fn entry(&self, entry: &Entry, teller: &mut Teller<'_>) {
        if let Some(service) = &entry.service {
            self.tell_service(entry, service, teller);
        }
    }
}
