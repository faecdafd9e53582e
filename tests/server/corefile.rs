//! Listeners for every kind of key in a Corefile, their reload and shutdown.

use std::{net::SocketAddr, path::Path};

use lodestone::{
    config::{Config, Source},
    corefile::Disk,
    interfaces::Interfaces,
    metrics::Metrics,
    process::Process,
    wire::Rcode,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    client::{ask_udp, next, query, rcode, send},
    grpc, http3, https,
    identity::{Certificate, connect},
    quic,
};

/// The transport of each key, in the order of the listeners.
const SCHEMES: [&str; 6] = ["dns", "tls", "quic", "grpc", "https", "https3"];

pub fn config(certificate: &Certificate, lines: &str) -> Config {
    let files = certificate.files();
    let path = |path: &Path| path.display().to_string();
    let (certificate, key) = (path(&files.certificate), path(&files.key));
    let keys = SCHEMES.map(|scheme| format!("{scheme}://test:0")).join(" ");
    let text = format!(
        "{keys} {{\n\
         bind 127.0.0.1\n\
         tls {certificate} {key}\n\
         {lines}\n\
         hosts {{\n192.0.2.1 a.test\nfallthrough\n}}\n\
         }}\n"
    );
    let source = Source {
        name: "Corefile",
        text: &text,
        loader: &Disk,
        interfaces: &Interfaces::default(),
        default_port: 53,
    };
    Config::read(&source).unwrap_or_else(|errors| panic!("{errors}"))
}

pub fn addresses(running: &Process) -> [SocketAddr; 6] {
    running.addresses().try_into().expect("one for each key")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_transport_is_served_and_a_reload_keeps_connections() {
    let (first, second) = (Certificate::new(), Certificate::new());
    let mut running = Process::start(config(&first, ""), 53, Metrics::new())
        .await
        .unwrap();
    let at = addresses(&running);
    let [dns, tls, doq, rpc, doh, doh3] = at;
    let message = query("a.test");
    assert_eq!(rcode(&ask_udp(dns, &message).await), Rcode::NOERROR);
    let mut stream = connect(tls, first.client(&["dot"])).await;
    send(&mut stream, &message).await;
    assert_eq!(rcode(&next(&mut stream).await.unwrap()), Rcode::NOERROR);
    let (_endpoint, connection) = quic::connect(doq, &first, "doq").await.unwrap();
    assert_eq!(
        rcode(&quic::ask(&connection, &message).await),
        Rcode::NOERROR
    );
    let mut calls = https::second(rpc, &first).await;
    assert_eq!(
        rcode(&grpc::ask(&mut calls, &message).await),
        Rcode::NOERROR
    );
    let mut requests = https::second(doh, &first).await;
    assert_eq!(
        rcode(&https::ask(&mut requests, &message).await),
        Rcode::NOERROR
    );
    let (_endpoint3, mut third) = http3::connect(doh3, &first).await;
    assert_eq!(
        rcode(&http3::ask(&mut third, &message).await),
        Rcode::NOERROR
    );

    // A reload with another certificate, timeouts and limits keeps existing connections.
    let other = "timeouts {\nread 1s\n}\nhttps {\nmax_connections 2\n}\nquic {\nmax_streams 2\n}";
    running.replace(config(&second, other)).await.unwrap();
    assert_eq!(addresses(&running), at);
    send(&mut stream, &message).await;
    assert!(next(&mut stream).await.is_some());
    quic::ask(&connection, &message).await;
    grpc::ask(&mut calls, &message).await;
    https::ask(&mut requests, &message).await;
    http3::ask(&mut third, &message).await;
    // New connections get the new certificate and timeouts.
    https::ask(&mut https::second(doh, &second).await, &message).await;
    let (_endpoint, connection) = quic::connect(doq, &second, "doq").await.unwrap();
    quic::ask(&connection, &message).await;
    let start = std::time::Instant::now();
    let mut silent = TcpStream::connect(tls).await.unwrap();
    assert!(matches!(silent.read(&mut [0]).await, Ok(0) | Err(_)));
    assert!(start.elapsed() < std::time::Duration::from_secs(3));

    let banner = running.banner();
    for scheme in &SCHEMES[1..] {
        assert!(banner.contains(&format!("{scheme}://test.:")), "{banner}");
    }
    running.drain().await;
    assert!(TcpStream::connect(doh).await.is_err());
    assert!(next(&mut stream).await.is_none());
}

/// SETTINGS_MAX_CONCURRENT_STREAMS of the server (RFC 9113 section 6.5.2).
async fn http2_streams(at: SocketAddr, certificate: &Certificate) -> Option<u32> {
    let mut stream = connect(at, certificate.client(&["h2"])).await;
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "SETTINGS come first");
    let mut settings = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    stream.read_exact(&mut settings).await.unwrap();
    let streams = settings.chunks(6).find(|one| one[..2] == [0, 3]);
    streams.map(|one| u32::from_be_bytes(one[2..].try_into().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn max_streams_of_any_block_applies_to_its_port() {
    let certificate = Certificate::new();
    let files = certificate.files();
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let read = |[first, second]: [&str; 2]| {
        let block = |zone, lines| {
            format!(
                "https://{zone}:{port} {{\nbind 127.0.0.1\ntls {} {}\n{lines}\nwhoami\n}}\n",
                files.certificate.display(),
                files.key.display()
            )
        };
        let text = block("a.test", first) + &block("b.test", second);
        let source = Source {
            name: "Corefile",
            text: &text,
            loader: &Disk,
            interfaces: &Interfaces::default(),
            default_port: 53,
        };
        Config::read(&source)
    };
    for (lines, streams) in [
        (["", ""], 250),
        (["", "https {\nmax_streams 7\n}"], 7),
        (["https {\nmax_streams 8\n}", ""], 8),
        (
            [
                "https {\nmax_streams 9\n}",
                "https {\nmax_connections 1\nmax_streams 9\n}",
            ],
            9,
        ),
        (["https {\nmax_streams 0\n}", ""], 250),
    ] {
        let mut running = Process::start(read(lines).unwrap(), 53, Metrics::new())
            .await
            .unwrap();
        let limit = http2_streams(running.addresses()[0], &certificate).await;
        assert_eq!(limit, Some(streams), "{lines:?}");
        running.drain().await;
    }
    let refused = read(["https {\nmax_streams 7\n}", "https {\nmax_streams 0\n}"]);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("max_streams: 0 and 7"), "{refused}");
}
