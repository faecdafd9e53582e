//! UDP only: sizes, source addresses, batches.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::FutureExt;
use lodestone::{
    metrics::Metrics,
    reply::Section,
    server::{Servers, limits::Limits},
    wire::{Header, Rcode},
};
use tokio::runtime::Handle;

use crate::{
    client::{
        PATIENCE, ask_tcp, ask_udp, first_answer, next, query, rcode, read, receive, send, udp,
        with_edns, with_id,
    },
    plugins::{Serving, serve, serve_with},
};

#[tokio::test(flavor = "multi_thread")]
async fn oversized_reply_is_truncated_at_a_record_and_complete_over_tcp() {
    let serving = serve();
    for (payload, room) in [
        (None, 512),
        (Some(100), 512),
        (Some(1232), 1232),
        // No reply exceeds 1232 bytes (RFC 9715).
        (Some(1233), 1232),
        (Some(65_535), 1232),
    ] {
        let message = match payload {
            Some(payload) => with_edns(query("big.test"), payload, 0, false),
            None => query("big.test"),
        };
        let cut = ask_udp(serving.at, &message).await;
        assert!(cut.len() <= room && cut.len() > room - 28, "{}", cut.len());
        let part = read(&cut);
        assert!(part.header.has(Header::TRUNCATED));
        let answers = part.reply.section(Section::Answer).len();
        assert_eq!(answers, usize::from(part.header.counts[1]));
        assert_eq!(part.header.counts[3], u16::from(payload.is_some()));

        let whole = read(&ask_tcp(serving.at, &message).await);
        assert!(!whole.header.has(Header::TRUNCATED));
        assert_eq!(whole.reply.section(Section::Answer).len(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_query_is_formerr() {
    let serving = serve();
    // With an option longer than the receive buffer.
    let mut message = with_edns(query("local.test"), 1232, 0, false);
    let at = message.len() - 2;
    message.truncate(at);
    message.extend(1404_u16.to_be_bytes());
    message.extend([0xFD, 0xE9, 0x05, 0x78]);
    message.extend([0; 1400]);
    let reply = ask_udp(serving.at, &message).await;
    // A bare header: the question may not have been received.
    let header = Header::read(&reply).unwrap();
    assert_eq!((reply.len(), header.flags & 0x0F), (12, Rcode::FORMERR.0));
    assert_eq!(reply[..2], message[..2]);
    // A stream has no such limit.
    let reply = ask_tcp(serving.at, &message).await;
    assert_eq!(rcode(&reply), Rcode::NOERROR);
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_are_sent_from_the_queried_address() {
    let serving = serve_with(Limits::default(), |wanted| {
        wanted.listener.address = "[::]:0".parse().unwrap();
    });
    for ip in ["127.0.0.1", "127.0.0.2", "127.0.0.3", "::1"] {
        let at = std::net::SocketAddr::new(ip.parse().unwrap(), serving.at.port());
        // A connected socket accepts replies from that address only; pending queries included.
        let reply = ask_udp(at, &query("local.test")).await;
        let bytes = match at.ip() {
            std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
            std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        assert_eq!(first_answer(&reply), bytes);
        let reply = ask_udp(at, &query("alias.test")).await;
        assert_eq!(read(&reply).reply.section(Section::Answer).len(), 2, "{ip}");
        let reply = ask_tcp(at, &query("local.test")).await;
        assert_eq!(first_answer(&reply), bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_with_malformed_messages_is_answered() {
    let serving = serve();
    let socket = udp(serving.at).await;
    for id in 0..100 {
        let message = match id % 5 {
            0 => vec![0; 3],
            1 => with_id(query("panic.test"), id),
            2 => with_id(vec![0; 4000], id),
            _ => with_id(query("a.test"), id),
        };
        socket.send(&message).await.unwrap();
    }
    let mut replies: Vec<_> = Vec::new();
    for _ in 0..80 {
        let header = Header::read(&receive(&socket).await).unwrap();
        replies.push((header.id, Rcode(header.flags & 0x0F)));
    }
    replies.sort_unstable();
    let due = (0..100).filter(|id| id % 5 != 0).map(|id| {
        let code = match id % 5 {
            1 => Rcode::SERVFAIL,
            2 => Rcode::FORMERR,
            _ => Rcode::NOERROR,
        };
        (id, code)
    });
    assert_same(replies.into_iter(), due);
    assert_eq!(serving.metric("coredns_panics_total"), "20");
}

fn assert_same<T: PartialEq + std::fmt::Debug>(
    left: impl Iterator<Item = T>,
    right: impl Iterator<Item = T>,
) {
    assert_eq!(left.collect::<Vec<_>>(), right.collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn panic_fails_one_query_only() {
    let serving = serve();
    for name in ["panic.test", "panic-later.test"] {
        let message = with_edns(query(name), 1232, 0, false);
        for reply in [
            ask_udp(serving.at, &message).await,
            ask_tcp(serving.at, &message).await,
        ] {
            let reply = read(&reply);
            assert_eq!(reply.reply.rcode, Rcode::SERVFAIL);
            assert_eq!(reply.header.counts, [1, 0, 0, 1]);
        }
        let next = ask_udp(serving.at, &query("a.test")).await;
        assert_eq!(rcode(&next), Rcode::NOERROR);
    }
    assert_eq!(serving.metric("coredns_panics_total"), "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn panic_of_an_upstream_query_does_not_end_its_thread() {
    let serving = serve_with(Limits::default(), |config| config.udp_threads = Some(1));
    let socket = udp(serving.at).await;
    for id in 0..3 {
        let panics = query("panic-upstream.test");
        socket.send(&with_id(panics, 100 + id)).await.unwrap();
        socket.send(&with_id(query("a.test"), id)).await.unwrap();
        let header = Header::read(&receive(&socket).await).unwrap();
        assert_eq!((header.id, header.flags & 0x0F), (id, 0));
    }
    assert_eq!(serving.metric("coredns_panics_total"), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_beyond_the_pending_limit_fail_at_once() {
    let limits = Limits {
        pending: 2,
        ..Limits::default()
    };
    let serving = serve_with(limits, |_| {});
    let socket = udp(serving.at).await;
    for id in 1..=2 {
        socket.send(&with_id(query("wait.test"), id)).await.unwrap();
    }
    serving.begun(2).await;
    // A third query fails at once on either transport.
    let third = with_id(query("wait.test"), 3);
    assert_eq!(rcode(&ask_udp(serving.at, &third).await), Rcode::SERVFAIL);
    assert_eq!(rcode(&ask_tcp(serving.at, &third).await), Rcode::SERVFAIL);
    // Both replies passed the outward plugins.
    assert_eq!(serving.plugin.written.lock().len(), 2);
    // Queries that are answered at once are not affected.
    let other = ask_udp(serving.at, &query("a.test")).await;
    assert_eq!(rcode(&other), Rcode::NOERROR);
    serving.plugin.release.add_permits(2);
    let mut ids = [receive(&socket).await, receive(&socket).await].map(|reply| reply[1]);
    ids.sort_unstable();
    assert_eq!(ids, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_with_the_most_pending_queries_is_evicted_first() {
    let limits = Limits {
        pending: 2,
        ..Limits::default()
    };
    let serving = serve_with(limits, |_| {});
    let heavy = udp(serving.at).await;
    for id in 1..=2 {
        heavy.send(&with_id(query("wait.test"), id)).await.unwrap();
    }
    serving.begun(2).await;
    let other = tokio::net::UdpSocket::bind("127.0.0.2:0").await.unwrap();
    other.connect(serving.at).await.unwrap();
    other.send(&with_id(query("wait.test"), 3)).await.unwrap();
    serving.begun(1).await;
    let evicted = receive(&heavy).await;
    assert_eq!(
        (rcode(&evicted), evicted[1]),
        (Rcode::SERVFAIL, 1),
        "the oldest"
    );
    assert_eq!(serving.plugin.written.lock().len(), 1, "it went outward");
    serving.plugin.release.add_permits(2);
    assert_eq!(rcode(&receive(&other).await), Rcode::NOERROR);
    let last = receive(&heavy).await;
    assert_eq!((rcode(&last), last[1]), (Rcode::NOERROR, 2));
    assert_eq!(
        serving.metric("lodestone_queries_shed_total{limit=\"server\"}"),
        "1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_with_the_most_pending_queries_is_evicted_first() {
    let limits = Limits {
        pending: 2,
        ..Limits::default()
    };
    let serving = serve_with(limits, |_| {});
    let mut heavy = tokio::net::TcpStream::connect(serving.at).await.unwrap();
    for id in 1..=2 {
        send(&mut heavy, &with_id(query("wait.test"), id)).await;
    }
    serving.begun(2).await;
    let other = tokio::net::UdpSocket::bind("127.0.0.2:0").await.unwrap();
    other.connect(serving.at).await.unwrap();
    other.send(&with_id(query("wait.test"), 3)).await.unwrap();
    let evicted = next(&mut heavy).await.unwrap();
    assert_eq!((rcode(&evicted), evicted[1]), (Rcode::SERVFAIL, 1));
    serving.plugin.release.add_permits(2);
    assert_eq!(rcode(&receive(&other).await), Rcode::NOERROR);
    assert_eq!(rcode(&next(&mut heavy).await.unwrap()), Rcode::NOERROR);
}

#[tokio::test(flavor = "multi_thread")]
async fn observers_get_every_reply_with_its_size() {
    let serving = serve();
    let sizes = [
        ask_udp(serving.at, &query("a.test")).await.len(),
        ask_udp(serving.at, &query("big.test")).await.len(),
        ask_tcp(serving.at, &query("big.test")).await.len(),
        ask_udp(serving.at, &query("alias.test")).await.len(),
    ];
    assert_eq!(*serving.plugin.written.lock(), sizes, "and no sub-query");
    ask_udp(serving.at, &query("a.elsewhere")).await;
    let text = serving.metrics.encode();
    let counted = text.lines().any(|line| {
        line.starts_with("coredns_dns_responses_total")
            && line.contains("zone=\"dropped\"")
            && line.contains("rcode=\"REFUSED\"")
    });
    assert!(counted, "{text}");
}

/// A client that sends more than one thread can handle, from an address of its own.
struct Flood {
    socket: std::net::UdpSocket,
    sender: Option<std::thread::JoinHandle<()>>,
    ends: Arc<AtomicBool>,
}

impl Flood {
    fn start(server: std::net::SocketAddr, queries: Vec<Vec<u8>>) -> Self {
        let socket = std::net::UdpSocket::bind("127.0.0.2:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let (sends, end) = (socket.try_clone().unwrap(), Arc::clone(&ends));
        let sender = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                for query in &queries {
                    // ENOBUFS, and errors of earlier datagrams.
                    let _ = sends.send(query);
                }
            }
        });
        Self {
            socket,
            sender: Some(sender),
            ends,
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.sender.take().unwrap().join().unwrap();
    }
}

/// A client that sends little and one that sends a burst, while the server's thread is stopped.
struct Burst {
    quiet: std::net::UdpSocket,
    loud: std::net::UdpSocket,
    /// Number of queries of the quiet client in the middle.
    middle: usize,
}

impl Burst {
    /// Number of queries of the loud client.
    const COUNT: usize = 100;

    /// Stops the thread, and queues `COUNT` queries of the loud client and some of the quiet one: so many in the middle,
    /// one before and one after. Calls `meanwhile` before the thread goes on.
    fn send(serving: &mut Serving, middle: usize, meanwhile: impl FnOnce(&mut Serving)) -> Self {
        let [quiet, loud] = ["127.0.0.3:0", "127.0.0.2:0"].map(|address| {
            let socket = std::net::UdpSocket::bind(address).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(serving.at).unwrap();
            socket
        });
        let plugin = Arc::clone(&serving.plugin);
        let _held = plugin.hold.lock();
        plugin.written.lock().clear();
        quiet.send(&query("hold.test")).unwrap();
        let begun = std::time::Instant::now();
        while plugin.begun.available_permits() == 0 {
            assert!(begun.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
        quiet.send(&query("a.test")).unwrap();
        for index in 0..Self::COUNT {
            if index == 70 {
                for _ in 0..middle {
                    quiet.send(&query("a.test")).unwrap();
                }
            }
            loud.send(&query("a.test")).unwrap();
        }
        quiet.send(&query("local.test")).unwrap();
        meanwhile(serving);
        Self {
            quiet,
            loud,
            middle,
        }
    }

    /// Receives the replies to all.
    fn receive(&self) {
        let mut reply = [0; 512];
        let quiet = std::iter::repeat_n(&self.quiet, self.middle + 3);
        for socket in quiet.chain(std::iter::repeat_n(&self.loud, Self::COUNT)) {
            let length = socket.recv(&mut reply).unwrap();
            assert_eq!(rcode(&reply[..length]), Rcode::NOERROR);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_one_client_does_not_delay_another() {
    let mut serving = serve_with(Limits::default(), |wanted| wanted.udp_threads = Some(1));
    let last = ask_udp(serving.at, &query("local.test")).await.len();
    let other = ask_udp(serving.at, &query("a.test")).await.len();
    assert_ne!(last, other, "they are told apart by it");
    Burst::send(&mut serving, 0, |_| {}).receive();
    let written = serving.plugin.written.lock();
    let position = written.iter().position(|size| *size == last).unwrap();
    assert!(position < 85, "{position} of {}", written.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_that_stops_answers_what_it_has_deferred() {
    // Another number of them is left each time.
    for middle in 0..24 {
        let mut serving = serve_with(Limits::default(), |wanted| wanted.udp_threads = Some(1));
        let mut draining = None;
        let burst = Burst::send(&mut serving, middle, |serving| {
            let servers = std::mem::replace(&mut serving.servers, idle_servers());
            let mut drain = Box::pin(async move {
                let mut servers = servers;
                servers.drain(2 * PATIENCE).await
            });
            // Stops the thread.
            assert_eq!((&mut drain).now_or_never(), None);
            draining = Some(drain);
        });
        let begun = std::time::Instant::now();
        assert!(draining.unwrap().await, "{middle}");
        assert!(begun.elapsed() < PATIENCE / 2, "{middle}: it waited");
        burst.receive();
    }
}

/// Without a listener.
fn idle_servers() -> Servers {
    Servers::new(Handle::current(), Limits::default(), Metrics::new())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overloaded_thread_sheds_the_client_that_overloads_it() {
    let serving = serve_with(Limits::default(), |wanted| wanted.udp_threads = Some(1));
    let other = tokio::net::UdpSocket::bind("127.0.0.3:0").await.unwrap();
    other.connect(serving.at).await.unwrap();
    let queries = ["a.test", "wait.test"].map(|name| with_edns(query(name), 1232, 0, false));
    let flood = Flood::start(serving.at, queries.into());
    let shed = |class| {
        let name = format!("lodestone_overload_shed_total{{class=\"{class}\"}}");
        serving.metric(&name).parse::<u64>().unwrap()
    };
    // Each of the other client's queries may be lost in the kernel's queue, as any may.
    let local = query("a.test");
    let begun = std::time::Instant::now();
    let mut answered = 0;
    while answered < 20 || shed("upstream") == 0 || shed("unread") == 0 {
        assert!(begun.elapsed() < 6 * PATIENCE, "{answered} answered");
        other.send(&local).await.unwrap();
        let mut reply = [0; 512];
        let received = tokio::time::timeout(PATIENCE / 50, other.recv(&mut reply)).await;
        if let Ok(length) = received {
            assert_eq!(rcode(&reply[..length.unwrap()]), Rcode::NOERROR);
            answered += 1;
        }
    }
    // Some replies to the flood say why it has no answer.
    let mut reply = [0; 1500];
    loop {
        let length = flood.socket.recv(&mut reply).unwrap();
        let read = read(&reply[..length]);
        if read.reply.rcode != Rcode::SERVFAIL {
            continue;
        }
        let error = read.reply.extended_error.unwrap();
        if error.text.contains("this client sends more than its share") {
            assert_eq!(
                (error.code, &*error.text),
                (
                    0,
                    "the server is overloaded: this client sends more than its share"
                )
            );
            break;
        }
    }
    drop(flood);
    // The queue is short, and the thread serves all again.
    serving.plugin.release.add_permits(1_000_000);
    let reply = ask_udp(serving.at, &query("wait.test")).await;
    assert_eq!(rcode(&reply), Rcode::NOERROR);
}
