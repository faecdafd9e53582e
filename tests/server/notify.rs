//! NOTIFY to secondaries, over real sockets.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use lodestone::{
    cluster::{Cluster, Event, Namespace, Object, Writer},
    plugin::transfer::{
        Changes, Config, Pace, Rule, Told, Transferable, Transfers, Whom, changes_of,
    },
    query::Question,
    reply::Reply,
    wire::Name,
    zone::{ClusterView, Rules, Zones},
};
use parking_lot::Mutex;
use tokio::{net::UdpSocket, runtime::Handle, sync::watch};

/// Zones with serials and nothing in them.
struct Serials {
    zones: Mutex<Vec<(Name, u32)>>,
    changed: watch::Sender<()>,
}

impl Serials {
    fn new(zones: &[(&str, u32)]) -> Arc<Self> {
        let this = Self {
            zones: Mutex::default(),
            changed: watch::Sender::new(()),
        };
        this.become_(zones);
        Arc::new(this)
    }

    fn become_(&self, zones: &[(&str, u32)]) {
        let zones = zones.iter().map(|(zone, serial)| (name(zone), *serial));
        *self.zones.lock() = zones.collect();
        self.changed.send_replace(());
    }
}

impl Transferable for Serials {
    fn transfer(self: Arc<Self>, _: &Question, _: Option<u32>, _: &mut Reply) -> bool {
        false
    }

    fn serials(&self) -> Vec<(Name, u32)> {
        self.zones.lock().clone()
    }

    fn changes(&self) -> Option<Changes> {
        Some(changes_of(self.changed.subscribe()))
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

const PACE: Pace = Pace {
    settle: Duration::from_millis(1),
    between: Duration::from_millis(1),
    patience: [Duration::from_millis(100); 4],
};

/// Somebody who is notified.
struct Secondary {
    socket: UdpSocket,
    address: SocketAddr,
}

impl Secondary {
    async fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        Self { socket, address }
    }

    /// The next notification, and who sent it.
    async fn next(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 512];
        let next = self.socket.recv_from(&mut buffer);
        let (length, from) = tokio::time::timeout(Duration::from_secs(20), next)
            .await
            .expect("a notification")
            .unwrap();
        (buffer[..length].to_vec(), from)
    }

    async fn answer(&self, (mut message, from): (Vec<u8>, SocketAddr), rcode: u8) {
        message[2] |= 0x80;
        message[3] = rcode;
        self.socket.send_to(&message, from).await.unwrap();
    }

    /// The zone that it is told of next, which it takes.
    async fn zone(&self) -> String {
        let (message, from) = self.next().await;
        let (zone, _) = Name::read(&message, 12).unwrap();
        self.answer((message, from), 0).await;
        zone.to_string()
    }
}

fn notify(
    source: Arc<dyn Transferable>,
    zones: &str,
    to: &[SocketAddr],
    from: Option<IpAddr>,
    told: &Arc<Told>,
    pace: Pace,
) -> Transfers {
    let rule = Rule {
        zones: [name(zones)].into_iter().collect(),
        to: vec![Whom::Anyone],
        notify: to.to_vec(),
        source: from,
    };
    let config = Config { rules: vec![rule] };
    let mut transfers = Transfers::new(config, vec![source]);
    transfers.notify(told, pace, &Handle::current());
    transfers
}

#[tokio::test]
async fn a_secondary_is_told_of_each_zone_at_the_start_and_when_its_serial_changes() {
    let secondary = Secondary::new().await;
    let zones = Serials::new(&[("a.test", 1), ("b.test", 7), ("other.example", 1)]);
    let told = Arc::default();
    let to = [secondary.address];
    let _transfers = notify(Arc::clone(&zones) as _, "test", &to, None, &told, PACE);
    assert_eq!(secondary.zone().await, "a.test.");
    assert_eq!(secondary.zone().await, "b.test.");
    // Nothing has changed; then one has, and one is new. No other is told of.
    zones.become_(&[("a.test", 1), ("b.test", 7), ("other.example", 2)]);
    zones.become_(&[("a.test", 1), ("b.test", 8), ("other.example", 2)]);
    assert_eq!(secondary.zone().await, "b.test.");
    zones.become_(&[("a.test", 1), ("b.test", 8), ("c.test", 1)]);
    assert_eq!(secondary.zone().await, "c.test.");
    // One that comes back is new again.
    zones.become_(&[("b.test", 8), ("d.test", 1)]);
    assert_eq!(secondary.zone().await, "d.test.");
    zones.become_(&[("a.test", 1), ("b.test", 8)]);
    assert_eq!(secondary.zone().await, "a.test.");
}

#[tokio::test]
async fn a_reload_tells_nothing_twice() {
    let secondary = Secondary::new().await;
    let zones = Serials::new(&[("a.test", 1)]);
    let told = Arc::default();
    let to = [secondary.address];
    let before = notify(Arc::clone(&zones) as _, ".", &to, None, &told, PACE);
    assert_eq!(secondary.zone().await, "a.test.");
    zones.become_(&[("a.test", 1), ("b.test", 1)]);
    assert_eq!(secondary.zone().await, "b.test.");
    // Its answer may still be on the way, so that it may be told of once more; of `a` it is not.
    drop(before);
    let _after = notify(Arc::clone(&zones) as _, ".", &to, None, &told, PACE);
    zones.become_(&[("a.test", 1), ("b.test", 1), ("c.test", 1)]);
    let mut next = secondary.zone().await;
    if next == "b.test." {
        next = secondary.zone().await;
    }
    assert_eq!(next, "c.test.");
}

#[tokio::test]
async fn who_does_not_answer_is_told_again_and_then_left_until_the_next_change() {
    let secondary = Secondary::new().await;
    let zones = Serials::new(&[("a.test", 1)]);
    let told = Arc::default();
    let to = [secondary.address];
    let _transfers = notify(Arc::clone(&zones) as _, ".", &to, None, &told, PACE);
    let first = secondary.next().await;
    // Neither an answer to something else nor one with another id is one.
    let mut wrong = first.0.clone();
    wrong[0] ^= 1;
    secondary.answer((wrong, first.1), 0).await;
    let (second, third) = (secondary.next().await, secondary.next().await);
    assert_eq!((&first, &first), (&second, &third), "the same message");
    assert_eq!(secondary.next().await, first, "the last try");
    // At the next change of whatever zone, what was never heard is told again.
    zones.become_(&[("a.test", 1), ("b.test", 1)]);
    assert_eq!(secondary.zone().await, "a.test.");
    assert_eq!(secondary.zone().await, "b.test.");
}

#[tokio::test]
async fn one_who_refuses_has_heard() {
    let secondary = Secondary::new().await;
    let zones = Serials::new(&[("a.test", 1), ("b.test", 1)]);
    let told = Arc::default();
    let to = [secondary.address];
    let _transfers = notify(Arc::clone(&zones) as _, ".", &to, None, &told, PACE);
    let refused = secondary.next().await;
    secondary.answer(refused, 5).await;
    assert_eq!(secondary.zone().await, "b.test.");
    zones.become_(&[("a.test", 1), ("b.test", 2)]);
    assert_eq!(secondary.zone().await, "b.test.");
}

#[tokio::test]
async fn one_who_is_gone_keeps_nobody_else_from_being_told() {
    let gone = Secondary::new().await.address;
    let secondary = Secondary::new().await;
    let zones = Serials::new(&[("a.test", 1)]);
    let told = Arc::default();
    let pace = Pace {
        patience: [Duration::from_mins(1); 4],
        ..PACE
    };
    let to = [gone, secondary.address];
    let _transfers = notify(Arc::clone(&zones) as _, ".", &to, None, &told, pace);
    assert_eq!(secondary.zone().await, "a.test.");
    zones.become_(&[("a.test", 2)]);
    assert_eq!(secondary.zone().await, "a.test.");
}

#[tokio::test]
async fn however_often_a_zone_changes_it_is_told_of_once_in_a_while() {
    let secondary = Secondary::new().await;
    let zones = Serials::new(&[("a.test", 1)]);
    let told = Arc::default();
    let between = Duration::from_millis(150);
    let pace = Pace { between, ..PACE };
    let to = [secondary.address];
    let _transfers = notify(Arc::clone(&zones) as _, ".", &to, None, &told, pace);
    secondary.zone().await;
    let begun = Instant::now();
    for serial in 2..100 {
        zones.become_(&[("a.test", serial)]);
        tokio::task::yield_now().await;
    }
    secondary.zone().await;
    assert!(begun.elapsed() > between / 2, "{:?}", begun.elapsed());
    let begun = Instant::now();
    zones.become_(&[("a.test", 100), ("last.test", 1)]);
    assert_eq!(secondary.zone().await, "a.test.");
    assert_eq!(secondary.zone().await, "last.test.");
    assert!(begun.elapsed() > between / 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_address_that_it_is_told_from_can_be_said() {
    let secondary = Secondary::new().await;
    let zones = Serials::new(&[("a.test", 1)]);
    let source: IpAddr = "127.0.0.9".parse().unwrap();
    let to = [secondary.address];
    let _transfers = notify(zones as _, ".", &to, Some(source), &Arc::default(), PACE);
    assert_eq!(secondary.next().await.1.ip(), source);
}

#[tokio::test]
async fn a_change_of_the_cluster_is_told() {
    let secondary = Secondary::new().await;
    let cluster = Arc::new(Cluster::new(&[]));
    let mut writer = Writer::new(Arc::clone(&cluster));
    let zones = ["cluster.local", "10.in-addr.arpa"].map(name);
    let view = ClusterView::new(
        Arc::clone(&cluster),
        Zones::new(&zones).unwrap(),
        Rules::default(),
        Box::default(),
    );
    let to = [secondary.address];
    let source = Arc::new(view) as _;
    let _transfers = notify(source, ".", &to, None, &Arc::default(), PACE);
    assert_eq!(secondary.zone().await, "cluster.local.");
    writer.fold(Event::Apply(Object::Namespace(Namespace {
        name: "shop".into(),
    })));
    writer.notify();
    assert_eq!(secondary.zone().await, "cluster.local.");
}
