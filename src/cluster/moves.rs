//! Which addresses have lately come, gone, or changed hands, for those who keep lists of them.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many moves are remembered: 70 kB.
const REMEMBERED: usize = 4096;

/// The last moves, numbered from the first one ever. The writer pays a lock that is nearly always
/// free and 17 octets for each address of the object that changed; readers who are up to date pay
/// one load.
#[derive(Default)]
pub(super) struct Moves {
    /// The number of the next move. Changed under the lock alone.
    next: AtomicU64,
    last: Mutex<VecDeque<IpAddr>>,
}

impl Moves {
    /// The number of the next move.
    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// These addresses may have moved. Said after the state shows it, so that who has heard of a
    /// move sees it.
    pub(super) fn put(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        let mut last = self.last.lock();
        let mut next = self.next();
        for address in addresses {
            if last.len() == REMEMBERED {
                last.pop_front();
            }
            last.push_back(address);
            next += 1;
        }
        self.next.store(next, Ordering::Release);
    }

    /// Any address may have moved.
    pub(super) fn put_all(&self) {
        let mut last = self.last.lock();
        last.clear();
        self.next.store(self.next() + 1, Ordering::Release);
    }

    /// The moves from number `from` on; nothing where they are no longer known one by one.
    pub(super) fn since(&self, from: u64) -> Option<Vec<IpAddr>> {
        if from == self.next() {
            return Some(Vec::new());
        }
        let last = self.last.lock();
        let count = usize::try_from(self.next().checked_sub(from)?).ok()?;
        let known = last.len().checked_sub(count)?;
        Some(last.range(known..).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u32) -> IpAddr {
        std::net::Ipv4Addr::from(last).into()
    }

    #[test]
    fn moves_are_told_from_any_number_that_is_remembered() {
        let moves = Moves::default();
        moves.put([address(1), address(2)]);
        assert_eq!(moves.since(0).unwrap(), [address(1), address(2)]);
        assert_eq!(moves.since(1).unwrap(), [address(2)]);
        assert!(moves.since(moves.next()).unwrap().is_empty());
        moves.put((0..4096).map(address));
        assert_eq!(moves.since(2).unwrap().len(), REMEMBERED);
        assert!(moves.since(1).is_none(), "forgotten");
        let before = moves.next();
        moves.put_all();
        assert!(moves.since(before).is_none());
        assert!(moves.since(moves.next()).unwrap().is_empty());
    }
}
