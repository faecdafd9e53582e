use std::net::Ipv4Addr;

use super::{
    opt::{MAX_EXTRA_TEXT, PADDING_BLOCK},
    *,
};
use crate::{
    edns::Options,
    message::read_reply,
    query::{Edns, Question},
    reply::{Data, Soa, Why},
    wire::{Class, Name},
};

fn query(name: &str, rtype: Type) -> Query {
    Query::internal(Question::new(Name::parse(name).unwrap(), rtype, Class::IN))
}

fn written(query: &Query, reply: &Reply) -> Vec<u8> {
    let mut out = Vec::new();
    Writer::default().write(query, reply, &mut out);
    out
}

#[test]
fn owners_of_answers_are_compressed_to_two_bytes() {
    let query = query("Web.shop.svc.cluster.local", Type::A);
    let mut reply = Reply::default();
    reply.answer(Type::A, 5, Data::A(Ipv4Addr::new(10, 96, 0, 7)));
    let out = written(&query, &reply);
    let question = 12 + query.original.name.as_wire().len() + 4;
    assert_eq!(out.len(), question + 16);
    assert_eq!(&out[question..question + 2], [0xC0, 0x0C]);
}

#[test]
fn messages_round_trip() {
    let query = query("x.cluster.local", Type::A);
    let zone = Name::parse("cluster.local").unwrap();
    let primary = Name::parse("ns.dns.cluster.local").unwrap();
    let mut reply = Reply::failure(Rcode::NXDOMAIN, Why::NoSuchForm);
    reply.authoritative = true;
    let soa = Soa {
        primary: primary.as_ref(),
        mailbox: zone.as_ref(),
        serial: 1,
        refresh: 2,
        retry: 3,
        expire: 4,
        minimum: 5,
    };
    let owner = Owner::Name(zone.as_ref());
    reply.push(Section::Authority, owner, Type::SOA, 5, Data::Soa(soa));
    let out = written(&query, &reply);
    let mut read = Reply::default();
    assert!(
        read_reply(&out, &mut read)
            .unwrap()
            .same_as(&query.original)
    );
    assert_eq!((read.rcode, read.authoritative), (Rcode::NXDOMAIN, true));
    let (ours, theirs) = (
        &reply.section(Section::Authority)[0],
        &read.section(Section::Authority)[0],
    );
    assert_eq!(reply.data(ours), read.data(theirs));
    assert!(
        out.len() < 12 + 21 + 2 + 10 + 7 + 2 + 2 + 20 + 1,
        "{}",
        out.len()
    );
}

/// A reply with SRV records for `targets` and their addresses.
fn services(targets: &[Name]) -> Reply {
    let mut reply = Reply::default();
    for target in targets {
        let data = Data::Srv {
            priority: 0,
            weight: 16,
            port: 80,
            target: target.as_ref(),
        };
        reply.answer(Type::SRV, 5, data);
        let (owner, address) = (Owner::Name(target.as_ref()), Ipv4Addr::new(10, 0, 0, 1));
        reply.push(Section::Additional, owner, Type::A, 5, Data::A(address));
    }
    reply
}

#[test]
fn owners_of_addresses_point_at_srv_targets() {
    let query = query("_http._tcp.db.shop.svc.cluster.local", Type::SRV);
    for (text, targets) in [
        ("db.shop.svc.cluster.local", 3),
        ("Db.shop.svc.cluster.local", 3),
        ("example.net", 3),
        ("example.net", 60),
    ] {
        let target = |number| Name::parse(&format!("db-{number}.{text}")).unwrap();
        let targets: Vec<Name> = (0..targets).map(target).collect();
        let mut query = query.clone();
        query.receive(|it| it.transport = crate::query::Transport::Tcp);
        let out = written(&query, &services(&targets));
        let mut read = Reply::default();
        read_reply(&out, &mut read).unwrap();
        let owners = read.section(Section::Additional).iter();
        let owners = owners.map(|record| match read.owner(record) {
            Owner::Name(name) => name.to_name(),
            Owner::Question => query.original.name,
        });
        assert_eq!(owners.collect::<Vec<_>>(), targets);
        let question = 12 + query.original.name.as_wire().len() + 4;
        let records = targets
            .iter()
            .map(|it| 12 + 6 + it.as_wire().len() + 12 + 4);
        let least = question + records.sum::<usize>();
        if targets.len() < MAX_SRV_OFFSETS {
            assert_eq!(out.len(), least, "{text}");
        } else {
            assert!(out.len() < least + 5 * targets.len(), "{text}");
        }
    }
}

#[test]
fn invalid_srv_data_is_no_compression_target() {
    let query = query("x.cluster.local", Type::SRV);
    let target = Name::parse("db-0.example.net").unwrap();
    // Before the data: the header, the question, and twelve bytes of the record.
    let own = u16::try_from(12 + query.original.name.as_wire().len() + 4 + 12 + 6).unwrap();
    let to_itself = (0xC000 | own).to_be_bytes();
    let to_the_next = (0xC000 | (own + 2)).to_be_bytes();
    let cases = [
        vec![],
        vec![0; 6],
        [&[0; 6], &to_itself[..]].concat(),
        [&[0; 6], &to_the_next[..]].concat(),
        [&[0; 6], &b"\x04db-0\x07example\x03"[..]].concat(),
    ];
    for data in cases {
        let mut reply = services(&[target]);
        reply.section_mut(Section::Answer).clear();
        reply.answer(Type::SRV, 5, Data::Raw(&data));
        let out = written(&query, &reply);
        let whole = usize::from(own) - 6 + data.len() + target.as_wire().len() + 10 + 4;
        assert_eq!(out.len(), whole, "{data:?}");
    }
}

#[test]
fn ad_is_sent_to_clients_that_set_ad_or_do() {
    let plain = query("x.example", Type::A);
    let mut knows = plain.clone();
    knows.receive(|it| it.authentic_data = true);
    let mut wants = plain.clone();
    wants.edns = Some(Edns {
        udp_payload: 1232,
        version: 0,
        dnssec_ok: true,
        wants_nsid: false,
        is_padded: false,
    });
    let mut reply = Reply::default();
    reply.authentic = true;
    for (query, shown) in [(&plain, false), (&knows, true), (&wants, true)] {
        let header = Header::read(&written(query, &reply)).unwrap();
        assert_eq!(header.has(Header::AUTHENTIC), shown);
    }
    reply.authentic = false;
    let header = Header::read(&written(&wants, &reply)).unwrap();
    assert!(!header.has(Header::AUTHENTIC));
}

#[test]
fn replies_to_padded_queries_are_padded_over_encrypted_transports() {
    use crate::query::Transport;

    let mut query = query("cluster.local", Type::A);
    let edns = Edns {
        udp_payload: 1232,
        version: 0,
        dnssec_ok: false,
        wants_nsid: false,
        is_padded: true,
    };
    let mut reply = Reply::default();
    let mut out = Vec::new();
    for count in [0, 1, 27, 28, 60, 4093] {
        reply.clear();
        (0..count).for_each(|_| reply.answer(Type::A, 5, Data::A([10, 0, 0, 1].into())));
        for transport in [
            Transport::Tls,
            Transport::Https,
            Transport::Https3,
            Transport::Quic,
        ] {
            query.receive(|it| it.transport = transport);
            query.receive(|it| it.edns = Some(edns));
            Writer::default().write(&query, &reply, &mut out);
            let header = Header::read(&out).unwrap();
            // With padding, the longest would exceed a message.
            if count < 4093 {
                assert_eq!(out.len() % PADDING_BLOCK, 0, "{count} {transport:?}");
            }
            assert!(out.len() <= MAX_MESSAGE);
            assert_eq!(
                crate::message::has_option(&out, &header, Options::PADDING),
                count < 4093
            );
            let padded = out.len();
            query.receive(|it| {
                it.edns = Some(Edns {
                    is_padded: false,
                    ..edns
                });
            });
            Writer::default().write(&query, &reply, &mut out);
            assert!(out.len() < padded || count == 4093);
            assert!(!crate::message::has_option(&out, &header, Options::PADDING));
        }
        for transport in [Transport::Udp, Transport::Tcp] {
            query.receive(|it| it.transport = transport);
            query.receive(|it| it.edns = Some(edns));
            Writer::default().write(&query, &reply, &mut out);
            let header = Header::read(&out).unwrap();
            assert!(!crate::message::has_option(&out, &header, Options::PADDING));
        }
    }
}

#[test]
fn options_are_sent_to_edns_clients_and_displace_no_records() {
    let mut query = query("x.cluster.local", Type::A);
    let mut reply = Reply::default();
    reply.options.push(Options::NSID, b"ns1");
    reply.extended_error = Some(reply::ExtendedError {
        code: 22,
        text: "why".into(),
    });
    let read = |query: &Query, reply: &Reply| {
        let mut read = Reply::default();
        read_reply(&written(query, reply), &mut read).unwrap();
        read
    };
    assert!(read(&query, &reply).options.is_empty());
    query.receive(|it| {
        it.edns = Some(Edns {
            udp_payload: 512,
            version: 0,
            dnssec_ok: false,
            wants_nsid: true,
            is_padded: false,
        });
    });
    let seen = read(&query, &reply);
    assert_eq!(seen.options, reply.options);
    assert_eq!(seen.extended_error, reply.extended_error);
    reply.options.push(65001, &[0; 300]);
    let seen = read(&query, &reply);
    assert!(seen.options.is_empty() && seen.extended_error.is_some());
}

#[test]
fn a_text_is_truncated_between_characters() {
    let mut query = query("x.cluster.local", Type::A);
    query.receive(|it| {
        it.edns = Some(Edns {
            udp_payload: 1232,
            version: 0,
            dnssec_ok: false,
            wants_nsid: false,
            is_padded: false,
        });
    });
    let mut reply = Reply::default();
    reply.extended_error = Some(reply::ExtendedError {
        code: 22,
        text: "ä".repeat(MAX_EXTRA_TEXT).replacen('ä', "a", 1).into(),
    });
    let mut read = Reply::default();
    read_reply(&written(&query, &reply), &mut read).unwrap();
    let text = read.extended_error.unwrap().text;
    assert_eq!(text.len(), MAX_EXTRA_TEXT - 1);
    assert!(!text.contains(char::REPLACEMENT_CHARACTER));
}

#[test]
fn a_transfer_is_split_into_messages() {
    let mut query = query("cluster.local", Type::AXFR);
    query.receive(|it| it.transport = crate::query::Transport::Tcp);
    let mut reply = Reply::default();
    for number in 0..5000_u16 {
        let [high, low] = number.to_be_bytes();
        reply.answer(Type::A, 5, Data::A(Ipv4Addr::new(10, 0, high, low)));
    }
    let mut out = Vec::new();
    Writer::default().write_stream(&query, &reply, &mut None, &mut out);
    let mut rest = out.as_slice();
    let mut seen = Vec::new();
    let mut messages = 0;
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let (message, behind) = behind.split_at(u16::from_be_bytes(*length).into());
        let mut read = Reply::default();
        assert!(
            read_reply(message, &mut read)
                .unwrap()
                .same_as(&query.original)
        );
        assert!(!read.truncated);
        let records = read.section(Section::Answer).iter();
        seen.extend(records.map(|record| read.data(record).to_vec()));
        rest = behind;
        messages += 1;
    }
    assert_eq!((messages, seen.len()), (5, 5000));
    assert!(seen.is_sorted());
}

#[test]
fn an_oversized_reply_is_truncated_at_a_record_with_tc() {
    let mut query = query("big.shop.svc.cluster.local", Type::A);
    query.receive(|it| {
        it.edns = Some(Edns {
            udp_payload: 512,
            version: 0,
            dnssec_ok: true,
            wants_nsid: false,
            is_padded: false,
        });
    });
    let mut reply = Reply::default();
    for last in 0..100 {
        reply.answer(Type::A, 5, Data::A(Ipv4Addr::new(10, 0, 0, last)));
    }
    let out = written(&query, &reply);
    assert!(out.len() <= 512 && out.len() > 512 - 16);
    let header = Header::read(&out).unwrap();
    assert!(header.has(Header::TRUNCATED));
    assert_eq!(header.counts[3], 1, "OPT stays");
    let mut read = Reply::default();
    read_reply(&out, &mut read).unwrap();
    assert_eq!(
        read.section(Section::Answer).len(),
        usize::from(header.counts[1])
    );
}
