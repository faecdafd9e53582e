use futures_util::FutureExt;

use super::*;

const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

/// Acquires a permit for a connection of `client` in a task.
fn acquiring(
    limit: &ConnectionLimit,
    client: IpAddr,
) -> tokio::task::JoinHandle<Option<ConnectionPermit>> {
    let limit = limit.clone();
    tokio::spawn(async move { limit.acquire(client).await })
}

#[tokio::test]
async fn the_longest_idle_connection_is_evicted_before_busy_ones() {
    let limit = ConnectionLimit::new(2);
    let busy = limit.acquire(ONE).await.unwrap();
    busy.busy();
    let idle = limit.acquire(ONE).await.unwrap();
    let acquiring = acquiring(&limit, ONE);
    idle.evicted().await;
    assert!(busy.evicted().now_or_never().is_none());
    drop(idle);
    assert!(acquiring.await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_is_refused_while_all_are_busy() {
    let limit = ConnectionLimit::new(1);
    let permit = limit.acquire(ONE).await.unwrap();
    permit.busy();
    assert!(limit.acquire(ONE).await.is_none());
    drop(permit);
    assert!(limit.acquire(ONE).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_busy_connection_that_becomes_idle_in_time_is_evicted() {
    let limit = ConnectionLimit::new(1);
    let permit = limit.acquire(ONE).await.unwrap();
    permit.busy();
    let acquiring = acquiring(&limit, ONE);
    tokio::time::sleep(PATIENCE / 2).await;
    assert!(permit.evicted().now_or_never().is_none());
    permit.idle();
    permit.evicted().await;
    drop(permit);
    assert!(acquiring.await.unwrap().is_some());
}

#[tokio::test]
async fn the_longest_idle_connection_of_the_client_with_the_most_is_evicted() {
    let limit = ConnectionLimit::new(4);
    let lone = limit.acquire(OTHER).await.unwrap();
    let mut many = Vec::new();
    for _ in 0..3 {
        many.push(limit.acquire(ONE).await.unwrap());
    }
    // The other client's connection has been idle for longest, but is its only one.
    let third = acquiring(&limit, OTHER);
    many[0].evicted().await;
    many.remove(0);
    let third = third.await.unwrap().unwrap();
    assert!(lone.evicted().now_or_never().is_none());
    // With two connections each, the longest idle is evicted.
    let fourth = acquiring(&limit, ONE);
    lone.evicted().await;
    drop(lone);
    assert!(fourth.await.unwrap().is_some());
    drop(third);
    drop(many);
    assert!(limit.0.table.lock().clients.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_busy_connection_of_the_client_with_the_most_is_evicted_for_another_client() {
    let limit = ConnectionLimit::new(3);
    let mut many = Vec::new();
    for _ in 0..3 {
        let permit = limit.acquire(ONE).await.unwrap();
        permit.busy();
        many.push(permit);
        tokio::time::advance(Duration::from_millis(5)).await;
    }
    assert!(limit.acquire(ONE).await.is_none(), "it has all of them");
    let other = acquiring(&limit, OTHER);
    tokio::task::yield_now().await;
    let evicted = many.iter().position(|it| it.entry.is_evicted()).unwrap();
    many.remove(evicted);
    let other = other.await.unwrap().unwrap();
    other.busy();
    // Another would give it as many as the first client has.
    assert!(limit.acquire(OTHER).await.is_none());
}

#[tokio::test]
async fn two_new_connections_evict_two_different_ones() {
    let limit = ConnectionLimit::new(2);
    let old = [
        limit.acquire(ONE).await.unwrap(),
        limit.acquire(ONE).await.unwrap(),
    ];
    let new = [acquiring(&limit, ONE), acquiring(&limit, ONE)];
    for permit in old {
        permit.evicted().await;
        drop(permit);
    }
    for acquiring in new {
        assert!(acquiring.await.unwrap().is_some());
    }
}
