//! Delay from a change at the API server to the DNS answer with it, and the cost of changes for the
//! DNS server.
//!
//! With 10,000 Services, 50,000 endpoints and 1,000 changed slices per second: 6 to 12 % of a core, with
//! queries or without. Delay from the API server's event to the datagram: 0.5 ms median, 0.6 ms p99,
//! 1.4 to 7 ms maximum, if both processes have real-time priority (`chrt --rr --pid 5`, load 18 on two
//! cores). Without it, the median is the same, p99 up to 20 ms and the maximum 30 to 45 ms; in all of
//! these cases threads of one of the processes were runnable without a CPU for as long, which is
//! printed too: long delays are due to the scheduler.

use super::apiserver::ApiServer;
use lodestone::cluster::Kind;
use lodestone::message::read_reply;
use lodestone::reply::{Reply, Section};
use lodestone::wire::Name;
use serde_json::json;
use std::fmt::Write;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Pause between two queries, so that the client does not take CPU from the server.
const PAUSE: Duration = Duration::from_micros(200);
/// Pause between two measured changes.
const REST: Duration = Duration::from_millis(20);
/// A change that takes longer counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// Delay of a change, from the API server's event to the answer with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Delay {
    /// Total delay.
    pub whole: Duration,
    /// Total time that threads of the server, and of this process (API server and client), were runnable
    /// without a CPU.
    pub waited: [Duration; 2],
}

/// Changes one Service repeatedly until `is_over`, and queries it until the answer shows each change.
/// Returns the delays and the number of queries.
pub fn measure(
    api: &ApiServer,
    server: SocketAddr,
    process: i32,
    is_over: impl Fn() -> bool,
) -> std::io::Result<(Vec<Delay>, u64)> {
    let own = i32::try_from(std::process::id()).map_err(std::io::Error::other)?;
    let waited = || [process, own].map(waited);
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(server)?;
    let metadata = json!({"namespace": "team-0", "name": "probe"});
    let spec = json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]});
    let service = json!({"metadata": metadata, "spec": spec});
    api.apply(Kind::Service, &service);
    let (mut delays, mut questions) = (Vec::new(), 0);
    while !is_over() {
        let change = delays.len() + 1;
        let low = u16::try_from(change % 65_536)
            .unwrap_or_default()
            .to_be_bytes();
        let address = [10, 250, low[0], low[1]];
        let before = waited();
        let begun = Instant::now();
        api.apply(Kind::EndpointSlice, &slice(address));
        loop {
            questions += 1;
            if ask(&socket)? == Some(address) {
                break;
            }
            if begun.elapsed() > PATIENCE {
                return Err(std::io::Error::other("a change was never answered with"));
            }
            std::thread::sleep(PAUSE);
        }
        let whole = begun.elapsed();
        let after = waited();
        let waited = [0, 1].map(|of| after[of].saturating_sub(before[of]));
        delays.push(Delay { whole, waited });
        std::thread::sleep(REST);
    }
    Ok((delays, questions))
}

/// Median, p99 and maximum, and the share of the longest ones spent waiting for a CPU.
pub fn summary(mut delays: Vec<Delay>) -> String {
    delays.sort_unstable();
    let Some(last) = delays.len().checked_sub(1) else {
        return "no change was seen".into();
    };
    let at = |share: usize| delays[last * share / 100].whole;
    let (half, most, longest) = (at(50), at(99), at(100));
    let mut text = format!(
        "{} changes: p50 {half:?}, p99 {most:?}, max {longest:?}",
        last + 1
    );
    for Delay { whole, waited } in delays.iter().rev().take(5) {
        let [server, own] = waited;
        let _ = write!(
            text,
            "\n  {whole:?}, while the server waited {server:?} for a processor, this one {own:?}"
        );
    }
    text
}

/// Total time that threads of a process were runnable without a CPU.
fn waited(process: i32) -> Duration {
    let tasks = procfs::process::Process::new(process).and_then(|it| it.tasks());
    let tasks = tasks.into_iter().flatten().flatten();
    let waits = tasks.filter_map(|task| task.schedstat().ok());
    Duration::from_nanos(waits.map(|it| it.run_delay).sum())
}

/// CPU time of a process.
pub fn cpu(process: i32) -> Duration {
    let stat = procfs::process::Process::new(process).and_then(|it| it.stat());
    let ticks = stat.map_or(0, |stat| stat.utime + stat.stime);
    Duration::from_millis(ticks * 1000 / procfs::ticks_per_second())
}

fn slice(address: [u8; 4]) -> serde_json::Value {
    let [a, b, c, d] = address;
    json!({
        "metadata": {"namespace": "team-0", "name": "probe-s",
            "labels": {"kubernetes.io/service-name": "probe"}},
        "addressType": "IPv4", "endpoints": [{"addresses": [format!("{a}.{b}.{c}.{d}")]}],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    })
}

/// The address of the Service, from a query.
fn ask(socket: &UdpSocket) -> std::io::Result<Option<[u8; 4]>> {
    let name = Name::parse("probe.team-0.svc.cluster.local").expect("a name");
    let mut bytes = [[0, 1, 1, 0, 0, 1], [0; 6]].concat();
    bytes.extend(name.as_wire());
    bytes.extend([0, 1, 0, 1]);
    socket.send(&bytes)?;
    bytes.resize(512, 0);
    let length = socket.recv(&mut bytes)?;
    let mut reply = Reply::default();
    read_reply(&bytes[..length], &mut reply).map_err(std::io::Error::other)?;
    let answer = reply.section(Section::Answer).first();
    Ok(answer.and_then(|record| reply.data(record).try_into().ok()))
}
