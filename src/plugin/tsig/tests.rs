use super::*;
use crate::plugin::testing;

fn read(text: &str) -> Result<(Config, Vec<String>), String> {
    testing::read(text, "example.org.", parse)
}

#[test]
fn every_option_is_read() {
    let text = "tsig a.test {
        secret Transfer.example c2VjcmV0
        secret other.example. b3RoZXI=
        secrets more.keys
        require AXFR ixfr
        require_opcode QUERY
    }";
    let (config, warnings) = read(text).unwrap();
    assert_eq!(config.zones.label(), "a.test.");
    let name = Name::parse("transfer.example").unwrap();
    assert_eq!(&*config.keys[&name].0, b"secret");
    assert_eq!((config.keys.len(), config.files.len()), (2, 1));
    let types = Required::Only([Type::AXFR, Type::IXFR].into());
    assert_eq!(config.types, types);
    assert_eq!(config.opcodes, Required::Only([0].into()));
    assert_eq!(warnings, [] as [String; 0]);
    assert!(
        !format!("{config:?}").contains("secret\""),
        "the secret is not printed"
    );

    let key = "secret a c2VjcmV0";
    let (config, _) = read(&format!(
        "tsig {{\n{key}\nrequire all\nrequire_opcode none\n}}"
    ))
    .unwrap();
    assert_eq!(config.zones.label(), "example.org.");
    assert_eq!(
        (config.types, config.opcodes),
        (Required::All, Required::default())
    );
    let (_, warnings) = read(&format!(
        "tsig {{\n{key}\nrequire_opcode UPDATE QUERY notify iquery\n}}"
    ))
    .unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_eq!(read("tsig").unwrap().1.len(), 1, "without keys");
}

#[test]
fn invalid_directives_are_rejected() {
    for (line, words) in [
        ("secret a", "the secret in base64"),
        ("secret a ?", "the secret is not base64"),
        ("secret a..b c2VjcmV0", "'a..b' is no name of a key"),
        ("secret a c2VjcmV0\nsecret A. c2VjcmV0", "defined twice"),
        ("secrets", "a file of keys"),
        ("require", "types, 'all' or 'none'"),
        ("require NOTHING", "NOTHING"),
        ("require all AXFR", "'all' must be the only value"),
        ("require_opcode none QUERY", "'none' must be the only value"),
        ("require_opcode AXFR", "'AXFR' is no opcode"),
        ("secret_file x", "unknown property 'secret_file'"),
    ] {
        let error = read(&format!("tsig {{\n{line}\n}}")).unwrap_err();
        assert!(error.contains(words), "{line}: {error}");
    }
}
