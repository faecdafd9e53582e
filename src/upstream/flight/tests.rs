use std::cell::Cell;

use super::*;

fn key(text: &str) -> Arc<[u8]> {
    text.as_bytes().into()
}

fn refused() -> Reply {
    Reply::failure(Rcode::REFUSED, Why::Upstream)
}

async fn never() -> Reply {
    unreachable!("somebody else asks")
}

/// Asks, and waits as long as it takes.
fn asked<F>(
    flights: &Arc<Flights>,
    joined: Option<Joined>,
    work: impl Fn() -> F,
) -> Pin<Box<impl Future<Output = Reply>>>
where
    F: Future<Output = Reply> + Send + 'static,
{
    let flights = Arc::clone(flights);
    Box::pin(async move { flights.reply(key("a"), joined, work).await })
}

#[test]
fn a_hundred_askers_begin_one_flight() {
    let flights = Arc::new(Flights::default());
    let (land, landed) = oneshot::channel::<()>();
    let landed = Cell::new(Some(landed));
    let mut askers: Vec<_> = (0..100)
        .map(|_| {
            asked(&flights, None, || {
                let landed = landed.take().expect("begun once");
                async move {
                    landed.await.unwrap();
                    refused()
                }
            })
        })
        .collect();
    for asker in &mut askers {
        assert!(asker.now_or_never().is_none());
    }
    assert_eq!(flights.count(), 1);
    land.send(()).unwrap();
    for asker in askers {
        assert_eq!(asker.now_or_never().unwrap().rcode, Rcode::REFUSED);
    }
    assert_eq!(flights.count(), 0);
}

#[test]
fn a_flight_goes_on_without_its_beginner_and_ends_with_the_last() {
    let flights = Arc::new(Flights::default());
    let (land, landed) = oneshot::channel::<()>();
    let landed = Cell::new(Some(landed));
    let mut first = asked(&flights, None, || {
        let landed = landed.take().expect("begun once");
        async move {
            landed.await.ok();
            refused()
        }
    });
    assert!((&mut first).now_or_never().is_none());
    let mut second = asked(&flights, None, never);
    assert!((&mut second).now_or_never().is_none());
    drop(first);
    assert!((&mut second).now_or_never().is_none());
    drop(second);
    assert_eq!(flights.count(), 0);
    assert!(land.is_closed(), "the work is gone");
    let third = asked(&flights, None, || async { refused() });
    assert!(third.now_or_never().is_some());
}

#[test]
fn a_leader_tells_the_others() {
    let flights = Arc::new(Flights::default());
    let lead = flights.lead(key("a")).unwrap();
    let early = flights.lead(key("a")).expect_err("one leads");
    let mut late = asked(&flights, None, never);
    assert!((&mut late).now_or_never().is_none());
    assert_eq!(flights.count(), 1);
    lead.land(&refused());
    // A follower that joined before gets the reply, also if it waits for it only later.
    for other in [late, asked(&flights, Some(early), never)] {
        assert_eq!(other.now_or_never().unwrap().rcode, Rcode::REFUSED);
    }
    assert_eq!(flights.count(), 0);
}

#[test]
fn one_of_the_others_does_the_work_of_a_leader_who_leaves() {
    let flights = Arc::new(Flights::default());
    let lead = flights.lead(key("a")).unwrap();
    let (land, landed) = oneshot::channel::<()>();
    let landed = Cell::new(Some(landed));
    let mut others: Vec<_> = (0..3)
        .map(|_| {
            let joined = flights.lead(key("a")).expect_err("one leads");
            asked(&flights, Some(joined), || {
                let landed = landed.take().expect("begun once");
                async move {
                    landed.await.unwrap();
                    refused()
                }
            })
        })
        .collect();
    drop(lead);
    for other in &mut others {
        assert!(other.now_or_never().is_none());
    }
    assert_eq!(flights.count(), 1);
    land.send(()).unwrap();
    for other in others {
        assert_eq!(other.now_or_never().unwrap().rcode, Rcode::REFUSED);
    }
    assert_eq!(flights.count(), 0);
}

#[test]
fn work_that_panics_ends_for_all_who_wait_for_it() {
    let flights = Arc::new(Flights::default());
    let (land, landed) = oneshot::channel::<()>();
    let landed = Cell::new(Some(landed));
    let mut askers: Vec<_> = (0..3)
        .map(|_| {
            asked(&flights, None, || {
                let landed = landed.take().expect("begun once");
                async move {
                    landed.await.unwrap();
                    panic!("on request")
                }
            })
        })
        .collect();
    for asker in &mut askers {
        assert!(asker.now_or_never().is_none());
    }
    land.send(()).unwrap();
    for asker in askers {
        let reply = asker.now_or_never().unwrap();
        assert_eq!((reply.rcode, reply.why), (Rcode::SERVFAIL, Why::Internal));
    }
    assert_eq!(flights.count(), 0);
    // One that panics before there is anything to wait for holds no lock.
    let begin = || {
        flights.join(key("a"), || -> std::future::Ready<Reply> {
            panic!("at once")
        })
    };
    assert!(std::panic::catch_unwind(AssertUnwindSafe(begin)).is_err());
    assert_eq!(flights.count(), 0);
}

#[test]
fn nobody_leads_what_others_fly() {
    let flights = Arc::new(Flights::default());
    let flight = flights.join(key("a"), || async { refused() });
    assert!(flights.lead(key("a")).is_err());
    drop(flight);
    assert!(flights.lead(key("a")).is_ok());
}
