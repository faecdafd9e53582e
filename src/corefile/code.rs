//! Stable codes for kinds of diagnostics, for machine-readable output: see `docs/check.md`.

use super::diagnostic::{Diagnostic, Severity};

/// Message part and code. The first entry whose part occurs in the message applies.
const CODES: &[(&str, &str)] = &[
    // The language.
    ("Unknown directive", "unknown-directive"),
    ("unknown property", "unknown-property"),
    ("Unknown field", "unknown-property"),
    ("unknown option", "unknown-property"),
    ("Wrong argument count", "argument-count"),
    ("can only be used once", "used-twice"),
    ("environment variable", "environment"),
    ("snippet", "import"),
    ("import", "import"),
    ("Import", "import"),
    ("already defined", "zone-taken"),
    ("overlap listener capacity", "zone-taken"),
    ("is not a valid domain name", "bad-zone"),
    ("zone is too long", "bad-zone"),
    ("RFC1035 preferred syntax", "odd-zone"),
    ("expecting data after last colon", "bad-port"),
    ("invalid port", "bad-port"),
    ("has no key", "syntax"),
    ("closing brace", "syntax"),
    ("behind the last block", "stray-word"),
    ("Unexpected", "syntax"),
    ("Expected another address", "syntax"),
    ("quoted", "syntax"),
    ("carriage return", "syntax"),
    // Values.
    ("invalid CIDR", "bad-network"),
    ("not an IP address", "bad-address"),
    ("is out of range", "bad-number"),
    ("is not a number", "bad-number"),
    ("duration", "bad-duration"),
    ("unknown value", "bad-value"),
    ("is no boolean", "bad-value"),
    ("missing port in address", "bad-address"),
    ("not built into Lodestone", "not-built"),
    ("cannot both be set", "contradiction"),
    // Lints.
    ("is never reached", "never-asked"),
    ("that fall through", "falls-nowhere"),
    ("are outside of this server block", "outside-of-block"),
    ("is an address of this server block", "forwards-to-itself"),
    (
        "is usually the address of the cluster's own DNS",
        "forwards-to-itself",
    ),
    ("the port belongs to a server block", "port-taken"),
    ("are served on port", "port-shared"),
    ("conflicting TLS configuration", "certificates-differ"),
    ("is read as a zone", "unit-in-ttl"),
    ("has no server block", "no-block"),
    ("do nothing", "no-effect"),
    ("does nothing", "no-effect"),
    ("counts", "no-effect"),
    // Files.
    ("cannot read", "file"),
    ("No such file", "file"),
    ("cannot use the certificate", "file"),
    ("kubeconfig", "file"),
];

impl Diagnostic {
    /// The diagnostic's kind, stable across changes of the message text. Default: `refused` for
    /// errors, `doubtful` for warnings.
    pub fn code(&self) -> &'static str {
        let found = CODES.iter().find(|(part, _)| self.message.contains(part));
        found.map_or(
            match self.severity {
                Severity::Error => "refused",
                Severity::Warning => "doubtful",
            },
            |(_, code)| code,
        )
    }
}

/// All codes, sorted, without duplicates.
pub fn codes() -> Vec<&'static str> {
    let mut codes: Vec<_> = CODES.iter().map(|(_, code)| *code).collect();
    codes.extend(["doubtful", "refused"]);
    codes.sort_unstable();
    codes.dedup();
    codes
}
