//! Command lines to queries.

use super::*;

fn parsed(line: &str) -> Result<Arguments, Refusal> {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    Arguments::parse(&words)
}

/// Name, type and class of each query.
fn queries(line: &str) -> Vec<String> {
    let lookups = parsed(line).unwrap().lookups;
    let shown = lookups
        .iter()
        .map(|it| format!("{} {} {}", it.name, it.rtype(), it.class()));
    shown.collect()
}

#[test]
fn words_can_be_in_any_order() {
    for line in [
        "@192.0.2.1 -p 5353 web.default SRV CH +tcp",
        "+tcp CH SRV web.default @192.0.2.1 -p5353",
        "srv @192.0.2.1 -q web.default -c CH +vc -p 5353",
        "-t SRV web.default ch -p 5353 +tcp @192.0.2.1",
    ] {
        assert_eq!(queries(line), ["web.default SRV CH"], "{line}");
        let arguments = parsed(line).unwrap();
        assert_eq!(arguments.globals.port, 5353, "{line}");
        assert_eq!(arguments.lookups[0].servers, ["192.0.2.1"], "{line}");
        assert_eq!(arguments.lookups[0].tcp, Some(true), "{line}");
        assert!(arguments.warnings.is_empty(), "{line}");
    }
}

#[test]
fn options_before_the_first_name_apply_to_all_queries() {
    let line = "+noall mx @192.0.2.1 a.example b.example +answer TXT @192.0.2.2 @192.0.2.3";
    assert_eq!(queries(line), ["a.example MX IN", "b.example TXT IN"]);
    let lookups = parsed(line).unwrap().lookups;
    let shows = lookups.iter().map(|it| it.show.answer);
    assert_eq!(shows.collect::<Vec<_>>(), [false, true]);
    assert_eq!(lookups[0].servers, ["192.0.2.1"]);
    assert_eq!(lookups[1].servers, ["192.0.2.2", "192.0.2.3"]);
}

#[test]
fn addresses_are_reversed() {
    assert_eq!(
        queries("-x 10.1.2.3 -x10.1 -x 2001:db8::1"),
        [
            "3.2.1.10.in-addr.arpa. PTR IN".to_owned(),
            "1.10.in-addr.arpa. PTR IN".to_owned(),
            format!("1.{}8.b.d.0.1.0.0.2.ip6.arpa. PTR IN", "0.".repeat(23)),
        ]
    );
    assert_eq!(
        queries("-x 10.1.2.3 SOA"),
        ["3.2.1.10.in-addr.arpa. SOA IN"]
    );
}

#[test]
fn without_a_name_the_root_is_queried() {
    assert_eq!(queries(""), [". NS IN"]);
    assert_eq!(queries("@192.0.2.1 soa"), [". SOA IN"]);
}

#[test]
fn invalid_command_lines_are_refused() {
    for (line, expected) in [
        ("x +tries=z", "invalid tries 'z'"),
        ("x +qid=65536", "a number from 0 to 65535"),
        ("x -p x", "invalid port number"),
        ("x -p", "It needs a value"),
        ("x -Z", "Invalid option: -Z"),
        ("x -4 -6", "only one of -4 and -6"),
        ("x -y key", "BIND's dig has this option"),
        ("x +subnet=a", "expected ADDRESS/LENGTH"),
        ("x +ednsopt=7:1", "expected CODE:HEX"),
        ("x +cookie=00", "8, or 16 to 40"),
        ("x @", "Missing server"),
        ("x ixfr=a", "a serial number"),
    ] {
        let Err(Refusal::Usage(error)) = parsed(line) else {
            panic!("{line}");
        };
        assert!(error.contains(expected), "{line}: {error}");
    }
    assert!(matches!(parsed("a..b"), Err(Refusal::Name(_))));
    assert!(matches!(parsed("-f /nowhere"), Err(Refusal::File(_))));
}

#[test]
fn repeated_types_are_warned_of() {
    let warnings = parsed("x A AAAA").unwrap().warnings;
    assert_eq!(warnings, [";; Warning, extra type option"]);
    assert_eq!(queries("x A AAAA"), ["x AAAA IN"]);
    let warnings = parsed("-t nope x").unwrap().warnings;
    assert_eq!(warnings, [";; Warning, ignoring invalid type nope"]);
}
