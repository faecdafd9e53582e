//! Compression of names (RFC 1035 section 4.1.4).

use crate::wire::NameRef;

/// Maximum number of name offsets kept for compression. The names of a reply share suffixes, mostly
/// those written first; an unlimited list would make large replies quadratic.
const MAX_OFFSETS: usize = 48;

/// Offsets of written names, as targets of compression pointers (RFC 1035 section 4.1.4).
#[derive(Debug)]
pub(super) struct Compression {
    offsets: [u16; MAX_OFFSETS],
    pub(super) used: usize,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            offsets: [0; MAX_OFFSETS],
            used: 0,
        }
    }
}

impl Compression {
    /// The offset of a name that equals `name` byte for byte, to preserve its spelling.
    #[inline]
    pub(super) fn find(&self, name: NameRef<'_>, out: &[u8]) -> Option<u16> {
        let offsets = &self.offsets[..self.used];
        offsets
            .iter()
            .copied()
            .find(|offset| name_equals_at(name.as_wire(), out, usize::from(*offset)))
    }

    /// Keeps the offset of a name, if there is room for it.
    #[inline]
    pub(super) fn record_offset(&mut self, offset: usize) {
        // A compression pointer has 14 bits.
        if offset < 0x4000 && self.used < MAX_OFFSETS {
            self.offsets[self.used] = u16::try_from(offset).expect("below 2^14");
            self.used += 1;
        }
    }
}

/// Whether the name at offset `at` of `out` equals `name`. Follows backward pointers only, as the
/// writer creates them: SRV data may contain anything.
fn name_equals_at(mut name: &[u8], out: &[u8], mut offset: usize) -> bool {
    loop {
        let Some(&size) = out.get(offset) else {
            return false;
        };
        if size >= 0xC0 {
            let Some(&low) = out.get(offset + 1) else {
                return false;
            };
            let earlier = usize::from(size & 0x3F) << 8 | usize::from(low);
            if earlier >= offset {
                return false;
            }
            offset = earlier;
            continue;
        }
        // Most labels differ in length, which is cheaper to see than by a call of memcmp.
        if name.first() != Some(&size) {
            return false;
        }
        if size == 0 {
            return true;
        }
        let length = usize::from(size) + 1;
        if name.len() < length || out.get(offset..offset + length) != Some(&name[..length]) {
            return false;
        }
        name = &name[length..];
        offset += length;
    }
}
