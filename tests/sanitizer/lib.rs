//! `src/datagrams` of the crate, alone: see `Cargo.toml`.

#![allow(
    dead_code,
    missing_docs,
    unused_imports,
    reason = "the rest of the crate uses it"
)]

#[path = "../../src"]
mod source {
    pub mod datagrams;
}

/// What it imports of `src/wire`.
mod wire {
    pub(crate) const MAX_MESSAGE: usize = 65_535;
}
