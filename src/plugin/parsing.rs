//! What the parser of a directive is given besides its words.

use std::path::{Path, PathBuf};

use crate::{
    corefile::{Diagnostic, Directive},
    interfaces::Interfaces,
};

/// All errors of a directive.
pub type ParseErrors = Vec<Diagnostic>;

/// The surroundings of a directive.
pub struct Parsing<'a> {
    /// The zones of the block's keys.
    pub zones: &'a [String],
    /// Every directive of the block, for plugins that depend on another one.
    pub directives: &'a [Directive],
    /// The machine's network interfaces.
    pub interfaces: &'a Interfaces,
    /// Collects warnings.
    pub warnings: &'a mut Vec<Diagnostic>,
}

impl Parsing<'_> {
    /// Resolves the path of a file: a relative one is below the last `root` of the block.
    pub fn path(&self, path: &Path) -> PathBuf {
        let mut roots = self.directives.iter().filter(|it| it.name == "root");
        let root = roots.next_back().and_then(|root| root.arguments.first());
        root.map_or_else(
            || path.to_owned(),
            |root| Path::new(root.as_str()).join(path),
        )
    }
}
