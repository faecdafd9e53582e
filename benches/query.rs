//! What the steps of one query cost: reading it, finding the answer, writing the reply.

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use lodestone::{
    cluster::{
        Cluster, Endpoint, EndpointSlice, Namespace, Object, Port, Protocol, Service, ServiceKind,
        load,
    },
    edns::Options,
    message::{Parsed, Writer, read_query, read_reply, write_query},
    query::{Query, Question},
    reply::{Reply, Why},
    wire::{Class, Header, Name, Type},
    zone::{AnswerRules, ClusterLookup, ClusterView, LookupOutcome, Zones},
};

const SERVICES: u16 = 10_000;

/// Services `web-N` with a cluster address, and `db-N`, every hundredth, with three endpoints.
fn cluster() -> Arc<Cluster> {
    let ports: Arc<[Port]> = Arc::new([Port {
        name: "http".into(),
        number: Some(80),
        protocol: Protocol::Tcp,
    }]);
    let service = |name: String, kind, addresses: &[[u8; 4]]| {
        Object::Service(Service {
            namespace: "shop".into(),
            name: name.into(),
            kind,
            cluster_ips: addresses.iter().map(|it| (*it).into()).collect(),
            external_name: None,
            ports: Arc::clone(&ports),
            external: None,
            revision: lodestone::cluster::ObjectRevision::default(),
        })
    };
    let mut objects = vec![Object::Namespace(Namespace {
        name: "shop".into(),
    })];
    for number in 0..SERVICES {
        let [high, low] = number.to_be_bytes();
        let address = [10, 96, high, low];
        objects.push(service(
            format!("web-{number}"),
            ServiceKind::ClusterIp,
            &[address],
        ));
        if number % 100 > 0 {
            continue;
        }
        let name = format!("db-{number}");
        objects.push(service(name.clone(), ServiceKind::Headless, &[]));
        let endpoint = |last: u8| {
            let hostname = format!("db-{last}");
            Endpoint::new(
                [10, high, low, last].into(),
                true,
                Some(&hostname),
                None,
                None,
            )
        };
        let slice = EndpointSlice {
            namespace: "shop".into(),
            name: format!("{name}-x").into(),
            service: name.into(),
            import: None,
            ports: Arc::clone(&ports),
            endpoints: (0..3).map(endpoint).collect(),
        };
        objects.push(Object::EndpointSlice(slice, None));
    }
    load(objects)
}

fn question(name: &str, rtype: Type) -> Question {
    Question::new(Name::parse(name).expect("a name"), rtype, Class::IN)
}

fn steps(criterion: &mut Criterion) {
    let zones = [Name::parse("cluster.local").expect("a name")];
    let zones = Zones::new(&zones).expect("zones");
    let view = ClusterView::new(cluster(), zones, AnswerRules::default(), Box::default());
    let mut group = criterion.benchmark_group("query");
    for (what, name, rtype) in [
        ("A of a Service", "web-77.shop.svc.cluster.local", Type::A),
        (
            "a name that does not exist",
            "www.example.com.shop.svc.cluster.local",
            Type::A,
        ),
        (
            "SRV of three endpoints",
            "_http._tcp.db-100.shop.svc.cluster.local",
            Type::SRV,
        ),
    ] {
        let question = question(name, rtype);
        let octets = write_query(7, &question, true, false, false, None, &Options::default());
        group.bench_function(format!("read: {what}"), |bencher| {
            bencher.iter(|| read(black_box(&octets)));
        });
        let mut reply = Reply::default();
        group.bench_function(format!("look up: {what}"), |bencher| {
            bencher.iter(|| {
                reply.clear();
                if let LookupOutcome::Denied(why) = view.answer(black_box(&question), &mut reply) {
                    view.deny(&question, why, view.can_deny(why), &mut reply);
                }
            });
        });
        let query = Query::internal(question);
        let (mut writer, mut out) = (Writer::default(), Vec::new());
        group.bench_function(format!("write: {what}"), |bencher| {
            bencher.iter(|| writer.write(black_box(&query), black_box(&reply), &mut out));
        });
        assert_ne!(reply.why, Why::Unanswered);
        group.bench_function(format!("read the reply: {what}"), |bencher| {
            let mut read = Reply::default();
            bencher.iter(|| {
                read.clear();
                read_reply(black_box(&out), &mut read).is_ok()
            });
        });
    }
    group.finish();
}

fn read(octets: &[u8]) -> Option<Parsed> {
    let header = Header::read(octets)?;
    read_query(octets, &header).ok()
}

criterion_group!(benches, steps);
criterion_main!(benches);
