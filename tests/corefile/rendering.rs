//! Complete rendered output.

use lodestone::corefile::InMemory;

use super::{configure, read_with};

fn rendered(text: &str) -> String {
    let loader = InMemory::default()
        .file("custom/x", "log\nfoo")
        .variable("EMPTY", "");
    let out = read_with(text, &loader).and_then(|file| {
        configure(&file)?;
        let keys = file
            .blocks
            .iter()
            .filter_map(|block| block.read_keys().ok());
        let warnings = keys.flat_map(|keys| keys.warnings);
        Ok(file.report(file.warnings.iter().cloned().chain(warnings).collect()))
    });
    out.unwrap_or_else(|errors| errors).to_string()
}

#[track_caller]
fn check(text: &str, expected: &str) {
    let found = rendered(text);
    let expected = expected.trim_matches('\n');
    assert!(
        found == expected,
        "-- expected\n{expected}\n-- found\n{found}"
    );
}

#[test]
fn misspelt_directive() {
    check(
        ".:53 {\n    kuberntes cluster.local\n    errors\n}\n",
        r"
error: Unknown directive 'kuberntes'
 --> Corefile:2:5
  |
2 |     kuberntes cluster.local
  |     ^^^^^^^^^ expected the name of a plugin
  |
  = help: did you mean 'kubernetes'?
",
    );
}

#[test]
fn brace_glued_to_a_key() {
    check(
        ".:53{\n    log\n}\n",
        r"
warning: this '}' ends a block that no '{' opened
 --> Corefile:3:1
  |
3 | }
  | ^ nothing to close
  |
  = help: put a blank in front of the '{' behind the key

error: zone is not a valid domain name: .:53{
 --> Corefile:1:1
  |
1 | .:53{
  | ^^^^^ expected a domain name without empty labels
  |
  = help: put a blank in front of the brace: .:53 {
",
    );
}

#[test]
fn key_without_a_zone() {
    check(
        ":53 {\n    log\n}\n",
        r"
error: zone is not a valid domain name: the name is empty
 --> Corefile:1:1
  |
1 | :53 {
  | ^ expected a zone
  |
  = help: write .:53 for the root zone
",
    );
}

#[test]
fn key_without_a_port() {
    check(
        "a: {\n}\n",
        r#"
error: expecting data after last colon: "a:"
 --> Corefile:1:2
  |
1 | a: {
  |  ^ expected a port behind the colon
  |
  = help: write a:53 or remove the colon
"#,
    );
}

#[test]
fn port_out_of_range() {
    check(
        ".:99999 {\n}\n",
        r"
error: address 99999: invalid port
 --> Corefile:1:3
  |
1 | .:99999 {
  |   ^^^^^ expected a port from 0 to 65535
",
    );
}

#[test]
fn extra_comma() {
    check(
        "example.org, {\n}\n",
        r"
error: Expected another address but had '{' - check for extra comma
 --> Corefile:1:12
  |
1 | example.org, {
  |            ^ no key follows this comma
  |
  = help: remove the comma
",
    );
}

#[test]
fn block_not_closed() {
    check(
        ".:53 {\n    log\n",
        r"
error: Unexpected token 'log', expecting '}'
 --> Corefile:2:8
  |
1 | .:53 {
  |      - the block is opened here
2 |     log
  |        ^ expected '}' before the end
",
    );
}

#[test]
fn plugin_block_not_closed() {
    check(
        ".:53 {\n    health {\n        lameduck 5s\n",
        r"
error: Unexpected EOF
 --> Corefile:3:20
  |
2 |     health {
  |            - the block of 'health' is opened here
3 |         lameduck 5s
  |                    ^ expected '}'
",
    );
}

#[test]
fn directive_on_the_line_of_the_brace() {
    check(
        ". { log }\n",
        r"
error: Unexpected '}' because no matching opening brace
 --> Corefile:1:9
  |
1 | . { log }
  |         ^ expected a line end in front of it
  |
  = help: put the closing brace on its own line
",
    );
}

#[test]
fn variable_that_is_not_set() {
    check(
        ".:53 {\n    forward . {$UPSTREAM}:53\n}\n",
        r"
error: environment variable 'UPSTREAM' is not set
 --> Corefile:2:15
  |
2 |     forward . {$UPSTREAM}:53
  |               ^^^^^^^^^^^ expected a variable that is set
  |
  = help: set UPSTREAM in the server's environment, empty if need be
",
    );
}

#[test]
fn variable_of_a_template() {
    check(
        ".:53 {\n    template IN A {\n        answer \"{{$x}}\"\n    }\n}\n",
        r#"
error: environment variable 'x' is not set
 --> Corefile:3:18
  |
3 |         answer "{{$x}}"
  |                  ^^^^ expected a variable that is set
  |
  = help: a template's own variable needs a blank: {{ $x }}
"#,
    );
}

#[test]
fn imports_that_fail() {
    check(
        ".:53 {\n    import missing\n    import a b\n    import\n}\n",
        r"
error: File to import not found: missing
 --> Corefile:2:12
  |
2 |     import missing
  |            ^^^^^^^ no snippet of this name above, and no file missing

error: Import takes only one argument (glob pattern or file)
 --> Corefile:3:14
  |
3 |     import a b
  |              ^ one too many

error: Wrong argument count or unexpected line ending after 'import'
 --> Corefile:4:11
  |
4 |     import
  |           ^ expected the name of a snippet, a file or a glob pattern
",
    );
}

#[test]
fn snippet_defined_twice() {
    check(
        "(s) {\n    log\n}\n(s) {\n    errors\n}\n",
        r"
error: redeclaration of previously declared snippet s
 --> Corefile:4:1
  |
1 | (s) {
  | --- first defined here
...
4 | (s) {
  | ^^^ the name is taken
",
    );
}

#[test]
fn quote_not_closed() {
    check(
        ".:53 {\n    log \"never closed\n}\n",
        r#"
error: a quoted word is not closed
 --> Corefile:2:9
  |
2 |     log "never closed
  |         ^ this quote has no partner
  |
  = help: add the closing "; inside quotes, write a quote as \"
"#,
    );
}

#[test]
fn zone_defined_twice() {
    check(
        "a.example {\n}\nb.example A.example {\n}\n",
        r"
error: cannot serve dns://a.example.:53 - it is already defined
 --> Corefile:3:11
  |
1 | a.example {
  | --------- first defined here
2 | }
3 | b.example A.example {
  |           ^^^^^^^^^ gives a.example. again
",
    );
}

#[test]
fn bound_and_unbound() {
    check(
        "a.example {\n    bind 127.0.0.1\n}\na.example {\n}\n",
        r"
error: cannot serve dns://a.example.:53 - zone overlap listener capacity with dns://a.example.:53 on 127.0.0.1
 --> Corefile:4:1
  |
1 | a.example {
  | --------- the other one
...
4 | a.example {
  | ^^^^^^^^^ one is bound to an address, the other to none
  |
  = help: give both blocks a bind line, or neither
",
    );
}

#[test]
fn misspelt_property() {
    check(
        ".:53 {\n    health {\n        lamduck 5s\n    }\n}\n",
        r"
error: unknown property 'lamduck'
 --> Corefile:3:9
  |
3 |         lamduck 5s
  |         ^^^^^^^ expected lameduck
  |
  = help: did you mean 'lameduck'?
",
    );
}

#[test]
fn duration_without_a_unit() {
    check(
        ".:53 {\n    health {\n        lameduck 30\n    }\n}\n",
        r#"
error: time: missing unit in duration "30"
 --> Corefile:3:18
  |
3 |         lameduck 30
  |                  ^^ expected a duration such as 5s or 1m30s
  |
  = help: write 30s for seconds
"#,
    );
}

#[test]
fn argument_missing() {
    check(
        ".:53 {\n    health {\n        lameduck\n    }\n}\n",
        r"
error: Wrong argument count or unexpected line ending after 'lameduck'
 --> Corefile:3:17
  |
3 |         lameduck
  |                 ^ expected a duration
",
    );
}

#[test]
fn closing_brace_on_the_line() {
    check(
        ".:53 {\n    health { lameduck 5s }\n}\n",
        r"
warning: this '}' is read as an argument of 'lameduck' too
 --> Corefile:2:26
  |
2 |     health { lameduck 5s }
  |                          ^ closes the block as well
  |
  = help: put the closing brace on its own line

error: Wrong argument count or unexpected line ending after '}'
 --> Corefile:2:26
  |
2 |     health { lameduck 5s }
  |                          ^ 'lameduck' takes one argument
  |
  = help: put the closing brace on its own line
",
    );
}

#[test]
fn address_with_a_port() {
    check(
        ".:53 {\n    forward . 8.8.8.8:53\n}\n",
        r"
error: not an IP address: '8.8.8.8:53'
 --> Corefile:2:15
  |
2 |     forward . 8.8.8.8:53
  |               ^^^^^^^^^^ expected an IP address such as 10.0.0.10 or fd00::10
  |
  = help: write 8.8.8.8 alone
",
    );
}

#[test]
fn plugin_used_twice() {
    check(
        ".:53 {\n    cache 30\n    cache 60\n}\n",
        r"
error: this plugin can only be used once per Server Block
 --> Corefile:3:5
  |
2 |     cache 30
  |     ----- first used here
3 |     cache 60
  |     ^^^^^ the second use
",
    );
}

#[test]
fn block_left_open() {
    check(
        ".:53 {\n    errors\nexample.org:53 {\n    log\n}\n",
        r"
error: Unknown directive 'example.org:53'
 --> Corefile:3:1
  |
1 | .:53 {
  |      - this block is still open
2 |     errors
3 | example.org:53 {
  | ^^^^^^^^^^^^^^ this looks like the key of another server block
  |
  = help: close the block above with '}' first

warning: the closing brace of a server block is missing
 --> Corefile:5:2
  |
1 | .:53 {
  |      - the block is opened here
...
5 | }
  |  ^ expected another '}'
",
    );
}

#[test]
fn brace_on_its_own_line() {
    check(
        ".:53 {\n    health\n    {\n        lameduck 5s\n    }\n}\n",
        r"
error: Unexpected token '{' after 'health' on a line of its own
 --> Corefile:3:5
  |
3 |     {
  |     ^ a plugin's block opens on the line of its name
  |
  = help: move the brace to the end of the line of 'health'
",
    );
}

#[test]
fn mistake_in_an_imported_file() {
    check(
        ".:53 {\n    import custom/x\n}\n",
        r"
error: Unknown directive 'foo'
 --> custom/x:2:1
  |
2 | foo
  | ^^^ expected the name of a plugin
",
    );
}

#[test]
fn columns_are_counted_in_characters() {
    check(
        ".:53 {\n\tlog\t\"é你\" \"\n\t}\n",
        r#"
error: a quoted word is not closed
 --> Corefile:2:11
  |
2 |     log    "é你" "
  |                  ^ this quote has no partner
  |
  = help: add the closing "; inside quotes, write a quote as \"
"#,
    );
}

#[test]
fn stray_brace() {
    check(
        ".:53 {\n    log\n}\n}\n",
        r#"
warning: '}' behind the last block is served as a zone without plugins
 --> Corefile:4:1
  |
4 | }
  | ^ its names are answered with REFUSED
  |
  = help: remove the brace, or look for one too many above

warning: Domain "}." does not follow RFC1035 preferred syntax
 --> Corefile:4:1
  |
4 | }
  | ^ served as the zone }.
"#,
    );
}

#[test]
fn odd_keys() {
    check(
        "tsl://example.org 10.0.0.1 {\n}\n",
        r#"
warning: Domain "tsl://example.org." does not follow RFC1035 preferred syntax
 --> Corefile:1:1
  |
1 | tsl://example.org 10.0.0.1 {
  | ^^^^^^^^^^^^^^^^^ served as the zone tsl://example.org.
  |
  = help: did you mean tls://example.org?

warning: Domain "10.0.0.1." does not follow RFC1035 preferred syntax
 --> Corefile:1:19
  |
1 | tsl://example.org 10.0.0.1 {
  |                   ^^^^^^^^ served as the zone 10.0.0.1.
  |
  = help: for a reverse zone write 10.0.0.1/32
"#,
    );
}

#[test]
fn carriage_returns() {
    check(
        ".:53 {\n    log\r\n    foo\r\n}\r\n",
        r"
error: Unknown directive 'foo'
 --> Corefile:3:5
  |
3 |     foo
  |     ^^^ expected the name of a plugin
",
    );
}
