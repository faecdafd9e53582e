//! A master on a real socket, and a secondary that copies from it.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use super::*;
use crate::{
    authority::{AnswerOptions, Zone, ZoneBuilder, text},
    message::{Writer, read_query},
    metrics::Metrics,
    plugin::{
        SharedResources,
        testing::{self, TestBlock},
    },
    query::Transport,
    reply::{Section, Why},
    wire::{Header, Name},
};

/// Timeout of each step.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server with one zone, or none.
struct Master {
    zone: Mutex<Option<Arc<Zone>>>,
    /// A permit for each answered query.
    asked: Semaphore,
    types: Mutex<Vec<Type>>,
}

impl Master {
    async fn start(zone: Option<Arc<Zone>>) -> (Arc<Self>, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let master = Arc::new(Self {
            zone: Mutex::new(zone),
            asked: Semaphore::new(0),
            types: Mutex::default(),
        });
        let serving = Arc::clone(&master);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                _ = serving.serve(stream).await;
            }
        });
        (master, address)
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let length = stream.read_u16().await?;
        let mut message = vec![0; length.into()];
        stream.read_exact(&mut message).await?;
        let header = Header::read(&message).unwrap();
        let question = read_query(&message, &header).unwrap().question;
        let mut query = Query::internal(question);
        query.receive(|it| it.id = header.id);
        query.receive(|it| it.transport = Transport::Tcp);
        let mut reply = Reply::default();
        match (self.zone.lock().as_ref(), question.rtype) {
            (None, _) => reply.fail(Rcode::REFUSED, Why::Policy),
            (Some(zone), Type::AXFR) => {
                zone.transfer(None, &mut reply);
                reply.complete();
            }
            (Some(zone), _) => {
                zone.answer(&question, AnswerOptions::default(), &mut reply);
            }
        }
        let mut out = Vec::new();
        Writer::default().write_stream(&query, &reply, &mut None, &mut out);
        self.types.lock().push(question.rtype);
        stream.write_all(&out).await?;
        self.asked.add_permits(1);
        Ok(())
    }

    async fn was_asked(&self, times: u32) {
        let asked = timeout(PATIENCE, self.asked.acquire_many(times)).await;
        asked.unwrap().unwrap().forget();
    }
}

fn zone(serial: u32, lines: &str) -> Arc<Zone> {
    let mut builder = ZoneBuilder::new(Name::parse("example.test").unwrap());
    let text = format!("@ 1 SOA a a {serial} 100 100 1000 1\n{lines}");
    let mut include = |_: &str, _: &str| Err(String::new());
    text::read(
        &mut builder,
        "db",
        text.as_bytes(),
        text::OnInvalid::Reject,
        &mut include,
    )
    .unwrap();
    Arc::new(builder.finish().unwrap())
}

fn build(resources: &SharedResources, masters: &[SocketAddr]) -> Plugin {
    let copies = Copies {
        zones: [Name::parse("example.test").unwrap()].into_iter().collect(),
        masters: masters.to_vec(),
        fallthrough: ZoneList::none(),
    };
    let config = Config {
        copies: vec![copies],
    };
    testing::build(resources, &Metrics::new(), |build| {
        config.build(build).unwrap()
    })
}

fn ask(plugin: &Plugin, name: &str) -> (Rcode, Why, usize) {
    let test_block = TestBlock::new(Vec::new());
    let mut reply = Reply::default();
    let mut query = testing::query(name, Type::A);
    let step = testing::inbound(plugin).on_query(&test_block.context(), &mut query, &mut reply);
    assert!(matches!(step, Step::Answer));
    let answers = reply.section(Section::Answer).len();
    (reply.rcode, reply.why, answers)
}

/// Repeats the question until the answer is the expected one.
async fn becomes(plugin: &Plugin, name: &str, wanted: (Rcode, Why, usize)) {
    let asking = async {
        while ask(plugin, name) != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let reached = timeout(PATIENCE, asking).await;
    assert!(
        reached.is_ok(),
        "{:?} instead of {wanted:?}",
        ask(plugin, name)
    );
}

fn notification(from: IpAddr) -> Query {
    let mut query = testing::query("Example.test", Type::SOA);
    query.receive(|it| it.client = (from, 1053).into());
    query
}

#[tokio::test]
async fn a_copy_is_fetched_and_follows_its_master() {
    // Two masters, of which the first does not have the zone. The copy takes several messages.
    let (_, without) = Master::start(None).await;
    let lines = "$GENERATE 0-1999 host-$ 1 A 192.0.2.1\n";
    let (master, address) = Master::start(Some(zone(1, lines))).await;
    let resources = SharedResources::default();
    let plugin = build(&resources, &[without, address]);
    assert_eq!(
        ask(&plugin, "host-7.example.test"),
        (Rcode::SERVFAIL, Why::NotLoaded, 0)
    );
    becomes(
        &plugin,
        "host-1999.example.test",
        (Rcode::NOERROR, Why::ZoneRecord, 1),
    )
    .await;
    master.was_asked(1).await;
    // Only notifications from masters, and for secondary zones, are accepted.
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    assert_eq!(
        plugin.on_notify(&mut notification([192, 0, 2, 1].into())),
        Some(Rcode::REFUSED)
    );
    let mut other = notification(local);
    other.question = testing::query("a.example.test", Type::SOA).question;
    assert_eq!(plugin.on_notify(&mut other), None);
    *master.zone.lock() = Some(zone(2, "new 1 A 192.0.2.2\n"));
    assert_eq!(
        plugin.on_notify(&mut notification(local)),
        Some(Rcode::NOERROR)
    );
    becomes(
        &plugin,
        "new.example.test",
        (Rcode::NOERROR, Why::ZoneRecord, 1),
    )
    .await;
    assert_eq!(ask(&plugin, "host-7.example.test").0, Rcode::NXDOMAIN);
    master.was_asked(2).await;
    // Nothing new: only the serial is queried.
    assert_eq!(
        plugin.on_notify(&mut notification(local)),
        Some(Rcode::NOERROR)
    );
    master.was_asked(1).await;
    assert_eq!(
        *master.types.lock(),
        [Type::AXFR, Type::SOA, Type::AXFR, Type::SOA]
    );
    // A reload keeps the copy.
    let again = build(&resources.succeed(), &[without, address]);
    assert_eq!(
        ask(&again, "new.example.test"),
        (Rcode::NOERROR, Why::ZoneRecord, 1)
    );
}

#[tokio::test]
async fn a_copy_whose_master_is_gone_expires() {
    let mut text = ZoneBuilder::new(Name::parse("example.test").unwrap());
    let line = b"@ 1 SOA a a 1 1 1 1 1\nwww 1 A 192.0.2.1\n";
    let mut include = |_: &str, _: &str| Err(String::new());
    text::read(&mut text, "db", line, text::OnInvalid::Reject, &mut include).unwrap();
    let zone = Arc::new(text.finish().unwrap());
    let (master, address) = Master::start(Some(Arc::clone(&zone))).await;
    let plugin = build(&SharedResources::default(), &[address]);
    becomes(
        &plugin,
        "www.example.test",
        (Rcode::NOERROR, Why::ZoneRecord, 1),
    )
    .await;
    *master.zone.lock() = None;
    becomes(
        &plugin,
        "www.example.test",
        (Rcode::SERVFAIL, Why::Expired, 0),
    )
    .await;
    // It is served again once the master confirms the serial.
    *master.zone.lock() = Some(zone);
    becomes(
        &plugin,
        "www.example.test",
        (Rcode::NOERROR, Why::ZoneRecord, 1),
    )
    .await;
}

#[tokio::test]
async fn invalid_transfers_are_rejected() {
    let apex = Name::parse("example.test").unwrap();
    let soa = b"\x07example\x04test\0\0\x06\0\x01\0\0\0\x01\0\x16\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let address = b"\x01a\x07example\x04test\0\0\x01\0\x01\0\0\0\x01\0\x04\x01\x02\x03\x04";
    let message = |flags: [u8; 2], records: &[&[u8]]| {
        let count = u8::try_from(records.len()).unwrap();
        let head = [&[flags[0], flags[1], 0, 0, 0, count, 0, 0, 0, 0][..]];
        [&head, records].concat().concat()
    };
    let good = [0x84, 0];
    for (tail, wanted) in [
        (message(good, &[soa, address, soa]), "2"),
        (message(good, &[soa, address]), "unexpected end of file"),
        (
            message(good, &[address, soa]),
            "the response has no SOA record where one is required",
        ),
        (
            message(good, &[soa, &address[..20]]),
            "the response is malformed",
        ),
        (
            message(
                good,
                &[soa, b"\x07example\x04test\0\0\x32\0\x01\0\0\0\0\0\0"],
            ),
            "example.test. NSEC3: zones signed with NSEC3",
        ),
        (message([0x84, 5], &[]), "the response is REFUSED"),
        (
            message([0x04, 0], &[soa]),
            "the response is for another question",
        ),
    ] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let master = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut asked = vec![0; length.into()];
            stream.read_exact(&mut asked).await.unwrap();
            let message = [&asked[..2], &tail].concat();
            let length = u16::try_from(message.len()).unwrap();
            stream.write_u16(length).await.unwrap();
            stream.write_all(&message).await.unwrap();
        });
        let outcome = match timeout(PATIENCE, fetch::zone(master, apex)).await.unwrap() {
            Ok(zone) => zone.records().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(outcome.starts_with(wanted), "{outcome} instead of {wanted}");
    }
}
