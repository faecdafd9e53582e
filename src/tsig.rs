//! Signatures of messages by shared secrets (TSIG, RFC 8945): how a query's is verified, and how
//! its reply is signed. Which keys there are, and who must use them, is [`crate::plugin::tsig`]'s.
//!
//! Of a query that has no such record nothing is kept here; of one that has, its octets are, since
//! a signature is over octets.

use std::{sync::Arc, time::SystemTime};

use hickory_proto::rr::rdata::tsig::TsigAlgorithm;

use crate::wire::{Class, HEADER_LENGTH, MalformedMessage, Name, Rcode, Reader, Type};

/// A query that came with a TSIG record.
#[derive(Clone, Debug)]
pub struct Signed {
    octets: Box<[u8]>,
    /// Where the record begins.
    record_at: usize,
}

/// What a TSIG record says (RFC 8945 §4.2).
#[derive(Debug)]
struct Record {
    /// In lower case, as it is signed; so is the algorithm.
    key: Name,
    algorithm: Name,
    /// Seconds since 1970.
    time: u64,
    fudge: u16,
    mac: Box<[u8]>,
    original_id: [u8; 2],
    error: u16,
    other: Box<[u8]>,
}

/// What became of a signature.
#[derive(Debug)]
pub struct Verdict {
    /// What is wrong with it; [`Rcode::NOERROR`] where nothing is.
    pub error: Rcode,
    /// How the reply is to be signed, be it that something is wrong.
    pub signer: Signer,
}

/// Signs the reply to a signed query.
#[derive(Clone, Debug)]
pub struct Signer {
    key: Name,
    algorithm: Name,
    /// Nothing where the reply tells of a wrong key or signature: it is not signed (§5.3.2).
    means: Option<Means>,
    request_mac: Box<[u8]>,
    error: Rcode,
    /// The client's time, where it is too far from ours (§5.2.3).
    bad_time: Option<u64>,
}

#[derive(Clone)]
struct Means {
    algorithm: TsigAlgorithm,
    secret: Arc<[u8]>,
}

impl std::fmt::Debug for Means {
    /// Without the secret.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.algorithm)
    }
}

/// The algorithms that are known, and the octets of their MACs. MD5 and SHA-1 are not: they are not
/// to be used any more (§6), and the library does without.
const ALGORITHMS: [(&[u8], TsigAlgorithm, usize); 3] = [
    (b"\x0bhmac-sha256\x00", TsigAlgorithm::HmacSha256, 32),
    (b"\x0bhmac-sha384\x00", TsigAlgorithm::HmacSha384, 48),
    (b"\x0bhmac-sha512\x00", TsigAlgorithm::HmacSha512, 64),
];

/// Seconds by which clocks may differ that read our signatures (§10).
const FUDGE: u16 = 300;
/// Octets of a MAC that was cut short, at least (§5.2.2.1).
const SHORTEST: usize = 10;
/// TSIG's own error codes that [`Rcode`] knows by no name, or by that of another (§3).
const BADSIG: Rcode = Rcode(16);
const BADKEY: Rcode = Rcode(17);
const BADTIME: Rcode = Rcode(18);
const BADTRUNC: Rcode = Rcode(22);

/// What a TSIG error is called; 16 means something else in a header.
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
    /// The message `octets`, which has a TSIG record at its end, from `record_at` on.
    pub fn new(octets: &[u8], record_at: usize) -> Self {
        Self {
            octets: octets.into(),
            record_at,
        }
    }

    /// Verifies the signature by the secret that `secret` has under the key's name. `now` is in
    /// seconds since 1970. An error is a record that makes no sense: FORMERR.
    pub fn verify(
        &self,
        secret: impl FnOnce(&Name) -> Option<Arc<[u8]>>,
        now: u64,
    ) -> Result<Verdict, MalformedMessage> {
        let record = self.record()?;
        let mut signer = Signer {
            key: record.key,
            algorithm: record.algorithm,
            means: None,
            request_mac: Box::default(),
            error: BADKEY,
            bad_time: None,
        };
        let wire = record.algorithm.as_wire();
        let known = ALGORITHMS.iter().find(|(name, ..)| *name == wire);
        let (Some((_, algorithm, length)), Some(secret)) = (known, secret(&record.key)) else {
            return Ok(signer.into());
        };
        if record.mac.len() > *length || record.mac.len() < SHORTEST.max(length / 2) {
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
        // Only now is what it says about time to be believed.
        signer.error = Rcode::NOERROR;
        if now.abs_diff(record.time) > record.fudge.into() {
            signer.error = BADTIME;
            signer.bad_time = Some(record.time);
        }
        signer.request_mac = record.mac;
        signer.means = Some(Means {
            algorithm: algorithm.clone(),
            secret,
        });
        Ok(signer.into())
    }

    fn record(&self) -> Result<Record, MalformedMessage> {
        let message = &*self.octets;
        let raw = Reader::at(message, self.record_at).record()?;
        // Its class and TTL are signed, but not from where they stand (§4.2).
        if raw.rtype != Type::TSIG || raw.class != Class::ANY || raw.ttl != 0 {
            return Err(MalformedMessage::BadTsig);
        }
        let (algorithm, behind) = Name::read(message, raw.data_start)?;
        let mut data = Data(message.get(behind..raw.data_end).unwrap_or_default());
        let [high, low] = [data.take(2)?, data.take(4)?];
        let time = high
            .iter()
            .chain(low)
            .fold(0, |time, octet| time << 8 | u64::from(*octet));
        let fudge = data.word()?;
        let mac = data.counted()?.into();
        let original_id = data.word()?.to_be_bytes();
        let error = data.word()?;
        let other = data.counted()?.into();
        if !data.0.is_empty() {
            return Err(MalformedMessage::BadTsig);
        }
        Ok(Record {
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

    /// What is signed: the message as it was before the record came to it, and what the record
    /// says (§4.3).
    fn digested(&self, record: &Record) -> Vec<u8> {
        let mut digested = self.octets[..self.record_at].to_vec();
        digested[..2].copy_from_slice(&record.original_id);
        count_additionals(&mut digested, |count| count.wrapping_sub(1));
        let said = Said {
            time: record.time,
            fudge: record.fudge,
            error: record.error,
            other: &record.other,
        };
        said.variables(&record.key, &record.algorithm, &mut digested);
        digested
    }
}

/// The fields of a record that are signed besides the names.
struct Said<'a> {
    time: u64,
    fudge: u16,
    error: u16,
    other: &'a [u8],
}

impl Said<'_> {
    /// §4.3.3
    fn variables(&self, key: &Name, algorithm: &Name, out: &mut Vec<u8>) {
        out.extend(key.as_wire());
        out.extend(Class::ANY.0.to_be_bytes());
        out.extend([0; 4]);
        out.extend(algorithm.as_wire());
        self.timers(out);
        out.extend(self.error.to_be_bytes());
        counted(self.other, out);
    }

    fn timers(&self, out: &mut Vec<u8>) {
        out.extend(&self.time.to_be_bytes()[2..]);
        out.extend(self.fudge.to_be_bytes());
    }
}

impl From<Signer> for Verdict {
    fn from(signer: Signer) -> Self {
        Self {
            error: signer.error,
            signer,
        }
    }
}

impl Signer {
    /// The name of the key.
    pub fn key(&self) -> &Name {
        &self.key
    }

    /// How many octets the record takes, at most.
    pub fn room(&self) -> usize {
        let names = self.key.as_wire().len() + self.algorithm.as_wire().len();
        // Owner's type, class, TTL and length; the fixed fields; the longest MAC; a time.
        names + 10 + 16 + 64 + 6
    }

    /// Signs the one message of a reply.
    pub fn sign(&self, message: &mut Vec<u8>) {
        self.next(message, None);
    }

    /// Signs a message of a reply, `before` being the signature of the message before it
    /// (§5.3.1). Returns this one's.
    pub fn next(&self, message: &mut Vec<u8>, before: Option<&[u8]>) -> Vec<u8> {
        let now = now();
        let clock = now.to_be_bytes();
        let said = Said {
            time: self.bad_time.unwrap_or(now),
            fudge: FUDGE,
            error: self.error.0,
            other: if self.bad_time.is_some() {
                &clock[2..]
            } else {
                &[]
            },
        };
        let mac = self.means.as_ref().map(|means| {
            let mut digested = Vec::with_capacity(message.len() + 2 * self.room());
            counted(before.unwrap_or(&self.request_mac), &mut digested);
            digested.extend_from_slice(message);
            match before {
                None => said.variables(&self.key, &self.algorithm, &mut digested),
                Some(_) => said.timers(&mut digested),
            }
            let mac = means.algorithm.mac_data(&means.secret, &digested);
            mac.expect("an algorithm that has verified")
        });
        let mac = mac.unwrap_or_default();
        self.append(message, &said, &mac);
        mac
    }

    fn append(&self, message: &mut Vec<u8>, said: &Said<'_>, mac: &[u8]) {
        let original_id = [message[0], message[1]];
        message.extend(self.key.as_wire());
        message.extend(Type::TSIG.0.to_be_bytes());
        message.extend(Class::ANY.0.to_be_bytes());
        message.extend([0; 4]);
        let length_at = message.len();
        message.extend([0; 2]);
        message.extend(self.algorithm.as_wire());
        said.timers(message);
        counted(mac, message);
        message.extend(original_id);
        message.extend(said.error.to_be_bytes());
        counted(said.other, message);
        let length = u16::try_from(message.len() - length_at - 2).expect("below room()");
        message[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        count_additionals(message, |count| count.wrapping_add(1));
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |now| now.as_secs())
}

/// Octets with their number before them.
fn counted(octets: &[u8], out: &mut Vec<u8>) {
    let count = u16::try_from(octets.len()).expect("from a message, or short");
    out.extend(count.to_be_bytes());
    out.extend_from_slice(octets);
}

/// Changes ARCOUNT, the last word of the header.
fn count_additionals(message: &mut [u8], change: impl FnOnce(u16) -> u16) {
    let at = HEADER_LENGTH - 2;
    let count = u16::from_be_bytes([message[at], message[at + 1]]);
    message[at..at + 2].copy_from_slice(&change(count).to_be_bytes());
}

/// Record data that are read from their start.
struct Data<'m>(&'m [u8]);

impl<'m> Data<'m> {
    fn take(&mut self, count: usize) -> Result<&'m [u8], MalformedMessage> {
        let split = self.0.split_at_checked(count);
        let (taken, rest) = split.ok_or(MalformedMessage::BadTsig)?;
        self.0 = rest;
        Ok(taken)
    }

    fn word(&mut self) -> Result<u16, MalformedMessage> {
        self.take(2)
            .map(|octets| u16::from_be_bytes([octets[0], octets[1]]))
    }

    fn counted(&mut self) -> Result<&'m [u8], MalformedMessage> {
        let count = self.word()?;
        self.take(count.into())
    }
}
