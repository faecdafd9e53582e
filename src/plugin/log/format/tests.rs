use super::*;
use crate::{
    query::{Edns, Question, Request, Transport},
    reply::Why,
    wire::{Class, Name, Opcode, Rcode, Type},
};

fn line(format: &str, change: impl FnOnce(&mut Query, &mut Reply)) -> String {
    let name = Name::parse("Example.ORG.").unwrap();
    let mut query = Query::new(Request {
        id: 29008,
        client: "127.0.0.1:50759".parse().unwrap(),
        local: "[::1]:53".parse().unwrap(),
        size: 41,
        edns: Some(Edns {
            udp_payload: 4096,
            version: 0,
            dnssec_ok: false,
            wants_nsid: false,
            is_padded: false,
        }),
        authentic_data: true,
        ..Request::internal(Question::new(name, Type::A, Class::IN))
    });
    let mut reply = Reply::default();
    reply.recursion_available = true;
    reply.authentic = true;
    change(&mut query, &mut reply);
    let mut out = Vec::new();
    let written = Written {
        size: 68,
        truncated: reply.truncated,
        took: Duration::from_nanos(37_990_251),
    };
    let outcome = LoggedOutcome::Sent(&reply, written);
    Format::new(format).write(&mut out, &query, outcome, |label| {
        (label == "plugin/key").then(|| "a\"b\n".to_owned())
    });
    String::from_utf8(out).unwrap()
}

#[test]
fn the_common_line_is_that_of_coredns() {
    let wanted = r#"127.0.0.1:50759 - 29008 "A IN example.org. udp 41 false 4096" NOERROR qr,rd,ra,ad 68 0.037990251s"#;
    assert_eq!(line("{common}", |_, _| ()), wanted);
    assert_eq!(line(COMMON, |_, _| ()), wanted);
    assert_eq!(line("{combined}", |_, _| ()), format!("{wanted} \"0\""));
    assert_eq!(line("<{common}>", |_, _| ()), format!("<{wanted}>"));
}

#[test]
fn every_field() {
    for (format, wanted) in [
        ("{type} {class} {name}", "TYPE65280 CH example.org."),
        ("{proto} {size} {rsize}", "tcp 41 68"),
        ("{remote} {port} {local}", "[2001:db8::9] 4242 [::1]"),
        ("{rcode} {duration}", "NXDOMAIN 0.037990251s"),
        ("{>rflags}", "qr,aa,tc,cd"),
        ("{>bufsize} {>do} {>id} {>opcode}", "65535 true 29008 4"),
        ("{/forward/upstream}", "-"),
        ("<{/plugin/key}>", r"<a\034b\010>"),
    ] {
        let text = line(format, |query, reply| {
            query.receive(|it| it.original.rtype = Type(65280));
            query.receive(|it| it.original.class = Class::CH);
            query.receive(|it| it.transport = Transport::Tls);
            query.receive(|it| it.client = "[2001:db8::9]:4242".parse().unwrap());
            query.receive(|it| it.recursion_desired = false);
            query.receive(|it| it.checking_disabled = true);
            query.receive(|it| it.opcode = Opcode(4));
            query.edns.as_mut().unwrap().dnssec_ok = true;
            reply.fail(Rcode::NXDOMAIN, Why::NoSuchService);
            reply.authoritative = true;
            reply.truncated = true;
        });
        assert_eq!(text, wanted, "{format}");
    }
    let plain = line("{>bufsize} {>do} {remote}", |query, _| {
        query.receive(|it| it.edns = None);
        query.receive(|it| it.client = "[::ffff:10.0.0.7]:1".parse().unwrap());
    });
    assert_eq!(plain, "512 false 10.0.0.7");
}

#[test]
fn braces_without_a_field_are_literal() {
    for (format, wanted) in [
        (r#"{"name":"{name}"}"#, r#"{"name":"example.org."}"#),
        ("{ {type} }", "{ A }"),
        ("a } {type} {", "a } A {"),
        ("{nope} {>nope} {", "{nope} {>nope} {"),
        ("", ""),
    ] {
        assert_eq!(line(format, |_, _| ()), wanted, "{format}");
    }
}

#[test]
fn names_that_could_break_a_line_are_escaped() {
    for (text, wanted) in [
        (".", "."),
        ("_http._tcp.Web-1.", "_http._tcp.web-1."),
        (r#"a\010b\"c.d."#, r#"a\010b\"c.d."#),
    ] {
        let asked = Name::parse(text).unwrap();
        let line = line("{name}", |query, _| {
            query.receive(|it| it.original = Question::new(asked, Type::A, Class::IN));
        });
        assert_eq!(line, wanted);
    }
}

#[test]
fn durations_have_no_trailing_zeros() {
    for (nanoseconds, wanted) in [
        (0, "0s"),
        (1, "0.000000001s"),
        (120_000, "0.00012s"),
        (2_000_000_000, "2s"),
        (10_500_000_000, "10.5s"),
    ] {
        let seconds = Seconds(Duration::from_nanos(nanoseconds));
        assert_eq!(format!("{seconds}s"), wanted);
    }
}
