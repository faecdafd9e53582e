//! Properties of every text read as a Corefile: for mutants of real ones (`tests/mutants.rs`) and
//! for the inputs of a fuzzer (`tests/fuzz/targets`).

use lodestone::{
    config::{Config, Source, order::ORDER, unsupported},
    corefile::{Diagnostics, InMemory, Severity, format},
    interfaces::Interfaces,
};

/// Reads the text as a start, `check` and `fmt` do; panics if a property does not hold.
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
            check_rendering(&config.warnings);
        }
        Err(wrong) => {
            assert!(wrong.has_errors(), "refused without an error");
            check_rendering(&wrong);
        }
    }
    let words = ORDER.iter().map(|word| word.name);
    let words: Vec<&str> = words.chain(unsupported::words()).collect();
    match format("Corefile", text, &words) {
        Ok(once) => assert_eq!(format("Corefile", &once, &words).ok(), Some(once)),
        Err(wrong) => check_rendering(&wrong),
    }
}

/// Every diagnostic has a valid span and can be rendered.
fn check_rendering(found: &Diagnostics) {
    for one in &found.list {
        let is_of_the_file = one.severity == Severity::Warning && one.code() == "no-block";
        let in_text = one
            .span
            .is_some_and(|span| found.sources.slice(span).is_some());
        assert!(in_text || is_of_the_file, "no span: {}", one.message);
    }
    assert!(found.list.is_empty() || !found.to_string().is_empty());
}

/// Files and variables that a text can refer to.
fn loader() -> InMemory {
    InMemory::default()
        .file("custom/a.override", "log\n")
        .file("custom/b.server", "b.example {\n    whoami\n}\n")
        .file("/etc/coredns/custom/a.override", "errors\n")
        .file("circle", "import circle\n")
        .variable("POD_IP", "192.0.2.1")
        .variable("SELF", "{$SELF}")
}
