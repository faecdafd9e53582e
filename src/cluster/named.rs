//! Which addresses have names, in order: for the names of blocks of addresses, which exist where
//! one of the addresses in them has a name. The writer keeps it up at each change, by the
//! addresses that come and go, so that a question costs a few binary searches however many
//! addresses there are and however fast they change.

use super::ordered::Ordered;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// What an address has its name by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NamedBy {
    /// It is a cluster address, or that of a ready endpoint.
    Inside,
    /// A Service is reached at it from outside of the cluster.
    External,
    /// It is that of a ready endpoint of a headless Service without external addresses.
    Headless,
}

impl NamedBy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Inside, Self::External, Self::Headless];
}

/// The addresses that have names, of all namespaces or of one.
#[derive(Default)]
pub struct Named {
    sets: [Addresses; 3],
}

/// The named addresses of a namespace.
pub(super) struct NamedIn {
    pub(super) namespace: Arc<str>,
    pub(super) named: Named,
}

/// A set for each family: an IPv4 address takes 8 bytes.
#[derive(Default)]
struct Addresses {
    v4: Ordered<Ipv4Addr>,
    v6: Ordered<Ipv6Addr>,
}

impl Named {
    /// The addresses in a range of one family that have a name by this.
    pub fn range(
        &self,
        by: NamedBy,
        range: RangeInclusive<IpAddr>,
    ) -> impl Iterator<Item = IpAddr> {
        let Addresses { v4, v6 } = &self.sets[by as usize];
        let (four, six) = match range.into_inner() {
            (IpAddr::V4(first), IpAddr::V4(last)) => (Some(v4.range(first..=last)), None),
            (IpAddr::V6(first), IpAddr::V6(last)) => (None, Some(v6.range(first..=last))),
            _ => (None, None),
        };
        let four = four.into_iter().flatten().map(IpAddr::V4);
        four.chain(six.into_iter().flatten().map(IpAddr::V6))
    }

    /// Adds and takes away occurrences; both are sorted. For the writer alone.
    pub(super) fn change(&self, by: NamedBy, add: &[IpAddr], remove: &[IpAddr]) {
        let Addresses { v4, v6 } = &self.sets[by as usize];
        v4.change(&only(add, four), &only(remove, four));
        v6.change(&only(add, six), &only(remove, six));
    }

    /// Whether nothing has a name.
    pub(super) fn is_empty(&self) -> bool {
        let mut sets = self.sets.iter();
        sets.all(|set| set.v4.is_empty() && set.v6.is_empty())
    }
}

fn only<A>(addresses: &[IpAddr], family: fn(IpAddr) -> Option<A>) -> Vec<A> {
    addresses.iter().filter_map(|it| family(*it)).collect()
}

fn four(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn six(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address),
    }
}
