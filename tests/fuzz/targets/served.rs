//! Messages of clients, as a server with many plugins reads and answers them.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use lodestone::{
    config::{Config, Source},
    corefile::InMemory,
    interfaces::Interfaces,
    message::read_query,
    metrics::Metrics,
    pipeline::Pipeline,
    plugin::SharedResources,
    process::Process,
    query::Transport,
    server::{
        handle::{Arrival, Handled, MessageHandler, Scratch, Server},
        limits::Limits,
        route::Routes,
    },
    wire::{HEADER_LENGTH, Header},
};
use tokio::runtime::Runtime;

/// Longer than any query or connection takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// A query over UDP and TCP, without sockets.
pub fn query(bytes: &[u8]) {
    static SERVED: OnceLock<Served> = OnceLock::new();
    let served = SERVED.get_or_init(Served::new);
    // What a datagram or a length field can hold.
    let bytes = &bytes[..bytes.len().min(65_535)];
    served.ask(&bytes[..bytes.len().min(1344)], Transport::Udp);
    served.ask(bytes, Transport::Tcp);
}

/// A built configuration, and what handles messages with it.
struct Served {
    runtime: Runtime,
    _pipeline: Pipeline,
    metrics: Arc<Metrics>,
    handler: MessageHandler,
    scratch: Mutex<Scratch>,
}

impl Served {
    fn new() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let metrics = Metrics::new();
        let pipeline = runtime.block_on(async {
            let resources = SharedResources::default();
            let built = Pipeline::build(&config(53), 53, resources, &metrics);
            let pipeline = built.unwrap_or_else(|error| panic!("{error}"));
            pipeline.started().await;
            pipeline
        });
        let listener = pipeline.listeners.first().expect("a listener");
        let routes = Routes::new(listener.routes.iter().cloned());
        let pending = Limits::default().pending_limit(&metrics);
        let server = Server::new(Arc::clone(&listener.label), routes, pending, &metrics);
        Self {
            handler: MessageHandler::new(server),
            runtime,
            _pipeline: pipeline,
            metrics,
            scratch: Mutex::default(),
        }
    }

    fn ask(&self, bytes: &[u8], transport: Transport) {
        let _runtime = self.runtime.enter();
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let arrival = Arrival {
            bytes,
            client: ([192, 0, 2, 77], 4711).into(),
            local: ([192, 0, 2, 53], 53).into(),
            transport,
            received: Instant::now(),
        };
        let mut out = Vec::new();
        let routes = self.handler.server().routes();
        let is_answered = match self
            .handler
            .handle(&routes, &mut scratch, &arrival, &mut out)
        {
            Handled::Reply => true,
            Handled::Nothing | Handled::Transfer(_) => false,
            Handled::Pending(query) => self.runtime.block_on(async {
                let finished = tokio::time::timeout(PATIENCE, query.finish(&mut out));
                finished.await.expect("a pending query ends")
            }),
        };
        assert_eq!(self.metrics.panics_total.get(), 0, "a plugin panicked");
        if !is_answered {
            return;
        }
        let asked = Header::read(bytes).expect("what has no header has no reply");
        let header = check_reply(&out);
        assert_eq!((header.id, header.opcode()), (asked.id, asked.opcode()));
        let limit = match (read_query(bytes, &asked), transport) {
            (Err(_), _) => 512,
            (Ok(_), Transport::Tcp) => 65_535,
            (Ok(query), _) => match query.edns {
                Some(edns) => usize::from(edns.udp_payload).clamp(512, 1232),
                None => 512,
            },
        };
        assert!(out.len() <= limit, "{} of {limit}", out.len());
    }
}

/// A server on a port of loopback.
struct Listening {
    at: SocketAddr,
    metrics: Arc<Metrics>,
    _running: Mutex<(Process, Runtime)>,
}

impl Listening {
    fn new() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let metrics = Metrics::new();
        let process = runtime.block_on(async {
            let started = Process::start(config(0), 53, Arc::clone(&metrics)).await;
            started.unwrap_or_else(|error| panic!("{error}"))
        });
        Self {
            at: process.addresses()[0],
            metrics,
            _running: Mutex::new((process, runtime)),
        }
    }
}

/// The bytes of a TCP connection, through a socket.
pub fn framing(bytes: &[u8]) {
    static SERVER: OnceLock<Listening> = OnceLock::new();
    let server = SERVER.get_or_init(Listening::new);
    let mut stream = TcpStream::connect(server.at).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream.set_write_timeout(Some(PATIENCE)).expect("an option");
    let written = stream.write_all(bytes);
    if written.is_err() || stream.shutdown(Shutdown::Write).is_err() {
        return; // closed by the server
    }
    let mut replies = Vec::new();
    if let Err(error) = stream.read_to_end(&mut replies) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    let panics = server.metrics.panics_total.get();
    assert_eq!(panics, 0, "a connection panicked");
    let mut rest = &replies[..];
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (reply, behind) = behind
            .split_at_checked(length)
            .expect("replies are complete");
        check_reply(reply);
        rest = behind;
    }
    assert!(rest.is_empty());
}

fn check_reply(reply: &[u8]) -> Header {
    let header = Header::read(reply).expect("a reply has a header");
    assert!(header.has(Header::RESPONSE));
    if header.counts == [0; 4] {
        assert_eq!(reply.len(), HEADER_LENGTH);
    } else {
        let mut read = lodestone::reply::Reply::default();
        // A signed reply to what could not be read has no question.
        if header.counts[0] == 1 {
            lodestone::message::read_reply(reply, &mut read).expect("a reply can be read");
        }
    }
    header
}

/// Plugins that read names, options or records of a query, before the zones.
fn config(port: u16) -> Config {
    let directory = tempfile::tempdir().expect("a directory").keep();
    let files = [
        ("db", include_str!("../corpus/zone/plain")),
        (
            "cluster.yaml",
            include_str!("../corpus/manifests/cluster.yaml"),
        ),
    ];
    for (name, text) in files {
        std::fs::write(directory.join(name), text).expect("a file");
    }
    let directory = directory.display();
    let text = format!(
        "example.org:{port} {{
            bind 127.0.0.1
            tsig {{
                secret key. AAECAwQFBgcICQoLDA0ODw==
            }}
            transfer {{
                to *
            }}
            file {directory}/db
        }}
        .:{port} {{
            bind 127.0.0.1
            nsid fuzz
            chaos
            any
            local
            bufsize 1232
            acl {{
                block type TXT net 198.51.100.0/24
            }}
            rewrite name suffix .rewritten.example .example.org answer auto
            rewrite edns0 local set 0xffee 0x61
            cache 30
            dns64
            loadbalance
            hosts {{
                192.0.2.1 a.test
                2001:db8::1 a.test
                fallthrough
            }}
            template IN ANY {{
                match ^(?P<label>[^.]+)[.]made[.]test[.]$
                answer \"{{{{ .Name }}}} 60 IN CNAME {{{{ .Group.label }}}}.example.org.\"
                fallthrough
            }}
            autopath @kubernetes
            kubernetes cluster.local in-addr.arpa {{
                manifests {directory}
                pods verified
                endpoint_pod_names
                fallthrough
            }}
            k8s_external ext.example
            whoami
        }}"
    );
    let files = InMemory::default();
    let source = Source {
        name: "Corefile",
        text: &text,
        loader: &files,
        interfaces: &Interfaces::default(),
        default_port: 53,
    };
    Config::read(&source).unwrap_or_else(|errors| panic!("{errors}"))
}
