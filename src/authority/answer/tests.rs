//! Queries to a zone; each response as text, one record per line.

use super::*;
use crate::{
    authority::{ZoneBuilder, text},
    wire::Class,
};

const ZONE: &str = r"
$TTL 300
@       SOA ns1 admin 7 3600 600 86400 60
        NS  ns1
        NS  ns.other.test.
        MX  10 mail
        MX  20 Mail
        TXT one two
ns1     A   192.0.2.1
mail    A   192.0.2.2
        AAAA 2001:db8::2
www     CNAME web
web     A   192.0.2.3
out     CNAME host.other.test.
far     CNAME nothing.here
loop    CNAME loop2
loop2   CNAME loop
a.b.c   A   192.0.2.4
*.wild  A   192.0.2.5
        TXT wild
x.y.wild A  192.0.2.6
*.alias CNAME web
sub     NS  ns.sub
        NS  ns1
        DS  1 13 2 aabb
ns.sub  A   192.0.2.7
plain   NS  ns.plain
into    CNAME www.sub
old     DNAME new
        TXT here
x.new   A   192.0.2.8
away    DNAME other.test.
_s._tcp SRV 0 0 80 mail
        SRV 0 0 80 host.other.test.
svc     HTTPS 1 web alpn=h2
";

fn zone(text: &str) -> Zone {
    let mut builder = ZoneBuilder::new(Name::parse("example.test").unwrap());
    let mut include = |_: &str, _: &str| Err("none".to_owned());
    text::read(
        &mut builder,
        "db",
        text.as_bytes(),
        text::OnInvalid::Reject,
        &mut include,
    )
    .unwrap();
    builder.finish().unwrap()
}

/// The outcome, and the RCODE and sections as text.
fn ask(zone: &Zone, name: &str, rtype: &str, options: AnswerOptions) -> (Outcome, String) {
    let name = match name {
        "@" => "example.test".to_owned(),
        name if name.ends_with('.') => name.to_owned(),
        name => format!("{name}.example.test"),
    };
    let name = Name::parse(&name).unwrap();
    let question = Question::new(name, rtype.parse().unwrap(), Class::IN);
    let mut reply = Reply::default();
    let outcome = zone.answer(&question, options, &mut reply);
    let authoritative = if reply.authoritative { "" } else { " not ours" };
    let mut lines = vec![format!("{}{authoritative}", reply.rcode)];
    for (section, mark) in Section::ALL.into_iter().zip(["", "ns ", "ad "]) {
        for record in reply.section(section) {
            let owner = match reply.owner(record) {
                Owner::Question => "?".to_owned(),
                Owner::Name(name) => name.to_string().replace(".example.test.", ""),
            };
            let data = match reply.data_name(record) {
                Some(name) => name.to_string().replace(".example.test.", ""),
                None => match reply.data(record) {
                    [a, b, c, d] if record.rtype == Type::A => format!("{a}.{b}.{c}.{d}"),
                    _ => String::new(),
                },
            };
            let line = format!("{mark}{owner} {} {} {data}", record.ttl, record.rtype);
            lines.push(line.trim_end().to_owned());
        }
    }
    (outcome, lines.join("\n"))
}

const NS: &str = "ns example.test. 300 NS ns1\nns example.test. 300 NS ns.other.test.";
const SOA: &str = "ns example.test. 60 SOA";

fn check(zone: &Zone, rows: &[(&str, &str, &str)]) {
    for (name, rtype, wanted) in rows {
        let wanted = wanted.replace("{NS}", NS).replace("{SOA}", SOA);
        let (outcome, reply) = ask(zone, name, rtype, AnswerOptions::default());
        assert_eq!(reply, wanted, "{name} {rtype}");
        let is_empty = ["b.c", "c", "y.wild"].contains(name);
        let denied = wanted.starts_with("NXDOMAIN") || is_empty;
        assert_eq!(outcome == Outcome::Denied, denied, "{name} {rtype}");
    }
}

#[test]
fn existing_names_are_answered_or_nodata() {
    let rows = [
        ("web", "A", "NOERROR\n? 300 A 192.0.2.3\n{NS}"),
        ("WEB", "A", "NOERROR\n? 300 A 192.0.2.3\n{NS}"),
        ("web", "AAAA", "NOERROR\n{SOA}"),
        ("b.c", "A", "NOERROR\n{SOA}"),
        ("c", "TXT", "NOERROR\n{SOA}"),
        ("none", "A", "NXDOMAIN\n{SOA}"),
        ("x.web", "A", "NXDOMAIN\n{SOA}"),
        ("@", "SOA", "NOERROR\n? 300 SOA\n{NS}"),
        (
            "@",
            "NS",
            "NOERROR\n? 300 NS ns1\n? 300 NS ns.other.test.\nad ns1 300 A 192.0.2.1",
        ),
        (
            "@",
            "MX",
            "NOERROR\n? 300 MX\n? 300 MX\n{NS}\nad mail 300 A 192.0.2.2\nad mail 300 AAAA",
        ),
        (
            "_s._tcp",
            "SRV",
            "NOERROR\n? 300 SRV\n? 300 SRV\n{NS}\nad mail 300 A 192.0.2.2\nad mail 300 AAAA",
        ),
        (
            "svc",
            "HTTPS",
            "NOERROR\n? 300 HTTPS\n{NS}\nad web 300 A 192.0.2.3",
        ),
        ("mail", "ANY", "NOERROR\n? 300 A 192.0.2.2\n{NS}"),
        ("b.c", "ANY", "NOERROR\n{SOA}"),
    ];
    check(&zone(ZONE), &rows);
    let (outcome, _) = ask(&zone(ZONE), "other.test.", "A", AnswerOptions::default());
    assert_eq!(outcome, Outcome::Outside);
    let options = AnswerOptions {
        everything: true,
        ..AnswerOptions::default()
    };
    let (_, reply) = ask(&zone(ZONE), "mail", "ANY", options);
    assert_eq!(
        reply,
        format!("NOERROR\n? 300 A 192.0.2.2\n? 300 AAAA\n{NS}")
    );
}

#[test]
fn wildcards_match_nonexistent_names() {
    let rows = [
        ("any.wild", "A", "NOERROR\n? 300 A 192.0.2.5\n{NS}"),
        ("a.b.wild", "A", "NOERROR\n? 300 A 192.0.2.5\n{NS}"),
        ("any.wild", "AAAA", "NOERROR\n{SOA}"),
        ("*.wild", "A", "NOERROR\n? 300 A 192.0.2.5\n{NS}"),
        // An empty non-terminal exists, and is the closest encloser of names below it.
        ("y.wild", "A", "NOERROR\n{SOA}"),
        ("z.y.wild", "A", "NXDOMAIN\n{SOA}"),
        (
            "q.alias",
            "A",
            "NOERROR\n? 300 CNAME web\nweb 300 A 192.0.2.3\n{NS}",
        ),
        ("q.alias", "CNAME", "NOERROR\n? 300 CNAME web\n{NS}"),
    ];
    check(&zone(ZONE), &rows);
}

#[test]
fn cname_chains_are_followed_within_the_zone() {
    let rows = [
        (
            "www",
            "A",
            "NOERROR\n? 300 CNAME web\nweb 300 A 192.0.2.3\n{NS}",
        ),
        ("www", "AAAA", "NOERROR\n? 300 CNAME web\n{SOA}"),
        ("www", "CNAME", "NOERROR\n? 300 CNAME web\n{NS}"),
        (
            "loop",
            "A",
            "NOERROR\n? 300 CNAME loop2\nloop2 300 CNAME loop\n{NS}",
        ),
    ];
    let zone = zone(ZONE);
    check(&zone, &rows);
    for (name, alias, target) in [
        ("out", "host.other.test.", "host.other.test."),
        ("far", "nothing.here", "nothing.here.example.test."),
    ] {
        let (outcome, reply) = ask(&zone, name, "A", AnswerOptions::default());
        assert_eq!(outcome, Outcome::Alias(Name::parse(target).unwrap()));
        assert_eq!(reply, format!("NOERROR\n? 300 CNAME {alias}"));
    }
}

#[test]
fn names_below_a_zone_cut_get_a_referral() {
    let referral = "ns sub 300 NS ns.sub\nns sub 300 NS ns1\n\
                    ad ns.sub 300 A 192.0.2.7\nad ns1 300 A 192.0.2.1";
    let zone = zone(ZONE);
    for (name, rtype) in [
        ("sub", "A"),
        ("sub", "NS"),
        ("x.y.sub", "A"),
        ("ns.sub", "A"),
    ] {
        let (outcome, reply) = ask(&zone, name, rtype, AnswerOptions::default());
        assert_eq!(reply, format!("NOERROR not ours\n{referral}"), "{name}");
        assert_eq!(outcome, Outcome::Answered);
    }
    let (_, reply) = ask(&zone, "into", "A", AnswerOptions::default());
    assert_eq!(reply, format!("NOERROR\n? 300 CNAME www.sub\n{referral}"));
    let rows = [
        ("sub", "DS", "NOERROR\n? 300 DS\n{NS}"),
        ("plain", "DS", "NOERROR\n{SOA}"),
        ("plain", "A", "NOERROR not ours\nns plain 300 NS ns.plain"),
    ];
    check(&zone, &rows);
}

#[test]
fn a_dname_redirects_all_names_below_it() {
    let rows = [
        (
            "x.old",
            "A",
            "NOERROR\nold 300 DNAME new\n? 300 CNAME x.new\nx.new 300 A 192.0.2.8\n{NS}",
        ),
        (
            "x.old",
            "CNAME",
            "NOERROR\nold 300 DNAME new\n? 300 CNAME x.new\n{NS}",
        ),
        ("old", "TXT", "NOERROR\n? 300 TXT\n{NS}"),
        ("old", "DNAME", "NOERROR\n? 300 DNAME new\n{NS}"),
        ("old", "A", "NOERROR\n{SOA}"),
        (
            "x.old",
            "DNAME",
            "NOERROR\nold 300 DNAME new\n? 300 CNAME x.new\n{SOA}",
        ),
    ];
    let zone = zone(ZONE);
    check(&zone, &rows);
    let (outcome, _) = ask(&zone, "a.b.away", "A", AnswerOptions::default());
    assert_eq!(
        outcome,
        Outcome::Alias(Name::parse("a.b.other.test").unwrap())
    );
    let long = format!("{0}.{0}.{0}.old", "a".repeat(63));
    let text = format!("@ 1 SOA a a 1 1 1 1 1\nold 1 DNAME {}.x", "b".repeat(63));
    let (_, reply) = ask(&self::zone(&text), &long, "A", AnswerOptions::default());
    assert!(reply.starts_with("YXDOMAIN\n"), "{reply}");
}

const SIGNED: &str = r"
$TTL 300
@     SOA ns1 admin 7 3600 600 86400 60
      RRSIG SOA 13 2 300 20300101000000 20200101000000 1 @ aaaa
      NS ns1
      RRSIG NS 13 2 300 20300101000000 20200101000000 1 @ aaaa
      NSEC a.b NS SOA RRSIG NSEC
      RRSIG NSEC 13 2 300 20300101000000 20200101000000 1 @ aaaa
a.b   A 192.0.2.1
      RRSIG A 13 4 300 20300101000000 20200101000000 1 @ aaaa
      NSEC cut A RRSIG NSEC
cut   NS ns.cut
      NSEC l NS RRSIG NSEC
ns.cut A 192.0.2.2
l     CNAME a.b
      NSEC ns1 CNAME RRSIG NSEC
ns1   A 192.0.2.3
      NSEC *.w A RRSIG NSEC
*.w   A 192.0.2.4
      RRSIG A 13 3 300 20300101000000 20200101000000 1 @ aaaa
      NSEC @ A RRSIG NSEC
";

#[test]
fn denials_of_a_signed_zone_have_nsec_proofs() {
    let zone = zone(SIGNED);
    let options = AnswerOptions {
        dnssec: true,
        ..AnswerOptions::default()
    };
    let soa = "ns example.test. 60 SOA\nns example.test. 60 RRSIG";
    let apex = "ns example.test. 300 NSEC\nns example.test. 300 RRSIG";
    let ns = "ns example.test. 300 NS ns1\nns example.test. 300 RRSIG";
    for (name, rtype, wanted) in [
        (
            "a.b",
            "A",
            format!("NOERROR\n? 300 A 192.0.2.1\n? 300 RRSIG\n{ns}"),
        ),
        ("a.b", "TXT", format!("NOERROR\n{soa}\nns a.b 300 NSEC")),
        // Denies the name and *.example.test with two NSEC records; the second is added once.
        (
            "d",
            "A",
            format!("NXDOMAIN\n{soa}\nns cut 300 NSEC\n{apex}"),
        ),
        ("a", "A", format!("NXDOMAIN\n{soa}\n{apex}")),
        ("b", "A", format!("NOERROR\n{soa}\n{apex}")),
        (
            "cut",
            "A",
            "NOERROR not ours\nns cut 300 NS ns.cut\nns cut 300 NSEC\n\
                      ad ns.cut 300 A 192.0.2.2"
                .to_owned(),
        ),
        ("cut", "DS", format!("NOERROR\n{soa}\nns cut 300 NSEC")),
        (
            "x.w",
            "A",
            format!("NOERROR\n? 300 A 192.0.2.4\n? 300 RRSIG\n{ns}\nns *.w 300 NSEC"),
        ),
        ("x.w", "TXT", format!("NOERROR\n{soa}\nns *.w 300 NSEC")),
        ("l", "NSEC", format!("NOERROR\n? 300 NSEC\n{ns}")),
        ("a.b", "RRSIG", format!("NOERROR\n? 300 RRSIG\n{ns}")),
    ] {
        let (_, reply) = ask(&zone, name, rtype, options);
        assert_eq!(reply, wanted, "{name} {rtype}");
    }
    let (_, reply) = ask(&zone, "a.b", "A", AnswerOptions::default());
    assert_eq!(
        reply,
        "NOERROR\n? 300 A 192.0.2.1\nns example.test. 300 NS ns1"
    );
}

#[test]
fn a_transfer_has_all_records_or_only_the_soa() {
    let zone = std::sync::Arc::new(zone(SIGNED));
    let transferred = |held| {
        let mut reply = Reply::default();
        zone.transfer(held, &mut reply);
        reply.complete();
        let answers = reply.section(Section::Answer).iter();
        answers.map(|it| it.rtype).collect::<Vec<_>>()
    };
    let whole = transferred(None);
    assert_eq!(whole.len(), zone.records() + 1);
    assert_eq!((whole[0], whole[whole.len() - 1]), (Type::SOA, Type::SOA));
    assert_eq!(transferred(Some(6)), whole);
    assert_eq!(transferred(Some(7)), [Type::SOA]);
    assert_eq!(transferred(Some(8)), [Type::SOA]);
}

#[test]
fn invalid_records_are_rejected() {
    use crate::authority::InvalidRecord;
    let mut builder = ZoneBuilder::new(Name::parse("example.test").unwrap());
    let mut add = |owner: &str, rtype, data: &[u8]| {
        builder.add(Name::parse(owner).unwrap().as_ref(), rtype, 1, data)
    };
    assert_eq!(
        add("example.org", Type::A, &[1; 4]),
        Err(InvalidRecord::Outside)
    );
    assert_eq!(
        add("example.test", Type::A, &[1; 3]),
        Err(InvalidRecord::Malformed)
    );
    assert_eq!(
        add("example.test", Type(50), &[1; 3]),
        Err(InvalidRecord::Hashed)
    );
    assert_eq!(
        add("example.test", Type::ANY, &[]),
        Err(InvalidRecord::NoData)
    );
    let soa = |serial: u8| [&[0, 0, 0, 0, 0, serial][..], &[0; 16]].concat();
    assert_eq!(
        add("a.example.test", Type::SOA, &soa(1)),
        Err(InvalidRecord::SoaBelow)
    );
    assert_eq!(add("example.test", Type::SOA, &soa(1)), Ok(()));
    assert_eq!(add("EXAMPLE.test", Type::SOA, &soa(1)), Ok(()));
    assert_eq!(
        add("example.test", Type::SOA, &soa(2)),
        Err(InvalidRecord::SecondSoa)
    );
    assert_eq!(builder.finish().unwrap().records(), 1);
    let empty = ZoneBuilder::new(Name::ROOT).finish();
    assert_eq!(empty.err(), Some(InvalidRecord::NoSoa));
}
