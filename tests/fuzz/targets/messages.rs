//! Names, EDNS options, PROXY headers, and replies of upstreams.

use lodestone::{
    edns::{self, Options},
    message::{Writer, read_query, read_reply, write_query},
    query::{Edns, Query, Question, Request, Transport},
    reply::{Owner, Packed, Reply, Section, Why},
    server::proxy::{MAX_HEADER, Start},
    upstream::Packet,
    wire::{Class, HEADER_LENGTH, Header, MAX_MESSAGE, Name, NameRef, Rcode, Type},
};

/// Names in wire format at every offset of a message, and as text.
pub fn names(bytes: &[u8]) {
    for at in 0..bytes.len().min(64) {
        let Ok((name, behind)) = Name::read(bytes, at) else {
            continue;
        };
        assert!(behind > at && behind <= bytes.len());
        check_name(&name);
        if let Ok(plain) = NameRef::from_wire(&bytes[at..]) {
            assert_eq!(plain.to_name(), name);
        }
    }
    if let Ok(name) = Name::parse(&String::from_utf8_lossy(bytes)) {
        check_name(&name);
    }
}

fn check_name(name: &Name) {
    assert!(name.as_wire().len() <= 255);
    assert!(
        name.as_ref()
            .labels()
            .all(|it| (1..=63).contains(&it.len()))
    );
    assert_eq!(Name::from_wire(name.as_wire()).as_ref(), Ok(name));
    assert_eq!(Name::parse(&name.to_string()).as_ref(), Ok(name), "{name}");
    let lower = name.to_lower();
    assert!(lower.as_ref().eq_ignore_case(name.as_ref()));
    assert!(name.as_ref().is_under(lower.as_ref()));
}

/// Options of a query. What is kept of them is bounded, and is written and read again as the same.
pub fn edns(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(MAX_MESSAGE / 2)];
    assert!(edns::walk(bytes).count() <= bytes.len() / 4 + 1);
    let question = question("www.example.org");
    let mut message = write_query(7, &question, true, false, false, None, &Options::default());
    message[11] = 1;
    message.extend([0, 0, 41, 0x10, 0, 0, 0, 0x80, 0]);
    message.extend(u16::try_from(bytes.len()).expect("cut").to_be_bytes());
    message.extend(bytes);
    let header = Header::read(&message).expect("a header");
    let Ok(read) = read_query(&message, &header) else {
        return;
    };
    assert!(read.options.as_wire().len() <= Options::MAX);
    let edns = read.edns.expect("it has an OPT record");
    assert_eq!((edns.udp_payload, edns.dnssec_ok), (4096, true));
    let again = write_query(7, &question, true, false, false, read.edns, &read.options);
    let header = Header::read(&again).expect("a header");
    let again = read_query(&again, &header).expect("it was written here");
    assert_eq!(again.options, read.options);
    for (code, _) in read.options.iter() {
        let mut options = read.options.clone();
        options.replace(code, bytes);
        assert!(options.as_wire().len() <= Options::MAX);
        options.remove(code);
        assert_eq!(options.get(code), None);
    }
}

/// The first bytes of a connection or a datagram.
pub fn proxy(bytes: &[u8]) {
    match Start::read(bytes) {
        Ok(Start::Header(header)) => {
            assert!(header.length <= bytes.len().min(MAX_HEADER));
            let shorter = Start::read(&bytes[..header.length - 1]);
            assert_eq!(shorter, Ok(Start::Unfinished));
        }
        // No more than a header's bound is collected.
        Ok(Start::Unfinished) => assert!(bytes.len() < MAX_HEADER),
        Ok(Start::Bare) | Err(_) => {}
    }
}

/// A message where the reply to `www.example.org A` is expected.
pub fn reply(bytes: &[u8]) {
    let mut asked = Query::internal(question("www.example.org"));
    asked.edns = Some(Edns::OURS);
    let packet = Packet::of(&asked);
    if let Some(header) = Header::read(bytes)
        && let Some(accepted) = packet.read(bytes, &header)
        && header.counts[0] > 0
    {
        assert_eq!(accepted.why, Why::Upstream);
        let mut again = Reply::default();
        let other = read_reply(bytes, &mut again).expect("it was accepted");
        assert!(
            other.same_as(&asked.question),
            "the reply to {}",
            other.name
        );
    }
    let mut reply = Reply::default();
    let Ok(question) = read_reply(bytes, &mut reply) else {
        return;
    };
    // The largest expansion: two names of 255 bytes from two pointers, and an owner from a third.
    assert!(
        reply.weight() <= 64 * bytes.len() + 4096,
        "{}",
        reply.weight()
    );
    let shown = records(&question, &reply);
    for record in reply.records().take(20) {
        let data = reply.data(record);
        let text =
            lodestone::authority::presentation::presentation(record.rtype, data, 0..data.len(), 0);
        // Each bit of a type bitmap is a word such as TYPE24833.
        assert!(text.len() <= 96 * data.len() + 64, "{text}");
    }
    let mut unpacked = Reply::default();
    Packed::new(&reply, b"key").unpack(0, Why::Cached, &mut unpacked);
    assert_eq!(records(&question, &unpacked).len(), shown.len());

    let query = Query::new(Request {
        transport: Transport::Tcp,
        ..Request::internal(question)
    });
    let mut out = Vec::new();
    Writer::default().write(&query, &reply, &mut out);
    assert!(out.len() <= MAX_MESSAGE);
    let mut again = Reply::default();
    let same = read_reply(&out, &mut again).expect("it was written here");
    assert_eq!(same, question);
    let is_cut = Header::read(&out).is_some_and(|it| it.has(Header::TRUNCATED));
    if !is_cut && reply.rcode.0 < 16 && out.len() < MAX_MESSAGE / 2 {
        assert_eq!(records(&question, &again), shown);
        assert_eq!(again.rcode, reply.rcode);
    }
    let query = Query::new(Request {
        transport: Transport::Udp,
        ..Request::internal(question)
    });
    Writer::default().write(&query, &reply, &mut out);
    assert!(out.len() <= 512.max(HEADER_LENGTH + question.name.as_wire().len() + 4));
    let _: Rcode = reply.rcode;
}

fn question(name: &str) -> Question {
    Question::new(Name::parse(name).expect("a name"), Type::A, Class::IN)
}

type Shown = (usize, Vec<u8>, Type, Class, Vec<u8>);

/// The records, with owners in lower case.
fn records(question: &Question, reply: &Reply) -> Vec<Shown> {
    let mut all = Vec::new();
    for section in Section::ALL {
        for record in reply.section(section) {
            let owner = match reply.owner(record) {
                Owner::Question => question.lower,
                Owner::Name(name) => name.to_name().to_lower(),
            };
            let data = reply.data(record).to_vec();
            let owner = owner.as_wire().to_vec();
            all.push((section as usize, owner, record.rtype, record.class, data));
        }
    }
    all
}
