//! One row per corner case of the language, with its result.

use lodestone::corefile::{DEFAULT_COREFILE, InMemory};

use super::{outcome, read};

/// Name, text, result. The result has the format of [`outcome`].
type Row = (&'static str, &'static str, &'static str);

#[track_caller]
fn check(rows: &[Row], loader: &InMemory) {
    let mut failed = Vec::new();
    for (name, text, expected) in rows {
        let found = outcome(text, loader);
        if found.trim_end() != expected.trim_end() {
            failed.push(format!(
                "{name}\n{text}\n-- expected\n{expected}\n-- found\n{found}"
            ));
        }
    }
    assert!(
        failed.is_empty(),
        "{} rows failed\n\n{}",
        failed.len(),
        failed.join("\n\n")
    );
}

#[test]
fn structure() {
    check(
        &[
            ("empty", "", ""),
            ("comments only", "# a\n  # b", ""),
            ("snippet only", "(s) {\n log\n}\n", ""),
            ("one key", ".", ".:53 {}"),
            ("empty block on a line", ". { }", ".:53 {}"),
            ("empty block", ". {\n}", ".:53 {}"),
            ("brace on the next line", ".\n{\nlog\n}", ".:53 {log}"),
            (
                "no braces",
                "a.example\nlog\nerrors",
                "a.example.:53 {log; errors}",
            ),
            ("comma on one line", "a, b {\n}", "a.:53 b.:53 {}"),
            ("comma over lines", "a,\nb {\n}", "a.:53 b.:53 {}"),
            (
                "extra comma",
                "a, {\n}",
                "error 1:2 Expected another address but had '{' - check for extra comma",
            ),
            ("comma at the end", "a,\n", "error 1:2 Unexpected EOF"),
            (
                "lone comma",
                "a , b {\n}",
                "error 1:3 zone is not a valid domain name: the name is empty",
            ),
            (
                "log on the line of the braces",
                ". { log }",
                "error 1:9 Unexpected '}' because no matching opening brace",
            ),
            (
                "plugin's brace taken for the block's",
                ". {\nhosts {\nfallthrough\n}",
                ".:53 {hosts [fallthrough]}\n\
                 warning 4:2 the closing brace of a server block is missing",
            ),
            (
                "not closed",
                ". {\nlog\n",
                "error 2:4 Unexpected token 'log', expecting '}'",
            ),
            (
                "plugin not closed",
                ". {\nhealth {",
                "error 2:9 Unexpected EOF",
            ),
            (
                "trailing brace",
                ".:53 {\nlog\n}\n}\n",
                ".:53 {log}\n}.:53 {}\n\
                 warning 4:1 '}' behind the last block is served as a zone without plugins\n\
                 warning 4:1 Domain \"}.\" does not follow RFC1035 preferred syntax",
            ),
            (
                "trailing word",
                ".:53 {\n}\nstray\n",
                ".:53 {}\nstray.:53 {}\n\
                 warning 3:1 'stray' behind the last block is served as a zone without plugins",
            ),
            (
                "quoted braces count",
                ". \"{\"\nlog\n\"}\"",
                ".:53 {log}\nwarning 1:3 a quoted '{' counts as a brace all the same\n\
                 warning 3:1 a quoted '}' counts as a brace all the same",
            ),
            (
                "properties on the line of the braces, one word",
                ". {\nkubernetes cluster.local { fallthrough }\n}",
                ".:53 {kubernetes \"cluster.local\" [fallthrough }]}\n\
                 warning 2:40 this '}' is read as an argument of 'fallthrough' too",
            ),
            (
                "properties on the line of the braces, counted words",
                ". {\nhealth { lameduck 5s }\n}",
                "warning 2:22 this '}' is read as an argument of 'lameduck' too\n\
                 error 2:22 Wrong argument count or unexpected line ending after '}'",
            ),
            (
                "first property behind the brace",
                ". {\nhealth { lameduck 5s\n}\n}",
                ".:53 {health [lameduck 5s]}",
            ),
            (
                "plugin's brace on the next line",
                ". {\nhealth\n{\nlameduck 5s\n}\n}",
                "error 3:1 Unexpected token '{' after 'health' on a line of its own",
            ),
            (
                "block within a plugin's block",
                ". {\nhosts {\nfallthrough {\na\n}\n}\nlog\n}",
                "error 3:13 Unexpected token '{' in a property line",
            ),
            (
                "words behind a plugin's block",
                ". {\nhosts {\n} log\nfoo\n}",
                "error 3:3 Unexpected token 'log' behind a closing brace\n\
                 error 4:1 Unknown directive 'foo'",
            ),
            (
                "two closing braces on a line",
                ". {\nhosts {\n} }",
                "error 3:3 Unexpected '}' because no matching opening brace",
            ),
            (
                "no key",
                "{\nlog\n}",
                "error 1:1 this server block has no key",
            ),
            (
                "empty key",
                "\"\" {\nlog\n}",
                "error 1:4 this server block has no key",
            ),
            ("empty key beside another", "\"\" a {\n}", "a.:53 {}"),
            (
                "two blocks",
                "a {\nlog\n}\nb {\nlog\n}",
                "a.:53 {log}\nb.:53 {log}",
            ),
            (
                "two blocks on one line",
                "a { } b { }",
                "a.:53 {}\nb.:53 {}",
            ),
        ],
        &InMemory::default(),
    );
}

#[test]
fn directives() {
    check(
        &[
            (
                "unknown",
                ". {\nfoo\n}",
                "error 2:1 Unknown directive 'foo'",
            ),
            (
                "case counts",
                ". {\nLog\n}",
                "error 2:1 Unknown directive 'Log'",
            ),
            (
                "brace as a name",
                ". {\n{\n}\n}",
                "error 2:1 Unknown directive '{'",
            ),
            (
                "all unknown ones are reported",
                ". {\nfoo {\nx\n}\nlog\nbar baz\n}\nb {\nqux\n}",
                "error 2:1 Unknown directive 'foo'\nerror 6:1 Unknown directive 'bar'\n\
                 error 9:1 Unknown directive 'qux'",
            ),
            (
                "parser before plugins",
                ". {\nforward .\nfoo\n}",
                "error 3:1 Unknown directive 'foo'",
            ),
            (
                "block left open before another",
                ".:53 {\nlog\na.example:53 {\nlog\n}\n",
                "error 3:1 Unknown directive 'a.example:53'\n\
                 warning 5:2 the closing brace of a server block is missing",
            ),
            (
                "brace too many between blocks",
                ".:53 {\n}\n}\na.example:53 {\nlog\n}\n",
                "error 4:1 Unknown directive 'a.example:53'",
            ),
            (
                "cache 30s is a zone",
                ". {\ncache 30s\n}",
                ".:53 {cache \"30s\"}",
            ),
            (
                "cache twice",
                ". {\ncache\ncache\n}",
                "error 3:1 this plugin can only be used once per Server Block",
            ),
            (
                "log twice",
                ". {\nlog a\nlog b\n}",
                ".:53 {log \"a\"; log \"b\"}",
            ),
            (
                "quote ends a word",
                ". {\nbind \"127.0.0.1\"b\n}",
                "error 2:17 not an IP address: 'b'",
            ),
            (
                "unknown property",
                ". {\nhealth {\nlamduck 5s\n}\n}",
                "error 3:1 unknown property 'lamduck'",
            ),
            (
                "argument missing",
                ". {\nforward .\ncache 0\n}",
                "error 2:10 Wrong argument count or unexpected line ending after '.'",
            ),
        ],
        &InMemory::default(),
    );
}

#[test]
fn words() {
    check(
        &[
            (
                "comment glued to a word",
                ". {\nlog#x errors\n}",
                ".:53 {log \"errors\"}",
            ),
            (
                "escapes",
                ". {\nlog \"a\\\"b\" \"c\\d\" \"e\\\\\"\n}",
                r#".:53 {log "a\"b" "c\\d" "e\\\\"}"#,
            ),
            ("empty argument", ". {\nlog \"\"\n}", ".:53 {log \"\"}"),
            (
                "quoted line end",
                ". {\nlog \"a\nb\" c\n}",
                ".:53 {log \"a\\nb\" \"c\"}",
            ),
            (
                "quote within a word",
                ". {\nlog a\"b\n}",
                ".:53 {log \"a\\\"b\"}",
            ),
            (
                "other quotes",
                ". {\nlog 'a b' `c`\n}",
                ".:53 {log \"'a\" \"b'\" \"`c`\"}",
            ),
            (
                "backslash at the line's end",
                ". {\nlog \\\nerrors\n}",
                ".:53 {log \"\\\\\"; errors}",
            ),
            (
                "braces within words",
                ". {\nlog {a} {{ }}\n}",
                ".:53 {log \"{a}\" \"{{\" \"}}\"}",
            ),
            ("CRLF", ". {\r\nlog\r\n}\r\n", ".:53 {log}"),
            ("byte order mark", "\u{feff}. {\nlog\n}\n", ".:53 {log}"),
            ("no-break space", ".\u{a0}{\nlog\n}\n", ".:53 {log}"),
            (
                "lone carriage returns",
                ". {\rlog\r}\r",
                ".:53 {log}.:53 {}\n\
                 warning 1:4 a carriage return without a line feed does not end a line\n\
                 warning 1:3 Domain \"{log}.\" does not follow RFC1035 preferred syntax",
            ),
            (
                "unclosed quote",
                ". {\nlog\n}\n\"abc",
                "error 4:1 a quoted word is not closed",
            ),
            (
                "unclosed quote within a block",
                ". {\nlog \"abc\n}\n",
                "error 2:5 a quoted word is not closed",
            ),
        ],
        &InMemory::default(),
    );
}

#[test]
fn keys() {
    check(
        &[
            (
                "brace glued to the root",
                ".:53{\nlog\n}",
                "warning 3:1 this '}' ends a block that no '{' opened\n\
                 error 1:1 zone is not a valid domain name: .:53{",
            ),
            (
                "brace glued to a name",
                "a.b:53{\nlog\n}",
                "a.b:53{.:53 {log}\nwarning 3:1 this '}' ends a block that no '{' opened\n\
                 warning 1:1 Domain \"a.b:53{.\" does not follow RFC1035 preferred syntax",
            ),
            (
                "port alone",
                ":53 {\nlog\n}",
                "error 1:1 zone is not a valid domain name: the name is empty",
            ),
            (
                "no port",
                "a: {\n}",
                "error 1:2 expecting data after last colon: \"a:\"",
            ),
            (
                "empty label",
                "a..b {\n}",
                "error 1:1 zone is not a valid domain name: a..b",
            ),
            ("port with zeros", ".:053 {\n}", ".:53 {}"),
            ("port with a sign", ".:+53 {\n}", ".:53 {}"),
            (
                "port too large",
                ".:99999 {\nlog\n}",
                "error 1:3 address 99999: invalid port",
            ),
            (
                "port negative",
                ".:-1 {\nlog\n}",
                "error 1:3 address -1: invalid port",
            ),
            (
                "no number for a port",
                "a:x {\n}",
                "a:x.:53 {}\n\
                 warning 1:1 Domain \"a:x.\" does not follow RFC1035 preferred syntax",
            ),
            ("case", "Example.ORG {\n}", "example.org.:53 {}"),
            (
                "schemes",
                ". tls://. {\nwhoami\n}",
                ".:53 tls://.:853 {whoami}",
            ),
            (
                "all schemes",
                "dns://a quic://a grpc://a https://a https3://a https://b:8443 { }",
                "a.:53 quic://a.:853 grpc://a.:443 https://a.:443 https3://a.:443 \
                 https://b.:8443 {}",
            ),
            (
                "unknown scheme",
                "foo://a { }",
                "foo://a.:53 {}\n\
                 warning 1:1 Domain \"foo://a.\" does not follow RFC1035 preferred syntax",
            ),
            (
                "unix scheme",
                "unix:///run/dns { }",
                "error 1:1 no server can be built for a unix:// key",
            ),
            (
                "network, two zones",
                "10.0.0.0/15 {\n}",
                "0.10.in-addr.arpa.:53 1.10.in-addr.arpa.:53 {}",
            ),
            (
                "network, 64 zones",
                "10.9.3.0/18 {\n}",
                "0.9.10.in-addr.arpa.:53 … 63.9.10.in-addr.arpa.:53 (64) {}",
            ),
            (
                "network, 32 zones",
                "10.0.0.0/27 {\n}",
                "0.0.0.10.in-addr.arpa.:53 … 31.0.0.10.in-addr.arpa.:53 (32) {}",
            ),
            (
                "network, all of IPv4",
                "0.0.0.0/0 {\n}",
                "in-addr.arpa.:53 {}",
            ),
            (
                "network with a port",
                "2001:db8::/32:5353 {\n}",
                "8.b.d.0.1.0.0.2.ip6.arpa.:5353 {}",
            ),
            (
                "IPv6 address without a mask",
                "2001:db8::1 {\n}",
                "2001:db8:.:1 {}\n\
                 warning 1:1 Domain \"2001:db8:.\" does not follow RFC1035 preferred syntax",
            ),
            (
                "IPv4 address without a mask",
                "10.0.0.0 {\n}",
                "10.0.0.0.:53 {}\n\
                 warning 1:1 Domain \"10.0.0.0.\" does not follow RFC1035 preferred syntax",
            ),
            (
                "impossible mask",
                "10.0.0.0/33 {\n}",
                "10.0.0.0/33.:53 {}\n\
                 warning 1:1 Domain \"10.0.0.0/33.\" does not follow RFC1035 preferred syntax",
            ),
            ("all of IPv6", "::/0 {\n}", "error 1:1 invalid CIDR ::/0"),
            (
                "expansion goes behind the other keys",
                "10.0.0.0/15 a {\n}",
                "0.10.in-addr.arpa.:53 a.:53 1.10.in-addr.arpa.:53 {}",
            ),
            (
                "all bad keys are reported",
                "a..b c: {\n}\n:53 {\n}",
                "error 1:1 zone is not a valid domain name: a..b\n\
                 error 1:7 expecting data after last colon: \"c:\"\n\
                 error 3:1 zone is not a valid domain name: the name is empty",
            ),
        ],
        &InMemory::default(),
    );
}

#[test]
fn overlaps() {
    check(
        &[
            (
                "twice in two blocks",
                "a {\n}\na:53 {\n}",
                "error 3:1 cannot serve dns://a.:53 - it is already defined",
            ),
            (
                "twice in one block",
                "a a {\n}",
                "error 1:3 cannot serve dns://a.:53 - it is already defined",
            ),
            (
                "zones are case-insensitive",
                "a A {\n}",
                "error 1:3 cannot serve dns://a.:53 - it is already defined",
            ),
            (
                "networks with one zone",
                "192.0.2.2/16 192.0.2.3/16 {\n}",
                "error 1:14 cannot serve dns://0.192.in-addr.arpa.:53 - it is already defined",
            ),
            (
                "two addresses",
                "a {\nbind 127.0.0.1\n}\na {\nbind 127.0.0.2\n}",
                "a.:53 {bind \"127.0.0.1\"}\na.:53 {bind \"127.0.0.2\"}",
            ),
            (
                "an address and none",
                "a {\nbind 127.0.0.1\n}\na {\n}",
                "error 4:1 cannot serve dns://a.:53 - zone overlap listener capacity with \
                 dns://a.:53 on 127.0.0.1",
            ),
            (
                "none and an address",
                "a {\n}\na {\nbind 127.0.0.1\n}",
                "error 3:1 cannot serve dns://a.:53 on 127.0.0.1 - zone overlap listener \
                 capacity with dns://a.:53",
            ),
            (
                "other port, other scheme",
                "a a:54 tls://a {\n}",
                "a.:53 a.:54 tls://a.:853 {}",
            ),
        ],
        &InMemory::default(),
    );
}

#[test]
fn environment() {
    let loader = InMemory::default()
        .variable("Z", "ex.org")
        .variable("D", "log")
        .variable("UP", "1.1.1.1 8.8.8.8")
        .variable("BRACE", "}")
        .variable("OPEN", "{")
        .variable("EMPTY", "")
        .variable("COMMA", "a,")
        .variable("FILE", "s")
        .variable("SELF", "{$SELF}");
    check(
        &[
            ("key", "{%Z%} {\nlog\n}", "ex.org.:53 {log}"),
            (
                "key with a port",
                "{$Z}:5300 {\nlog\n}",
                "ex.org.:5300 {log}",
            ),
            ("directive", ". {\n{$D}\n}", ".:53 {log}"),
            (
                "within quotes",
                ". {\nlog \"x {$Z}\"\n}",
                ".:53 {log \"x ex.org\"}",
            ),
            (
                "blanks stay in one word",
                ". {\nforward . {$UP}\n}",
                "error 2:11 not an IP address: '1.1.1.1 8.8.8.8'",
            ),
            (
                "a brace from a variable is text",
                ". {\n{$BRACE}\n}",
                "error 2:1 Unknown directive '}'",
            ),
            (
                "a brace is no key",
                "{$OPEN} {\n}",
                "error 1:1 '{$OPEN}' is '{', which is no key",
            ),
            (
                "comma from a variable",
                "{$COMMA}\nb {\n}",
                "a.:53 b.:53 {}",
            ),
            (
                "import argument",
                "(s) {\nlog\n}\n. {\nimport {$FILE}\n}",
                ".:53 {log}",
            ),
            ("empty argument", ". {\nlog {$EMPTY}\n}", ".:53 {log \"\"}"),
            (
                "empty key",
                "{$EMPTY} {\n}",
                "error 1:1 '{$EMPTY}' is '', which is no key",
            ),
            (
                "empty directive",
                ". {\n{$EMPTY}\n}",
                "error 2:1 Unknown directive ''",
            ),
            (
                "empty import",
                ". {\nimport {$EMPTY}\n}",
                "error 2:8 Import requires a non-empty filepath",
            ),
            (
                "unset key",
                "{$NO}:53 {\n}",
                "error 1:1 environment variable 'NO' is not set",
            ),
            (
                "unset directive",
                ". {\n{$NO}\n}",
                "error 2:1 environment variable 'NO' is not set",
            ),
            (
                "unset argument",
                ". {\nforward . 1.1.1.1 a{%NO%}\n}",
                "error 2:20 environment variable 'NO' is not set",
            ),
            (
                "unset import",
                ". {\nimport {$NO}\n}",
                "error 2:8 environment variable 'NO' is not set",
            ),
            (
                "no default value",
                ". {\nlog {$A:x}\n}",
                "error 2:5 environment variable 'A:x' is not set",
            ),
            (
                "endless",
                ". {\nlog {$SELF}\n}",
                "error 2:5 environment variable 'SELF' refers to itself",
            ),
        ],
        &loader,
    );
}

#[test]
fn snippets_and_imports() {
    let loader = InMemory::default()
        .file("log.conf", "log")
        .file("two.conf", "log\nerrors\n")
        .file("blocks.conf", "a {\nlog\n}\nb {\n}\n")
        .file("empty.conf", "# nothing\n")
        .file("snippets.conf", "(s) {\nlog\n}\n")
        .file("property.conf", "lameduck 5s")
        .file("self.conf", "import self.conf")
        .file("ping.conf", "log\nimport pong.conf")
        .file("pong.conf", "import ping.conf\nlog")
        .file("bad.conf", "log\nfoo\n");
    check(
        &[
            ("snippet", "(s) {\nlog\n}\n. {\nimport s\n}", ".:53 {log}"),
            (
                "snippet on a line",
                "(s) { log }\n. { import s\n}",
                ".:53 {log}",
            ),
            (
                "snippet twice stays two lines",
                "(s) {\nlog\n}\n. {\nimport s\nimport s\n}",
                ".:53 {log; log}",
            ),
            (
                "snippet of a snippet",
                "(s) {\nlog\n}\n(t) {\nimport s\nerrors\n}\n. {\nimport t\n}",
                ".:53 {log; errors}",
            ),
            (
                "snippet in a plugin's block",
                "(s) {\nlameduck 5s\n}\n. {\nhealth {\nimport s\n}\n}",
                ".:53 {health [lameduck 5s]}",
            ),
            (
                "snippet of whole blocks",
                "(s) {\na {\nlog\n}\n}\nimport s\nb {\n}",
                "a.:53 {log}\nb.:53 {}",
            ),
            (
                "snippet of keys",
                "(s) {\na\n}\nb,\nimport s\n{\nlog\n}",
                "b.:53 a.:53 {log}",
            ),
            (
                "a mistake in a snippet is reported once",
                "(s) {\nfoo\n}\n. {\nimport s\n}\na {\nimport s\n}",
                "error 2:1 Unknown directive 'foo'",
            ),
            (
                "snippet defined twice",
                "(s) {\nlog\n}\n(s) {\nlog\n}",
                "error 4:1 redeclaration of previously declared snippet s",
            ),
            (
                "snippet of itself",
                "(s) {\nimport s\n}\n. {\n}",
                "error 2:8 maximum snippet import depth (10000) exceeded",
            ),
            (
                "snippet used before it is defined",
                ". {\nimport s\n}\n(s) {\nlog\n}",
                "error 2:8 File to import not found: s",
            ),
            (
                "snippet without braces",
                "(s)\nlog\n",
                "error 2:1 Unexpected token 'log', expecting '{'",
            ),
            (
                "snippet at the end",
                ". {\n}\n(s)",
                "error 3:4 Unexpected EOF",
            ),
            (
                "snippet not closed",
                "(s) {\nlog\n",
                "error 2:4 Unexpected token 'log', expecting '}'",
            ),
            ("file", ". {\nimport log.conf\n}", ".:53 {log}"),
            (
                "file without a line end",
                ". {\nimport log.conf\nerrors\n}",
                ".:53 {log; errors}",
            ),
            (
                "file of blocks",
                "import blocks.conf\n. {\n}",
                "a.:53 {log}\nb.:53 {}\n.:53 {}",
            ),
            (
                "file in a plugin's block",
                ". {\nhealth {\nimport property.conf\n}\n}",
                ".:53 {health [lameduck 5s]}",
            ),
            (
                "file of nothing",
                "import empty.conf\n. {\nimport empty.conf\n}",
                ".:53 {}",
            ),
            (
                "file of snippets",
                "import snippets.conf\n. {\nimport s\n}",
                ".:53 {log}",
            ),
            ("file alone and of nothing", "import empty.conf", ""),
            ("glob", ". {\nimport *o.conf\n}", ".:53 {log; errors}"),
            (
                "glob without a match",
                ". {\nimport none/*.x\n}",
                ".:53 {}\nwarning 2:8 No files matching import glob pattern: none/*.x",
            ),
            (
                "no file",
                ". {\nimport none\n}",
                "error 2:8 File to import not found: none",
            ),
            (
                "two arguments",
                ". {\nimport a b\n}",
                "error 2:10 Import takes only one argument (glob pattern or file)",
            ),
            (
                "brace on the line",
                ". { import log.conf }",
                "error 1:21 Import takes only one argument (glob pattern or file)",
            ),
            (
                "no argument",
                ". {\nimport\n}",
                "error 2:7 Wrong argument count or unexpected line ending after 'import'",
            ),
            (
                "two wildcards",
                ". {\nimport */*\n}",
                "error 2:8 Glob pattern may only contain one wildcard (*), but has others: */*",
            ),
            (
                "file of itself",
                ". {\nimport self.conf\n}",
                "error 1:8 maximum file import depth (100000) exceeded",
            ),
            (
                "files of each other",
                ". {\nimport ping.conf\n}",
                "error 1:8 maximum file import depth (100000) exceeded",
            ),
            (
                "mistake in a file",
                ". {\nimport bad.conf\n}",
                "error 2:1 Unknown directive 'foo'",
            ),
            (
                "import is a word within a line",
                ". {\nlog import a\n}\nb import {\n}",
                ".:53 {log \"import\" \"a\"}\nb.:53 import.:53 {}",
            ),
        ],
        &loader,
    );
}

#[test]
fn the_default_block_parses() {
    let file = read(DEFAULT_COREFILE).unwrap();
    let names: Vec<_> = file.blocks[0]
        .directives
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, ["whoami", "log"]);
    assert!(file.warnings.is_empty());
}

#[test]
fn a_filtered_block_may_repeat_a_zone_in_either_order() {
    let file = read("a {\n}\na {\n}").unwrap();
    let keys = |at: usize| file.blocks[at].read_keys().unwrap().list.remove(0);
    for (first, second) in [(true, false), (false, true), (true, true)] {
        let mut overlaps = lodestone::corefile::Overlaps::default();
        assert!(overlaps.claim(&keys(0), 53, None, first).is_ok());
        assert!(overlaps.claim(&keys(1), 53, None, second).is_ok());
        // Two unfiltered blocks conflict, regardless of filtered ones before them.
        let another = overlaps.claim(&keys(0), 53, None, false);
        assert_eq!(another.is_err(), !(first && second));
        let bound = Some(std::net::IpAddr::from([127, 0, 0, 1]).into());
        assert!(
            overlaps.claim(&keys(1), 53, bound, true).is_err(),
            "not for bind overlaps"
        );
    }
}
