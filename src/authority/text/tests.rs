//! Zone files to records, and errors with their line.

use super::*;
use crate::{
    authority::AnswerOptions,
    query::Question,
    reply::{Reply, Section},
    wire::Class,
};

const SOA: &str = "@ 60 SOA ns admin 1 2 3 4 5\n";

fn built(text: &[u8]) -> Result<(ZoneBuilder, OutOfZone), String> {
    let (builder, skipped) = built_with(OnInvalid::Reject, text)?;
    assert_eq!(skipped.invalid, InvalidRecords::default());
    Ok((builder, skipped.out_of_zone))
}

fn built_with(on_invalid: OnInvalid, text: &[u8]) -> Result<(ZoneBuilder, SkippedRecords), String> {
    let mut builder = ZoneBuilder::new(Name::parse("example.test").unwrap());
    let mut include = |from: &str, name: &str| match name {
        "deep" => Ok(("deep".to_owned(), b"$INCLUDE deep\n".to_vec())),
        "part" => Ok((
            "part".to_owned(),
            b"x 7 A 192.0.2.7\n$ORIGIN q\ny 7 TXT a\n".to_vec(),
        )),
        "bad" => Ok(("bad".to_owned(), b"\n\nx 7 A none\n".to_vec())),
        _ => Err(format!("not beside {from}")),
    };
    read(&mut builder, "db", text, on_invalid, &mut include)
        .map(|skipped| (builder, skipped))
        .map_err(|error| error.to_string())
}

/// TTL and data of the records of a type at a name.
fn records(text: &str, name: &str, rtype: &str) -> Vec<(u32, Vec<u8>)> {
    let text = format!("{SOA}{text}");
    let (builder, _) = built(text.as_bytes()).unwrap();
    let zone = builder.finish().unwrap();
    let name = Name::parse(name).unwrap();
    let rtype = type_from_text(rtype.as_bytes()).unwrap();
    let mut reply = Reply::default();
    zone.answer(
        &Question::new(name, rtype, Class::IN),
        AnswerOptions::default(),
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
fn every_presentation_format_is_encoded() {
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
        ("HINFO PC", b"\x02PC\0"),
        ("CERT PKIX 0 INDIRECT AQI=", b"\0\x01\0\0\xFC\x01\x02"),
        ("SIG A 5 0 0 1 1 1 . AQI=", b"\0\x01\x05\0\0\0\0\0\0\0\0\x01\0\0\0\x01\0\x01\0\x01\x02"),
        ("NSAP-PTR a.", b"\x01a\0"),
        ("GPOS -32.6 116.8 10.0", b"\x05-32.6\x05116.8\x0410.0"),
        // The first is an example of RFC 1876 section 4; the last has the maximum values.
        ("LOC 42 21 54 N 71 06 18 W -24m 30m", b"\0\x33\x16\x13\x89\x17\x2D\xD0\x70\xBE\x15\xF0\x00\x98\x8D\x20"),
        ("LOC 42 21 43.952 n 71 5 6.344 w -24 1m 200m", b"\0\x12\x24\x13\x89\x17\x06\x90\x70\xBF\x2D\xD8\x00\x98\x8D\x20"),
        ("LOC 0 S 180 E 42849672.95 0.00m 90000000m .05", b"\0\0\x99\x50\x80\0\0\0\xA6\x9F\xB2\x00\xFF\xFF\xFF\xFF"),
        ("NXT a. A", b"\x01a\0\0\x01\x40"),
        ("EID aa bb", b"\xAA\xBB"),
        ("NIMLOC aabb", b"\xAA\xBB"),
        ("APL 1:192.0.2.0/24 !2:2001:db8::/32 1:0.0.0.0/0", b"\0\x01\x18\x03\xC0\0\x02\0\x02\x20\x84\x20\x01\x0D\xB8\0\x01\0\0"),
        ("APL", b""),
        ("IPSECKEY 10 0 2 . AQI=", b"\x0A\0\x02\x01\x02"),
        ("IPSECKEY 10 1 2 192.0.2.1 AQI=", b"\x0A\x01\x02\xC0\0\x02\x01\x01\x02"),
        ("IPSECKEY 10 3 2 gw. AQI=", b"\x0A\x03\x02\x02gw\0\x01\x02"),
        ("HIP 2 200100 AQI= rvs.", b"\x03\x02\0\x02\x20\x01\0\x01\x02\x03rvs\0"),
        ("HIP 2 20 AQI=", b"\x01\x02\0\x02\x20\x01\x02"),
        ("RKEY 0 1 5 AQI=", b"\0\0\x01\x05\x01\x02"),
        ("TALINK . a.", b"\0\x01a\0"),
        ("UINFO me", b"\x02me"),
        ("UID 1000", b"\0\0\x03\xE8"),
        ("GID 1000", b"\0\0\x03\xE8"),
        ("NID 10 0014:4fff:ff20:ee64", b"\0\x0A\0\x14\x4F\xFF\xFF\x20\xEE\x64"),
        ("L32 10 192.0.2.0", b"\0\x0A\xC0\0\x02\0"),
        ("L64 10 2001:0DB8:1140:1000", b"\0\x0A\x20\x01\x0D\xB8\x11\x40\x10\0"),
        ("EUI48 00-00-5e-00-53-2a", b"\0\0\x5E\0\x53\x2A"),
        ("EUI64 00-00-5E-ef-10-00-00-2a", b"\0\0\x5E\xEF\x10\0\0\x2A"),
        ("AMTRELAY 10 1 3 relay.", b"\x0A\x83\x05relay\0"),
        ("AMTRELAY 10 0 0 .", b"\x0A\0"),
        ("RESINFO qnamemin exterr=15-17", b"\x08qnamemin\x0Cexterr=15-17"),
        ("TA 1 8 2 AA", b"\0\x01\x08\x02\xAA"),
        (r"TYPE65280 \# 3 0a0B 0c", b"\x0A\x0B\x0C"),
        (r"TYPE65281 \# 0", b""),
        (r"A \# 4 01020304", b"\x01\x02\x03\x04"),
        ("TYPE1 192.0.2.1", b"\xC0\x00\x02\x01"),
    ] {
        let rtype = line.split(' ').next().unwrap();
        assert_eq!(data(line, rtype), wanted, "{line}");
    }
    // A long string is split into character-strings of 255 bytes; an escape counts as one byte.
    let long = data(
        &format!(r#"TXT "{}\065{}""#, "x".repeat(254), "y".repeat(105)),
        "TXT",
    );
    let wanted = [b"\xFF", &[b'x'; 254][..], b"A\x69", &[b'y'; 105]].concat();
    assert_eq!(long, wanted);
    // A name, read from a CNAME record.
    assert_eq!(data("CNAME WWW", "CNAME"), b"\x03WWW\x07example\x04test\0");
    let signature = data(
        "RRSIG A 13 3 1h 20300101000000 20200101000000 9 @ AQI=",
        "RRSIG",
    );
    assert_eq!(signature[..8], *b"\0\x01\x0D\x03\0\0\x0E\x10");
    assert!(signature.ends_with(b"\0\x09\x07example\x04test\0\x01\x02"));
}

#[test]
fn owner_origin_and_ttl_apply_to_following_lines() {
    let text = "a A 192.0.2.1\n 90 IN A 192.0.2.2\n\tIN 91 TXT a\nb A 192.0.2.3\n\
                $TTL 1h\nc A 192.0.2.4\n$ORIGIN sub\nd A 192.0.2.5\n$ORIGIN example.test.\n\
                e A 192.0.2.6\n";
    let ttl = |name: &str, rtype| records(text, &format!("{name}.example.test"), rtype)[0].0;
    assert_eq!(records(text, "a.example.test", "A").len(), 2);
    // All records of a set have the same TTL, the minimum.
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
fn included_files_are_parsed() {
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
    assert!(error("$INCLUDE deep\n").contains("more than 8 levels"));
}

#[test]
fn generate_expands_to_many_records() {
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
fn errors_have_file_line_and_message() {
    for (text, wanted) in [
        ("\na 1 IN Q 1\n", "db:3: 'Q' is not a record type"),
        ("a 1 IN\n", "db:2: expected a record type"),
        (
            "a 1 CH TXT x\n",
            "db:2: class 'CH': only records of class IN are served",
        ),
        ("a 1 A 192.0.2\n", "db:2: '192.0.2' is not an IPv4 address"),
        (
            "a 1 A 192.0.2.1 x\n",
            "db:2: unexpected 'x' after the fields of A",
        ),
        ("a 1 MX 10\n", "db:2: MX has 2 fields, found 1"),
        ("a 1 MX ten m\n", "db:2: 'ten' is not a 16-bit number"),
        (
            "a..b 1 A 192.0.2.1\n",
            "db:2: 'a..b' is not a name: a name has no empty label but its last",
        ),
        ("a 1 TXT \"x\n", "db:2: unterminated quote"),
        ("a 1 TXT ( x\n\n", "db:2: unterminated '('"),
        ("a 1 TXT\n", "db:2: expected at least one string"),
        (
            "a 1 DS 1 13 2 abc\n",
            "db:2: expected hexadecimal digits, two per byte",
        ),
        (
            "a 1 TYPE999 x\n",
            r"db:2: unknown record type TYPE999: write its data as '\# LENGTH HEX' (RFC 3597)",
        ),
        (
            "a 1 TYPE999 \\# 3 00\n",
            "db:2: expected 3 bytes of data, found 1",
        ),
        ("a 1 A \\# 3 000000\n", "db:2: malformed data for this type"),
        (
            "a 4294967295 A 192.0.2.1\n",
            "db:2: a TTL is at most 2147483647 seconds",
        ),
        (
            "a 1 NSEC3 1 0 0 - 00 A\n",
            "db:2: zones signed with NSEC3 are not supported: sign with NSEC",
        ),
        (
            "a 1 NSEC3PARAM \\# 5 0100000000\n",
            "db:2: zones signed with NSEC3 are not supported: sign with NSEC",
        ),
        (
            "a 1 TYPE255 \\# 0\n",
            "db:2: zones cannot contain records of this type",
        ),
        (
            "@ 60 SOA ns admin 2 2 3 4 5\n",
            "db:2: second SOA record in the zone",
        ),
        (
            "a 60 SOA ns admin 1 2 3 4 5\n",
            "db:2: SOA record below the apex of the zone",
        ),
        ("$TTL\n", "db:2: expected one argument after '$TTL'"),
        (
            "$NOPE 1\n",
            "db:2: unknown directive '$NOPE': expected $ORIGIN, $TTL, $INCLUDE or $GENERATE",
        ),
        (
            "a 1 LOC 91 N 0 E 0\n",
            "db:2: expected degrees up to 90, minutes, seconds, then N or S",
        ),
        (
            "a 1 LOC 90 0 0.001 N 0 E 0\n",
            "db:2: expected degrees up to 90, minutes, seconds, then N or S",
        ),
        (
            "a 1 LOC 1 60 N 0 E 0\n",
            "db:2: expected degrees up to 90, minutes, seconds, then N or S",
        ),
        (
            "a 1 LOC 1 N 1.5 E 0\n",
            "db:2: expected degrees up to 180, minutes, seconds, then E or W",
        ),
        (
            "a 1 LOC 1 N 1 2 3 4 E 0\n",
            "db:2: expected degrees up to 180, minutes, seconds, then E or W",
        ),
        ("a 1 LOC 1 N 1 E\n", "db:2: expected an altitude in metres"),
        (
            "a 1 LOC 1 N 1 E 0 100000000m\n",
            "db:2: '100000000m' is not a number of metres up to 90000000",
        ),
        (
            "a 1 LOC 1 N 1 E 92233720368547758.07\n",
            "db:2: expected an altitude from -100000 to 42849672.95 metres",
        ),
        (
            "a 1 LOC 1 N 1 E 0 1 1 1 1\n",
            "db:2: unexpected '1' after the fields of LOC",
        ),
        (
            "a 1 APL 1:192.0.2.1/24\n",
            "db:2: '1:192.0.2.1/24' has host bits set",
        ),
        (
            "a 1 IPSECKEY 1 1 2 gw.\n",
            "db:2: 'gw.' is not an IPv4 address",
        ),
        ("a 1 IPSECKEY 1 1\n", "db:2: IPSECKEY has 5 fields, found 2"),
        (
            "a 1 AMTRELAY 1 2 0 .\n",
            "db:2: expected a discovery bit of 0 or 1 and a relay type of 0 to 3",
        ),
        (
            "a 1 EUI48 00-00-5e\n",
            "db:2: '00-00-5e' is not 6 bytes in hexadecimal separated by '-'",
        ),
        (
            "a 1 HTTPS 1 . port=x\n",
            "db:2: the parameter 'port=x': 'x' is not a 16-bit number",
        ),
        (
            "a 1 HTTPS 1 . port=1 port=2\n",
            "db:2: 'port=2' is duplicated",
        ),
    ] {
        assert_eq!(error(text), wanted);
    }
    let longest = format!("a 1 HINFO {} b\n", "x".repeat(256));
    assert!(error(&longest).contains("split it into several"));
    assert_eq!(
        built(b" 1 A 192.0.2.1").err().unwrap(),
        "db:1: no owner name, and no previous record"
    );
    assert_eq!(
        built(b"a A 192.0.2.1").err().unwrap(),
        "db:1: no TTL: neither explicit nor by $TTL"
    );
}

#[test]
fn what_lies_outside_of_the_zone_is_counted_and_left_out() {
    let text = format!("{SOA}a.other.test. 1 A 192.0.2.1\nb.other.test. 1 A 192.0.2.1\n");
    let (builder, outside) = built(text.as_bytes()).unwrap();
    let first = Some(("db".to_owned(), 2));
    assert_eq!(outside, OutOfZone { count: 2, first });
    assert_eq!(builder.finish().unwrap().records(), 1);
}

#[test]
fn no_input_panics() {
    let text = "\u{FEFF}$ORIGIN a\n@ 1h IN SOA ( a b 1 2 ; c\n 3 4 5 )\n\
                x TXT \"\\000\\\"\" $a ${ \n$GENERATE 1-3/2 a${1,2,x} A 192.0.2.$\n\
                h HTTPS 1 . alpn=\"a,\\b\" mandatory=alpn key9=1\n\
                r RRSIG A 13 1 1 20300101000000 1 1 . AAAA\nn NSEC . A TYPE65535\n";
    let text = text.as_bytes();
    for end in 0..text.len() {
        _ = built(&text[..end]);
    }
    // Replaces every byte with each byte that has a meaning.
    for at in 0..text.len() {
        for byte in *b"\0\n ()\";\\$@.=,-9\xFF" {
            let mut changed = text.to_vec();
            changed[at] = byte;
            if let Ok((builder, _)) = built(&changed) {
                _ = builder.finish();
            }
        }
    }
}

#[test]
fn invalid_records_are_skipped_if_configured() {
    let lenient = |text: &str| {
        let text = format!("{SOA}{text}");
        built_with(OnInvalid::Skip, text.as_bytes()).map(|(builder, skipped)| {
            let InvalidRecords { count, first } = skipped.invalid;
            let first = first.map(|error| error.to_string());
            (
                builder.finish().unwrap().records(),
                count,
                first.unwrap_or_default(),
            )
        })
    };
    let good = "z 1 A 192.0.2.9\n";
    for (bad, records, count, first) in [
        ("", 2, 0, ""),
        (
            "a 1 A 192.0.2\n",
            2,
            1,
            "db:2: '192.0.2' is not an IPv4 address",
        ),
        (
            "a 1 NOPE x\nb 1 A x\n",
            2,
            2,
            "db:2: 'NOPE' is not a record type",
        ),
        // Following records without an owner must not get another one.
        (
            "b 1 A 192.0.2.1\na..b 1 A 192.0.2.1\n 1 TXT x\n",
            3,
            2,
            "db:3: 'a..b' is not a name",
        ),
        // A TTL applies to the following records.
        ("a 7 A x\nb A 192.0.2.1\n", 3, 1, "db:2: 'x'"),
        (
            "$GENERATE 1-2 ${-1}.x 1 A 192.0.2.x\n",
            2,
            1,
            "db:2: '192.0.2.x'",
        ),
        (
            "$INCLUDE bad\n",
            2,
            1,
            "bad:3: 'none' is not an IPv4 address",
        ),
        (
            "@ 1 SOA ns admin 9 2 3 4 5\n",
            2,
            1,
            "db:2: second SOA record in the zone",
        ),
    ] {
        let (kept, skipped, why) = lenient(&format!("{bad}{good}")).unwrap();
        assert_eq!((kept, skipped), (records, count), "{bad}");
        assert!(why.starts_with(first), "{bad}: {why}");
    }
    for bad in [
        "$ORIGIN a..b\n",
        "$TTL x\n",
        "$INCLUDE no\n",
        "a 1 TXT \"x\n",
        "a 1 TXT ( x\n",
        "a 1 NSEC3 1 0 0 - 00 A\n",
        // A truncated file.
        "a 1 A 192.0.2",
    ] {
        assert!(lenient(bad).is_err(), "{bad}");
    }
    assert_eq!(lenient("a 1 A 192.0.2.1").unwrap().0, 2);
    let (builder, _) = built_with(OnInvalid::Skip, b"@ 60 SOA ns admin 1 2 3 4\n").unwrap();
    assert!(builder.finish().is_err(), "a zone without its SOA record");
}
