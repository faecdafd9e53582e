//! Zone serial numbers, which wrap.

/// Whether a serial number is greater than another (RFC 1982 section 3.2).
pub fn is_later(serial: u32, other: u32) -> bool {
    serial != other && serial.wrapping_sub(other) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::is_later;

    #[test]
    fn serials_wrap() {
        for (serial, other, later) in [
            (2, 1, true),
            (1, 1, false),
            (1, 2, false),
            (0, u32::MAX, true),
            (u32::MAX, 0, false),
        ] {
            assert_eq!(is_later(serial, other), later, "{serial} after {other}");
        }
    }
}
