//! Transaction signatures (TSIG, RFC 8945): verifies queries and signs replies. Keys and policy
//! belong to [`crate::plugin::tsig`].
//!
//! Signed queries are kept in wire format, because the signature covers bytes. Unsigned queries
//! have no state here.

use std::{sync::Arc, time::SystemTime};

use hickory_proto::rr::rdata::tsig::TsigAlgorithm;

use crate::wire::{Class, HEADER_LENGTH, MalformedMessage, Name, Rcode, Reader, Type};

/// A query with a TSIG record.
#[derive(Clone, Debug)]
pub struct Signed {
    bytes: Box<[u8]>,
    /// Offset of the TSIG record.
    record_at: usize,
}

/// Contents of a TSIG record (RFC 8945 section 4.2).
#[derive(Debug)]
struct TsigRecord {
    /// In lower case, as signed, like the algorithm.
    key: Name,
    algorithm: Name,
    /// As a Unix timestamp in seconds.
    time: u64,
    fudge: u16,
    mac: Box<[u8]>,
    original_id: [u8; 2],
    error: u16,
    other: Box<[u8]>,
}

/// Result of a verification.
#[derive(Debug)]
pub struct Verification {
    /// The TSIG error, or [`Rcode::NOERROR`].
    pub error: Rcode,
    /// Signs the reply, including replies that report an error.
    pub signer: Signer,
}

/// Signs replies to a signed query.
#[derive(Clone, Debug)]
pub struct Signer {
    key: Name,
    algorithm: Name,
    /// `None` for a bad key or signature: such replies are not signed (section 5.3.2).
    signing_key: Option<SigningKey>,
    request_mac: Box<[u8]>,
    error: Rcode,
    /// The client's time, if it differs too much from the server's (section 5.2.3).
    bad_time: Option<u64>,
}

#[derive(Clone)]
struct SigningKey {
    algorithm: TsigAlgorithm,
    secret: Arc<[u8]>,
}

impl std::fmt::Debug for SigningKey {
    /// Omits the secret.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.algorithm)
    }
}

/// Supported algorithms and their MAC lengths in bytes. MD5 and SHA-1 are not supported: they
/// should not be used (section 6), and the library omits them.
const ALGORITHMS: [(&[u8], TsigAlgorithm, usize); 3] = [
    (b"\x0bhmac-sha256\x00", TsigAlgorithm::HmacSha256, 32),
    (b"\x0bhmac-sha384\x00", TsigAlgorithm::HmacSha384, 48),
    (b"\x0bhmac-sha512\x00", TsigAlgorithm::HmacSha512, 64),
];

/// Permitted clock difference in seconds (section 10).
const FUDGE: u16 = 300;
/// Minimum length of a truncated MAC in bytes (section 5.2.2.1).
const MIN_MAC: usize = 10;
/// TSIG error codes without a name of their own in [`Rcode`] (section 3).
const BADSIG: Rcode = Rcode(16);
const BADKEY: Rcode = Rcode(17);
const BADTIME: Rcode = Rcode(18);
const BADTRUNC: Rcode = Rcode(22);

/// Name of a TSIG error; code 16 has another meaning in headers.
pub fn error_name(error: Rcode) -> &'static str {
    match error {
        BADSIG => "BADSIG",
        BADKEY => "BADKEY",
        BADTIME => "BADTIME",
        BADTRUNC => "BADTRUNC",
        _ => "no error",
    }
}

impl Signed {
    /// A message whose TSIG record starts at `record_at`.
    pub fn new(bytes: &[u8], record_at: usize) -> Self {
        Self {
            bytes: bytes.into(),
            record_at,
        }
    }

    /// Verifies the signature with the key that `secret` returns for the key name. `now` is a Unix
    /// timestamp in seconds. Errors mean a malformed record: FORMERR.
    pub fn verify(
        &self,
        secret: impl FnOnce(&Name) -> Option<Arc<[u8]>>,
        now: u64,
    ) -> Result<Verification, MalformedMessage> {
        let record = self.record()?;
        let mut signer = Signer {
            key: record.key,
            algorithm: record.algorithm,
            signing_key: None,
            request_mac: Box::default(),
            error: BADKEY,
            bad_time: None,
        };
        let wire = record.algorithm.as_wire();
        let known = ALGORITHMS.iter().find(|(name, ..)| *name == wire);
        let (Some((_, algorithm, length)), Some(secret)) = (known, secret(&record.key)) else {
            return Ok(signer.into());
        };
        if record.mac.len() > *length || record.mac.len() < MIN_MAC.max(length / 2) {
            return Err(MalformedMessage::BadTsig);
        }
        if record.mac.len() < *length {
            signer.error = BADTRUNC;
            return Ok(signer.into());
        }
        let digested = self.digested(&record);
        if algorithm
            .verify_mac(&secret, &digested, &record.mac)
            .is_err()
        {
            signer.error = BADSIG;
            return Ok(signer.into());
        }
        // The record's time is trusted only after its MAC was verified.
        signer.error = Rcode::NOERROR;
        if now.abs_diff(record.time) > record.fudge.into() {
            signer.error = BADTIME;
            signer.bad_time = Some(record.time);
        }
        signer.request_mac = record.mac;
        signer.signing_key = Some(SigningKey {
            algorithm: algorithm.clone(),
            secret,
        });
        Ok(signer.into())
    }

    fn record(&self) -> Result<TsigRecord, MalformedMessage> {
        let message = &*self.bytes;
        let raw = Reader::at(message, self.record_at).record()?;
        // Class and TTL are part of the digest but not taken from the record (section 4.2).
        if raw.rtype != Type::TSIG || raw.class != Class::ANY || raw.ttl != 0 {
            return Err(MalformedMessage::BadTsig);
        }
        let (algorithm, behind) = Name::read(message, raw.data_start)?;
        let mut data = DataReader(message.get(behind..raw.data_end).unwrap_or_default());
        let [high, low] = [data.take(2)?, data.take(4)?];
        let time = high
            .iter()
            .chain(low)
            .fold(0, |time, byte| time << 8 | u64::from(*byte));
        let fudge = data.word()?;
        let mac = data.length_prefixed()?.into();
        let original_id = data.word()?.to_be_bytes();
        let error = data.word()?;
        let other = data.length_prefixed()?.into();
        if !data.0.is_empty() {
            return Err(MalformedMessage::BadTsig);
        }
        Ok(TsigRecord {
            key: raw.owner.to_lower(),
            algorithm: algorithm.to_lower(),
            time,
            fudge,
            mac,
            original_id,
            error,
            other,
        })
    }

    /// The digested bytes: the message without the TSIG record, and the TSIG variables (section
    /// 4.3).
    fn digested(&self, record: &TsigRecord) -> Vec<u8> {
        let mut digested = self.bytes[..self.record_at].to_vec();
        digested[..2].copy_from_slice(&record.original_id);
        count_additionals(&mut digested, |count| count.wrapping_sub(1));
        let fields = SignedFields {
            time: record.time,
            fudge: record.fudge,
            error: record.error,
            other: &record.other,
        };
        fields.variables(&record.key, &record.algorithm, &mut digested);
        digested
    }
}

/// Digested fields of the record, apart from names.
struct SignedFields<'a> {
    time: u64,
    fudge: u16,
    error: u16,
    other: &'a [u8],
}

impl SignedFields<'_> {
    /// TSIG variables (section 4.3.3).
    fn variables(&self, key: &Name, algorithm: &Name, out: &mut Vec<u8>) {
        out.extend(key.as_wire());
        out.extend(Class::ANY.0.to_be_bytes());
        out.extend([0; 4]);
        out.extend(algorithm.as_wire());
        self.timers(out);
        out.extend(self.error.to_be_bytes());
        length_prefixed(self.other, out);
    }

    fn timers(&self, out: &mut Vec<u8>) {
        out.extend(&self.time.to_be_bytes()[2..]);
        out.extend(self.fudge.to_be_bytes());
    }
}

impl From<Signer> for Verification {
    fn from(signer: Signer) -> Self {
        Self {
            error: signer.error,
            signer,
        }
    }
}

impl Signer {
    /// The key name.
    pub fn key(&self) -> &Name {
        &self.key
    }

    /// Maximum length of the TSIG record in bytes.
    pub fn max_length(&self) -> usize {
        let names = self.key.as_wire().len() + self.algorithm.as_wire().len();
        // Type, class, TTL and data length; the fixed fields; the longest MAC; a time.
        names + 10 + 16 + 64 + 6
    }

    /// Signs the only message of a reply.
    pub fn sign(&self, message: &mut Vec<u8>) {
        self.next(message, None);
    }

    /// Signs one message of a reply with several; `before` is the MAC of the previous message
    /// (section 5.3.1). Returns this message's MAC.
    pub fn next(&self, message: &mut Vec<u8>, before: Option<&[u8]>) -> Vec<u8> {
        let now = now();
        let clock = now.to_be_bytes();
        let fields = SignedFields {
            time: self.bad_time.unwrap_or(now),
            fudge: FUDGE,
            error: self.error.0,
            other: if self.bad_time.is_some() {
                &clock[2..]
            } else {
                &[]
            },
        };
        let mac = self.signing_key.as_ref().map(|signing_key| {
            let mut digested = Vec::with_capacity(message.len() + 2 * self.max_length());
            length_prefixed(before.unwrap_or(&self.request_mac), &mut digested);
            digested.extend_from_slice(message);
            match before {
                None => fields.variables(&self.key, &self.algorithm, &mut digested),
                Some(_) => fields.timers(&mut digested),
            }
            let mac = signing_key
                .algorithm
                .mac_data(&signing_key.secret, &digested);
            mac.expect("an algorithm that has verified")
        });
        let mac = mac.unwrap_or_default();
        self.append(message, &fields, &mac);
        mac
    }

    fn append(&self, message: &mut Vec<u8>, fields: &SignedFields<'_>, mac: &[u8]) {
        let original_id = [message[0], message[1]];
        message.extend(self.key.as_wire());
        message.extend(Type::TSIG.0.to_be_bytes());
        message.extend(Class::ANY.0.to_be_bytes());
        message.extend([0; 4]);
        let length_at = message.len();
        message.extend([0; 2]);
        message.extend(self.algorithm.as_wire());
        fields.timers(message);
        length_prefixed(mac, message);
        message.extend(original_id);
        message.extend(fields.error.to_be_bytes());
        length_prefixed(fields.other, message);
        let length = u16::try_from(message.len() - length_at - 2).expect("below max_length()");
        message[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        count_additionals(message, |count| count.wrapping_add(1));
    }
}

/// The current Unix timestamp in seconds.
pub fn now() -> u64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |now| now.as_secs())
}

/// Appends bytes with a length prefix.
fn length_prefixed(bytes: &[u8], out: &mut Vec<u8>) {
    let count = u16::try_from(bytes.len()).expect("from a message, or short");
    out.extend(count.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Changes ARCOUNT, the last field of the header.
fn count_additionals(message: &mut [u8], change: impl FnOnce(u16) -> u16) {
    let at = HEADER_LENGTH - 2;
    let count = u16::from_be_bytes([message[at], message[at + 1]]);
    message[at..at + 2].copy_from_slice(&change(count).to_be_bytes());
}

/// Cursor over record data.
struct DataReader<'m>(&'m [u8]);

impl<'m> DataReader<'m> {
    fn take(&mut self, count: usize) -> Result<&'m [u8], MalformedMessage> {
        let split = self.0.split_at_checked(count);
        let (taken, rest) = split.ok_or(MalformedMessage::BadTsig)?;
        self.0 = rest;
        Ok(taken)
    }

    fn word(&mut self) -> Result<u16, MalformedMessage> {
        self.take(2)
            .map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn length_prefixed(&mut self) -> Result<&'m [u8], MalformedMessage> {
        let count = self.word()?;
        self.take(count.into())
    }
}
