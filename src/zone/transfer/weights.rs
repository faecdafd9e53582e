//! The weights of SRV records of endpoints, as in answers.

use std::collections::HashMap;

use crate::{
    cluster::Port,
    zone::{
        endpoint::{EndpointFilter, EndpointName, SelectedEndpoints, protocol},
        name_kind::PortName,
        srv::{TOTAL_WEIGHT, weight},
    },
};

/// The weights at each name, cached: a transfer visits a Service's endpoints once, an answer only
/// those of one name.
pub struct SrvWeights<'a> {
    selection: SelectedEndpoints<'a>,
    service: u16,
    /// Number of pairs of an endpoint with this name and a port.
    endpoints: HashMap<EndpointName<'a>, usize, foldhash::fast::RandomState>,
    ports: Vec<(&'a Port, u16)>,
}

impl<'a> SrvWeights<'a> {
    /// For all endpoints of a Service.
    pub fn new(selection: SelectedEndpoints<'a>) -> Self {
        let mut endpoints = HashMap::default();
        for (slice, endpoint) in selection.endpoints() {
            let name = EndpointName::of(endpoint, selection.by_pod);
            *endpoints.entry(name).or_insert(0) += slice.ports.len().max(1);
        }
        Self {
            selection,
            service: weight(selection.pairs(TOTAL_WEIGHT)),
            endpoints,
            ports: Vec::new(),
        }
    }

    /// The weight at the Service's name.
    pub fn service(&self) -> u16 {
        self.service
    }

    /// The weight at an endpoint's name.
    pub fn endpoint(&self, name: EndpointName<'a>) -> u16 {
        weight(self.endpoints.get(&name).copied().unwrap_or_default())
    }

    /// The weight at a port's name.
    pub fn port(&mut self, port: &'a Port) -> u16 {
        let name = PortName {
            port: &port.name,
            protocol: protocol(port),
        };
        if let Some((_, known)) = self.ports.iter().find(|(it, _)| name.is(it)) {
            return *known;
        }
        let filter = EndpointFilter::Port(name);
        let with_port = SelectedEndpoints {
            filter,
            ..self.selection
        };
        let weight = weight(with_port.pairs(TOTAL_WEIGHT));
        self.ports.push((port, weight));
        weight
    }
}
