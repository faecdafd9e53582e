//! Recent texts of one thread: search lists deny the same names all the time, and a text costs a third of a
//! denial.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{query::Query, reply::Reply};

/// Slots; a text and its slot take some 150 bytes.
const SLOTS: usize = 1024;
/// Maximum age: objects change.
const MAX_AGE: Duration = Duration::from_secs(1);

/// A direct-mapped table.
pub struct RecentTexts {
    slots: Box<[Option<Slot>]>,
    /// The key of the hash.
    seed: u64,
}

struct Slot {
    /// The hash of what was asked and by which address. 64 bits of a keyed hash are taken as equality: a
    /// collision costs a misleading text.
    hash: u64,
    at: Instant,
    text: Arc<str>,
}

impl Default for RecentTexts {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| None).collect(),
            seed: RandomState::new().hash_one(0),
        }
    }
}

impl RecentTexts {
    /// The text for a query and its reply by `chain`: a recent one, or that of `make`.
    pub fn get_or_make(
        &mut self,
        chain: usize,
        query: &Query,
        reply: &Reply,
        make: impl FnOnce() -> Arc<str>,
    ) -> Arc<str> {
        let (now, hash) = (query.received, self.hash(chain, query, reply));
        let index = usize::try_from(hash % SLOTS as u64).expect("below the number of slots");
        let slot = &mut self.slots[index];
        match slot {
            Some(slot) if slot.hash == hash && now.saturating_duration_since(slot.at) < MAX_AGE => {
                Arc::clone(&slot.text)
            }
            _ => {
                let text = make();
                *slot = Some(Slot {
                    hash,
                    at: now,
                    text: Arc::clone(&text),
                });
                text
            }
        }
    }

    /// A multiplication for each eight bytes: cheaper than a general hash, since the key is short.
    fn hash(&self, chain: usize, query: &Query, reply: &Reply) -> u64 {
        let question = &query.question;
        let code = u64::from(question.rtype.0) << 32 | u64::from(reply.rcode.0) << 16;
        let client = match query.client.ip() {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        #[allow(clippy::cast_possible_truncation)] // both halves are mixed
        let client = [client as u64, (client >> 64) as u64];
        let mut hash = self.seed;
        let mut mix = |word: u64| {
            let product = u128::from(hash ^ word) * u128::from(MULTIPLIER);
            #[allow(clippy::cast_possible_truncation)] // both halves are mixed
            let folded = product as u64 ^ (product >> 64) as u64;
            hash = folded;
        };
        mix(chain as u64);
        mix(code | reply.why as u64);
        client.into_iter().for_each(&mut mix);
        let (words, rest) = question.lower.as_wire().as_chunks();
        for word in words {
            mix(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        mix(u64::from_le_bytes(last));
        hash
    }
}

/// An odd number with as many ones as zeros.
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        query::Question,
        reply::Why,
        wire::{Class, Name, Rcode, Type},
    };

    #[test]
    fn texts_are_made_anew_when_they_are_old_or_for_another_query() {
        let mut recent = RecentTexts::default();
        let query = |name: &str, rtype, client: [u8; 4], after| {
            let question = Question::new(Name::parse(name).unwrap(), rtype, Class::IN);
            let mut query = Query::internal(question);
            query.receive(|request| {
                request.original = question;
                request.client = (client, 53).into();
                request.received += after;
            });
            query
        };
        let reply = Reply::failure(Rcode::NXDOMAIN, Why::NoSuchService);
        let mut number = 0;
        let mut text = |query: &Query| {
            let made = recent.get_or_make(1, query, &reply, || {
                number += 1;
                number.to_string().into()
            });
            made.to_string()
        };
        let (client, none) = ([10, 0, 0, 1], Duration::ZERO);
        let first = query("a.long.name.example", Type::A, client, none);
        assert_eq!((text(&first), text(&first)), ("1".into(), "1".into()));
        for (other, wanted) in [
            (query("b.long.name.example", Type::A, client, none), "2"),
            (query("a.long.name.example", Type::AAAA, client, none), "3"),
            (
                query("a.long.name.example", Type::A, [10, 0, 0, 2], none),
                "4",
            ),
            (query("a.long.name.example", Type::A, client, MAX_AGE), "5"),
        ] {
            assert_eq!(text(&other), wanted);
        }
    }
}
