//! HTTP pages through real sockets.

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

fn page_at(host: &str, page: Page) -> HttpPage {
    HttpPage {
        listen: listen(host, 0),
        page,
        tls: None,
    }
}

fn admin(limits: PageLimits) -> Admin {
    Admin::new(Metrics::new(), Arc::new(Readiness::default()), limits)
}

async fn set(admin: &Admin, pages: &[HttpPage]) {
    let prepared = admin.prepare(pages).await.unwrap();
    admin.apply(prepared);
}

/// Head and body of the response.
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

/// Waits until the server closes or resets the connection.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = timeout(LONG, stream.read(&mut [0; 1])).await.unwrap();
    matches!(read, Ok(0) | Err(_))
}

#[tokio::test]
async fn pages_are_served() {
    let admin = admin(PageLimits::default());
    let pages = [Page::Health, Page::Ready, Page::Metrics].map(|page| page_at("127.0.0.1", page));
    set(&admin, &pages).await;
    let address = admin.addresses(&pages[0].listen)[0];

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
    // Two blocks that share a source.
    let watched = [
        (plugin.plugin(), Monitor::UntilReady),
        (plugin.plugin(), Monitor::UntilReady),
    ];
    admin.readiness.watch(watched);
    let (head, body) = fetch(address, "/ready").await;
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert_eq!(body, "kubernetes");
    let (head, body) = fetch(address, "/ready?verbose").await;
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert_eq!(body, "kubernetes\nkubernetes 3, last contact 0 s ago\n");
    plugin.1.store(true, Relaxed);
    let (head, body) = fetch(address, "/ready").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert_eq!(body, "OK");
    assert_eq!(fetch(address, "/ready?verbosely&x=verbose").await.1, "OK");
    for path in ["/ready?verbose", "/ready?x&verbose=1"] {
        let (_, body) = fetch(address, path).await;
        assert_eq!(body, "OK\nkubernetes 3, last contact 0 s ago\n");
    }
    admin.readiness.shut_down();
    assert_eq!(fetch(address, "/ready").await.1, "shutting down");

    let (head, _) = fetch(address, "/nothing").await;
    assert!(head.starts_with("http/1.1 404 "), "{head}");
}

#[tokio::test]
async fn all_forms_of_addresses_are_bound() {
    let admin = admin(PageLimits::default());
    let hosts = ["", "::", "0.0.0.0", "127.0.0.1", "localhost"];
    let pages = hosts.map(|host| page_at(host, Page::Metrics));
    set(&admin, &pages).await;
    for page in &pages {
        let address = admin.addresses(&page.listen)[0];
        let local = SocketAddr::from(([127, 0, 0, 1], address.port()));
        let (head, _) = fetch(local, "/metrics").await;
        assert!(head.starts_with("http/1.1 200 "), "{} {head}", page.listen);
        let (head, _) = fetch(local, "/health").await;
        assert!(head.starts_with("http/1.1 404 "), "{} {head}", page.listen);
    }
}

/// A port that no socket has on any address. Below the ephemeral ports, so that no connection of another
/// test takes it meanwhile.
fn port_free_on_all_addresses() -> u16 {
    loop {
        let port = rand::random_range(20_000..30_000);
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok()
            && std::net::TcpListener::bind(("::", port)).is_ok()
        {
            return port;
        }
    }
}

#[tokio::test]
async fn reloads_keep_add_and_close_listeners() {
    let admin = admin(PageLimits::default());
    let gone = page_at("localhost", Page::Metrics);
    let kept = HttpPage {
        listen: listen("127.0.0.1", port_free_on_all_addresses()),
        ..gone.clone()
    };
    set(&admin, &[kept.clone(), gone.clone()]).await;
    let [kept_at, gone_at] = [&kept, &gone].map(|page| admin.addresses(&page.listen)[0]);

    let mut open = TcpStream::connect(gone_at).await.unwrap();

    let also = HttpPage {
        page: Page::Health,
        ..kept.clone()
    };
    set(&admin, &[kept.clone(), also]).await;
    assert_eq!(admin.addresses(&kept.listen)[0], kept_at);
    assert!(fetch(kept_at, "/health").await.0.contains(" 200 "));
    assert!(is_closed(&mut open).await);
    assert!(admin.addresses(&gone.listen).is_empty());

    // An address that is removed and one that is added may share a port.
    let widened = HttpPage {
        listen: listen("0.0.0.0", kept_at.port()),
        page: Page::Health,
        tls: None,
    };
    set(&admin, std::slice::from_ref(&widened)).await;
    assert!(fetch(kept_at, "/health").await.0.contains(" 200 "));
    assert!(admin.addresses(&kept.listen).is_empty());
}

#[tokio::test]
async fn occupied_ports_are_reported_without_changes() {
    let admin = admin(PageLimits::default());
    let served = page_at("127.0.0.1", Page::Ready);
    set(&admin, std::slice::from_ref(&served)).await;
    let address = admin.addresses(&served.listen)[0];
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = HttpPage {
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
async fn slow_clients_are_disconnected() {
    let admin = admin(PageLimits {
        head: Duration::from_millis(50),
        ..PageLimits::default()
    });
    let served = page_at("127.0.0.1", Page::Metrics);
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

/// Connects from 127.0.0.`last`.
async fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, last], 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn new_connections_evict_the_longest_idle_one() {
    let admin = admin(PageLimits {
        connections: 3,
        ..PageLimits::default()
    });
    let served = page_at("127.0.0.1", Page::Metrics);
    set(&admin, std::slice::from_ref(&served)).await;
    let address = admin.addresses(&served.listen)[0];
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request).await.unwrap();
        // The response shows that the connection has its permit; it is idle from now on.
        assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
        held.push(stream);
    }
    assert!(fetch(address, "/metrics").await.0.contains(" 200 "));
    let mut rest = Vec::new();
    let read = timeout(LONG, held[0].read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "the first was idle for longest");
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_succeed_beside_many_idle_connections() {
    let admin = admin(PageLimits::default());
    let pages = [page_at("127.0.0.1", Page::Health), page_at("", Page::Ready)];
    set(&admin, &pages).await;
    let mut crowd = Vec::new();
    for (address, path) in [
        (admin.addresses(&pages[0].listen)[0], "/health"),
        (
            ([127, 0, 0, 1], admin.addresses(&pages[1].listen)[0].port()).into(),
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
async fn an_address_can_widen_on_its_port_without_interruption() {
    let admin = admin(PageLimits::default());
    let narrow = HttpPage {
        listen: listen("127.0.0.1", port_free_on_all_addresses()),
        ..page_at("", Page::Health)
    };
    set(&admin, std::slice::from_ref(&narrow)).await;
    let address = admin.addresses(&narrow.listen)[0];
    let wide = HttpPage {
        listen: listen("", address.port()),
        ..narrow.clone()
    };
    let prepared = admin.prepare(std::slice::from_ref(&wide)).await.unwrap();
    // Both are bound, and no fallible step is left.
    assert_eq!(admin.addresses(&narrow.listen), [address]);
    let early = TcpStream::connect(address).await.unwrap();
    admin.apply(prepared);
    assert!(fetch(address, "/health").await.0.contains(" 200 "));
    assert!(admin.addresses(&narrow.listen).is_empty());
    drop(early);
}

#[tokio::test]
async fn health_requests_its_own_page() {
    let admin = admin(PageLimits::default());
    set(&admin, &[page_at("", Page::Health)]).await;
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
async fn metrics_are_served_over_tls() {
    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};

    let (directory, file) = tls::tests::files("");
    let admin = admin(PageLimits::default());
    let served = HttpPage {
        tls: Some(file),
        ..page_at("127.0.0.1", Page::Metrics)
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

    let plain = page_at("127.0.0.1", Page::Health);
    let refused = admin.prepare(&[served, plain]).await.err().unwrap();
    let source = std::error::Error::source(&refused).unwrap().to_string();
    assert!(source.contains("with and without TLS"), "{source}");
}
