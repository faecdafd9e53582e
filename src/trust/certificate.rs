//! Certificate fields that webpki checks only as part of a chain: validity period and purpose (RFC
//! 5280 section 4.1).

use crate::wire::days_since_1970;

/// Parsed fields of a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    /// First and last second of validity, as Unix timestamps.
    pub(super) valid: (i64, i64),
    /// Whether there is a subjectAltName extension, the only source of host names.
    pub(super) has_alternative_names: bool,
    /// Whether extKeyUsage allows server and client authentication; both if it is absent.
    purposes: [bool; 2],
}

/// Use of a certificate.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Server,
    Client,
}

// DER tags (X.690 section 8).
const OID: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xA0;
const EXTENSIONS: u8 = 0xA3;

// OIDs: 2.5.29.17, 2.5.29.37, anyExtendedKeyUsage, serverAuth, clientAuth (RFC 5280 section 4.2.1).
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1D, 0x11];
const KEY_USAGE: &[u8] = &[0x55, 0x1D, 0x25];
const ANY_USAGE: &[u8] = &[0x55, 0x1D, 0x25, 0x00];
const SERVER_AUTH: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const CLIENT_AUTH: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

impl Certificate {
    /// Parses a certificate; `None` if it is malformed.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let mut whole = Reader(der).inside(SEQUENCE)?;
        let mut body = whole.inside(SEQUENCE)?;
        if body.peek() == Some(VERSION) {
            body.next()?;
        }
        // Serial number, signature algorithm, issuer.
        for _ in 0..3 {
            body.next()?;
        }
        let mut validity = body.inside(SEQUENCE)?;
        let mut read = Self {
            valid: (validity.time()?, validity.time()?),
            has_alternative_names: false,
            purposes: [true; 2],
        };
        while let Some(tag) = body.peek() {
            let (_, content) = body.next()?;
            if tag == EXTENSIONS {
                read.extensions(Reader(content).inside(SEQUENCE)?)?;
            }
        }
        Some(read)
    }

    fn extensions(&mut self, mut list: Reader<'_>) -> Option<()> {
        while list.peek().is_some() {
            let mut extension = list.inside(SEQUENCE)?;
            let id = extension.inside(OID)?.0;
            self.has_alternative_names |= id == ALTERNATIVE_NAMES;
            if id == KEY_USAGE {
                if extension.peek() != Some(OCTET_STRING) {
                    extension.next()?; // the criticality flag
                }
                let mut usages = extension.inside(OCTET_STRING)?.inside(SEQUENCE)?;
                self.purposes = [false; 2];
                while usages.peek().is_some() {
                    let usage = usages.inside(OID)?.0;
                    self.purposes[0] |= usage == ANY_USAGE || usage == SERVER_AUTH;
                    self.purposes[1] |= usage == ANY_USAGE || usage == CLIENT_AUTH;
                }
            }
        }
        Some(())
    }

    /// Whether it may be used for `purpose`.
    pub(super) fn is_for(&self, purpose: Purpose) -> bool {
        self.purposes[purpose as usize]
    }
}

/// The remaining content of a DER value.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Tag of the next value.
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Tag and content of the next value.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match *first {
            short @ ..=0x7F => (usize::from(short), rest),
            // Three length bytes suffice for certificates.
            long @ 0x81..=0x83 => {
                let (length, rest) = rest.split_at_checked(usize::from(long - 0x80))?;
                let length = length
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }

    /// Content of the next value, which must have this tag.
    fn inside(&mut self, tag: u8) -> Option<Self> {
        let (found, content) = self.next()?;
        (found == tag).then_some(Self(content))
    }

    /// A UTCTime or GeneralizedTime (RFC 5280 section 4.1.2.5) as a Unix timestamp.
    fn time(&mut self) -> Option<i64> {
        let (tag, text) = self.next()?;
        let (year, rest) = match tag {
            UTC_TIME => {
                let (year, rest) = number(text, 2)?;
                (if year < 50 { 2000 + year } else { 1900 + year }, rest)
            }
            GENERALIZED_TIME => number(text, 4)?,
            _ => return None,
        };
        let (month, rest) = number(rest, 2)?;
        let (day, rest) = number(rest, 2)?;
        let (hour, rest) = number(rest, 2)?;
        let (minute, rest) = number(rest, 2)?;
        let (second, rest) = number(rest, 2)?;
        let is_good = (1..=12).contains(&month) && (1..=31).contains(&day);
        (is_good && rest == b"Z").then(|| {
            days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
        })
    }
}

fn number(text: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    let is_number = number.iter().all(u8::is_ascii_digit);
    let number = number
        .iter()
        .fold(0, |sum, digit| sum * 10 + i64::from(digit & 0x0F));
    is_number.then_some((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_octets_make_it_panic() {
        let made = rcgen::generate_simple_self_signed(["dns.test".to_owned()]).unwrap();
        let der = made.cert.der();
        let read = Certificate::read(der).unwrap();
        assert!(read.has_alternative_names && read.is_for(Purpose::Server));
        for end in 0..der.len() {
            assert_eq!(Certificate::read(&der[..end]), None, "{end}");
            let mut broken = der.to_vec();
            for byte in [0, 0x30, 0x80, 0x83, 0xFF] {
                broken[end] = byte;
                let _ = Certificate::read(&broken);
            }
        }
    }
}
