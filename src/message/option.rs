//! Finds EDNS options that are dropped when a message is parsed.

use crate::{
    edns,
    wire::{Header, Reader, Type},
};

/// Whether an OPT record of the message has the option `code`. False for malformed messages.
pub fn has_option(message: &[u8], header: &Header, code: u16) -> bool {
    let mut reader = Reader::new(message);
    if (0..header.counts[0]).any(|_| reader.question().is_err()) {
        return false;
    }
    let records = header.counts[1..].iter().map(|count| u32::from(*count));
    for _ in 0..records.sum() {
        let Ok(record) = reader.record() else {
            return false;
        };
        let is_it = |option: Result<(u16, &[u8]), _>| option.is_ok_and(|(found, _)| found == code);
        if record.rtype == Type::OPT && edns::walk(record.data(message)).any(is_it) {
            return true;
        }
    }
    false
}
