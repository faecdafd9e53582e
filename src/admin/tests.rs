//! The listeners, through real sockets.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    ready::{Monitor, tests::Probe},
    *,
};

const LONG: Duration = Duration::from_secs(20);

fn listen(host: &str, port: u16) -> Listen {
    Listen {
        host: host.into(),
        port,
    }
}

fn site(host: &str, page: Page) -> Endpoint {
    Endpoint {
        listen: listen(host, 0),
        page,
        tls: None,
    }
}

fn admin(limits: Limits) -> Admin {
    Admin::new(Metrics::new(), Arc::new(Readiness::default()), limits)
}

async fn set(admin: &Admin, sites: &[Endpoint]) {
    let prepared = admin.prepare(sites).await.unwrap();
    admin.apply(prepared);
}

/// The head and the body of the answer.
async fn fetch(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = timeout(LONG, stream.read_to_string(&mut answer)).await;
    read.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

/// Waits for the other side to close; whether by an end or a reset.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = timeout(LONG, stream.read(&mut [0; 1])).await.unwrap();
    matches!(read, Ok(0) | Err(_))
}

#[tokio::test]
async fn the_pages() {
    let admin = admin(Limits::default());
    let sites = [Page::Health, Page::Ready, Page::Metrics].map(|page| site("127.0.0.1", page));
    set(&admin, &sites).await;
    let address = admin.addresses(&sites[0].listen)[0];

    let (head, body) = fetch(address, "/health").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert_eq!(body, "OK");

    let (head, body) = fetch(address, "/metrics").await;
    assert!(
        head.contains("\r\ncontent-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(
        body.contains("# TYPE coredns_panics_total counter\n"),
        "{body}"
    );

    assert_eq!(fetch(address, "/ready").await.1, "starting");
    let plugin = Arc::new(Probe("kubernetes", AtomicBool::new(false)));
    let watched = (plugin.plugin(), Monitor::UntilReady);
    admin.readiness.watch([watched]);
    let (head, body) = fetch(address, "/ready").await;
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert_eq!(body, "kubernetes");
    plugin.1.store(true, Relaxed);
    let (head, body) = fetch(address, "/ready").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert_eq!(body, "OK");
    admin.readiness.leave();
    assert_eq!(fetch(address, "/ready").await.1, "shutting down");

    let (head, _) = fetch(address, "/nothing").await;
    assert!(head.starts_with("http/1.1 404 "), "{head}");
}

#[tokio::test]
async fn every_form_of_address() {
    let admin = admin(Limits::default());
    let hosts = ["", "::", "0.0.0.0", "127.0.0.1", "localhost"];
    let sites = hosts.map(|host| site(host, Page::Metrics));
    set(&admin, &sites).await;
    for site in &sites {
        let address = admin.addresses(&site.listen)[0];
        let local = SocketAddr::from(([127, 0, 0, 1], address.port()));
        let (head, _) = fetch(local, "/metrics").await;
        assert!(head.starts_with("http/1.1 200 "), "{} {head}", site.listen);
        let (head, _) = fetch(local, "/health").await;
        assert!(head.starts_with("http/1.1 404 "), "{} {head}", site.listen);
    }
}

#[tokio::test]
async fn a_reload_keeps_adds_and_drops() {
    let admin = admin(Limits::default());
    let [kept, gone] = ["127.0.0.1", "localhost"].map(|host| site(host, Page::Metrics));
    set(&admin, &[kept.clone(), gone.clone()]).await;
    let [kept_at, gone_at] = [&kept, &gone].map(|site| admin.addresses(&site.listen)[0]);

    let mut open = TcpStream::connect(gone_at).await.unwrap();

    let also = Endpoint {
        page: Page::Health,
        ..kept.clone()
    };
    set(&admin, &[kept.clone(), also]).await;
    assert_eq!(admin.addresses(&kept.listen)[0], kept_at);
    assert!(fetch(kept_at, "/health").await.0.contains(" 200 "));
    assert!(is_closed(&mut open).await);
    assert!(admin.addresses(&gone.listen).is_empty());

    // A port that goes with one address and comes with another is taken over.
    let widened = Endpoint {
        listen: listen("0.0.0.0", kept_at.port()),
        page: Page::Health,
        tls: None,
    };
    set(&admin, std::slice::from_ref(&widened)).await;
    assert!(fetch(kept_at, "/health").await.0.contains(" 200 "));
    assert!(admin.addresses(&kept.listen).is_empty());
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_before_anything_changes() {
    let admin = admin(Limits::default());
    let served = site("127.0.0.1", Page::Ready);
    set(&admin, std::slice::from_ref(&served)).await;
    let address = admin.addresses(&served.listen)[0];
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = Endpoint {
        listen: listen("127.0.0.1", other.local_addr().unwrap().port()),
        page: Page::Metrics,
        tls: None,
    };
    let refused = admin
        .prepare(std::slice::from_ref(&taken))
        .await
        .err()
        .unwrap();
    let wanted = format!("plugin/prometheus: cannot listen on {}", taken.listen);
    assert_eq!(refused.to_string(), wanted);
    assert_eq!(fetch(address, "/ready").await.1, "starting");
}

#[tokio::test]
async fn a_client_that_takes_its_time_is_cut_off() {
    let admin = admin(Limits {
        head: Duration::from_millis(50),
        ..Limits::default()
    });
    let served = site("127.0.0.1", Page::Metrics);
    set(&admin, std::slice::from_ref(&served)).await;
    let address = admin.addresses(&served.listen)[0];
    for start in [
        "",
        "GET /metrics HT",
        "GET /metrics HTTP/1.1\r\nHost: x\r\n",
    ] {
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(start.as_bytes()).await.unwrap();
        assert!(is_closed(&mut slow).await, "{start:?}");
    }
}

/// A connection from one of the addresses of loopback.
async fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, last], 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn a_new_connection_takes_the_place_of_the_longest_idle_one() {
    let admin = admin(Limits {
        connections: 3,
        ..Limits::default()
    });
    let served = site("127.0.0.1", Page::Metrics);
    set(&admin, std::slice::from_ref(&served)).await;
    let address = admin.addresses(&served.listen)[0];
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request).await.unwrap();
        // The answer shows that the connection has its place. From now on it is kept alive.
        assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
        held.push(stream);
    }
    assert!(fetch(address, "/metrics").await.0.contains(" 200 "));
    let mut rest = Vec::new();
    let read = timeout(LONG, held[0].read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "the first was idle for longest");
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_get_through_a_crowd_that_says_nothing_or_little() {
    let admin = admin(Limits::default());
    let sites = [site("127.0.0.1", Page::Health), site("", Page::Ready)];
    set(&admin, &sites).await;
    let mut crowd = Vec::new();
    for (address, path) in [
        (admin.addresses(&sites[0].listen)[0], "/health"),
        (
            ([127, 0, 0, 1], admin.addresses(&sites[1].listen)[0].port()).into(),
            "/ready",
        ),
    ] {
        for number in 0..4 * 32 {
            let mut stream = connect_from(2 + number / 32, address).await;
            if number % 2 == 1 {
                let half = b"GET /health HTTP/1.1\r\nHost: x\r\n";
                stream.write_all(half).await.unwrap();
            }
            crowd.push(stream);
        }
        for _ in 0..15 {
            let (head, _) = timeout(LONG, fetch(address, path)).await.unwrap();
            assert!(head.starts_with("http/1.1 "), "{path}: {head}");
        }
    }
}

#[tokio::test]
async fn an_address_may_widen_on_its_port_and_is_heard_all_the_time() {
    let admin = admin(Limits::default());
    let narrow = site("127.0.0.1", Page::Health);
    set(&admin, std::slice::from_ref(&narrow)).await;
    let address = admin.addresses(&narrow.listen)[0];
    let wide = Endpoint {
        listen: listen("", address.port()),
        ..narrow.clone()
    };
    let prepared = admin.prepare(std::slice::from_ref(&wide)).await.unwrap();
    // Both listen now, and nothing is left that can fail.
    assert_eq!(admin.addresses(&narrow.listen), [address]);
    let early = TcpStream::connect(address).await.unwrap();
    admin.apply(prepared);
    assert!(fetch(address, "/health").await.0.contains(" 200 "));
    assert!(admin.addresses(&narrow.listen).is_empty());
    drop(early);
}

#[tokio::test]
async fn health_checks_itself() {
    let admin = admin(Limits::default());
    set(&admin, &[site("", Page::Health)]).await;
    let checked = async {
        let health = &admin.metrics.health;
        while health.request_duration_seconds.get_sample_count() == 0 {
            tokio::task::yield_now().await;
        }
        health.request_failures_total.get()
    };
    assert_eq!(timeout(LONG, checked).await.unwrap(), 0);
}

#[tokio::test]
async fn metrics_over_tls() {
    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};

    let (directory, file) = tls::tests::files("");
    let admin = admin(Limits::default());
    let served = Endpoint {
        tls: Some(file),
        ..site("127.0.0.1", Page::Metrics)
    };
    set(&admin, std::slice::from_ref(&served)).await;

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(directory.path().join("cert.pem"));
    roots.add(certificate.unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(admin.addresses(&served.listen)[0]).await;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, stream.unwrap()).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut status = [0; 15];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200 OK");

    let plain = site("127.0.0.1", Page::Health);
    let refused = admin.prepare(&[served, plain]).await.err().unwrap();
    let source = std::error::Error::source(&refused).unwrap().to_string();
    assert!(source.contains("with and without TLS"), "{source}");
}
