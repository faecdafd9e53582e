//! Upstream answers are returned to the client.

use futures_util::future::join_all;
use lodestone::{
    edns::Options,
    message::Writer,
    query::{Edns, Query, Transport},
    reply::{Reply, Section, Why},
    wire::{Header, Name, Rcode, Type},
};

use crate::{
    served::{Served, query},
    upstream::{Act, Upstream, answer_of},
};

#[allow(clippy::unnecessary_wraps, reason = "as queries have it")]
fn edns(udp_payload: u16, dnssec_ok: bool) -> Option<Edns> {
    Some(Edns {
        udp_payload,
        version: 0,
        dnssec_ok,
        wants_nsid: false,
        is_padded: false,
    })
}

#[tokio::test]
async fn answer_has_the_spelling_of_each_query() {
    let upstream = Upstream::answering(7).await;
    let served = Served::new(&format!("forward . {}", upstream.address));
    let reply = served.ask("WwW.Example.ORG").await;
    assert_eq!(answer_of(&reply), 7);
    assert!(reply.recursion_available && reply.authentic);
    assert!(!reply.authoritative, "although the upstream is");
    let asked = &upstream.asked()[0];
    assert_eq!(asked.question.name, Name::parse("WwW.Example.ORG").unwrap());
    assert!(asked.header.has(Header::RECURSION_DESIRED));
    let client = query("WwW.Example.ORG", Type::A);
    let mut out = Vec::new();
    Writer::default().write(&client, &reply, &mut out);
    assert_eq!(&out[12..16], b"\x03WwW");
    let shown = Header::read(&out).unwrap();
    assert!(!shown.has(Header::AUTHENTIC) && !shown.has(Header::AUTHORITATIVE));
}

#[tokio::test]
async fn rcodes_are_returned_unchanged() {
    let upstream = Upstream::silent().await;
    let served = Served::new(&format!("forward . {}", upstream.address));
    for rcode in [
        Rcode::NXDOMAIN,
        Rcode::SERVFAIL,
        Rcode::REFUSED,
        Rcode::NOTIMP,
        Rcode::FORMERR,
    ] {
        upstream.now(move |_| vec![Act::Code(rcode)]);
        let reply = served.ask("a.example").await;
        assert_eq!((reply.rcode, reply.why), (rcode, Why::Upstream));
    }
    assert_eq!(upstream.count(), 5, "each is an answer: no retry");
}

#[tokio::test]
async fn truncated_reply_is_returned_or_retried_over_tcp() {
    let script = |asked: &crate::upstream::Asked| match asked.over {
        Transport::Udp => vec![Act::Truncated],
        _ => vec![Act::Answer(1)],
    };
    let upstream = Upstream::start(script).await;
    let plain = Served::new(&format!("forward . {}", upstream.address));
    let reply = plain.ask("a.example").await;
    assert!(reply.truncated && reply.section(Section::Answer).is_empty());

    let client = Query {
        transport: Transport::Tcp,
        ..query("a.example", Type::A)
    };
    assert_eq!(answer_of(&plain.query(client).await), 1);

    let prefer = Served::new(&format!(
        "forward . {} {{\n prefer_udp\n}}",
        upstream.address
    ));
    assert_eq!(answer_of(&prefer.ask("a.example").await), 1);

    let force = Served::new(&format!(
        "forward . {} {{\n force_tcp\n prefer_udp\n}}",
        upstream.address
    ));
    assert_eq!(answer_of(&force.ask("a.example").await), 1);
    let over: Vec<_> = upstream.asked().iter().map(|asked| asked.over).collect();
    let (udp, tcp) = (Transport::Udp, Transport::Tcp);
    assert_eq!(over, [udp, tcp, udp, tcp, tcp]);
}

/// Datagrams cut in the middle of a record, with the original counts, with or without TC.
#[tokio::test]
async fn cut_datagram_is_a_truncated_reply_without_delay() {
    for tc in [false, true] {
        let upstream = Upstream::start(move |asked| match asked.over {
            Transport::Udp => vec![Act::Cut(20, 203, tc)],
            _ => vec![Act::Answer(1)],
        })
        .await;
        let plain = Served::new(&format!("forward . {}", upstream.address));
        for name in ["a.example", "b.example"] {
            let reply = plain.ask(name).await;
            assert_eq!((reply.rcode, reply.why), (Rcode::NOERROR, Why::Upstream));
            assert!(reply.truncated && reply.records().next().is_none());
        }
        assert_eq!(upstream.asked().len(), 2, "one try each, and no check");
        let client = Query {
            transport: Transport::Tcp,
            ..query("a.example", Type::A)
        };
        assert_eq!(answer_of(&plain.query(client).await), 1);
        let prefer = format!("forward . {} {{\n prefer_udp\n}}", upstream.address);
        let prefer = Served::new(&prefer);
        assert_eq!(answer_of(&prefer.ask("a.example").await), 1);
    }
}

/// On a stream no other reply will follow: the next upstream is queried at once.
#[tokio::test]
async fn unreadable_answer_on_a_stream_fails_over_at_once() {
    let broken = Upstream::start(|_| vec![Act::Cut(20, 203, false)]).await;
    let second = Upstream::answering(2).await;
    let lines = format!("forward . {} {}", broken.address, second.address);
    let served = Served::new(&format!(
        "{lines} {{\n policy sequential\n force_tcp\n read_timeout 1h\n}}"
    ));
    assert_eq!(answer_of(&served.ask("a.example").await), 2);
    let to = format!("{{to=\"{}\"}}", broken.address);
    let wrong = served.metric(&format!("lodestone_forward_wrong_replies_total{to}"));
    assert!(wrong >= 1.0, "{wrong}");
}

#[tokio::test]
async fn reply_is_truncated_to_the_client_size() {
    let upstream = Upstream::start(|_| vec![Act::Many(100)]).await;
    let served = Served::new(&format!(
        "forward . {} {{\n force_tcp\n}}",
        upstream.address
    ));
    let client = query("big.example", Type::A);
    let reply = served.query(client.clone()).await;
    assert_eq!(reply.section(Section::Answer).len(), 100);
    let mut out = Vec::new();
    Writer::default().write(&client, &reply, &mut out);
    assert!(out.len() <= 512 && Header::read(&out).unwrap().has(Header::TRUNCATED));
}

#[tokio::test]
async fn client_flags_and_options_are_forwarded_and_none_added() {
    let upstream = Upstream::answering(1).await;
    let served = Served::new(&format!("forward . {}", upstream.address));
    let plain = query("a.example", Type::A);
    let wishes = Query {
        edns: edns(1400, true),
        checking_disabled: true,
        authentic_data: true,
        recursion_desired: false,
        ..plain.clone()
    };
    let mut asked_from = Query {
        edns: edns(1232, false),
        ..plain.clone()
    };
    asked_from
        .options
        .push(Options::SUBNET, b"\0\x01\x08\0\x0A");
    served.query(plain).await;
    served.query(wishes).await;
    let answered = served.query(asked_from.clone()).await;
    let asked = upstream.asked();
    assert_eq!(asked[0].edns, None);
    let flags = Header::RECURSION_DESIRED | Header::AUTHENTIC;
    assert_eq!(
        asked[0].header.flags, flags,
        "AD does not depend on the first client"
    );
    assert_eq!(asked[1].edns, edns(1400, true));
    let flags = Header::CHECKING_DISABLED | Header::AUTHENTIC;
    assert_eq!(asked[1].header.flags, flags);
    assert!(asked[1].options.is_empty());
    assert_eq!(asked[2].options, asked_from.options);
    assert_eq!(answered.options, asked_from.options, "and back");
}

#[tokio::test]
async fn identical_queries_in_flight_are_coalesced() {
    let upstream = Upstream::start(|_| vec![Act::AfterGo, Act::Answer(9)]).await;
    let served = Served::new(&format!("forward . {}", upstream.address));
    let waits: Vec<_> = (0..100)
        .map(|number| {
            let name = if number % 2 == 0 {
                "a.example"
            } else {
                "A.Example"
            };
            served.begin(query(name, Type::A))
        })
        .collect();
    let waits = tokio::spawn(join_all(waits));
    upstream.came(1).await;
    upstream.go();
    for reply in waits.await.unwrap() {
        assert_eq!(answer_of(&reply), 9);
    }
    assert_eq!(upstream.count(), 1);
    let again = tokio::spawn(served.begin(query("a.example", Type::A)));
    upstream.came(2).await;
    upstream.go();
    assert_eq!(answer_of(&again.await.unwrap()), 9, "an end is an end");
}

#[tokio::test]
async fn queries_with_different_flags_are_not_coalesced() {
    let upstream = Upstream::start(|_| vec![Act::AfterGo, Act::Answer(9)]).await;
    let served = Served::new(&format!("forward . {}", upstream.address));
    let plain = query("a.example", Type::A);
    let others = [
        Query {
            edns: edns(1232, true),
            ..plain.clone()
        },
        Query {
            edns: edns(1232, false),
            ..plain.clone()
        },
        Query {
            edns: edns(4096, false),
            ..plain.clone()
        },
        Query {
            checking_disabled: true,
            ..plain.clone()
        },
        Query {
            recursion_desired: false,
            ..plain.clone()
        },
        Query {
            transport: Transport::Tcp,
            ..plain.clone()
        },
        query("a.example", Type::AAAA),
        query("b.example", Type::A),
    ];
    let count = others.len() + 1;
    let waits: Vec<_> = others
        .into_iter()
        .chain([plain])
        .map(|query| served.begin(query))
        .collect();
    let waits = tokio::spawn(join_all(waits));
    upstream.came(count).await;
    for _ in 0..count {
        upstream.go();
        tokio::task::yield_now().await;
    }
    // Notifications without a waiter collapse into one: repeat until all queries are answered.
    let mut waits = waits;
    let replies = loop {
        tokio::select! {
            replies = &mut waits => break replies.unwrap(),
            () = tokio::time::sleep(std::time::Duration::from_millis(5)) => upstream.go(),
        }
    };
    assert_eq!(replies.len(), count);
    assert_eq!(upstream.asked().len(), count);
}

#[tokio::test]
async fn mismatched_reply_is_ignored() {
    let upstream = Upstream::start(|_| {
        let garbage = [
            &[0, 0, 0x84, 0, 0, 1, 0, 9, 0, 0, 0, 0][..],
            &[0xC0, 0, 0, 1],
        ]
        .concat();
        vec![
            Act::WrongId,
            Act::WrongQuestion,
            Act::Octets(garbage),
            Act::Answer(5),
        ]
    })
    .await;
    let served = Served::new(&format!("forward . {}", upstream.address));
    assert_eq!(answer_of(&served.ask("a.example").await), 5);
    assert_eq!(upstream.count(), 1);
    let to = format!("{{to=\"{}\"}}", upstream.address);
    let wrong = served.metric(&format!("lodestone_forward_wrong_replies_total{to}"));
    assert!((wrong - 3.0).abs() < f64::EPSILON, "{wrong}");
}

#[tokio::test]
async fn ids_and_ports_are_unpredictable() {
    let upstream = Upstream::answering(1).await;
    let served = Served::new(&format!("forward . {}", upstream.address));
    for number in 0..200 {
        served.ask(&format!("n{number}.example")).await;
    }
    let asked = upstream.asked();
    let ports: std::collections::HashSet<_> = asked.iter().map(|one| one.from.port()).collect();
    assert!((2..=4).contains(&ports.len()), "few sockets: {ports:?}");
    let mut steps: Vec<_> = asked
        .windows(2)
        .map(|pair| pair[1].header.id.wrapping_sub(pair[0].header.id))
        .collect();
    steps.sort_unstable();
    steps.dedup();
    assert!(steps.len() > 190, "{}", steps.len());
}

#[tokio::test]
async fn names_outside_of_from_and_in_except_pass() {
    let upstream = Upstream::answering(1).await;
    let served = Served::new(&format!(
        "forward example.org {} {{\n except int.example.org example.org\n}}",
        upstream.address
    ));
    let passed = |reply: &Reply| (reply.rcode, reply.why) == (Rcode::SERVFAIL, Why::NobodyAnswered);
    assert!(passed(&served.ask("a.example.net").await));
    assert!(passed(&served.ask("a.INT.example.org").await));
    assert!(passed(&served.ask("int.example.org").await));
    assert_eq!(
        answer_of(&served.ask("Example.org").await),
        1,
        "never excluded"
    );
    let served = Served::new(&format!(
        "forward example.org {0} {{\n except int.example.org\n}}\nforward . {0}",
        upstream.address
    ));
    for name in ["a.example.org", "a.int.example.org", "example.net"] {
        assert_eq!(answer_of(&served.ask(name).await), 1);
    }
}

#[tokio::test]
async fn metrics_count_queries_and_connections() {
    let upstream = Upstream::answering(1).await;
    let served = Served::new(&format!("forward . {}", upstream.address));
    for number in 0..20 {
        served.ask(&format!("n{number}.example")).await;
    }
    let to = upstream.address;
    let labels = format!("proxy_name=\"forward\",rcode=\"NOERROR\",to=\"{to}\"");
    let name = "coredns_proxy_request_duration_seconds_count";
    let count = served.metric(&format!("{name}{{{labels}}}"));
    assert!((count - 20.0).abs() < f64::EPSILON, "{count}");
    let labels = format!("{{proto=\"udp\",proxy_name=\"forward\",to=\"{to}\"}}");
    let hits = served.metric(&format!("coredns_proxy_conn_cache_hits_total{labels}"));
    let misses = served.metric(&format!("coredns_proxy_conn_cache_misses_total{labels}"));
    assert!((hits + misses - 20.0).abs() < f64::EPSILON && (1.0..=4.0).contains(&misses));
}
