//! The weights that the SRV records of a Service's endpoints have in answers.

use std::collections::HashMap;

use crate::{
    cluster::Port,
    zone::{
        endpoint::{EndpointName, Only, Selection, protocol},
        form::PortName,
        srv::{SHARED, weight},
    },
};

/// The weights at each name, computed once for each: a transfer has a Service's endpoints in one
/// pass, where an answer has those of one name.
pub struct Weights<'a> {
    selection: Selection<'a>,
    service: u16,
    /// Pairs of an endpoint of this name and a port.
    endpoints: HashMap<EndpointName<'a>, usize, foldhash::fast::RandomState>,
    ports: Vec<(&'a Port, u16)>,
}

impl<'a> Weights<'a> {
    /// Of these endpoints, which are all of a Service.
    pub fn new(selection: Selection<'a>) -> Self {
        let mut endpoints = HashMap::default();
        for (slice, endpoint) in selection.endpoints() {
            let name = EndpointName::of(endpoint, selection.by_pod);
            *endpoints.entry(name).or_insert(0) += slice.ports.len().max(1);
        }
        Self {
            selection,
            service: weight(selection.pairs(SHARED)),
            endpoints,
            ports: Vec::new(),
        }
    }

    /// At the Service's own name.
    pub fn service(&self) -> u16 {
        self.service
    }

    /// At the name of an endpoint.
    pub fn endpoint(&self, name: EndpointName<'a>) -> u16 {
        weight(self.endpoints.get(&name).copied().unwrap_or_default())
    }

    /// At the name of a port.
    pub fn port(&mut self, port: &'a Port) -> u16 {
        let name = PortName {
            port: &port.name,
            protocol: protocol(port),
        };
        if let Some((_, known)) = self.ports.iter().find(|(it, _)| name.is(it)) {
            return *known;
        }
        let only = Only::Port(name);
        let with_port = Selection {
            only,
            ..self.selection
        };
        let weight = weight(with_port.pairs(SHARED));
        self.ports.push((port, weight));
        weight
    }
}
