//! `loop`: upstreams that forward to this server.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use lodestone::{
    message::{Writer, read_query},
    plugin::SharedResources,
    query::{Query, Question, Request},
    reply::{Reply, Why},
    wire::{Class, Header, Name, Rcode, Type},
};
use tokio::{net::UdpSocket, sync::OnceCell};

use crate::{
    served::Served,
    upstream::{Upstream, answer_of},
};

/// A stub that forwards every query to `back`, once it is set.
async fn stub(back: Arc<OnceCell<Arc<Served>>>) -> SocketAddr {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let header = Header::read(&buffer).unwrap();
            let parsed = read_query(&buffer[..length], &header).unwrap();
            let (back, socket) = (Arc::clone(&back), Arc::clone(&socket));
            tokio::spawn(async move {
                let Some(served) = back.get() else { return };
                let query = Query::new(Request {
                    id: header.id,
                    client: address,
                    ..Request::internal(parsed.question)
                });
                let reply = served.query(query.clone()).await;
                let mut out = Vec::new();
                Writer::default().write(&query, &reply, &mut out);
                socket.send_to(&out, from).await.unwrap();
            });
        }
    });
    address
}

/// A stub that forwards every query to `back` while `loops`, and answers it otherwise: a probe with NXDOMAIN.
async fn changing_stub(back: Arc<OnceCell<Arc<Served>>>, loops: Arc<AtomicBool>) -> SocketAddr {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let header = Header::read(&buffer).unwrap();
            let parsed = read_query(&buffer[..length], &header).unwrap();
            let query = Query::new(Request {
                id: header.id,
                client: address,
                ..Request::internal(parsed.question)
            });
            let (back, loops, socket) =
                (Arc::clone(&back), Arc::clone(&loops), Arc::clone(&socket));
            tokio::spawn(async move {
                let mut reply = match back.get() {
                    Some(served) if loops.load(Relaxed) => served.query(query.clone()).await,
                    _ => Reply::default(),
                };
                if query.question.rtype == Type::HINFO && reply.why == Why::Unanswered {
                    reply = Reply::failure(Rcode::NXDOMAIN, Why::NoSuchName);
                }
                let mut out = Vec::new();
                Writer::default().write(&query, &reply, &mut out);
                socket.send_to(&out, from).await.unwrap();
            });
        }
    });
    address
}

/// Repeats a query until its reply is as wanted.
async fn until(served: &Served, is_wanted: impl Fn(&Reply) -> bool) -> Reply {
    let begun = Instant::now();
    loop {
        let reply = served.ask("a.example").await;
        if is_wanted(&reply) {
            return reply;
        }
        assert!(begun.elapsed() < Duration::from_secs(40), "{reply:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until_found(served: &Served, name: &str) {
    let begun = Instant::now();
    while served.ask(name).await.why != Why::UpstreamLoop {
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}

#[tokio::test]
async fn looping_upstream_is_detected_and_no_longer_used() {
    let back = Arc::new(OnceCell::new());
    let stub = stub(Arc::clone(&back)).await;
    let served = Arc::new(Served::new(&format!("loop\nforward . {stub}")));
    back.set(Arc::clone(&served)).ok().unwrap();
    until_found(&served, "a.example").await;
    let begun = Instant::now();
    let reply = served.ask("b.example").await;
    assert_eq!(
        (reply.rcode, reply.why),
        (Rcode::SERVFAIL, Why::UpstreamLoop)
    );
    assert!(
        begun.elapsed() < Duration::from_millis(100),
        "no melting: at once"
    );
}

#[tokio::test]
async fn other_upstreams_stay_in_use() {
    let back = Arc::new(OnceCell::new());
    let (stub, good) = (stub(Arc::clone(&back)).await, Upstream::answering(1).await);
    let lines = format!(
        "loop\nforward . {stub} {} {{\n policy sequential\n}}",
        good.address
    );
    let served = Arc::new(Served::new(&lines));
    back.set(Arc::clone(&served)).ok().unwrap();
    let begun = Instant::now();
    loop {
        let asked = Instant::now();
        let reply = served.ask("a.example").await;
        assert_eq!(answer_of(&reply), 1);
        if asked.elapsed() < Duration::from_millis(200) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}

#[tokio::test]
async fn own_address_is_detected_at_once() {
    let own: SocketAddr = "0.0.0.0:53530".parse().unwrap();
    let lines = "loop\nforward . 127.0.0.53:53530";
    let served = Served::build(lines, SharedResources::default(), &[own]).unwrap();
    assert_eq!(served.ask("a.example").await.why, Why::UpstreamLoop);
}

#[tokio::test]
async fn forged_probes_are_ignored() {
    let good = Upstream::start(|asked| {
        if asked.question.rtype == Type::HINFO {
            vec![]
        } else {
            vec![crate::upstream::Act::Answer(1)]
        }
    })
    .await;
    let served = Served::new(&format!("loop\nforward . {}", good.address));
    good.came(1).await;
    let probe = good.asked()[0].question;
    assert_eq!(
        probe.name.as_ref().labels().next().unwrap().len(),
        32,
        "128 bits"
    );
    // Other clients guess names while the probe is pending.
    for guess in 0..50_u128 {
        let name = Name::parse(&format!("{guess:032x}")).unwrap();
        let question = Question::new(name, Type::HINFO, Class::IN);
        drop(served.begin(Query::internal(question)));
    }
    assert_eq!(answer_of(&served.ask("a.example").await), 1);
}

#[tokio::test]
async fn an_upstream_is_used_again_once_the_loop_is_gone() {
    let (back, loops) = (Arc::new(OnceCell::new()), Arc::new(AtomicBool::new(true)));
    let stub = changing_stub(Arc::clone(&back), Arc::clone(&loops)).await;
    let served = Arc::new(Served::new(&format!("loop\nforward . {stub}")));
    back.set(Arc::clone(&served)).ok().unwrap();
    let reply = until(&served, |reply| reply.why == Why::UpstreamLoop).await;
    let wanted = format!("no upstream is left: {stub} leads back to this server");
    assert_eq!(reply.cause.as_deref(), Some(&*wanted));
    loops.store(false, Relaxed);
    until(&served, |reply| reply.rcode == Rcode::NOERROR).await;
}

#[tokio::test]
async fn a_loop_that_appears_later_is_found() {
    let (back, loops) = (Arc::new(OnceCell::new()), Arc::new(AtomicBool::new(false)));
    let stub = changing_stub(Arc::clone(&back), Arc::clone(&loops)).await;
    let served = Arc::new(Served::new(&format!("loop\nforward . {stub}")));
    back.set(Arc::clone(&served)).ok().unwrap();
    until(&served, |reply| reply.rcode == Rcode::NOERROR).await;
    // Queries and health checks time out now, whereupon the upstream is probed again.
    loops.store(true, Relaxed);
    until(&served, |reply| reply.why == Why::UpstreamLoop).await;
    loops.store(false, Relaxed);
    until(&served, |reply| reply.rcode == Rcode::NOERROR).await;
}

#[tokio::test]
async fn the_clusters_dns_is_not_used_until_a_probe_decides() {
    let directory = tempfile::tempdir().unwrap();
    // Nothing listens there.
    let service = "apiVersion: v1\nkind: Service\nmetadata:\n  name: kube-dns\n  namespace: kube-system\n\
                   spec:\n  clusterIP: 127.0.0.99\n  ports:\n  - port: 53\n    protocol: UDP\n";
    std::fs::write(directory.path().join("dns.yaml"), service).unwrap();
    let lines = format!(
        "kubernetes cluster.local {{\nmanifests {}\n}}\nloop\nforward . 127.0.0.99",
        directory.path().display()
    );
    let served = Served::new(&lines).started().await;
    let reply = until(&served, |reply| reply.why == Why::UpstreamLoop).await;
    assert_eq!(
        reply.cause.as_deref(),
        Some(
            "no upstream is left: 127.0.0.99:53 is the Service kube-system/kube-dns, the DNS of this cluster"
        )
    );
}
