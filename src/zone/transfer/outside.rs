//! The zones that show Services to the outside.

use super::{Teller, Whole};
use crate::{
    cluster::{Cluster, Entry, Service},
    query::Question,
    reply::{Owner, Reply, Section},
    wire::{Name, NameRef},
    zone::{Zones, endpoint::Only, external::External, target::Target},
};

impl External {
    /// The same as [`View::transfer`](crate::zone::View::transfer).
    pub fn transfer(&self, question: &Question, held: Option<u32>, reply: &mut Reply) -> bool {
        self.tell(question, held, reply)
    }

    /// The same as [`View::serials`](crate::zone::View::serials).
    pub fn serials(&self) -> Vec<(Name, u32)> {
        Whole::serials(self)
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
                teller.endpoints(self.view.select(entry, Only::All), &target, true);
            }
            None => {}
        }
    }
}

impl Whole for External {
    fn cluster(&self) -> &Cluster {
        self.view.cluster()
    }

    fn zones(&self) -> &Zones {
        self.view.zones()
    }

    fn start(&self, zone: NameRef<'_>, serial: u32, reply: &mut Reply) {
        self.soa(zone, serial, Section::Answer, Owner::Question, reply);
    }

    fn content(&self, zone: NameRef<'_>, reply: &mut Reply) {
        let mut teller = Teller::new(zone, self.ttl(), reply);
        if let Some(server) = self.name_server(zone) {
            let mut glue = Vec::new();
            self.each_own_address(|address| glue.push((server, address)));
            teller.name_servers(&[server], glue);
        }
        for entry in self.view.sorted_entries() {
            // What stands below the name server's parent is not a namespace's.
            if entry.key.namespace.as_bytes() != &*self.apex
                && let Some(service) = &entry.service
            {
                self.tell_service(&entry, service, &mut teller);
            }
        }
    }
}
