//! Transfers of `k8s_external` zones.

use super::{Glue, RecordWriter, ZoneTransfer};
use crate::{
    cluster::{Cluster, Service, ServiceEntry},
    reply::{Owner, Reply, Section},
    wire::{Name, NameRef},
    zone::{Zones, endpoint::EndpointFilter, external::ExternalView, target_name::TargetName},
};

impl ExternalView {
    fn write_service(
        &self,
        entry: &ServiceEntry,
        service: &Service,
        writer: &mut RecordWriter<'_>,
    ) {
        let zone = writer.zone();
        let Some(target) = TargetName::external(&service.name, &service.namespace, zone) else {
            return;
        };
        match service.external.as_deref() {
            Some(external) if external.addresses.is_empty() => {
                let names = external.hostnames.iter();
                let hosts: Vec<Name> = names.filter_map(|name| Name::parse(name).ok()).collect();
                writer.hosts(&hosts, &service.ports, &target);
            }
            Some(external) => writer.frontend(&external.addresses, &service.ports, &target),
            None if self.shows_endpoints_of(service) => {
                writer.endpoints(self.view.select(entry, EndpointFilter::All), &target);
            }
            None => {}
        }
    }
}

impl ZoneTransfer for ExternalView {
    fn cluster(&self) -> &Cluster {
        self.view.cluster()
    }

    fn zones(&self) -> &Zones {
        self.view.zones()
    }

    fn write_soa(&self, zone: NameRef<'_>, serial: u32, reply: &mut Reply) {
        self.soa(zone, serial, Section::Answer, Owner::Question, reply);
    }

    fn name_servers(&self, zone: NameRef<'_>) -> (Vec<Name>, Glue) {
        let mut glue = Glue::default();
        let server = self.name_server(zone);
        if let Some(server) = &server {
            self.each_own_address(|address| glue.put(server.as_ref(), address));
        }
        (server.into_iter().collect(), glue)
    }

    fn includes(&self, entry: &ServiceEntry) -> bool {
        // A namespace with the name of the apex label is hidden by the fixed names.
        let namespace = &entry.key.namespace;
        namespace.as_bytes() != &*self.apex && self.view.serves_namespace(namespace)
    }

    fn writer<'a>(
        &self,
        zone: NameRef<'a>,
        glue: &'a Glue,
        reply: &'a mut Reply,
    ) -> RecordWriter<'a> {
        RecordWriter::new(zone, self.ttl(), glue, reply).answer_weights()
    }

    fn write_entry(&self, entry: &ServiceEntry, writer: &mut RecordWriter<'_>) {
        if let Some(service) = &entry.service {
            self.write_service(entry, service, writer);
        }
    }
}
