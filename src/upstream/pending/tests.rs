use super::*;

const FORWARD: usize = 1;
const OTHER: usize = 2;

fn client(last: u8) -> IpAddr {
    [127, 0, 0, last].into()
}

fn limit(limit: usize) -> (Arc<PendingLimit>, IntCounter) {
    let shed = IntCounter::new("shed", "shed").unwrap();
    (
        PendingLimit::new(limit, Rcode::REFUSED, [shed.clone()]),
        shed,
    )
}

fn evicted(permits: &[Permit]) -> Vec<usize> {
    let numbered = permits.iter().enumerate();
    let evicted = numbered.filter(|(_, permit)| permit.eviction().reply().is_some());
    evicted.map(|(number, _)| number).collect()
}

#[test]
fn another_client_takes_the_oldest_slot_of_the_heaviest() {
    let (limit, shed) = limit(3);
    let permits: Vec<_> = [1, 2, 1]
        .map(|last| limit.enter(FORWARD, client(last)).unwrap())
        .into();
    let newcomer = limit.enter(FORWARD, client(3)).unwrap();
    assert_eq!(evicted(&permits), [0]);
    assert_eq!(shed.get(), 1);
    // All have one now: the oldest gives way.
    let another = limit.enter(FORWARD, client(4)).unwrap();
    assert_eq!(evicted(&permits), [0, 1]);
    assert!(
        limit.enter(FORWARD, client(4)).is_none(),
        "it has the most itself, none of them old"
    );
    drop((permits, newcomer, another));
    assert_eq!(limit.pending.load(Ordering::Relaxed), 0);
    assert!(limit.tracked.lock().groups.is_empty());
}

#[test]
fn a_client_alone_waits_for_its_own_queries_to_settle() {
    let (limit, shed) = limit(2);
    let mut permits: Vec<_> = (0..2)
        .map(|_| limit.enter(FORWARD, client(1)).unwrap())
        .collect();
    assert!(limit.enter(FORWARD, client(1)).is_none());
    assert_eq!((evicted(&permits), shed.get()), (vec![], 1));
    let mut tracked = limit.tracked.lock();
    let later = Instant::now() + SETTLED;
    let victim = tracked.victim(FORWARD, client(1), later).unwrap();
    assert_eq!(victim.serial, 0);
    drop(tracked);
    limit.pending.fetch_sub(1, Ordering::Relaxed);
    permits.push(limit.enter(FORWARD, client(1)).unwrap());
    drop(permits);
    assert_eq!(limit.pending.load(Ordering::Relaxed), 0);
}

#[test]
fn a_smaller_group_takes_a_slot_of_the_larger_even_of_its_own_client() {
    let (limit, _) = limit(3);
    let permits: Vec<_> = (0..3)
        .map(|_| limit.enter(FORWARD, client(1)).unwrap())
        .collect();
    let other = limit.enter(OTHER, client(1)).unwrap();
    assert_eq!(evicted(&permits), [0]);
    assert!(
        limit.enter(FORWARD, client(1)).is_none(),
        "the larger group gets none back"
    );
    assert!(other.eviction().reply().is_none());
}

#[test]
fn a_few_are_only_counted() {
    let (limit, _) = limit(8);
    let permits: Vec<_> = (0..8)
        .map(|_| limit.enter(FORWARD, client(1)).unwrap())
        .collect();
    assert_eq!(limit.tracked.lock().next_serial, 6);
    let newcomer = limit.enter(FORWARD, client(2)).unwrap();
    assert_eq!(evicted(&permits), [2]);
    drop((permits, newcomer));
    assert_eq!(limit.pending.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_evicted_query_learns_of_it_while_it_waits() {
    let (limit, _) = limit(1);
    let first = limit.enter(FORWARD, client(1)).unwrap();
    let waiting = tokio::spawn(async move { first.evicted().await });
    tokio::task::yield_now().await;
    let _second = limit.enter(FORWARD, client(2)).unwrap();
    let reply = waiting.await.unwrap();
    assert_eq!((reply.rcode, reply.why), (Rcode::REFUSED, Why::Overload));
}

#[test]
fn the_limit_of_the_process_follows_its_memory() {
    assert_eq!(limit_within(Memory::Limited(170 << 20)), 7253);
    assert_eq!(limit_within(Memory::Machine(8 << 30)), 87_381);
    assert_eq!(limit_within(Memory::Limited(64 << 20)), 1365);
    assert_eq!(limit_within(Memory::Limited(1 << 20)), 256);
    assert_eq!(limit_within(Memory::Unknown), 10_922);
}
