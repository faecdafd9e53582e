//! The size of UDP replies: what the client accepts, what `bufsize` permits, and 1,232 bytes without it.

use std::fmt::Write;

use lodestone::{
    config::{Config, Source},
    corefile::Disk,
    interfaces::Interfaces,
    metrics::Metrics,
    process::Process,
    wire::Header,
};

use crate::client::{ask_udp, query_for, with_edns};

/// A zone with an answer of more than 6,000 bytes.
fn zone() -> String {
    let mut zone = "@ 60 IN SOA ns admin 1 60 60 60 60\n@ 60 IN NS ns\n".to_owned();
    for number in 0..400 {
        let [high, low] = [number / 200, number % 200];
        writeln!(zone, "big 60 IN A 192.0.{high}.{low}").unwrap();
    }
    zone
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_are_no_larger_than_client_bufsize_and_1232_bytes_permit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    std::fs::write(&path, zone()).unwrap();
    for (line, permitted) in [
        ("", 1232),
        ("bufsize", 1232),
        ("bufsize 512", 512),
        ("bufsize 1400", 1400),
        ("bufsize 4096", 4096),
    ] {
        let text = format!(
            "test:0 {{\nbind 127.0.0.1\n{line}\nfile {}\n}}\n",
            path.display()
        );
        let source = Source {
            name: "Corefile",
            text: &text,
            loader: &Disk,
            interfaces: &Interfaces::default(),
            default_port: 53,
        };
        let config = Config::read(&source).unwrap_or_else(|errors| panic!("{errors}"));
        let process = Process::start(config, 53, Metrics::new()).await.unwrap();
        let at = process.addresses()[0];
        for (advertised, accepted) in [
            (None, 512),
            (Some(0), 512),
            (Some(512), 512),
            (Some(1000), 1000),
            (Some(1232), 1232),
            (Some(4096), 4096),
            (Some(65_535), 65_535),
        ] {
            let query = query_for("big.test", lodestone::wire::Type::A);
            let query = match advertised {
                Some(advertised) => with_edns(query, advertised, 0, false),
                None => query,
            };
            let reply = ask_udp(at, &query).await;
            let limit = accepted.min(permitted);
            let size = reply.len();
            assert!(
                size <= limit && size > limit - 28,
                "{line:?}, {advertised:?}: {size} bytes"
            );
            assert!(Header::read(&reply).unwrap().has(Header::TRUNCATED));
        }
    }
}
