//! A sorted index of the addresses that have names. It answers queries for reverse names of address
//! blocks, which exist if an address in the block has a name. The writer updates it incrementally,
//! so that a query costs a few binary searches, independent of the number of addresses and their
//! rate of change.

use super::multiset::SortedMultiset;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// What gives an address its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressRole {
    /// A cluster IP, or the address of a ready endpoint.
    Internal,
    /// An external address of a Service.
    External,
    /// The address of a ready endpoint of a headless Service without external addresses.
    Headless,
}

impl AddressRole {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Internal, Self::External, Self::Headless];
}

/// The addresses that have names, in all namespaces or in one.
#[derive(Default)]
pub struct AddressIndex {
    sets: [Families; 3],
}

/// The index of one namespace.
pub(super) struct NamespaceAddresses {
    pub(super) namespace: Arc<str>,
    pub(super) index: AddressIndex,
}

/// One set per address family: an IPv4 address takes 8 bytes with its count.
#[derive(Default)]
struct Families {
    v4: SortedMultiset<Ipv4Addr>,
    v6: SortedMultiset<Ipv6Addr>,
}

impl AddressIndex {
    /// The addresses in a range, of one family, that have this role.
    pub fn range(
        &self,
        by: AddressRole,
        range: RangeInclusive<IpAddr>,
    ) -> impl Iterator<Item = IpAddr> {
        let Families { v4, v6 } = &self.sets[by as usize];
        let (four, six) = match range.into_inner() {
            (IpAddr::V4(first), IpAddr::V4(last)) => (Some(v4.range(first..=last)), None),
            (IpAddr::V6(first), IpAddr::V6(last)) => (None, Some(v6.range(first..=last))),
            _ => (None, None),
        };
        let four = four.into_iter().flatten().map(IpAddr::V4);
        four.chain(six.into_iter().flatten().map(IpAddr::V6))
    }

    /// Adds and removes occurrences; both lists are sorted. Only the writer calls this.
    pub(super) fn change(&self, by: AddressRole, add: &[IpAddr], remove: &[IpAddr]) {
        let Families { v4, v6 } = &self.sets[by as usize];
        v4.change(&only(add, four), &only(remove, four));
        v6.change(&only(add, six), &only(remove, six));
    }

    /// Whether no address has a name.
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
