//! What has to hold for every text that is given for a Corefile: for the mutants of real ones
//! (`tests/mutants.rs`) and for those that a fuzzer makes (`tests/fuzz/targets`).

use lodestone::{
    config::{Config, Source, elsewhere, order::ORDER},
    corefile::{Diagnostics, Memory, Severity, layout},
    interfaces::Interfaces,
};

/// Reads the text as a start does, as `check` tells it and as `fmt` lays it out; panics where
/// something does not hold.
pub fn examine(text: &str) {
    let loader = loader();
    let source = Source {
        name: "Corefile",
        text,
        loader: &loader,
        interfaces: &Interfaces::default(),
        default_port: 53,
    };
    match Config::read(&source) {
        Ok(config) => {
            assert!(!config.warnings.has_errors());
            told(&config.warnings);
        }
        Err(wrong) => {
            assert!(wrong.has_errors(), "refused without an error");
            told(&wrong);
        }
    }
    let words = ORDER.iter().map(|word| word.name);
    let words: Vec<&str> = words.chain(elsewhere::words()).collect();
    match layout("Corefile", text, &words) {
        Ok(once) => assert_eq!(layout("Corefile", &once, &words).ok(), Some(once)),
        Err(wrong) => told(&wrong),
    }
}

/// Every diagnostic points somewhere and can be drawn.
fn told(found: &Diagnostics) {
    for one in &found.list {
        let of_the_whole = one.severity == Severity::Warning && one.code() == "no-block";
        let in_text = one
            .place
            .is_some_and(|place| found.sources.slice(place).is_some());
        assert!(in_text || of_the_whole, "no place: {}", one.message);
    }
    assert!(found.list.is_empty() || !found.to_string().is_empty());
}

/// What a text may import and refer to.
fn loader() -> Memory {
    Memory::default()
        .file("custom/a.override", "log\n")
        .file("custom/b.server", "b.example {\n    whoami\n}\n")
        .file("/etc/coredns/custom/a.override", "errors\n")
        .file("circle", "import circle\n")
        .variable("POD_IP", "192.0.2.1")
        .variable("SELF", "{$SELF}")
}
