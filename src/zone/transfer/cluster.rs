//! Transfers of `kubernetes` zones.

use std::net::IpAddr;

use super::{Glue, RecordWriter, ZoneTransfer};
use crate::{
    cluster::{Cluster, Service, ServiceEntry, ServiceImport, ServiceKind},
    reply::{Owner, Reply, Section},
    wire::{Name, NameRef},
    zone::{
        ClusterView, Zones, apex::name_server, distinct::Distinct, endpoint::EndpointFilter,
        import::has_ready_import, lookup::has_ready_endpoint, target_name::TargetName,
    },
};

impl ClusterView {
    fn write_service(
        &self,
        entry: &ServiceEntry,
        service: &Service,
        writer: &mut RecordWriter<'_>,
    ) {
        let zone = writer.zone();
        let Some(target) = TargetName::service(&service.name, &service.namespace, zone) else {
            return;
        };
        match service.kind {
            ServiceKind::ExternalName => write_alias(service, target.name(), writer),
            ServiceKind::ClusterIp => {
                if !self.rules.ignore_empty_service || has_ready_endpoint(entry) {
                    writer.frontend(&service.cluster_ips, &service.ports, &target);
                }
            }
            ServiceKind::Headless => {
                writer.endpoints(self.select(entry, EndpointFilter::All), &target);
            }
        }
    }

    fn write_import(
        &self,
        entry: &ServiceEntry,
        import: &ServiceImport,
        writer: &mut RecordWriter<'_>,
    ) {
        let zone = writer.zone();
        let Some(target) = TargetName::service(&import.name, &import.namespace, zone) else {
            return;
        };
        if import.headless {
            writer.endpoints(self.select_imported(entry, EndpointFilter::All), &target);
        } else if !self.rules.ignore_empty_service || has_ready_import(entry) {
            writer.frontend(&import.ips, &import.ports, &target);
        }
    }
}

impl ZoneTransfer for ClusterView {
    fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    fn zones(&self) -> &Zones {
        &self.zones
    }

    fn write_soa(&self, zone: NameRef<'_>, serial: u32, reply: &mut Reply) {
        self.soa(zone, serial, Section::Answer, Owner::Question, reply);
    }

    fn name_servers(&self, zone: NameRef<'_>) -> (Vec<Name>, Glue) {
        let (mut names, mut glue) = (Vec::new(), Glue::default());
        let mut named = Distinct::new();
        self.each_name_server(zone, |name, address| {
            let known = name.to_name();
            if named.insert(known) {
                names.push(known);
            }
            glue.put(name, address);
        });
        // A zone has at least one NS record (RFC 2181 section 6.1), even if the server's address is
        // unknown.
        if names.is_empty() {
            names.extend(name_server(zone).map(|it| it.name().to_name()));
        }
        (names, glue)
    }

    fn includes(&self, entry: &ServiceEntry) -> bool {
        self.serves_namespace(&entry.key.namespace)
    }

    fn writer<'a>(
        &self,
        zone: NameRef<'a>,
        glue: &'a Glue,
        reply: &'a mut Reply,
    ) -> RecordWriter<'a> {
        RecordWriter::new(zone, self.rules.ttl, glue, reply)
    }

    fn write_entry(&self, entry: &ServiceEntry, writer: &mut RecordWriter<'_>) {
        let imports = self.zones.is_multicluster(writer.zone());
        match (&entry.service, &entry.import) {
            (_, Some(import)) if imports => self.write_import(entry, import, writer),
            (Some(service), _) if !imports => self.write_service(entry, service, writer),
            _ => {}
        }
    }
}

fn write_alias(service: &Service, owner: NameRef<'_>, writer: &mut RecordWriter<'_>) {
    let text = service.external_name.as_deref().unwrap_or_default();
    if let Ok(address) = text.parse::<IpAddr>() {
        writer.address(owner, address);
    } else if let Ok(target) = Name::parse(text)
        && !target.as_ref().is_root()
    {
        writer.alias(owner, target.as_ref());
    }
}
