//! Conflicts of two server blocks with the same zone on the same socket.

use std::collections::HashMap;

use super::address::{Key, Transport};
use super::diagnostic::Diagnostic;
use super::source::Span;
use super::zone::ZoneName;
use crate::interfaces::HostAddress;

/// Collects the claims of all blocks in file order and detects conflicts.
#[derive(Debug, Default)]
pub struct Overlaps {
    claims: HashMap<Claim, Claimant>,
    /// Last claim on any address, by zone and port.
    anywhere: HashMap<Claim, Claim>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Claim {
    transport: Transport,
    zone: ZoneName,
    port: u16,
    on: Option<HostAddress>,
}

#[derive(Clone, Copy, Debug)]
struct Claimant {
    span: Span,
    filtered: bool,
}

impl Overlaps {
    /// Claims a key's zone on a port, on one address if the block has a `bind`.
    ///
    /// Refused if the zone is already claimed there, unless one of the two blocks is `filtered`
    /// (has a plugin such as `view` that selects queries); and if one block is bound to an address
    /// and the other is not.
    pub fn claim(
        &mut self,
        key: &Key,
        port: u16,
        on: Option<HostAddress>,
        filtered: bool,
    ) -> Result<(), Diagnostic> {
        let claim = Claim {
            transport: key.transport,
            zone: key.zone.clone(),
            port,
            on,
        };
        let claimant = Claimant {
            span: key.span,
            filtered,
        };
        if let Some(first) = self.claims.get_mut(&claim) {
            if first.filtered {
                // A later block conflicts with the unfiltered claimant, if there is one.
                if !filtered {
                    *first = claimant;
                }
                return Ok(());
            }
            if filtered {
                return Ok(());
            }
            let message = format!("cannot serve {claim} - it is already defined");
            return Err(Diagnostic::error(message)
                .at(key.span)
                .label(format!("gives {} again", key.zone))
                .also(first.span, "first defined here"));
        }
        let unbound = Claim {
            on: None,
            ..claim.clone()
        };
        if let Some(bound) = self.anywhere.get(&unbound) {
            let other = if on.is_none() { bound } else { &unbound };
            if let Some(first) = self.claims.get(other) {
                let message =
                    format!("cannot serve {claim} - zone overlap listener capacity with {other}");
                return Err(Diagnostic::error(message)
                    .at(key.span)
                    .label("one is bound to an address, the other to none")
                    .also(first.span, "the other one")
                    .help("give both blocks a bind line, or neither"));
            }
        }
        self.anywhere.insert(unbound, claim.clone());
        self.claims.insert(claim, claimant);
        Ok(())
    }
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}:{}", self.transport, self.zone, self.port)?;
        self.on.map_or(Ok(()), |address| write!(f, " on {address}"))
    }
}
