//! What the cluster's changes cost: one event, and a list of everything once more.

use std::{net::IpAddr, sync::Arc};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lodestone::cluster::{
    Cluster, Endpoint, EndpointSlice, Event, Kind, Namespace, Object, Port, Protocol, Service,
    ServiceKind, StateWriter,
};

const SERVICES: usize = 10_000;
const NAMESPACES: usize = 50;
const ENDPOINTS: usize = 5;

fn ports() -> Arc<[Port]> {
    Arc::new([Port {
        name: "http".into(),
        number: Some(80),
        protocol: Protocol::Tcp,
    }])
}

fn namespace(number: usize) -> String {
    format!("team-{}", number % NAMESPACES)
}

fn address(first: u8, number: usize) -> IpAddr {
    let [.., high, middle, low] = number.to_be_bytes();
    IpAddr::from([first, high, middle, low])
}

fn service(number: usize) -> Object {
    Object::Service(Service {
        namespace: namespace(number).into(),
        name: format!("service-{number}").into(),
        kind: ServiceKind::ClusterIp,
        cluster_ips: Box::new([address(10, number)]),
        external_name: None,
        ports: ports(),
        external: None,
        revision: lodestone::cluster::ObjectRevision::default(),
    })
}

/// A slice whose first endpoint is another in each generation.
fn slice(number: usize, generation: usize) -> Object {
    let endpoint = |index| {
        let moved = if index == 0 { generation * 65_536 } else { 0 };
        let place = number * ENDPOINTS + index + moved;
        Endpoint::new(
            address(11, place),
            true,
            None,
            Some("pod-6d4cf56db6-x"),
            Some("zone-a"),
        )
    };
    let slice = EndpointSlice {
        namespace: namespace(number).into(),
        name: format!("service-{number}-abcde").into(),
        service: format!("service-{number}").into(),
        import: None,
        ports: ports(),
        endpoints: (0..ENDPOINTS).map(endpoint).collect(),
    };
    Object::EndpointSlice(slice, None)
}

fn list(writer: &mut StateWriter) {
    for kind in Kind::ALL {
        writer.fold(Event::ListStart(kind));
    }
    for number in 0..NAMESPACES {
        let name = namespace(number).into();
        writer.fold(Event::Apply(Object::Namespace(Namespace { name })));
    }
    for number in 0..SERVICES {
        writer.fold(Event::Apply(service(number)));
        writer.fold(Event::Apply(slice(number, 0)));
    }
    for kind in Kind::ALL {
        writer.fold(Event::ListEnd(kind));
    }
    writer.notify();
}

fn full() -> StateWriter {
    let mut writer = StateWriter::new(Arc::new(Cluster::new(&Kind::ALL)));
    list(&mut writer);
    writer
}

fn changes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cluster");
    let mut writer = full();
    let mut generation = 0;
    group.bench_function("fold a slice in which an endpoint moved", |bencher| {
        bencher.iter_batched(
            || {
                generation += 1;
                Event::Apply(slice(generation * 7919 % SERVICES, generation % 200))
            },
            |event| writer.fold(event),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("fold a slice that is as it was", |bencher| {
        bencher.iter_batched(
            || Event::Apply(slice(77, 201)),
            |event| writer.fold(event),
            BatchSize::SmallInput,
        );
    });
    group.sample_size(10);
    group.throughput(Throughput::Elements(2 * SERVICES as u64));
    group.bench_function("list 10,000 Services and 50,000 endpoints", |bencher| {
        bencher.iter_with_large_drop(full);
    });
    let mut writer = full();
    group.bench_function("the same list once more", |bencher| {
        bencher.iter(|| list(&mut writer));
    });
    group.finish();
}

criterion_group!(benches, changes);
criterion_main!(benches);
