//! Zones are sent in parts.

use std::{net::IpAddr, sync::Arc};

use super::ZoneTransfer;
use crate::{
    cluster::{
        Endpoint, EndpointSlice, Namespace, Object, ObjectRevision, Service, ServiceKind, load,
    },
    query::Question,
    reply::{Reply, Section},
    wire::{Class, Name, Type},
    zone::{AnswerRules, ClusterView, Zones},
};

/// The address of endpoint `number`.
fn address(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    [10, 0, high, low].into()
}

#[test]
fn name_servers_that_exceed_a_part_are_sent_once() {
    const SERVERS: u16 = 2000;
    let endpoint = |number| Endpoint::new(address(number), true, None, None, None);
    let (namespace, name): (Arc<str>, Arc<str>) = ("kube-system".into(), "dns".into());
    let slice = EndpointSlice {
        namespace: Arc::clone(&namespace),
        name: "dns-1".into(),
        service: Arc::clone(&name),
        import: None,
        ports: [].into(),
        endpoints: (0..SERVERS).map(endpoint).collect(),
    };
    let service = Service {
        namespace: Arc::clone(&namespace),
        name,
        kind: ServiceKind::Headless,
        cluster_ips: Box::default(),
        external_name: None,
        ports: [].into(),
        external: None,
        revision: ObjectRevision::default(),
    };
    let cluster = load([
        Object::Namespace(Namespace { name: namespace }),
        Object::Service(service),
        Object::EndpointSlice(slice, None),
    ]);
    let zones = Zones::new(&[Name::parse("cluster.local").unwrap()]).unwrap();
    let view = ClusterView::new(cluster, zones, AnswerRules::default(), [address(7)].into());
    let zone = Name::parse("cluster.local").unwrap();
    let question = Question::new(zone, Type::AXFR, Class::IN);
    let mut reply = Reply::default();
    assert!(Arc::new(view).transfer(&question, None, &mut reply));
    let (mut starts, mut servers) = (0, 0);
    for _ in 0..10 {
        reply.add_batch();
        for record in reply.section(Section::Answer) {
            starts += usize::from(record.rtype == Type::SOA);
            servers += usize::from(record.rtype == Type::NS);
        }
        let rest = reply.remaining.take();
        reply.clear();
        reply.remaining = rest;
    }
    assert!(reply.remaining.is_none(), "the zone has an end");
    assert_eq!((starts, servers), (2, usize::from(SERVERS)));
}
