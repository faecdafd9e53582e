use super::*;
use crate::{
    query::{Query, Question},
    reply::Why,
    wire::{Class, Name, Rcode, Type},
};

fn packet(name: &str) -> Arc<Packet> {
    let question = Question::new(Name::parse(name).unwrap(), Type::A, Class::IN);
    Arc::new(Packet::of(&Query::internal(question)))
}

fn inbox() -> Arc<Inbox> {
    Inbox::new().unwrap()
}

fn join(in_flight: &Arc<InFlight>, name: &str, inbox: &Arc<Inbox>, slot: u32) -> Option<Lead> {
    let follower = || Follower {
        inbox: Arc::clone(inbox),
        key: Key::for_tests(slot),
    };
    in_flight.join(&packet(name), TransportPolicy::Udp, follower)
}

/// The rcode that each follower got, by its slot.
fn events(inbox: &Inbox) -> Vec<(Key, Option<Rcode>)> {
    let events = inbox.take().into_iter().map(|event| match event {
        InboxEvent::Coalesced { key, reply } => (key, reply.map(|reply| reply.rcode)),
        InboxEvent::Attempt { .. } => panic!("no attempt was made"),
    });
    events.collect()
}

#[test]
fn a_hundred_identical_queries_have_one_leader_and_get_its_reply() {
    let (in_flight, inbox) = (Arc::new(InFlight::default()), inbox());
    let lead = join(&in_flight, "a.example", &inbox, 0).unwrap();
    assert!(!lead.has_followers());
    for slot in 1..100 {
        let name = if slot % 2 == 0 {
            "a.example"
        } else {
            "A.Example"
        };
        assert!(join(&in_flight, name, &inbox, slot).is_none());
    }
    assert!(lead.has_followers());
    assert_eq!(in_flight.len(), 1);
    lead.publish(&Reply::failure(Rcode::REFUSED, Why::Upstream));
    let expected = (1..100).map(|slot| (Key::for_tests(slot), Some(Rcode::REFUSED)));
    assert_eq!(events(&inbox), expected.collect::<Vec<_>>());
    assert_eq!(in_flight.len(), 0);
}

#[test]
fn different_queries_do_not_meet() {
    let (in_flight, inbox) = (Arc::new(InFlight::default()), inbox());
    let one = join(&in_flight, "a.example", &inbox, 0).unwrap();
    let other = join(&in_flight, "b.example", &inbox, 1).unwrap();
    let packet = packet("a.example");
    let never = || unreachable!("it leads");
    let by_tcp = in_flight
        .join(&packet, TransportPolicy::Tcp, never)
        .unwrap();
    assert_eq!(in_flight.len(), 3);
    drop((one, other, by_tcp));
    assert_eq!(in_flight.len(), 0);
}

#[test]
fn followers_of_a_leader_without_a_reply_start_again() {
    let (in_flight, inbox) = (Arc::new(InFlight::default()), inbox());
    let lead = join(&in_flight, "a.example", &inbox, 0).unwrap();
    assert!(join(&in_flight, "a.example", &inbox, 1).is_none());
    drop(lead);
    assert_eq!(events(&inbox), [(Key::for_tests(1), None)]);
    assert!(join(&in_flight, "a.example", &inbox, 1).is_some());
}
