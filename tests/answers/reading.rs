//! The lines of a server block, parsed by one plugin.

use lodestone::{
    corefile::{self, Diagnostic, Directive, File, Memory},
    interfaces::Interfaces,
    plugin::{ParseErrors, Parsing},
};

/// Parses the uses of `word` in a block of `zones` with these lines. The words of `others` may stand
/// beside it.
pub fn parsed<C>(
    lines: &str,
    zones: &[&str],
    word: &str,
    others: &[&str],
    parse: impl FnOnce(&[&Directive], &mut Parsing<'_>) -> Result<C, ParseErrors>,
) -> (File, Result<C, ParseErrors>, Vec<Diagnostic>) {
    let text = format!("a.example:53 {{\n{lines}\n}}\n");
    let known: Vec<&str> = others.iter().copied().chain([word]).collect();
    let file = corefile::parse("Corefile", &text, &known[..], &Memory::default()).unwrap();
    let zones: Vec<String> = zones.iter().map(ToString::to_string).collect();
    let directives = &file.blocks[0].directives;
    let uses: Vec<_> = directives.iter().filter(|one| one.name == word).collect();
    let mut warnings = Vec::new();
    let mut parsing = Parsing {
        zones: &zones,
        directives,
        interfaces: &Interfaces::default(),
        warnings: &mut warnings,
    };
    let config = parse(&uses, &mut parsing);
    (file, config, warnings)
}
