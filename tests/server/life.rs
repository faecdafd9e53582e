//! Binding, reload and shutdown of listeners.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lodestone::{
    metrics::Metrics,
    server::{Servers, limits::Limits},
    wire::{Header, Rcode},
};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    runtime::Handle,
};

use crate::{
    client::{
        PATIENCE, ask_tcp, ask_udp, first_answer, next, query, rcode, receive, send, udp, with_id,
    },
    plugins::{Labels, serve, serve_with, wanted},
};

#[tokio::test(flavor = "multi_thread")]
async fn reload_under_load_loses_no_query() {
    let mut serving = serve();
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (at, stop) = (serving.at, Arc::clone(&stop));
            tokio::spawn(async move {
                let socket = udp(at).await;
                let mut stream = TcpStream::connect(at).await.unwrap();
                let mut versions = Vec::new();
                let mut id = 0_u16;
                loop {
                    let last = stop.load(Ordering::Relaxed);
                    id = id.wrapping_add(1);
                    let message = with_id(query("version.test"), id);
                    let reply = if client % 2 == 0 {
                        socket.send(&message).await.unwrap();
                        receive(&socket).await
                    } else {
                        send(&mut stream, &message).await;
                        next(&mut stream).await.unwrap()
                    };
                    assert_eq!(Header::read(&reply).unwrap().id, id);
                    versions.push(first_answer(&reply)[3]);
                    if last {
                        return versions;
                    }
                }
            })
        })
        .collect();
    let listener = wanted("127.0.0.1:0", &serving.plugin).listener;
    for version in 2..=50 {
        let next = wanted("127.0.0.1:0", &Labels::new(version));
        serving.servers.apply(vec![next]).unwrap();
        assert_eq!(serving.servers.bound(listener)[0], serving.at);
        let reply = ask_udp(serving.at, &query("version.test")).await;
        assert_eq!(first_answer(&reply)[3], version, "in the next answer");
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let versions = client.await.unwrap();
        assert!(
            versions.is_sorted(),
            "no client sees an old version after a new one"
        );
        assert_eq!(versions.last(), Some(&50));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_configuration_is_dropped_without_traffic() {
    let mut serving = serve();
    assert_eq!(
        rcode(&ask_udp(serving.at, &query("a.test")).await),
        Rcode::NOERROR
    );
    let mut stream = TcpStream::connect(serving.at).await.unwrap();
    send(&mut stream, &query("a.test")).await;
    assert!(next(&mut stream).await.is_some());
    let old = Arc::downgrade(&serving.plugin);
    serving.plugin = Labels::new(2);
    let next = wanted("127.0.0.1:0", &serving.plugin);
    serving.servers.apply(vec![next]).unwrap();
    let gone = async {
        while old.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, gone).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_in_flight_finish_on_the_old_configuration() {
    let mut serving = serve();
    let socket = udp(serving.at).await;
    socket.send(&query("wait.test")).await.unwrap();
    serving.begun(1).await;
    let next = wanted("127.0.0.1:0", &Labels::new(2));
    serving.servers.apply(vec![next]).unwrap();
    serving.plugin.release.add_permits(1);
    assert_eq!(rcode(&receive(&socket).await), Rcode::NOERROR);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_bind_leaves_the_server_unchanged() {
    let mut serving = serve();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for taken in [tcp.local_addr().unwrap(), udp.local_addr().unwrap()] {
        let changed = wanted("127.0.0.1:0", &Labels::new(2));
        let impossible = wanted(&taken.to_string(), &Labels::new(3));
        let error = serving
            .servers
            .apply(vec![changed, impossible])
            .unwrap_err();
        assert!(error.to_string().contains(&taken.to_string()), "{error}");
        let reply = ask_udp(serving.at, &query("version.test")).await;
        assert_eq!(first_answer(&reply)[3], 1, "the old routes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn second_server_cannot_bind_the_same_port() {
    let serving = serve();
    let mut second = Servers::new(Handle::current(), Limits::default(), Metrics::new());
    let same = wanted(&serving.at.to_string(), &Labels::new(2));
    assert!(second.apply(vec![same]).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_listener_answers_queries_in_flight_and_frees_its_port() {
    let mut serving = serve();
    let old = serving.at;
    let socket = udp(old).await;
    socket.send(&with_id(query("wait.test"), 1)).await.unwrap();
    let mut stream = TcpStream::connect(old).await.unwrap();
    send(&mut stream, &query("wait.test")).await;
    serving.begun(2).await;

    // A listener on another address replaces it; both at once do not conflict.
    let other: SocketAddr = "127.0.0.2:0".parse().unwrap();
    let next_wanted = wanted(&other.to_string(), &serving.plugin);
    let listener = next_wanted.listener;
    serving.servers.apply(vec![next_wanted]).unwrap();
    let new = serving.servers.bound(listener)[0];
    assert_eq!(rcode(&ask_udp(new, &query("a.test")).await), Rcode::NOERROR);
    assert_eq!(rcode(&ask_tcp(new, &query("a.test")).await), Rcode::NOERROR);

    serving.plugin.release.add_permits(2);
    assert_eq!(rcode(&receive(&socket).await), Rcode::NOERROR);
    assert_eq!(rcode(&next(&mut stream).await.unwrap()), Rcode::NOERROR);
    assert!(next(&mut stream).await.is_none());
    drop(stream);
    let freed = async {
        while UdpSocket::bind(old).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, freed).await.is_ok());
}

/// Sends queries over UDP from new ports and over new TCP connections until `stop`, and checks that each is
/// answered. Returns their number.
async fn ask_until(at: SocketAddr, stop: Arc<AtomicBool>) -> usize {
    let mut asked = 0;
    while !stop.load(Ordering::Relaxed) {
        let reply = ask_udp(at, &query("a.test")).await;
        assert_eq!(rcode(&reply), Rcode::NOERROR);
        if asked % 4 == 0 {
            let reply = ask_tcp(at, &query("a.test")).await;
            assert_eq!(rcode(&reply), Rcode::NOERROR);
        }
        asked += 1;
    }
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn adding_and_retiring_sockets_loses_nothing_while_queries_are_pending() {
    for address in ["127.0.0.1", "[::]"] {
        let free = std::net::TcpListener::bind((address.trim_matches(['[', ']']), 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let address = format!("{address}:{port}");
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        let plugin = Labels::new(1);
        let mut servers = Servers::new(Handle::current(), Limits::default(), Metrics::new());
        servers.apply(vec![wanted(&address, &plugin)]).unwrap();
        // Most likely pending on each of the sockets.
        let mut pending = Vec::new();
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..4)
            .map(|_| tokio::spawn(ask_until(at, Arc::clone(&stop))))
            .collect();
        for threads in [3, 1, 4, 2] {
            for _ in 0..8 {
                let socket = udp(at).await;
                socket.send(&query("wait.test")).await.unwrap();
                pending.push(socket);
            }
            let begun = plugin.begun.acquire_many(8);
            let begun = tokio::time::timeout(PATIENCE, begun).await;
            begun.expect("queries are pending").unwrap().forget();
            let mut next = wanted(&address, &plugin);
            next.udp_threads = Some(threads);
            servers.apply(vec![next]).unwrap();
            for _ in 0..100 {
                let reply = ask_udp(at, &query("a.test")).await;
                assert_eq!(rcode(&reply), Rcode::NOERROR);
            }
        }
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            assert!(client.await.unwrap() > 0);
        }
        plugin.release.add_permits(pending.len());
        for socket in &pending {
            assert_eq!(rcode(&receive(socket).await), Rcode::NOERROR);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn most_specific_address_of_a_port_answers() {
    let mut serving = serve();
    let port = serving.at.port();
    let [all, one, two] = ["[::]", "127.0.0.2", "127.0.0.3"].map(|ip| format!("{ip}:{port}"));
    let listeners = [(&all, 10), (&one, 11), (&two, 12)]
        .map(|(address, version)| wanted(address, &Labels::new(version)));
    serving.servers.apply(listeners.into()).unwrap();
    for (ip, version) in [("127.0.0.2", 11), ("127.0.0.3", 12), ("127.0.0.4", 10)] {
        let at = SocketAddr::new(ip.parse().unwrap(), port);
        for reply in [
            ask_udp(at, &query("version.test")).await,
            ask_tcp(at, &query("version.test")).await,
        ] {
            assert_eq!(first_answer(&reply)[3], version, "{ip}");
        }
    }
    let twice = [13, 14].map(|version| wanted(&all, &Labels::new(version)));
    assert!(serving.servers.apply(twice.into()).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_can_change_to_the_wildcard_address() {
    let mut serving = serve();
    let all = format!("[::]:{}", serving.at.port());
    let wider = wanted(&all, &Labels::new(2));
    serving.servers.apply(vec![wider]).unwrap();
    let other = SocketAddr::new("127.0.0.2".parse().unwrap(), serving.at.port());
    let reply = ask_udp(other, &query("version.test")).await;
    assert_eq!(first_answer(&reply)[3], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_answers_queries_in_flight_and_no_later_ones() {
    let mut serving = serve();
    let socket = udp(serving.at).await;
    socket.send(&query("wait.test")).await.unwrap();
    let mut stream = TcpStream::connect(serving.at).await.unwrap();
    send(&mut stream, &query("wait.test")).await;
    let mut idle = TcpStream::connect(serving.at).await.unwrap();
    send(&mut idle, &query("a.test")).await;
    assert!(next(&mut idle).await.is_some());
    serving.begun(2).await;

    let (at, plugin) = (serving.at, Arc::clone(&serving.plugin));
    let draining = tokio::spawn(async move { serving.servers.drain(PATIENCE).await });
    assert!(
        next(&mut idle).await.is_none(),
        "idle connections are closed at once"
    );
    drop(idle);
    plugin.release.add_permits(2);
    assert_eq!(rcode(&receive(&socket).await), Rcode::NOERROR);
    assert_eq!(rcode(&next(&mut stream).await.unwrap()), Rcode::NOERROR);
    assert!(next(&mut stream).await.is_none());
    drop(stream);
    assert!(draining.await.unwrap(), "everything was answered");
    assert!(TcpStream::connect(at).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_has_a_deadline() {
    let mut serving = serve();
    let socket = udp(serving.at).await;
    socket.send(&query("wait.test")).await.unwrap();
    serving.begun(1).await;
    assert!(!serving.servers.drain(Duration::from_millis(50)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_and_tcp_share_the_port_that_the_system_chose() {
    let serving = serve_with(Limits::default(), |wanted| {
        wanted.listener.address = "[::]:0".parse().unwrap();
    });
    for ip in ["127.0.0.1", "::1"] {
        let at = SocketAddr::new(ip.parse().unwrap(), serving.at.port());
        assert_eq!(rcode(&ask_udp(at, &query("a.test")).await), Rcode::NOERROR);
        assert_eq!(rcode(&ask_tcp(at, &query("a.test")).await), Rcode::NOERROR);
    }
}
