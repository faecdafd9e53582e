//! Malformed and unusual messages over UDP and TCP.

use lodestone::wire::{Header, Rcode, Type};
use tokio::{net::TcpStream, time::timeout};

use crate::{
    client::{
        ask_tcp, ask_udp, describe, next, query, query_for, rcode, receive, send, udp, with_edns,
        with_id,
    },
    plugins::serve,
};

/// A valid query with one byte changed.
fn with(at: usize, byte: u8) -> Vec<u8> {
    let mut query = query("a.test");
    query[at] = byte;
    query
}

/// Messages that are answered with a bare header: the fault, the message, and the flags of the reply.
fn malformed() -> Vec<(&'static str, Vec<u8>, u16)> {
    let formerr = 0x8101;
    let mut pointer_loop = query("a.test");
    pointer_loop.truncate(12);
    pointer_loop.extend([0xC0, 12, 0, 1, 0, 1]);
    let mut pointer_out = query("a.test");
    pointer_out.truncate(12);
    pointer_out.extend([0xC3, 0xFF, 0, 1, 0, 1]);
    let mut long_name = query("a.test");
    long_name.truncate(12);
    for _ in 0..5 {
        long_name.push(63);
        long_name.extend([b'x'; 63]);
    }
    long_name.extend([0, 0, 1, 0, 1]);
    let mut cut_in_question = query("a.test");
    cut_in_question.pop();
    let mut two_opts = with_edns(with_edns(query("a.test"), 1232, 0, false), 1232, 0, false);
    let mut opt_with_owner = with_edns(query("a.test"), 1232, 0, false);
    let opt = opt_with_owner.len() - 11;
    opt_with_owner.splice(opt..=opt, *b"\x01x\x00");
    let mut opt_cut = with_edns(query("a.test"), 1232, 0, false);
    opt_cut.pop();
    let mut option_cut = with_edns(query("a.test"), 1232, 0, false);
    *option_cut.last_mut().unwrap() = 3;
    option_cut.extend([0, 3, 0]);
    let mut update = query("a.test");
    update.truncate(12);
    update[2] = 0x29; // opcode 5, RD
    two_opts[11] = 2;
    vec![
        (
            "nothing behind the header",
            query("a.test")[..12].to_vec(),
            formerr,
        ),
        ("no question", with(5, 0), formerr),
        ("two questions", with(5, 2), formerr),
        ("65,535 questions", with(4, 255), formerr),
        ("an answer that is not there", with(7, 1), formerr),
        ("authority that is not there", with(9, 1), formerr),
        ("more authority than IXFR needs", with(9, 2), formerr),
        (
            "an additional record that is not there",
            with(11, 1),
            formerr,
        ),
        ("65,280 additional records", with(10, 255), formerr),
        ("a name that points at itself", pointer_loop, formerr),
        ("a name that points outside", pointer_out, formerr),
        ("a name of more than 255 bytes", long_name, formerr),
        ("a label of an unknown kind", with(12, 0x80), formerr),
        ("a label longer than the message", with(12, 63), formerr),
        ("cut within the question", cut_in_question, formerr),
        ("two OPT records", two_opts, formerr),
        ("an OPT with an owner", opt_with_owner, formerr),
        ("an OPT cut short", opt_cut, formerr),
        ("an option cut short", option_cut, formerr),
        ("an unreadable update", update, 0xA904),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_query_gets_formerr_with_a_bare_header() {
    let serving = serve();
    for (fault, message, flags) in malformed() {
        for (transport, reply) in [
            ("UDP", ask_udp(serving.at, &message).await),
            ("TCP", ask_tcp(serving.at, &message).await),
        ] {
            let header = Header::read(&reply).unwrap();
            assert_eq!(header.flags, flags, "{fault} over {transport}");
            assert_eq!((header.id, header.counts), (0x1234, [0; 4]), "{fault}");
            assert_eq!(reply.len(), 12, "{fault} over {transport}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_short_messages_and_dropped_queries_get_no_reply() {
    let serving = serve();
    let mut response = query("a.test");
    response[2] |= 0x80;
    let silent = [
        ("nothing at all", Vec::new()),
        ("eleven bytes", query("a.test")[..11].to_vec()),
        ("a response", response.clone()),
        ("a response that cannot be read", response[..12].to_vec()),
        ("dropped by a plugin", query("drop.test")),
        ("dropped by a plugin, later", query("drop-later.test")),
    ];
    let good = with_id(query("a.test"), 7);
    for (fault, message) in silent {
        // The first reply is that to the valid query after it.
        let socket = udp(serving.at).await;
        socket.send(&message).await.unwrap();
        socket.send(&good).await.unwrap();
        let reply = receive(&socket).await;
        assert_eq!(Header::read(&reply).unwrap().id, 7, "{fault} over UDP");

        let mut stream = TcpStream::connect(serving.at).await.unwrap();
        send(&mut stream, &message).await;
        send(&mut stream, &good).await;
        let reply = next(&mut stream).await.unwrap();
        assert_eq!(Header::read(&reply).unwrap().id, 7, "{fault} over TCP");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_and_modified_queries_do_not_stop_the_server() {
    let serving = serve();
    let whole = with_edns(query("a.test"), 1232, 0, true);
    let socket = udp(serving.at).await;
    let mut stream = TcpStream::connect(serving.at).await.unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0xFF;
        for message in [&whole[..at], &changed] {
            socket.send(message).await.unwrap();
            send(&mut stream, message).await;
        }
        // Replies are discarded here; other tests check them.
        while let Ok(reply) = timeout(std::time::Duration::ZERO, next(&mut stream)).await {
            assert!(reply.is_some());
        }
    }
    assert_eq!(serving.metric("coredns_panics_total"), "0");
    assert_eq!(rcode(&ask_udp(serving.at, &whole).await), Rcode::NOERROR);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_query_gets_the_same_reply_on_each_transport() {
    let serving = serve();
    let mut notify = query("a.test");
    notify[2] |= 4 << 3;
    let mut chaos = query_for("version.bind", Type::TXT);
    *chaos.last_mut().unwrap() = 3;
    for (what, message, code) in [
        ("another opcode", notify, Rcode::NOTIMP),
        ("another class", chaos, Rcode::REFUSED),
        ("another zone", query("a.example"), Rcode::REFUSED),
        (
            "a later EDNS",
            with_edns(query("a.test"), 1232, 1, false),
            Rcode::BADVERS,
        ),
        ("no plugin's name", query("nobody.test"), Rcode::SERVFAIL),
    ] {
        let udp = ask_udp(serving.at, &message).await;
        assert_eq!(rcode(&udp), code, "{what}");
        let tcp = ask_tcp(serving.at, &message).await;
        assert_eq!(describe(&udp), describe(&tcp), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notify_reply_has_its_opcode_and_question() {
    let serving = serve();
    let mut notify = query("A.Test");
    notify[2] |= 4 << 3;
    let reply = ask_udp(serving.at, &notify).await;
    assert_eq!(reply[2] >> 3 & 0x0F, 4);
    assert_eq!(reply[12..], notify[12..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn notify_reaches_the_plugin_with_the_zone() {
    let serving = serve();
    for (name, code) in [
        ("copied.test", Rcode::NOERROR),
        ("guarded.test", Rcode::REFUSED),
        ("a.test", Rcode::NOTIMP),
        ("copied.example", Rcode::NOTIMP),
    ] {
        let mut notify = query_for(name, Type::SOA);
        notify[2] |= 4 << 3;
        // With the new SOA record, and without (RFC 1996 section 3.7).
        let mut telling = notify.clone();
        telling[7] = 1;
        telling.extend(b"\xC0\x0C\0\x06\0\x01\0\0\0\x01\0\x16\0\0\0\0\0\x01");
        telling.extend([0; 16]);
        for message in [notify, telling] {
            let udp = ask_udp(serving.at, &message).await;
            let header = Header::read(&udp).unwrap();
            assert_eq!((rcode(&udp), header.opcode().0), (code, 4), "{name}");
            assert_eq!(header.has(Header::AUTHORITATIVE), code == Rcode::NOERROR);
            let tcp = ask_tcp(serving.at, &message).await;
            assert_eq!(describe(&udp), describe(&tcp), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unsupported_edns_version_is_badvers() {
    let serving = serve();
    let message = with_edns(query("a.test"), 1232, 7, true);
    let reply = ask_udp(serving.at, &message).await;
    let header = Header::read(&reply).unwrap();
    assert_eq!(header.counts, [1, 0, 0, 1]);
    assert!(!header.has(Header::AUTHORITATIVE));
    // Extended code 1, version 0, DO; then the reason (RFC 8914): "Not Supported".
    let opt = &reply[12 + 8 + 4..];
    assert_eq!((opt[0], &opt[5..8]), (0, &[1, 0, 0x80][..]));
    assert_eq!((&opt[11..13], &opt[15..17]), (&[0, 15][..], &[0, 21][..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn header_flags_are_copied_or_cleared() {
    let serving = serve();
    for (asked, answered) in [
        (0x0000_u16, 0x8400_u16),
        (0x0100, 0x8500),                   // RD comes back
        (0x0010, 0x8410),                   // CD comes back
        (0x0600 | 0x0080 | 0x0040, 0x8400), // AA, TC, RA and Z do not
        (0x000F, 0x8400),                   // nor does a code
        (0x0020, 0x8400),                   // AD is not claimed for what is not signed
    ] {
        let mut message = query("a.test");
        message[2..4].copy_from_slice(&asked.to_be_bytes());
        let reply = ask_udp(serving.at, &message).await;
        assert_eq!(Header::read(&reply).unwrap().flags, answered, "{asked:04x}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ad_is_returned_to_clients_that_set_ad_or_do() {
    let serving = serve();
    let plain = query("signed.test");
    let mut understands = plain.clone();
    understands[3] |= 0x20;
    let dnssec = with_edns(plain.clone(), 1232, 0, true);
    for (message, said) in [(plain, false), (understands, true), (dnssec, true)] {
        let reply = ask_udp(serving.at, &message).await;
        assert_eq!(Header::read(&reply).unwrap().has(Header::AUTHENTIC), said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reply_has_an_opt_record_if_the_query_has_one() {
    let serving = serve();
    let plain = ask_udp(serving.at, &query("a.test")).await;
    assert_eq!(Header::read(&plain).unwrap().counts, [1, 1, 0, 0]);
    let message = with_edns(query("a.test"), 1232, 0, false);
    let edns = ask_udp(serving.at, &message).await;
    assert_eq!(Header::read(&edns).unwrap().counts, [1, 1, 0, 1]);
    assert_eq!(edns[edns.len() - 11..][..3], [0, 0, 41]);
    assert_eq!(edns[edns.len() - 6..], [0; 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_over_udp_are_refused() {
    let serving = serve();
    for rtype in [Type::AXFR, Type::IXFR] {
        let message = query_for("a.test", rtype);
        assert_eq!(rcode(&ask_udp(serving.at, &message).await), Rcode::REFUSED);
        assert_eq!(rcode(&ask_tcp(serving.at, &message).await), Rcode::NOERROR);
    }
}
