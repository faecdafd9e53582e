//! Random sequences of reloads under a steady rate of queries: no query is lost, no answer is wrong.
//!
//! `LODESTONE_TEST_RELOADS` and `LODESTONE_TEST_RATE` (queries per second) change the defaults, `LODESTONE_TEST_LOG` shows the server's log; the seed is printed, and `LODESTONE_TEST_SEED` repeats it.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hickory_proto::rr::{RData, RecordType};
use lodestone::cluster::Kind;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;

use super::{
    apiserver::ApiServer,
    load::{AtTheEnd, client, late_upstream, setting},
    server::{PATIENCE, Server, exchange, free_port, question, summary},
};

/// Delay of the upstream, so that queries are pending at every reload.
const DELAY: Duration = Duration::from_millis(150);

const FORWARDED: &str = "NoError 198.51.100.7";
const CLUSTER: &str = "NoError 10.0.0.1";

/// The state of the cluster in a configuration.
#[derive(Clone, Copy, PartialEq)]
enum Cluster {
    /// No `kubernetes`: the name is forwarded.
    None,
    /// The API server is reachable.
    Live,
    /// It is not: no objects, or those known before.
    Dead,
}

/// Every valid configuration, by version.
struct Expected {
    versions: Mutex<Vec<Cluster>>,
    /// The oldest version that may be in force.
    floor: AtomicUsize,
    /// The newest version that may be in force.
    ceiling: AtomicUsize,
}

impl Expected {
    fn next(&self, cluster: Cluster) -> usize {
        let mut versions = self.versions.lock().unwrap();
        versions.push(cluster);
        self.ceiling.store(versions.len(), Ordering::SeqCst);
        versions.len()
    }

    /// Whether the reply to a query that was sent when `floor` was in force is correct.
    fn is_right(&self, asked: Asked, floor: usize, got: &str) -> bool {
        let ceiling = self.ceiling.load(Ordering::SeqCst);
        let versions = self.versions.lock().unwrap();
        (floor..=ceiling).any(|version| match asked {
            Asked::Version => got == format!("NoError {}", address(version)),
            Asked::Forwarded => got == FORWARDED,
            Asked::Cluster => match versions[version - 1] {
                Cluster::None => got == FORWARDED,
                Cluster::Live => got == CLUSTER,
                Cluster::Dead => got == CLUSTER || got == "ServFail",
            },
        })
    }
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    /// The address is the version of the configuration.
    Version,
    /// The upstream answers.
    Forwarded,
    /// A Service.
    Cluster,
}

impl Asked {
    fn name(self, number: u64) -> String {
        match self {
            Self::Version => "name.example.".to_owned(),
            // A new name each time, to bypass the cache.
            Self::Forwarded => format!("n{number}.elsewhere."),
            Self::Cluster => "a.ns.svc.cluster.local.".to_owned(),
        }
    }
}

fn address(version: usize) -> Ipv4Addr {
    let [.., high, low] = version.to_be_bytes();
    Ipv4Addr::new(192, 0, high, low)
}

struct World {
    port: u16,
    pages: [u16; 2],
    upstream: SocketAddr,
    api: String,
    /// An address without a listener.
    dead: u16,
    /// A port in use.
    taken: u16,
}

impl World {
    fn good(&self, version: usize, cluster: Cluster, random: &mut StdRng) -> String {
        let mut words = vec![
            format!(
                "hosts {{\n        {} name.example\n        ttl 1\n        fallthrough\n    }}",
                address(version)
            ),
            format!("forward . {}", self.upstream),
            "reload 2s 1s".to_owned(),
            "errors".to_owned(),
        ];
        for (word, odds) in [
            (format!("multisocket {}", random.random_range(1..5)), 0.5),
            (format!("health 127.0.0.1:{}", self.pages[0]), 0.5),
            (format!("health :{}", self.pages[0]), 0.3),
            (format!("ready 127.0.0.1:{}", self.pages[1]), 0.5),
            ("cache 30 elsewhere".to_owned(), 0.3),
            ("loadbalance".to_owned(), 0.3),
        ] {
            let said = |before: &String| before.split(' ').next() == word.split(' ').next();
            if random.random_bool(odds) && !words.iter().any(said) {
                words.push(word);
            }
        }
        match cluster {
            Cluster::None => {}
            Cluster::Live => words.push(format!(
                "kubernetes cluster.local {{\n        endpoint {}\n        ttl {}\n    }}",
                self.api,
                random.random_range(1..30),
            )),
            Cluster::Dead => words.push(format!(
                "kubernetes cluster.local {{\n        endpoint http://127.0.0.1:{}\n        startup_timeout {}\n    }}",
                self.dead,
                ["0s", "300ms", "1s"].choose(random).unwrap(),
            )),
        }
        format!(
            ".:{} {{\n    bind 127.0.0.1\n    {}\n}}\n",
            self.port,
            words.join("\n    ")
        )
    }

    /// An invalid configuration, with an address that must never be answered.
    fn bad(&self, random: &mut StdRng) -> String {
        let whole = self.good(0, Cluster::None, random);
        match random.random_range(0..6) {
            0 => String::new(),
            1 => "# nothing but this\n".to_owned(),
            2 => whole.replace("hosts", "hots"),
            3 => whole.replace("reload 2s", "reload 2"),
            4 => whole.replace(
                "reload",
                &format!("pprof 127.0.0.1:{}\n    reload", self.taken),
            ),
            _ => whole[..random.random_range(1..whole.len() - 2)].to_owned(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_reloads_lose_no_query_and_give_no_wrong_answer() {
    let api = ApiServer::start().await;
    api.apply(Kind::Namespace, &json!({"metadata": {"name": "ns"}}));
    let service =
        json!({"metadata": {"name": "a", "namespace": "ns"}, "spec": {"clusterIP": "10.0.0.1"}});
    api.apply(Kind::Service, &service);
    let url = api.url();
    tokio::task::spawn_blocking(move || reloads(url))
        .await
        .unwrap();
}

fn reloads(api: String) {
    let seed = setting("LODESTONE_TEST_SEED", rand::random());
    let reloads = setting("LODESTONE_TEST_RELOADS", 12);
    let rate = usize::try_from(setting("LODESTONE_TEST_RATE", 600)).unwrap();
    println!("seed {seed}, {reloads} reloads, {rate} queries a second");
    let mut random = StdRng::seed_from_u64(seed);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream_socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let world = World {
        port: free_port(),
        pages: [free_port(), free_port()],
        upstream: upstream_socket.local_addr().unwrap(),
        api,
        dead: free_port(),
        taken: taken.local_addr().unwrap().port(),
    };
    let expected = Expected {
        versions: Mutex::default(),
        floor: AtomicUsize::new(1),
        ceiling: AtomicUsize::new(1),
    };
    let first = expected.next(Cluster::Live);
    let server = Server::start(&world.good(first, Cluster::Live, &mut random));
    let (done, count) = (AtomicBool::new(false), AtomicU64::new(0));
    // The upstream answers until the last client has its answers.
    let unneeded = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let data = RData::A(Ipv4Addr::new(198, 51, 100, 7).into());
        let upstream_is_unneeded = &unneeded;
        scope.spawn(move || late_upstream(&upstream_socket, &data, DELAY, upstream_is_unneeded));
        let mut clients = Vec::new();
        let _end = AtTheEnd(&unneeded);
        for (asked, share) in [
            (Asked::Version, 4),
            (Asked::Version, 4),
            (Asked::Forwarded, 10),
            (Asked::Cluster, 3),
        ] {
            let (server, expected, shared) = (server.address, &expected, (&done, &count));
            let query = move |number: u64| {
                let id = u16::try_from(number & 0xFFFF).unwrap();
                question(id, &asked.name(number), RecordType::A)
            };
            let begin = move || (expected.floor.load(Ordering::SeqCst), Instant::now());
            let check = move |(floor, begun): &(usize, Instant), got: &str| {
                let right = expected.is_right(asked, *floor, got);
                let took = begun.elapsed();
                assert!(
                    right,
                    "{asked:?}, from version {floor} on, after {took:?}: {got}"
                );
            };
            clients.push(
                scope.spawn(move || client(server, rate / share, shared, begin, query, check)),
            );
        }
        let end = AtTheEnd(&done);
        for _ in 0..reloads {
            if random.random_bool(0.4) {
                write(&server, &world.bad(&mut random), &mut random);
                server.signal("USR1");
                server.line(|line| line.contains("reload failed"));
                continue;
            }
            let kinds = [Cluster::None, Cluster::Live, Cluster::Live, Cluster::Dead];
            let cluster = *kinds.choose(&mut random).unwrap();
            let corefile = world.good(
                expected.versions.lock().unwrap().len() + 1,
                cluster,
                &mut random,
            );
            let version = expected.next(cluster);
            write(&server, &corefile, &mut random);
            let begun = Instant::now();
            let wanted = format!("NoError {}", address(version));
            while ask(server.address) != wanted {
                assert!(begun.elapsed() < PATIENCE, "not served:\n{corefile}");
                std::thread::sleep(Duration::from_millis(10));
            }
            expected.floor.store(version, Ordering::SeqCst);
        }
        drop(end);
        for client in clients {
            client.join().unwrap();
        }
    });
    println!("{} queries", count.load(Ordering::Relaxed));
}

fn ask(server: SocketAddr) -> String {
    summary(&exchange(server, "name.example.", RecordType::A).unwrap())
}

/// Replaces the Corefile by rename, or truncates and rewrites it.
fn write(server: &Server, corefile: &str, random: &mut StdRng) {
    if random.random_bool(0.5) {
        server.edit(corefile);
    } else {
        std::fs::write(server.directory().join("Corefile"), corefile).unwrap();
    }
}
