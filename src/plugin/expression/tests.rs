use super::*;
use crate::plugin::testing;

fn words(text: &str) -> Vec<Word> {
    text.split(' ').map(Word::detached).collect()
}

fn read(text: &str, scope: Scope<'_>) -> Result<Expression, Diagnostic> {
    Expression::read(&words(text), scope)
}

/// A query over TCP by 10.1.2.3 for AAAA of WWW.Example.org, with EDNS.
fn query() -> Query {
    let mut query = testing::query("WWW.Example.org", Type::AAAA);
    query.receive(|it| it.id = 4660);
    query.receive(|it| it.client = "[::ffff:10.1.2.3]:40053".parse().unwrap());
    query.receive(|it| it.local = ([10, 96, 0, 10], 53).into());
    query.receive(|it| it.size = 44);
    query.receive(|it| {
        it.edns = Some(Edns {
            udp_payload: 1232,
            version: 0,
            dnssec_ok: true,
            wants_nsid: false,
            is_padded: false,
        });
    });
    query
}

fn value(text: &str) -> String {
    let query = query();
    let tell = |label: &str| (label == "kubernetes/client-namespace").then(|| "shop".to_owned());
    let facts = Facts::new(&query).with_metadata(&tell);
    let expression = read(text, Scope::default()).unwrap_or_else(|error| panic!("{text}: {error}"));
    match expression.value(&facts) {
        Ok(value) => value.to_string(),
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn the_properties_of_a_query_are_available() {
    for (text, wanted) in [
        ("bufsize()", "1232"),
        ("class()", r#""IN""#),
        ("client_ip()", r#""10.1.2.3""#),
        ("do()", "true"),
        ("id()", "4660"),
        ("name()", r#""www.example.org.""#),
        ("opcode()", "0"),
        ("port()", r#""40053""#),
        ("proto()", r#""udp""#),
        ("server_ip()", r#""10.96.0.10""#),
        ("server_port()", r#""53""#),
        ("size()", "44"),
        ("type()", r#""AAAA""#),
        ("metadata('kubernetes/client-namespace')", r#""shop""#),
        ("metadata('a/b')", r#""""#),
        ("incidr(client_ip(), '10.0.0.0/8')", "true"),
        ("incidr(client_ip(), '2001:db8::/32')", "false"),
    ] {
        assert_eq!(value(text), wanted, "{text}");
    }
    let mut stream = query();
    stream.receive(|it| it.transport = Transport::Tls);
    let facts = Facts::new(&stream);
    let whole = read("bufsize() == 65535 && proto() == 'tcp'", Scope::default()).unwrap();
    assert!(whole.holds(&facts));
}

#[test]
fn the_language_is_gos() {
    for (text, wanted) in [
        (
            "incidr(client_ip(), '10.0.0.0/8') && name() matches '^a'",
            "false",
        ),
        ("type() in ['A', 'AAAA'] and not (class() == 'CH')", "true"),
        ("name() startsWith 'www.' ? true : false", "true"),
        ("type() not in ['A', 'AAAA']", "false"),
        ("name() not matches '^a'", "true"),
        ("name() not contains 'example' || size() > 40", "true"),
        ("name() not contains 'example' || size() > 50", "false"),
        ("do() && name() not endsWith '.org.'", "false"),
        ("do() && (name() not startsWith 'ftp.' && do())", "true"),
        ("lower(name()) not contains upper('x')", "true"),
        (r"name() matches '^www\\.example'", "true"),
        (r"name() matches `^www\.example`", "true"),
        ("let notes = split(name(), '.'); notes[0] == 'www'", "true"),
        ("any(split(name(), '.'), # == 'example')", "true"),
        ("len(filter(split(name(), '.'), {# != ''}))", "3"),
        ("port() != '53' && int(port()) in 1024..65535", "true"),
        ("{a: 1, 'b': 2}.b", "2"),
        ("do() == nil", "false"),
    ] {
        assert_eq!(value(text), wanted, "{text}");
    }
}

#[test]
fn errors_are_reported_at_load() {
    for (text, message) in [
        ("nam() == 'a'", "nothing is called 'nam'"),
        // The evaluation would never reach it.
        ("false && nam() == 'a'", "nothing is called 'nam'"),
        ("name == 'a'", "'name' is a function"),
        ("name('a') == 'a'", "name() takes 0 arguments, not 1"),
        ("incidr(client_ip())", "incidr() takes 2 arguments, not 1"),
        ("group(1) == 'a'", "nothing is called 'group'"),
        ("$env == nil", "nothing is called '$env'"),
        ("now() == nil", "nothing is called 'now'"),
        ("name().String()", "there is no method 'String'"),
        ("name() matches '('", "this is no regular expression"),
        (
            "name() matches metadata('a/b')",
            "'matches' needs a pattern in quotes",
        ),
        ("name() == 'a", "a quoted text has no end"),
        ("name() == ", "this is no expression"),
        ("name() = 'a'", "this is no expression"),
        (
            "size() in 1..size()",
            "a range must lie between two numbers",
        ),
        (
            "size() in 1..9000000000",
            "a range must lie between two numbers",
        ),
        (
            "name() == 'a' // why",
            "an expression cannot hold a comment",
        ),
        ("name() == \u{e4}", "this character means nothing here"),
    ] {
        let error = read(text, Scope::default()).unwrap_err();
        assert_eq!(error.message, message, "{text}");
    }
    let near = read("nam() == 'a'", Scope::default()).unwrap_err();
    assert_eq!(near.help.unwrap(), "did you mean 'name'?");
}

#[test]
fn the_largest_expressions_are_read_and_evaluated_within_a_threads_stack() {
    let chain = |count: usize| vec!["1"; count + 1].join("+");
    assert_eq!(value(&chain(80)), "81");
    let nested = |depth: usize| format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(value(&nested(32)), "1");
    let choices = |count: usize| format!("{}1", "do() ? ".repeat(count)) + &" : 0".repeat(count);
    assert_eq!(value(&choices(31)), "1");
    for text in [
        chain(81),
        nested(33),
        nested(4000),
        choices(33),
        format!("{}1", "-".repeat(5000)),
        format!("'{}' == ''", "a".repeat(10_000)),
    ] {
        let error = read(&text, Scope::default()).unwrap_err().message;
        assert!(
            error.contains("too large") || error.contains("longer"),
            "{error}"
        );
    }
}

#[test]
fn variables_may_have_names_that_begin_like_words() {
    let variables = ["note".to_owned(), "nilly".to_owned()];
    let scope = Scope {
        variables: &variables,
        groups: true,
    };
    let query = query();
    let tell = |group: &str| (group == "b" || group == "1").then(|| "7".to_owned());
    let mut facts = Facts::new(&query).with_groups(&tell);
    facts.set("note", Value::Integer(3));
    facts.set("nilly", Value::String("x".to_owned()));
    for (text, wanted) in [
        ("note + 1", "4"),
        ("nilly == 'x' && note == 3", "true"),
        ("note not in [3] || nilly not contains 'y'", "true"),
        ("int(group('b')) + int(group(1))", "14"),
        ("group('absent') == ''", "true"),
    ] {
        let expression = read(text, scope).unwrap();
        assert_eq!(
            expression.value(&facts).unwrap().to_string(),
            wanted,
            "{text}"
        );
    }
}

#[test]
fn every_function_that_is_accepted_exists() {
    let query = query();
    let facts = Facts::new(&query);
    for name in text::builtins() {
        let result = read(&format!("{name}(1)"), Scope::default())
            .unwrap()
            .value(&facts);
        if let Err(error) = result {
            assert!(
                !error.contains("Unknown") && !error.contains("feature"),
                "{name}: {error}"
            );
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn what_an_evaluation_costs() {
    let query = query();
    for text in [
        "true",
        "incidr(client_ip(), '10.0.0.0/8')",
        "incidr(client_ip(), '10.0.0.0/8') && name() matches '^a'",
        "type() in ['A', 'AAAA'] && name() endsWith '.example.org.'",
    ] {
        let expression = read(text, Scope::default()).unwrap();
        let start = std::time::Instant::now();
        let mut held = 0u32;
        for _ in 0..100_000 {
            held += u32::from(expression.holds(&Facts::new(&query)));
        }
        println!("{text}: {:?} ({held})", start.elapsed() / 100_000);
    }
}
