//! Optional parts of the program: cargo features, all of which a build has unless it says otherwise.
//!
//! Corefile words and schemes of a part that is missing stay known, so that their use is refused with
//! the name of the feature.

use std::fmt;

/// A part of the program that a build can leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// DNS over QUIC, as listener and upstream, and listeners of HTTP/3.
    Quic,
    /// DNS over HTTPS, as listener and upstream.
    Https,
    /// CoreDNS's service of gRPC, as listener and as upstream (the plugin `grpc`).
    Grpc,
    /// The plugin of that name.
    Etcd,
    /// The plugin of that name.
    Dnstap,
    /// The plugin of that name.
    Trace,
    /// The plugin of that name.
    Template,
    /// The verb `lodestone lab`.
    Lab,
}

/// Something is configured that this build leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("built without the feature `{0}`")]
pub struct NotBuilt(pub Feature);

impl Feature {
    /// All of them, in the order of Cargo.toml.
    pub const ALL: [Self; 8] = [
        Self::Quic,
        Self::Https,
        Self::Grpc,
        Self::Etcd,
        Self::Dnstap,
        Self::Trace,
        Self::Template,
        Self::Lab,
    ];

    /// The name in Cargo.toml.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Https => "https",
            Self::Grpc => "grpc",
            Self::Etcd => "etcd",
            Self::Dnstap => "dnstap",
            Self::Trace => "trace",
            Self::Template => "template",
            Self::Lab => "lab",
        }
    }

    /// Whether this build has it.
    pub const fn is_built(self) -> bool {
        match self {
            Self::Quic => cfg!(feature = "quic"),
            Self::Https => cfg!(feature = "https"),
            Self::Grpc => cfg!(feature = "grpc"),
            Self::Etcd => cfg!(feature = "etcd"),
            Self::Dnstap => cfg!(feature = "dnstap"),
            Self::Trace => cfg!(feature = "trace"),
            Self::Template => cfg!(feature = "template"),
            Self::Lab => cfg!(feature = "lab"),
        }
    }

    /// An error where this build leaves it out.
    pub const fn required(self) -> Result<(), NotBuilt> {
        if self.is_built() {
            Ok(())
        } else {
            Err(NotBuilt(self))
        }
    }
}

impl NotBuilt {
    /// What to do about it.
    pub fn help(self) -> String {
        format!(
            "use a build that has it, as the container image does, or build with --features {}",
            self.0
        )
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}
