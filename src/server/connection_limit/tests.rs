use futures_util::FutureExt;

use super::*;

const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

/// Whether a connection of `client` gets a place, which it keeps.
fn entering(
    limit: &ConnectionLimit,
    client: IpAddr,
) -> tokio::task::JoinHandle<Option<ConnectionPermit>> {
    let limit = limit.clone();
    tokio::spawn(async move { limit.acquire(client).await })
}

#[tokio::test]
async fn the_longest_idle_goes_and_the_busy_stay() {
    let limit = ConnectionLimit::new(2);
    let busy = limit.acquire(ONE).await.unwrap();
    busy.busy();
    let idle = limit.acquire(ONE).await.unwrap();
    let entering = entering(&limit, ONE);
    idle.evicted().await;
    assert!(busy.evicted().now_or_never().is_none());
    drop(idle);
    assert!(entering.await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn where_all_are_busy_the_new_one_is_refused() {
    let limit = ConnectionLimit::new(1);
    let place = limit.acquire(ONE).await.unwrap();
    place.busy();
    assert!(limit.acquire(ONE).await.is_none());
    drop(place);
    assert!(limit.acquire(ONE).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_busy_one_that_becomes_idle_soon_makes_room() {
    let limit = ConnectionLimit::new(1);
    let place = limit.acquire(ONE).await.unwrap();
    place.busy();
    let entering = entering(&limit, ONE);
    tokio::time::sleep(PATIENCE / 2).await;
    assert!(place.evicted().now_or_never().is_none());
    place.idle();
    place.evicted().await;
    drop(place);
    assert!(entering.await.unwrap().is_some());
}

#[tokio::test]
async fn the_client_with_the_most_connections_loses_one() {
    let limit = ConnectionLimit::new(4);
    let lone = limit.acquire(OTHER).await.unwrap();
    let mut many = Vec::new();
    for _ in 0..3 {
        many.push(limit.acquire(ONE).await.unwrap());
    }
    // The other client's has been idle for longest, and is its only one.
    let third = entering(&limit, OTHER);
    many[0].evicted().await;
    many.remove(0);
    let third = third.await.unwrap().unwrap();
    assert!(lone.evicted().now_or_never().is_none());
    // With two each, the longest idle goes.
    let fourth = entering(&limit, ONE);
    lone.evicted().await;
    drop(lone);
    assert!(fourth.await.unwrap().is_some());
    drop(third);
    drop(many);
    assert!(limit.0.table.lock().clients.is_empty());
}

#[tokio::test(start_paused = true)]
async fn where_all_are_busy_a_client_with_many_connections_loses_one() {
    let limit = ConnectionLimit::new(3);
    let mut many = Vec::new();
    for _ in 0..3 {
        let place = limit.acquire(ONE).await.unwrap();
        place.busy();
        many.push(place);
        tokio::time::advance(Duration::from_millis(5)).await;
    }
    assert!(limit.acquire(ONE).await.is_none(), "it has all of them");
    let other = entering(&limit, OTHER);
    tokio::task::yield_now().await;
    let evicted = many.iter().position(|it| it.entry.is_evicted()).unwrap();
    many.remove(evicted);
    let other = other.await.unwrap().unwrap();
    other.busy();
    // Now it would have as many as the first.
    assert!(limit.acquire(OTHER).await.is_none());
}

#[tokio::test]
async fn nobody_is_evicted_twice_for_two_newcomers() {
    let limit = ConnectionLimit::new(2);
    let old = [
        limit.acquire(ONE).await.unwrap(),
        limit.acquire(ONE).await.unwrap(),
    ];
    let new = [entering(&limit, ONE), entering(&limit, ONE)];
    for place in old {
        place.evicted().await;
        drop(place);
    }
    for entering in new {
        assert!(entering.await.unwrap().is_some());
    }
}
