//! The cost of a query in instructions, without sockets: run under callgrind by `budget.py`.
//!
//! Each kind of query is sent by its own function, whose inclusive count is read. The configuration
//! is kubeadm's; the cluster is a directory of manifests, the upstream a thread.

use std::{
    fmt::Write,
    hint::black_box,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use lodestone::{
    config::{Config, Source},
    corefile::InMemory,
    edns::Options,
    interfaces::Interfaces,
    message::{Writer, read_query, write_query},
    metrics::Metrics,
    pipeline::Pipeline,
    plugin::SharedResources,
    query::{Edns, Query, Question, Transport},
    reply::{Data, Reply},
    server::{
        handle::{Arrival, Handled, MessageHandler, Scratch, Server},
        limits::Limits,
        route::Routes,
    },
    wire::{Class, Header, Name, Type},
};

/// Number of Services with a cluster IP, and of headless Services.
const SERVICES: usize = 100;

/// Number of queries of each kind, and of each kind with a large answer.
const QUESTIONS: usize = 2000;
const FEW: usize = 100;

/// Slices of the large Service, and endpoints per slice.
const SLICES: usize = 50;
const EACH: usize = 100;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run())
}

async fn run() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join("cluster.yaml"), manifests())?;
    let upstream = upstream()?;
    let corefile = format!(
        ".:53 {{
            errors
            kubernetes cluster.local in-addr.arpa ip6.arpa {{
                manifests {}
                pods insecure
                fallthrough in-addr.arpa ip6.arpa
                ttl 30
                startup_timeout 10m
            }}
            prometheus 127.0.0.1:0
            forward . {upstream} {{
                max_concurrent 1000
            }}
            cache 30
            loop
            reload
            loadbalance
        }}",
        directory.path().display()
    );
    let files = InMemory::default();
    let source = Source {
        name: "Corefile",
        text: &corefile,
        loader: &files,
        interfaces: &Interfaces::default(),
        default_port: 53,
    };
    let config = Config::read(&source).map_err(|wrong| anyhow::anyhow!("{wrong}"))?;
    let metrics = Metrics::new();
    let site = Pipeline::build(&config, 53, SharedResources::default(), &metrics)?;
    site.started().await;
    let listener = site.listeners.first().context("a listener")?;
    let routes = Routes::new(listener.routes.iter().cloned());
    let pending = Limits::default().pending_limit(&metrics);
    let server = Server::new(Arc::clone(&listener.label), routes, pending, &metrics);
    let mut client = TestClient {
        handler: MessageHandler::new(server),
        scratch: Scratch::default(),
        reply: Reply::default(),
        writer: Writer::default(),
        out: Vec::with_capacity(2048),
        transport: Transport::Udp,
    };

    let of = |number: usize, kind: &str| format!("{kind}-{number}.team.svc.cluster.local");
    let name = |text: String| Name::parse(&text).expect("a name");
    let messages = |rtype, name: &dyn Fn(usize) -> Name| -> Vec<Vec<u8>> {
        let question = |number| Question::new(name(number), rtype, Class::IN);
        (0..SERVICES)
            .map(|number| {
                write_query(
                    7,
                    &question(number),
                    true,
                    false,
                    false,
                    None,
                    &Options::default(),
                )
            })
            .collect()
    };
    let service = messages(Type::A, &|it| name(of(it, "web")));
    let nodata = messages(Type::AAAA, &|it| name(of(it, "web")));
    let walk = |it| name(format!("www.example.{}", of(it, "web")));
    let denied = messages(Type::A, &walk);
    let port = |it| name(format!("_http._tcp.{}", of(it, "db")));
    let srv = messages(Type::SRV, &port);
    let reverse = |it| name(format!("{it}.0.96.10.in-addr.arpa"));
    let ptr = messages(Type::PTR, &reverse);
    let outside = |it| name(format!("host-{it}.example"));
    let kept = messages(Type::A, &outside);

    let with_edns = |messages: &[Vec<u8>]| -> Vec<Vec<u8>> {
        // An OPT record: root, type 41, payload of 1,232 bytes, no flags or options.
        let opt = [0, 0, 41, 0x04, 0xD0, 0, 0, 0, 0, 0, 0];
        let add = |message: &Vec<u8>| {
            let mut message = [message.as_slice(), &opt].concat();
            message[11] += 1;
            message
        };
        messages.iter().map(add).collect()
    };
    let denied_edns = with_edns(&denied);
    let typo = |it| name(format!("wbe-{it}.team.svc.cluster.local"));
    let misspelt = with_edns(&messages(Type::A, &typo));

    let edns = Edns {
        udp_payload: Edns::OUR_UDP_PAYLOAD,
        version: 0,
        dnssec_ok: false,
        wants_nsid: false,
        is_padded: false,
    };
    let large = |rtype, text: &str| {
        let question = Question::new(name(text.into()), rtype, Class::IN);
        let options = Options::default();
        vec![write_query(
            7,
            &question,
            true,
            false,
            false,
            Some(edns),
            &options,
        )]
    };
    let many = large(Type::A, "large.team.svc.cluster.local");
    let many_srv = large(Type::SRV, "_http._tcp.large.team.svc.cluster.local");
    let crowded = large(Type::PTR, "9.9.1.10.in-addr.arpa");

    for message in [
        &service,
        &nodata,
        &denied,
        &denied_edns,
        &misspelt,
        &srv,
        &ptr,
        &many,
        &many_srv,
        &crowded,
    ]
    .into_iter()
    .flatten()
    {
        if !client.ask(message) {
            bail!("a name of the cluster was forwarded");
        }
    }
    for message in &kept {
        client.wait(message).await?;
    }
    a_of_a_service(&mut client, &service);
    aaaa_without_data(&mut client, &nodata);
    name_that_does_not_exist(&mut client, &denied);
    denied_with_edns(&mut client, &denied_edns);
    misspelt_service_with_edns(&mut client, &misspelt);
    srv_of_a_headless_service(&mut client, &srv);
    ptr_of_a_service(&mut client, &ptr);
    cached_outside_name(&mut client, &kept);
    a_of_5000_endpoints(&mut client, &many);
    srv_of_5000_endpoints(&mut client, &many_srv);
    ptr_of_a_crowded_address(&mut client, &crowded);
    client.transport = Transport::Tcp;
    a_of_5000_endpoints_by_tcp(&mut client, &many);
    srv_of_5000_endpoints_by_tcp(&mut client, &many_srv);
    client.transport = Transport::Udp;
    for round in 0..QUESTIONS / SERVICES {
        let fresh = |it| name(format!("host-{it}.round-{round}.example"));
        upstreams::ask_all(&mut client, &messages(Type::A, &fresh))?;
    }
    Ok(())
}

#[inline(never)]
fn a_of_a_service(client: &mut TestClient, messages: &[Vec<u8>]) {
    client.ask_all(messages, "a_of_a_service");
}

#[inline(never)]
fn aaaa_without_data(client: &mut TestClient, messages: &[Vec<u8>]) {
    client.ask_all(messages, "aaaa_without_data");
}

#[inline(never)]
fn name_that_does_not_exist(client: &mut TestClient, messages: &[Vec<u8>]) {
    client.ask_all(messages, "name_that_does_not_exist");
}

#[inline(never)]
fn denied_with_edns(client: &mut TestClient, messages: &[Vec<u8>]) {
    client.ask_all(messages, "denied_with_edns");
}

#[inline(never)]
fn misspelt_service_with_edns(client: &mut TestClient, messages: &[Vec<u8>]) {
    client.ask_all(messages, "misspelt_service_with_edns");
}

#[inline(never)]
fn srv_of_a_headless_service(client: &mut TestClient, messages: &[Vec<u8>]) {
    client.ask_all(messages, "srv_of_a_headless_service");
}

#[inline(never)]
fn ptr_of_a_service(client: &mut TestClient, messages: &[Vec<u8>]) {
    client.ask_all(messages, "ptr_of_a_service");
}

#[inline(never)]
fn cached_outside_name(client: &mut TestClient, messages: &[Vec<u8>]) {
    client.ask_all(messages, "cached_outside_name");
}

#[inline(never)]
fn a_of_5000_endpoints(client: &mut TestClient, messages: &[Vec<u8>]) {
    client.ask_few(messages, 70, "a_of_5000_endpoints");
}

#[inline(never)]
fn srv_of_5000_endpoints(client: &mut TestClient, messages: &[Vec<u8>]) {
    client.ask_few(messages, 15, "srv_of_5000_endpoints");
}

#[inline(never)]
fn a_of_5000_endpoints_by_tcp(client: &mut TestClient, messages: &[Vec<u8>]) {
    client.ask_few(messages, 4000, "a_of_5000_endpoints_by_tcp");
}

#[inline(never)]
fn srv_of_5000_endpoints_by_tcp(client: &mut TestClient, messages: &[Vec<u8>]) {
    client.ask_few(messages, 900, "srv_of_5000_endpoints_by_tcp");
}

#[inline(never)]
fn ptr_of_a_crowded_address(client: &mut TestClient, messages: &[Vec<u8>]) {
    client.ask_few(messages, 35, "ptr_of_a_crowded_address");
}

/// Queries that are forwarded by the thread that read them.
mod upstreams {
    use lodestone::{
        server::handle::PendingQuery,
        upstream::{Engine, QueryOwner},
    };

    use super::{Handled, Instant, TestClient, UdpSocket, answered, bail};

    struct Client(Box<PendingQuery>);

    impl QueryOwner for Client {}

    pub fn ask_all(client: &mut TestClient, messages: &[Vec<u8>]) -> anyhow::Result<()> {
        let clients = UdpSocket::bind("127.0.0.1:0")?;
        let mut engine = Engine::new(Some(&clients))?;
        for message in messages {
            if !forwarded(client, &mut engine, message) {
                bail!("not forwarded by the thread that took the question");
            }
            loop {
                engine.wait(true)?;
                if answer_of_an_upstream(client, &mut engine) {
                    break;
                }
            }
            answered(&client.out)?;
        }
        Ok(())
    }

    /// From the query to the upstream's datagram. Returns whether it was forwarded.
    #[inline(never)]
    fn forwarded(client: &mut TestClient, engine: &mut Engine<Client>, message: &[u8]) -> bool {
        let Handled::Pending(mut query) = client.handle(message) else {
            return false;
        };
        let Some(upstream_query) = query.take_upstream_query() else {
            return false;
        };
        let now = Instant::now();
        engine.submit(upstream_query, Client(query), now);
        engine.flush(now);
        true
    }

    /// From the upstream's datagram to the reply. Returns whether there is a reply.
    #[inline(never)]
    fn answer_of_an_upstream(client: &mut TestClient, engine: &mut Engine<Client>) -> bool {
        let TestClient {
            reply, writer, out, ..
        } = client;
        let mut is_there = false;
        engine.process(reply, Instant::now(), |Client(query), reply, _| {
            is_there = matches!(query.resume(reply, writer, out), Handled::Reply);
        });
        is_there
    }
}

/// A client that calls the server like a thread of a UDP listener.
struct TestClient {
    handler: MessageHandler,
    scratch: Scratch,
    reply: Reply,
    writer: Writer,
    out: Vec<u8>,
    transport: Transport,
}

impl TestClient {
    fn handle(&mut self, bytes: &[u8]) -> Handled {
        let routes = self.handler.server().routes();
        let arrival = Arrival {
            bytes,
            client: SocketAddr::from(([10, 0, 0, 9], 4000)),
            local: SocketAddr::from(([10, 0, 0, 1], 53)),
            transport: self.transport,
            received: Instant::now(),
        };
        self.handler
            .handle(&routes, &mut self.scratch, &arrival, &mut self.out)
    }

    /// Whether the query was answered synchronously.
    fn ask(&mut self, bytes: &[u8]) -> bool {
        matches!(self.handle(bytes), Handled::Reply)
    }

    /// `kind` also prevents the compiler from merging identical functions.
    fn ask_all(&mut self, messages: &[Vec<u8>], kind: &str) {
        for message in messages.iter().cycle().take(QUESTIONS) {
            assert!(self.ask(black_box(message)), "{kind}: answered at once");
        }
    }

    /// Like [`ask_all`](Self::ask_all) with fewer queries, each with at least `least` answer
    /// records.
    fn ask_few(&mut self, messages: &[Vec<u8>], least: u16, kind: &str) {
        for message in messages.iter().cycle().take(FEW) {
            assert!(self.ask(black_box(message)), "{kind}: answered at once");
            let answers = Header::read(&self.out).map_or(0, |header| header.counts[1]);
            assert!(answers >= least, "{kind}: {answers} records");
        }
    }

    async fn wait(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if let Handled::Pending(query) = self.handle(bytes) {
            query.finish(&mut self.out).await;
        }
        answered(&self.out)
    }
}

/// Fails without exactly one answer record.
fn answered(reply: &[u8]) -> anyhow::Result<()> {
    let header = Header::read(reply).context("no reply")?;
    if header.counts[1] != 1 {
        bail!("no answer: {header:?}");
    }
    Ok(())
}

/// Answers every query with one address.
fn upstream() -> anyhow::Result<SocketAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    std::thread::spawn(move || -> anyhow::Result<()> {
        let (mut buffer, mut out) = ([0; 1500], Vec::new());
        let mut writer = Writer::default();
        loop {
            let (length, client) = socket.recv_from(&mut buffer)?;
            let message = &buffer[..length];
            let header = Header::read(message).context("a header")?;
            let Ok(parsed) = read_query(message, &header) else {
                continue;
            };
            let mut query = Query::internal(parsed.question);
            query.receive(|it| (it.id, it.edns) = (header.id, parsed.edns));
            let mut reply = Reply::default();
            reply.answer(Type::A, 3600, Data::A([192, 0, 2, 1].into()));
            writer.write(&query, &reply, &mut out);
            // The delay of an upstream on another machine.
            std::thread::sleep(Duration::from_micros(50));
            socket.send_to(&out, client)?;
        }
    });
    Ok(address)
}

fn manifests() -> String {
    // Writing to a string cannot fail.
    let mut text = "{apiVersion: v1, kind: Namespace, metadata: {name: team}}\n".to_owned();
    for number in 0..SERVICES {
        for (name, ip) in [
            (format!("web-{number}"), format!("10.96.0.{number}")),
            (format!("db-{number}"), "None".to_owned()),
        ] {
            let _ = write!(
                text,
                "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: team}}, \
                 spec: {{clusterIP: {ip}, ports: [{{name: http, port: 80, protocol: TCP}}]}}}}\n"
            );
        }
        let _ = write!(
            text,
            "---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: db-{number}-x, \
             namespace: team, labels: {{kubernetes.io/service-name: db-{number}}}}}, \
             addressType: IPv4, ports: [{{name: http, port: 80, protocol: TCP}}], endpoints: ["
        );
        for last in 0..3 {
            let _ = write!(
                text,
                "{{addresses: [10.1.{number}.{last}], hostname: db-{last}}},"
            );
        }
        text += "]}\n";
        // An address shared by all Services with a cluster IP.
        let _ = write!(
            text,
            "---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: web-{number}-x, \
             namespace: team, labels: {{kubernetes.io/service-name: web-{number}}}}}, \
             addressType: IPv4, endpoints: [{{addresses: [10.1.9.9], hostname: shared}}]}}\n"
        );
    }
    text += "---\n{apiVersion: v1, kind: Service, metadata: {name: large, namespace: team}, \
             spec: {clusterIP: None, ports: [{name: http, port: 80, protocol: TCP}]}}\n";
    for slice in 0..SLICES {
        let _ = write!(
            text,
            "---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: large-{slice}, \
             namespace: team, labels: {{kubernetes.io/service-name: large}}}}, \
             addressType: IPv4, ports: [{{name: http, port: 80, protocol: TCP}}], endpoints: ["
        );
        for last in 0..EACH {
            let _ = write!(text, "{{addresses: [10.2.{slice}.{last}]}},");
        }
        text += "]}\n";
    }
    text
}
