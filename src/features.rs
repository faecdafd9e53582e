//! Optional parts of the program: cargo features, all enabled by default.
//!
//! Corefile words and schemes of a disabled feature are still parsed, so that the error can name the
//! feature.

use std::fmt;

/// A cargo feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// DNS over QUIC as listener and upstream, and HTTP/3 listeners.
    Quic,
    /// DNS over HTTPS as listener and upstream.
    Https,
    /// CoreDNS's gRPC service as listener and as upstream (the plugin `grpc`).
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
    /// The flag `-hickory`, and this library's zones for servers made of hickory-server.
    Hickory,
}

/// The error for a configured feature that this build lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("built without the feature `{0}`")]
pub struct NotBuilt(pub Feature);

impl Feature {
    /// All features, in the order of Cargo.toml.
    pub const ALL: [Self; 9] = [
        Self::Quic,
        Self::Https,
        Self::Grpc,
        Self::Etcd,
        Self::Dnstap,
        Self::Trace,
        Self::Template,
        Self::Lab,
        Self::Hickory,
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
            Self::Hickory => "hickory",
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
            Self::Hickory => cfg!(feature = "hickory"),
        }
    }

    /// An error if this build lacks it.
    pub const fn required(self) -> Result<(), NotBuilt> {
        if self.is_built() {
            Ok(())
        } else {
            Err(NotBuilt(self))
        }
    }
}

impl NotBuilt {
    /// Advice for the operator.
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
