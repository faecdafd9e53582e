//! A changing Service is answered with its old or its new state, never with a mixture.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use lodestone::{
    cluster::{Cluster, Event, Kind, Object, StateWriter},
    message::read_reply,
    query::Question,
    reply::Reply,
    wire::{Class, Name, Type},
    zone::{AnswerRules, ClusterView, Zones},
};
use serde_json::json;

use crate::{
    apiserver::ApiServer,
    ask::{Response, ask, response},
    naive::ZONES,
    process,
    world::{Endpoint, Port, Service, Slice, Thing},
};

/// Queries that depend on the changing Service only.
const QUESTIONS: [(&str, &str); 9] = [
    ("web.a.svc.cluster.local.", "A"),
    ("web.a.svc.cluster.local.", "AAAA"),
    ("web.a.svc.cluster.local.", "SRV"),
    ("_http._tcp.web.a.svc.cluster.local.", "SRV"),
    ("_http._tcp.web.a.svc.cluster.local.", "A"),
    ("web-0.web.a.svc.cluster.local.", "A"),
    ("web-0.web.a.svc.cluster.local.", "SRV"),
    ("cluster.local.", "NS"),
    ("ns.dns.cluster.local.", "A"),
];

/// Alternates between two states of an object until readers have seen both repeatedly.
fn flip(standing: &[Object], states: &[Object; 2]) {
    let cluster = Arc::new(Cluster::new(&Kind::ALL));
    let mut writer = StateWriter::new(Arc::clone(&cluster));
    for kind in Kind::ALL {
        writer.fold(Event::ListStart(kind));
    }
    for object in standing {
        writer.fold(Event::Apply(object.clone()));
    }
    for kind in Kind::ALL {
        writer.fold(Event::ListEnd(kind));
    }
    let zones = ZONES.map(|zone| Name::parse(zone).unwrap());
    let local = ["10.1.0.1".parse().unwrap()].into();
    let view = ClusterView::new(
        cluster,
        Zones::new(&zones).unwrap(),
        AnswerRules::default(),
        local,
    );
    let wholes = states.each_ref().map(|state| {
        writer.fold(Event::Apply(state.clone()));
        QUESTIONS.map(|(name, rtype)| ask(&view, name, rtype).unwrap())
    });
    let differ = (0..QUESTIONS.len()).filter(|at| wholes[0][*at] != wholes[1][*at]);
    assert!(differ.count() >= 5, "{wholes:#?}");

    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| read(&view, &wholes, &is_over)))
            .collect();
        // Until both readers have seen both states often enough.
        while readers.iter().any(|reader| !reader.is_finished()) {
            for state in states {
                writer.fold(Event::Apply(state.clone()));
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

/// Queries until each query whose answers differ has had both answers.
fn read(view: &ClusterView, wholes: &[[Response; QUESTIONS.len()]; 2], is_over: &AtomicBool) {
    let mut seen = [[0; QUESTIONS.len()]; 2];
    let is_enough = |seen: &[[u32; QUESTIONS.len()]; 2]| {
        (0..QUESTIONS.len())
            .all(|at| wholes[0][at] == wholes[1][at] || seen.iter().all(|seen| seen[at] >= 50))
    };
    while !is_enough(&seen) && !is_over.load(Ordering::Relaxed) {
        for (at, (name, rtype)) in QUESTIONS.iter().enumerate() {
            let response = ask(view, name, rtype).unwrap();
            let whole = wholes.iter().position(|whole| whole[at] == response);
            let whole = whole.unwrap_or_else(|| panic!("? {name} {rtype}: {response:#?}"));
            seen[whole][at] += 1;
        }
    }
}

fn key(name: &str) -> (String, String) {
    ("a".into(), name.into())
}

fn port(number: u16) -> Vec<Port> {
    vec![Port {
        name: "http",
        number: Some(number),
        protocol: "tcp",
    }]
}

/// A slice with unique endpoints, except for the first, which is the server itself.
fn slice(number: u8) -> Object {
    let endpoint = |last: u8| Endpoint {
        address: IpAddr::from([10, 1, number * last.min(1), last + 1]),
        ready: true,
        hostname: (last == 1).then_some("web-0"),
        pod: None,
        zone: None,
    };
    let v6 = |last: u16| Endpoint {
        address: IpAddr::from([0xfd00, 0, 0, 0, 0, 0, number.into(), last]),
        ready: true,
        hostname: None,
        pod: None,
        zone: None,
    };
    let slice = Slice {
        service: "web".into(),
        import: None,
        ports: port(80 + u16::from(number)),
        endpoints: (0..24).map(endpoint).chain((1..24).map(v6)).collect(),
    };
    Thing::Slice(slice).object(&key("web-s"))
}

fn service(service: Service) -> Object {
    Thing::Service(service).object(&key("web"))
}

fn namespace() -> Object {
    Thing::Namespace.object(&(String::new(), "a".into()))
}

#[test]
fn endpoints_change_atomically() {
    let headless = service(Service::Headless(port(80)));
    flip(&[namespace(), headless], &[slice(1), slice(2)]);
}

#[test]
fn cluster_addresses_and_ports_change_atomically() {
    let state = |number: u8| {
        let v4 = IpAddr::from([10, 0, number, 1]);
        let v6 = IpAddr::from([0xfd01, 0, 0, 0, 0, 0, 0, number.into()]);
        service(Service::Cluster(vec![v4, v6], port(number.into())))
    };
    flip(&[namespace(), slice(1)], &[state(1), state(2)]);
}

#[test]
fn type_of_a_service_changes_atomically() {
    let headless = service(Service::Headless(port(80)));
    let v4 = IpAddr::from([10, 0, 0, 1]);
    let cluster = service(Service::Cluster(vec![v4], port(8080)));
    let external = service(Service::External("www.example.net".into()));
    flip(&[namespace(), slice(1)], &[headless.clone(), cluster]);
    flip(&[namespace(), slice(1)], &[headless, external]);
}

/// End to end: from the API server's events to datagrams.
#[test]
fn service_changes_atomically_over_sockets() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let api = runtime.block_on(ApiServer::start());
    let state = |number: u8| {
        let endpoints: Vec<_> = (0..12)
            .map(|last| json!({"addresses": [format!("10.1.{number}.{last}")]}))
            .collect();
        let labels = json!({"kubernetes.io/service-name": "web"});
        json!({
            "metadata": {"namespace": "a", "name": "web-s", "labels": labels},
            "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "http", "port": number, "protocol": "TCP"}],
        })
    };
    let states = [state(1), state(2)];
    api.apply(Kind::Namespace, &json!({"metadata": {"name": "a"}}));
    let spec = json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]});
    let service = json!({"metadata": {"namespace": "a", "name": "web"}, "spec": spec});
    api.apply(Kind::Service, &service);
    api.apply(Kind::EndpointSlice, &states[0]);
    let corefile = format!(
        ".:0 {{\n bind 127.0.0.1\n kubernetes cluster.local {{\n endpoint {}\n }}\n}}\n",
        api.url()
    );
    let server = process::Server::start(&corefile);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(process::PATIENCE)).unwrap();
    socket.connect(server.address).unwrap();
    let name = Name::parse("web.a.svc.cluster.local").unwrap();
    let mut bytes = vec![0; 65_535];
    let mut ask = || {
        socket
            .send(&process::question(
                1,
                "web.a.svc.cluster.local.",
                hickory_proto::rr::RecordType::A,
            ))
            .unwrap();
        let length = socket.recv(&mut bytes).unwrap();
        let mut reply = Reply::default();
        read_reply(&bytes[..length], &mut reply).unwrap();
        assert!(!reply.truncated);
        response(&Question::new(name, Type::A, Class::IN), &reply)
    };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for state in &states {
                    api.apply(Kind::EndpointSlice, state);
                    thread::yield_now();
                }
            }
        });
        // Each answer is from one state, and both states are seen repeatedly.
        let (mut turns, mut last) = (0, BTreeSet::new());
        let mut response = Ok(());
        while turns < 50 && response.is_ok() {
            let answer = ask().answer;
            let third = |text: &String| text.rsplit('.').nth(1).unwrap().to_owned();
            let states: BTreeSet<_> = answer.iter().map(third).collect();
            if answer.len() != 12 || states.len() != 1 {
                response = Err(answer);
            }
            turns += u32::from(states != last);
            last = states;
        }
        is_over.store(true, Ordering::Relaxed);
        response.unwrap();
    });
}
