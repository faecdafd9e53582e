//! Room in a reply: how many records are worth making, and where to begin when not all are.
//!
//! What a reply costs must follow from what is sent of it. A Service of 5,000 endpoints has some 70
//! address records in a datagram; the others are not made. Each reply then begins at another
//! endpoint, so that all of them get their share of the clients.

/// Bytes of an owner that is a pointer, type, class, TTL and length of the data: what each record
/// takes at least beside its data (RFC 1035 section 4.1.3).
pub(super) const RECORD: usize = 12;

/// Bytes that a reply has for records.
///
/// It need not be exact, as names may still be rewritten: the writer of the message cuts it.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    left: usize,
    /// Taken by additional records, out of what the answer leaves.
    beside: usize,
    draw: fn(usize) -> usize,
}

impl Room {
    /// Room for every record.
    pub const ALL: Self = Self::new(usize::MAX, |_| 0);

    /// Room for so many bytes of records. `draw` gives a random number below its argument.
    pub const fn new(bytes: usize, draw: fn(usize) -> usize) -> Self {
        Self {
            left: bytes,
            beside: 0,
            draw,
        }
    }

    /// Takes the room of an answer record; false where there is not so much.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// The same for an additional record, which never takes room of the answer's.
    pub(super) fn take_beside(&mut self, bytes: usize) -> bool {
        let fits = self.left.checked_sub(self.beside) >= Some(bytes);
        if fits {
            self.beside += bytes;
        }
        fits
    }

    /// Where to begin among `count` items that take so many bytes at least: anywhere, where they do
    /// not all fit; otherwise nothing, and they stay in their order.
    pub(super) fn begin(&self, count: usize, bytes: usize) -> Option<usize> {
        let fits = count == 0 || bytes <= self.left;
        (!fits).then(|| (self.draw)(count).min(count - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_comes_first() {
        let mut room = Room::new(100, |count| count / 2);
        assert!(room.take(40) && room.take_beside(50) && !room.take_beside(11));
        assert!(room.take(60), "what stands beside the answer gives way");
        assert!(!room.take(1) && !room.take_beside(1));
        assert!(room.take(0), "nothing fits");
    }

    #[test]
    fn the_beginning_is_drawn_where_not_everything_fits() {
        let room = Room::new(100, |count| count / 2);
        assert_eq!(room.begin(10, 100), None);
        assert_eq!(room.begin(10, 101), Some(5));
        assert_eq!(room.begin(0, 101), None);
        assert_eq!(Room::ALL.begin(5000, 1 << 30), None);
        assert_eq!(Room::new(0, |count| count).begin(1, 1), Some(0));
    }
}
