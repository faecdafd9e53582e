//! NOTIFY to secondaries, over real sockets.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use lodestone::{
    cluster::{Cluster, Event, Namespace, Object, StateWriter},
    plugin::transfer::{
        Allowed, Config, NotifiedSerials, NotifyTiming, Rule, Transferable, Transfers, ZoneChanges,
        changes_of,
    },
    query::Question,
    reply::Reply,
    wire::Name,
    zone::{AnswerRules, ClusterView, Zones},
};
use parking_lot::Mutex;
use tokio::{net::UdpSocket, runtime::Handle, sync::watch};

/// Empty zones with serials.
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

    fn changes(&self) -> Option<ZoneChanges> {
        Some(changes_of(self.changed.subscribe()))
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

const TIMING: NotifyTiming = NotifyTiming {
    settle: Duration::from_millis(1),
    between: Duration::from_millis(1),
    timeouts: [Duration::from_millis(100); 4],
};

/// A secondary.
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

    /// The next NOTIFY and its sender.
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

    /// The zone of the next NOTIFY, which it acknowledges.
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
    notified: &Arc<NotifiedSerials>,
    timing: NotifyTiming,
) -> Transfers {
    let rule = Rule {
        zones: [name(zones)].into_iter().collect(),
        to: vec![Allowed::Anyone],
        notify: to.to_vec(),
        source: from,
    };
    let config = Config { rules: vec![rule] };
    let mut transfers = Transfers::new(config, vec![source]);
    transfers.notify(notified, timing, &Handle::current());
    transfers
}

#[tokio::test]
async fn notify_is_sent_at_start_and_after_a_change_of_serial() {
    let secondary = Secondary::new().await;
    let zones = Serials::new(&[("a.test", 1), ("b.test", 7), ("other.example", 1)]);
    let notified = Arc::default();
    let to = [secondary.address];
    let _transfers = notify(
        Arc::clone(&zones) as _,
        "test",
        &to,
        None,
        &notified,
        TIMING,
    );
    assert_eq!(secondary.zone().await, "a.test.");
    assert_eq!(secondary.zone().await, "b.test.");
    // No change; then one zone has changed and one is new. Only these are notified.
    zones.become_(&[("a.test", 1), ("b.test", 7), ("other.example", 2)]);
    zones.become_(&[("a.test", 1), ("b.test", 8), ("other.example", 2)]);
    assert_eq!(secondary.zone().await, "b.test.");
    zones.become_(&[("a.test", 1), ("b.test", 8), ("c.test", 1)]);
    assert_eq!(secondary.zone().await, "c.test.");
    // A zone that reappears counts as new.
    zones.become_(&[("b.test", 8), ("d.test", 1)]);
    assert_eq!(secondary.zone().await, "d.test.");
    zones.become_(&[("a.test", 1), ("b.test", 8)]);
    assert_eq!(secondary.zone().await, "a.test.");
}

#[tokio::test]
async fn reload_does_not_repeat_notify() {
    let secondary = Secondary::new().await;
    let zones = Serials::new(&[("a.test", 1)]);
    let notified = Arc::default();
    let to = [secondary.address];
    let before = notify(Arc::clone(&zones) as _, ".", &to, None, &notified, TIMING);
    assert_eq!(secondary.zone().await, "a.test.");
    zones.become_(&[("a.test", 1), ("b.test", 1)]);
    assert_eq!(secondary.zone().await, "b.test.");
    // The reply may still be in flight, so this zone may be notified again; `a` is not.
    drop(before);
    let _after = notify(Arc::clone(&zones) as _, ".", &to, None, &notified, TIMING);
    zones.become_(&[("a.test", 1), ("b.test", 1), ("c.test", 1)]);
    let mut next = secondary.zone().await;
    if next == "b.test." {
        next = secondary.zone().await;
    }
    assert_eq!(next, "c.test.");
}

#[tokio::test]
async fn notify_without_a_reply_is_retried_then_paused_until_the_next_change() {
    let secondary = Secondary::new().await;
    let zones = Serials::new(&[("a.test", 1)]);
    let notified = Arc::default();
    let to = [secondary.address];
    let _transfers = notify(Arc::clone(&zones) as _, ".", &to, None, &notified, TIMING);
    let first = secondary.next().await;
    // A reply to another message, or with another id, does not count.
    let mut wrong = first.0.clone();
    wrong[0] ^= 1;
    secondary.answer((wrong, first.1), 0).await;
    let (second, third) = (secondary.next().await, secondary.next().await);
    assert_eq!((&first, &first), (&second, &third), "the same message");
    assert_eq!(secondary.next().await, first, "the last try");
    // After the next change of any zone, unacknowledged zones are notified again.
    zones.become_(&[("a.test", 1), ("b.test", 1)]);
    assert_eq!(secondary.zone().await, "a.test.");
    assert_eq!(secondary.zone().await, "b.test.");
}

#[tokio::test]
async fn error_reply_acknowledges_notify() {
    let secondary = Secondary::new().await;
    let zones = Serials::new(&[("a.test", 1), ("b.test", 1)]);
    let notified = Arc::default();
    let to = [secondary.address];
    let _transfers = notify(Arc::clone(&zones) as _, ".", &to, None, &notified, TIMING);
    let refused = secondary.next().await;
    secondary.answer(refused, 5).await;
    assert_eq!(secondary.zone().await, "b.test.");
    zones.become_(&[("a.test", 1), ("b.test", 2)]);
    assert_eq!(secondary.zone().await, "b.test.");
}

#[tokio::test]
async fn unreachable_secondary_does_not_delay_others() {
    let gone = Secondary::new().await.address;
    let secondary = Secondary::new().await;
    let zones = Serials::new(&[("a.test", 1)]);
    let notified = Arc::default();
    let timing = NotifyTiming {
        timeouts: [Duration::from_mins(1); 4],
        ..TIMING
    };
    let to = [gone, secondary.address];
    let _transfers = notify(Arc::clone(&zones) as _, ".", &to, None, &notified, timing);
    assert_eq!(secondary.zone().await, "a.test.");
    zones.become_(&[("a.test", 2)]);
    assert_eq!(secondary.zone().await, "a.test.");
}

#[tokio::test]
async fn frequent_changes_are_notified_at_most_once_per_interval() {
    let secondary = Secondary::new().await;
    let zones = Serials::new(&[("a.test", 1)]);
    let notified = Arc::default();
    let between = Duration::from_millis(150);
    let timing = NotifyTiming { between, ..TIMING };
    let to = [secondary.address];
    let _transfers = notify(Arc::clone(&zones) as _, ".", &to, None, &notified, timing);
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
async fn source_sets_the_address_of_notify() {
    let secondary = Secondary::new().await;
    let zones = Serials::new(&[("a.test", 1)]);
    let source: IpAddr = "127.0.0.9".parse().unwrap();
    let to = [secondary.address];
    let _transfers = notify(zones as _, ".", &to, Some(source), &Arc::default(), TIMING);
    assert_eq!(secondary.next().await.1.ip(), source);
}

#[tokio::test]
async fn change_of_the_cluster_is_notified() {
    let secondary = Secondary::new().await;
    let cluster = Arc::new(Cluster::new(&[]));
    let mut writer = StateWriter::new(Arc::clone(&cluster));
    let zones = ["cluster.local", "10.in-addr.arpa"].map(name);
    let view = ClusterView::new(
        Arc::clone(&cluster),
        Zones::new(&zones).unwrap(),
        AnswerRules::default(),
        Box::default(),
    );
    let to = [secondary.address];
    let source = Arc::new(view) as _;
    let _transfers = notify(source, ".", &to, None, &Arc::default(), TIMING);
    assert_eq!(secondary.zone().await, "cluster.local.");
    writer.fold(Event::Apply(Object::Namespace(Namespace {
        name: "shop".into(),
    })));
    writer.notify();
    assert_eq!(secondary.zone().await, "cluster.local.");
}
