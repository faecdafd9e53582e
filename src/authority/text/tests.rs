//! Zone files in, records out as text; and what is wrong with them, with its place.

use super::*;
use crate::{
    authority::Want,
    query::Question,
    reply::{Reply, Section},
    wire::Class,
};

const SOA: &str = "@ 60 SOA ns admin 1 2 3 4 5\n";

fn built(text: &[u8]) -> Result<(Builder, Outside), String> {
    let mut builder = Builder::new(Name::parse("example.test").unwrap());
    let mut include = |from: &str, name: &str| match name {
        "deep" => Ok(("deep".to_owned(), b"$INCLUDE deep\n".to_vec())),
        "part" => Ok((
            "part".to_owned(),
            b"x 7 A 192.0.2.7\n$ORIGIN q\ny 7 TXT a\n".to_vec(),
        )),
        "bad" => Ok(("bad".to_owned(), b"\n\nx 7 A none\n".to_vec())),
        _ => Err(format!("not beside {from}")),
    };
    let outside = read(&mut builder, "db", text, &mut include);
    outside
        .map(|outside| (builder, outside))
        .map_err(|error| error.to_string())
}

/// The TTL and the data of the records of a type at a name.
fn records(text: &str, name: &str, rtype: &str) -> Vec<(u32, Vec<u8>)> {
    let text = format!("{SOA}{text}");
    let (builder, _) = built(text.as_bytes()).unwrap();
    let zone = builder.finish().unwrap();
    let name = Name::parse(name).unwrap();
    let rtype = named(rtype.as_bytes()).unwrap();
    let mut reply = Reply::default();
    zone.answer(
        &Question::new(name, rtype, Class::IN),
        Want::default(),
        &mut reply,
    );
    let answers = reply.section(Section::Answer).iter();
    let answers = answers.filter(|record| record.rtype == rtype);
    answers
        .map(|record| (record.ttl, reply.data(record).to_vec()))
        .collect()
}

fn data(line: &str, rtype: &str) -> Vec<u8> {
    let mut found = records(&format!("x 1 {line}\n"), "x.example.test", rtype);
    assert_eq!(found.len(), 1, "{line}");
    found.remove(0).1
}

fn error(text: &str) -> String {
    built(format!("{SOA}{text}").as_bytes()).err().unwrap()
}

#[test]
fn data_of_every_form_become_octets() {
    for (line, wanted) in [
        ("A 192.0.2.1", &b"\xC0\x00\x02\x01"[..]),
        ("AAAA ::1", b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01"),
        ("MX 10 mail", b"\0\x0A\x04mail\x07example\x04test\0"),
        ("SRV 1 2 3 .", b"\0\x01\0\x02\0\x03\0"),
        (r#"TXT "a b" \065\200 "" "\"""#, b"\x03a b\x02A\xC8\0\x01\""),
        ("TXT @", b"\x01@"),
        ("HINFO a b", b"\x01a\x01b"),
        ("RP a. .", b"\x01a\0\0"),
        (r#"CAA 0 issue "ca.test;x=y""#, b"\0\x05issueca.test;x=y"),
        ("NAPTR 1 2 s a \"\" b.", b"\0\x01\0\x02\x01s\x01a\0\x01b\0"),
        ("DS 1 ECDSAP256SHA256 2 ( AA bb\n cC )", b"\0\x01\x0D\x02\xAA\xBB\xCC"),
        ("DNSKEY 257 3 13 AQI= ", b"\x01\x01\x03\x0D\x01\x02"),
        ("TLSA 3 1 1 00ff", b"\x03\x01\x01\0\xFF"),
        ("SSHFP 4 2 00ff", b"\x04\x02\0\xFF"),
        ("URI 1 2 \"ftp://a\"", b"\0\x01\0\x02ftp://a"),
        ("NSEC a. A TYPE1234 NSEC", b"\x01a\0\0\x06\x40\0\0\0\0\x01\x04\x1B\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x20"),
        (
            "HTTPS 1 . port=443 alpn=\"h2,h3\" ipv4hint=192.0.2.1,192.0.2.2 key65000=a",
            b"\0\x01\0\0\x01\0\x06\x02h2\x02h3\0\x03\0\x02\x01\xBB\0\x04\0\x08\xC0\0\x02\x01\xC0\0\x02\x02\xFD\xE8\0\x01a",
        ),
        ("SVCB 0 a.", b"\0\0\x01a\0"),
        ("SVCB 1 . mandatory=port,alpn no-default-alpn alpn=a port=1", b"\0\x01\0\0\0\0\x04\0\x01\0\x03\0\x01\0\x02\x01a\0\x02\0\0\0\x03\0\x02\0\x01"),
        (r"TYPE65280 \# 3 0a0B 0c", b"\x0A\x0B\x0C"),
        (r"TYPE65281 \# 0", b""),
        (r"A \# 4 01020304", b"\x01\x02\x03\x04"),
        ("TYPE1 192.0.2.1", b"\xC0\x00\x02\x01"),
    ] {
        let rtype = line.split(' ').next().unwrap();
        assert_eq!(data(line, rtype), wanted, "{line}");
    }
    // As a name, since it is an alias.
    assert_eq!(data("CNAME WWW", "CNAME"), b"\x03WWW\x07example\x04test\0");
    let signature = data(
        "RRSIG A 13 3 1h 20300101000000 20200101000000 9 @ AQI=",
        "RRSIG",
    );
    assert_eq!(signature[..8], *b"\0\x01\x0D\x03\0\0\x0E\x10");
    assert!(signature.ends_with(b"\0\x09\x07example\x04test\0\x01\x02"));
}

#[test]
fn owners_origins_and_ttls_are_kept_from_line_to_line() {
    let text = "a A 192.0.2.1\n 90 IN A 192.0.2.2\n\tIN 91 TXT a\nb A 192.0.2.3\n\
                $TTL 1h\nc A 192.0.2.4\n$ORIGIN sub\nd A 192.0.2.5\n$ORIGIN example.test.\n\
                e A 192.0.2.6\n";
    let ttl = |name: &str, rtype| records(text, &format!("{name}.example.test"), rtype)[0].0;
    assert_eq!(records(text, "a.example.test", "A").len(), 2);
    // All records of a set have one TTL, the least.
    assert_eq!(
        (ttl("a", "A"), ttl("a", "TXT"), ttl("b", "A")),
        (60, 91, 91)
    );
    assert_eq!(
        (ttl("c", "A"), ttl("d.sub", "A"), ttl("e", "A")),
        (3600, 3600, 3600)
    );
    let (builder, _) = built(b"@ SOA ns admin 1 2 3 4 5\na A 192.0.2.1").unwrap();
    assert!(
        builder.finish().is_ok(),
        "the SOA record's minimum is a TTL too"
    );
}

#[test]
fn files_hold_files() {
    let text = "$INCLUDE part\n  TXT mine\n$INCLUDE \"part\" sub ; below\nz 1 A 192.0.2.9\n";
    let text = &format!("w 1 A 192.0.2.1\n{text}");
    assert_eq!(records(text, "x.example.test", "A").len(), 1);
    assert_eq!(records(text, "y.q.example.test", "TXT").len(), 1);
    assert_eq!(records(text, "x.sub.example.test", "A").len(), 1);
    assert_eq!(records(text, "w.example.test", "TXT").len(), 1);
    assert_eq!(
        records(text, "z.example.test", "A").len(),
        1,
        "the origin is as before"
    );
    assert_eq!(
        error("$INCLUDE bad\n"),
        "bad:3: 'none' is not an IPv4 address"
    );
    assert_eq!(
        error("\n$INCLUDE no\n"),
        "db:3: cannot include no: not beside db"
    );
    assert!(error("$INCLUDE deep\n").contains("more than 8 files"));
}

#[test]
fn a_line_stands_for_many() {
    let text = "$GENERATE 1-5/2 host-$ 5 A 192.0.2.$\n\
                $GENERATE 10-11 ${-8,3,x}.h TXT \"n $ \\$\"\n";
    assert_eq!(
        records(text, "host-3.example.test", "A"),
        [(5, vec![192, 0, 2, 3])]
    );
    assert_eq!(records(text, "host-2.example.test", "A"), []);
    assert_eq!(
        records(text, "003.h.example.test", "TXT")[0].1,
        b"\x06n 11 $"
    );
    for text in [
        "$GENERATE 1-2\n",
        "$GENERATE 2-1 a A 192.0.2.1\n",
        "$GENERATE 1-2/0 a A 192.0.2.1\n",
        "$GENERATE 0-65536 a$ A 192.0.2.1\n",
        "$GENERATE 1-2 ${1 A 192.0.2.1\n",
        "$GENERATE 1-2 ${-9} A 192.0.2.1\n",
        "$GENERATE 1-2 $GENERATE 1-2 a A 192.0.2.1\n",
    ] {
        assert!(error(text).starts_with("db:2: "), "{text}");
    }
}

#[test]
fn errors_tell_file_line_and_what_is_wrong() {
    for (text, wanted) in [
        ("\na 1 IN Q 1\n", "db:3: 'Q' is no record type"),
        ("a 1 IN\n", "db:2: a record type is expected"),
        (
            "a 1 CH TXT x\n",
            "db:2: class 'CH': only records of class IN are served",
        ),
        ("a 1 A 192.0.2\n", "db:2: '192.0.2' is not an IPv4 address"),
        ("a 1 A 192.0.2.1 x\n", "db:2: A ends before 'x'"),
        ("a 1 MX 10\n", "db:2: MX has 2 fields, not 1"),
        (
            "a 1 MX ten m\n",
            "db:2: 'ten' is no whole number of 16 bits",
        ),
        (
            "a..b 1 A 192.0.2.1\n",
            "db:2: 'a..b' is no name: a name has no empty label but its last",
        ),
        ("a 1 TXT \"x\n", "db:2: a quote is never closed"),
        ("a 1 TXT ( x\n\n", "db:2: a parenthesis is never closed"),
        ("a 1 TXT\n", "db:2: one text at least is expected"),
        (
            "a 1 DS 1 13 2 abc\n",
            "db:2: hexadecimal digits are expected, two an octet",
        ),
        (
            "a 1 TYPE999 x\n",
            r"db:2: TYPE999 records are not known here: write its data as '\# LENGTH HEX' (RFC 3597)",
        ),
        (
            "a 1 TYPE999 \\# 3 00\n",
            "db:2: the length says 3 octets, there are 1",
        ),
        (
            "a 1 A \\# 3 000000\n",
            "db:2: the data are not what records of this type hold",
        ),
        (
            "a 4294967295 A 192.0.2.1\n",
            "db:2: a TTL has at most 2147483647 seconds",
        ),
        (
            "a 1 NSEC3 1 0 0 - 00 A\n",
            "db:2: zones signed with NSEC3 are not served: sign with NSEC",
        ),
        (
            "a 1 NSEC3PARAM \\# 5 0100000000\n",
            "db:2: zones signed with NSEC3 are not served: sign with NSEC",
        ),
        ("a 1 TYPE255 \\# 0\n", "db:2: a type that no zone holds"),
        (
            "@ 60 SOA ns admin 2 2 3 4 5\n",
            "db:2: a zone has one SOA record",
        ),
        (
            "a 60 SOA ns admin 1 2 3 4 5\n",
            "db:2: an SOA record stands at the top of its zone only",
        ),
        ("$TTL\n", "db:2: '$TTL' is followed by one word"),
        (
            "$NOPE 1\n",
            "db:2: '$NOPE' is none of $ORIGIN, $TTL, $INCLUDE and $GENERATE",
        ),
        (
            "a 1 HTTPS 1 . port=x\n",
            "db:2: the parameter 'port=x': 'x' is no whole number of 16 bits",
        ),
        (
            "a 1 HTTPS 1 . port=1 port=2\n",
            "db:2: 'port=2' is said twice",
        ),
    ] {
        assert_eq!(error(text), wanted);
    }
    let longest = format!("a 1 TXT {}\n", "x".repeat(256));
    assert!(error(&longest).contains("split it into several"));
    assert_eq!(
        built(b" 1 A 192.0.2.1").err().unwrap(),
        "db:1: there is no record before it whose name it could have"
    );
    assert_eq!(
        built(b"a A 192.0.2.1").err().unwrap(),
        "db:1: no TTL is said, neither here nor by $TTL"
    );
}

#[test]
fn what_lies_outside_of_the_zone_is_counted_and_left_out() {
    let text = format!("{SOA}a.other.test. 1 A 192.0.2.1\nb.other.test. 1 A 192.0.2.1\n");
    let (builder, outside) = built(text.as_bytes()).unwrap();
    let first = Some(("db".to_owned(), 2));
    assert_eq!(outside, Outside { count: 2, first });
    assert_eq!(builder.finish().unwrap().records(), 1);
}

#[test]
fn no_text_makes_it_panic() {
    let text = "\u{FEFF}$ORIGIN a\n@ 1h IN SOA ( a b 1 2 ; c\n 3 4 5 )\n\
                x TXT \"\\000\\\"\" $a ${ \n$GENERATE 1-3/2 a${1,2,x} A 192.0.2.$\n\
                h HTTPS 1 . alpn=\"a,\\b\" mandatory=alpn key9=1\n\
                r RRSIG A 13 1 1 20300101000000 1 1 . AAAA\nn NSEC . A TYPE65535\n";
    let text = text.as_bytes();
    for end in 0..text.len() {
        _ = built(&text[..end]);
    }
    // Every octet changed into those that mean something.
    for at in 0..text.len() {
        for octet in *b"\0\n ()\";\\$@.=,-9\xFF" {
            let mut changed = text.to_vec();
            changed[at] = octet;
            if let Ok((builder, _)) = built(&changed) {
                _ = builder.finish();
            }
        }
    }
}
