//! Segmentation offload (`UDP_SEGMENT`, Linux 4.18): datagrams to one destination pass the kernel's network
//! stack as one, which is cut into datagrams behind it. All have the length of the first, the last may be
//! shorter.
//!
//! It saves half of a datagram's cost with four of them, and next to nothing with two. Two are also what a
//! client's resolver waits for at a time (A and AAAA); they stay apart, so that programs that inspect packets
//! on their way through the node find one message in each.

use std::{cmp::Reverse, net::SocketAddr};

/// Fewest datagrams that are sent as one.
const MIN_COUNT: usize = 3;

/// Maximum length of a datagram that is sent with others, in bytes: fits the smallest IPv6 packet (RFC 8200
/// section 5) less the headers of IPv6 and UDP, since the kernel does not fragment segments.
const MAX_LENGTH: usize = 1232;

/// The order in which datagrams leave: those to one destination behind each other, the longest first.
#[derive(Default)]
pub struct Order {
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    destination: u64,
    length: Reverse<usize>,
    index: usize,
}

impl Order {
    /// Makes it the order of these datagrams; those of length 0 are left out. In theirs if `sorts` is false.
    pub fn arrange(&mut self, datagrams: impl Iterator<Item = (SocketAddr, usize)>, sorts: bool) {
        self.entries.clear();
        let entries = datagrams
            .enumerate()
            .map(|(index, (client, length))| Entry {
                destination: digest(client),
                length: Reverse(length),
                index,
            });
        self.entries
            .extend(entries.filter(|entry| entry.length.0 > 0));
        if sorts && self.entries.len() >= MIN_COUNT {
            self.entries.sort_unstable();
        }
    }

    /// Number of datagrams.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// The index of the datagram at a position.
    pub fn at(&self, position: usize) -> usize {
        self.entries[position].index
    }
}

/// A number for a destination. It may be that of another destination too: it only brings equal ones together.
fn digest(client: SocketAddr) -> u64 {
    let address = match client {
        SocketAddr::V4(client) => u64::from(client.ip().to_bits()),
        SocketAddr::V6(client) => {
            let [high, low] = [64, 0].map(|shift| client.ip().to_bits() >> shift);
            u64::try_from((high ^ low) & u128::from(u64::MAX)).unwrap_or_default()
        }
    };
    address.rotate_left(16) ^ u64::from(client.port())
}

/// How many of the datagrams with these `lengths`, all to one destination, are sent as one: at least the
/// first.
pub fn count(mut lengths: impl Iterator<Item = usize>) -> usize {
    let Some(first) = lengths.next().filter(|length| *length <= MAX_LENGTH) else {
        return 1;
    };
    let mut count = 1;
    for length in lengths {
        if length > first || length == 0 {
            break;
        }
        count += 1;
        if length < first {
            break;
        }
    }
    if count < MIN_COUNT { 1 } else { count }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lengths_and_a_shorter_last_one_are_sent_as_one() {
        for (lengths, expected) in [
            (&[][..], 1),
            (&[80], 1),
            (&[80, 80], 1),
            (&[80, 80, 80], 3),
            (&[80, 80, 70, 70], 3),
            (&[80, 70, 70, 70], 1),
            (&[80, 80, 80, 81], 3),
            (&[80, 80, 80, 0], 3),
            (&[0, 0, 0], 1),
            (&[1232, 1232, 1232], 3),
            (&[1233, 1233, 1233], 1),
        ] {
            assert_eq!(count(lengths.iter().copied()), expected, "{lengths:?}");
        }
    }

    #[test]
    fn destinations_are_brought_together_longest_first() {
        let [one, other] = ["10.0.0.1:53", "[fd00::1]:53"].map(|it| it.parse().unwrap());
        let datagrams = [
            (one, 7),
            (other, 9),
            (one, 0),
            (one, 8),
            (other, 9),
            (one, 8),
        ];
        let mut order = Order::default();
        let in_order = |order: &Order| {
            (0..order.count())
                .map(|at| order.at(at))
                .collect::<Vec<_>>()
        };
        order.arrange(datagrams.into_iter(), true);
        let sorted = in_order(&order);
        assert!(
            sorted == [3, 5, 0, 1, 4] || sorted == [1, 4, 3, 5, 0],
            "{sorted:?}"
        );
        order.arrange(datagrams.into_iter(), false);
        assert_eq!(in_order(&order), [0, 1, 3, 4, 5]);
    }
}
