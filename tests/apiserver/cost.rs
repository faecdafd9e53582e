//! Cost of watching an API server: time and memory of the lists, then of later events and lists, per
//! second.
//!
//! ```text
//! cargo run --release --example watch-cost -- http://127.0.0.1:8001 SECONDS [pods] [decode]
//! ```
//!
//! With `decode`, the lists are read and decoded once, and discarded.

use lodestone::cluster::{Backend, Cluster, ClusterSource, Event, Kind, Settings};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let url = arguments
        .first()
        .cloned()
        .unwrap_or_else(|| "http://127.0.0.1:8001".into());
    let seconds = arguments.get(1).and_then(|it| it.parse().ok()).unwrap_or(5);
    let mut settings = Settings::new(Backend::Endpoint { url, tls: None });
    settings.pods = arguments.iter().any(|it| it == "pods");
    if arguments.iter().any(|it| it == "decode") {
        return decode(&settings).await;
    }
    println!("at start                     {}", memory());
    let (begun, before) = (Instant::now(), cpu());
    let source =
        ClusterSource::start(settings, &tokio::runtime::Handle::current()).expect("a source");
    let cluster = source.cluster();
    cluster.wait_synced().await;
    println!(
        "synced after {:?}, CPU {:?}  {}",
        begun.elapsed(),
        cpu().saturating_sub(before),
        memory()
    );
    for kind in Kind::ALL {
        println!("  {:16} {}", kind.resource(), cluster.stats().objects(kind));
    }
    let events = || {
        Kind::ALL
            .iter()
            .map(|kind| cluster.stats().events(*kind))
            .sum::<u64>()
    };
    for _ in 0..seconds {
        let (count, used) = (events(), cpu());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (count, used) = (events() - count, cpu().saturating_sub(used));
        let each = used.as_micros() as f64 / count.max(1) as f64;
        println!(
            "{count:6} events, CPU {used:?}, {each:.1} us each   {}",
            memory()
        );
    }
}

/// Reads and decodes the complete lists, and discards them.
async fn decode(settings: &Settings) {
    let begun = Instant::now();
    let cluster = Arc::new(Cluster::new(&[]));
    let runtime = tokio::runtime::Handle::current();
    let (mut events, _tasks) =
        ClusterSource::events(settings, &cluster, &runtime).expect("a source");
    let (mut open, mut objects) = (settings.kinds().len(), 0);
    let mut batch = Vec::new();
    while open > 0 && events.recv_many(&mut batch, 256).await > 0 {
        for event in batch.drain(..) {
            open -= usize::from(matches!(event, Event::ListEnd(_)));
            objects += usize::from(matches!(event, Event::Apply(_)));
        }
    }
    let took = begun.elapsed().as_secs_f64() * 1000.0;
    println!(
        "{objects} objects decoded after {took:.1} ms, CPU {:?}",
        cpu()
    );
}

/// Current and peak resident memory in MB.
fn memory() -> String {
    let status = procfs::process::Process::myself()
        .and_then(|it| it.status())
        .expect("procfs");
    let megabytes = |kilobytes: Option<u64>| kilobytes.unwrap_or(0) as f64 / 1024.0;
    format!(
        "RSS {:.1} MB, highest {:.1} MB",
        megabytes(status.vmrss),
        megabytes(status.vmhwm)
    )
}

fn cpu() -> Duration {
    let stat = procfs::process::Process::myself()
        .and_then(|it| it.stat())
        .expect("procfs");
    Duration::from_millis((stat.utime + stat.stime) * 1000 / procfs::ticks_per_second())
}
