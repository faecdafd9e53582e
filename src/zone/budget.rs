//! The size budget of a response: how many records to add, and where to start if they do not all
//! fit.
//!
//! The cost of a query must be proportional to the bytes sent. Of a Service with 5,000 endpoints,
//! some 70 address records fit in a datagram; the others are not created. Each response starts at a
//! random endpoint, so that all of them receive a share of the clients.

/// Minimum size in bytes of a record without its data: owner as a compression pointer, type, class,
/// TTL, data length (RFC 1035 section 4.1.3).
pub(super) const RECORD: usize = 12;

/// The number of bytes available for records.
///
/// An estimate: names may be rewritten later, and the message writer truncates.
#[derive(Clone, Copy, Debug)]
pub struct SizeBudget {
    left: usize,
    /// Bytes taken by the additional section, out of those left by the answer section.
    additional: usize,
    random: fn(usize) -> usize,
}

impl SizeBudget {
    /// No limit.
    pub const UNLIMITED: Self = Self::new(usize::MAX, |_| 0);

    /// A budget of `bytes`. `random` returns a random number below its argument.
    pub const fn new(bytes: usize, random: fn(usize) -> usize) -> Self {
        Self {
            left: bytes,
            additional: 0,
            random,
        }
    }

    /// Takes the bytes of an answer record; returns false if they exceed the budget.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// Takes the bytes of an additional record, which never reduces the space of the answer
    /// section; returns false if they exceed the budget.
    pub(super) fn take_additional(&mut self, bytes: usize) -> bool {
        let fits = self.left.checked_sub(self.additional) >= Some(bytes);
        if fits {
            self.additional += bytes;
        }
        fits
    }

    /// A random start index among `count` items of `bytes` in total at least, if they do not fit;
    /// otherwise `None`, and they keep their order.
    pub(super) fn start_index(&self, count: usize, bytes: usize) -> Option<usize> {
        let fits = count == 0 || bytes <= self.left;
        (!fits).then(|| (self.random)(count).min(count - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_section_takes_precedence() {
        let mut budget = SizeBudget::new(100, |count| count / 2);
        assert!(budget.take(40) && budget.take_additional(50) && !budget.take_additional(11));
        assert!(budget.take(60), "additional records give way to the answer");
        assert!(!budget.take(1) && !budget.take_additional(1));
        assert!(budget.take(0), "an empty record always fits");
    }

    #[test]
    fn the_start_is_random_if_not_everything_fits() {
        let budget = SizeBudget::new(100, |count| count / 2);
        assert_eq!(budget.start_index(10, 100), None);
        assert_eq!(budget.start_index(10, 101), Some(5));
        assert_eq!(budget.start_index(0, 101), None);
        assert_eq!(SizeBudget::UNLIMITED.start_index(5000, 1 << 30), None);
        assert_eq!(SizeBudget::new(0, |count| count).start_index(1, 1), Some(0));
    }
}
