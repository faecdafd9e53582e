//! A short name for each kind of diagnostic, for programs that read them: see `docs/check.md`.

use super::diagnostic::{Diagnostic, Severity};

/// What a message holds, and the code for it; the first that fits counts.
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
    // Words.
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
    // What is doubtful.
    ("is never asked", "never-asked"),
    ("falls through", "falls-nowhere"),
    ("is for no name that comes", "outside-of-block"),
    ("is this server block itself", "forwards-to-itself"),
    ("as a rule the cluster's own DNS", "forwards-to-itself"),
    ("a server has this port", "port-taken"),
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
    /// The kind that it is of, in a word that stays the same when messages are worded anew;
    /// `refused` and `doubtful` where there is none for it.
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

/// Every code, each once, in alphabetical order.
pub fn codes() -> Vec<&'static str> {
    let mut codes: Vec<_> = CODES.iter().map(|(_, code)| *code).collect();
    codes.extend(["doubtful", "refused"]);
    codes.sort_unstable();
    codes.dedup();
    codes
}
