//! Two server blocks that want the same zone on the same socket.

use std::collections::HashMap;

use super::address::{Key, Transport};
use super::diagnostic::Diagnostic;
use super::source::Place;
use super::zone::Zone;
use crate::interfaces::HostAddress;

/// Collects what each block claims, in file order, and tells the first clash of each claim.
#[derive(Debug, Default)]
pub struct Overlaps {
    claims: HashMap<Claim, Claimant>,
    /// For each zone and port the last claim on any address.
    anywhere: HashMap<Claim, Claim>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Claim {
    transport: Transport,
    zone: Zone,
    port: u16,
    on: Option<HostAddress>,
}

#[derive(Clone, Copy, Debug)]
struct Claimant {
    place: Place,
    filtered: bool,
}

impl Overlaps {
    /// Claims a key's zone on a port, on one address if the block is bound to it.
    ///
    /// Refused when the zone is already defined there, unless one of the two blocks is `filtered`
    /// (has a plugin such as `view` that picks its queries); and when one block is bound to an
    /// address and the other one to none.
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
            place: key.place,
            filtered,
        };
        if let Some(first) = self.claims.get_mut(&claim) {
            if first.filtered {
                // Of several, the one that takes every query is what a later one clashes with.
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
                .at(key.place)
                .label(format!("gives {} again", key.zone))
                .also(first.place, "first defined here"));
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
                    .at(key.place)
                    .label("one is bound to an address, the other to none")
                    .also(first.place, "the other one")
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
