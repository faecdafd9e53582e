//! Queries to a master over TCP: the SOA record, and the zone transfer (AXFR, RFC 5936).

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    authority::{InvalidRecord, Zone, ZoneBuilder},
    edns::Options,
    message::write_query,
    query::Question,
    reply::expand,
    wire::{Class, Header, MalformedMessage, Name, Rcode, Reader, Type},
};

/// Timeout of connecting and writing, and of reading each message.
const IO_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of a zone transfer.
const TRANSFER_TIMEOUT: Duration = Duration::from_mins(10);
/// Maximum size of a zone transfer in bytes, as sent.
const MAX_BYTES: usize = 256 * 1024 * 1024;

/// An error of a transfer from a master.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages describe the variants
pub enum FetchError {
    #[error("{}", crate::error_text::io(.0))]
    Connection(#[from] io::Error),
    #[error("no response in time")]
    NoResponse,
    #[error("the transfer takes too long")]
    TimedOut,
    #[error("the response is {0}")]
    Refused(Rcode),
    #[error("the response is for another question")]
    Other,
    #[error("the response is malformed: {0}")]
    Malformed(#[from] MalformedMessage),
    #[error("the response has no SOA record where one is required")]
    NoSoa,
    #[error("{owner} {rtype}: {refusal}")]
    Record {
        owner: Box<Name>,
        rtype: Type,
        refusal: InvalidRecord,
    },
    #[error("{0}")]
    Zone(InvalidRecord),
    #[error("the zone exceeds 256 MiB")]
    TooMuch,
}

/// Queries the serial of a zone.
pub async fn serial(master: SocketAddr, zone: Name) -> Result<u32, FetchError> {
    let mut answers = Responses::query(master, zone, Type::SOA).await?;
    answers.next().await?;
    let mut serial = None;
    answers.each(|owner, rtype, _, data| {
        if rtype == Type::SOA && owner.as_ref().eq_ignore_case(zone.as_ref()) {
            // The data ends in five 32-bit numbers, the serial first (RFC 1035 section 3.3.13).
            let at = data.len().checked_sub(20);
            let bytes = at.and_then(|at| data[at..].first_chunk::<4>());
            serial = bytes.map(|bytes| u32::from_be_bytes(*bytes));
        }
        Ok(false)
    })?;
    serial.ok_or(FetchError::NoSoa)
}

/// Transfers a zone.
pub async fn zone(master: SocketAddr, zone: Name) -> Result<Zone, FetchError> {
    let fetched = timeout(TRANSFER_TIMEOUT, fetch(master, zone)).await;
    fetched.map_err(|_| FetchError::TimedOut)?
}

async fn fetch(master: SocketAddr, zone: Name) -> Result<Zone, FetchError> {
    let mut answers = Responses::query(master, zone, Type::AXFR).await?;
    let mut builder = ZoneBuilder::new(zone);
    let mut received = 0;
    let mut has_begun = false;
    loop {
        received += answers.next().await?;
        if received > MAX_BYTES {
            return Err(FetchError::TooMuch);
        }
        // The SOA record is the first and the last record (RFC 5936 section 2.2).
        let is_done = answers.each(|owner, rtype, ttl, data| {
            let is_soa = rtype == Type::SOA && owner.as_ref().eq_ignore_case(zone.as_ref());
            if !has_begun && !is_soa {
                return Err(FetchError::NoSoa);
            }
            match builder.add(owner.as_ref(), rtype, ttl, data) {
                Ok(()) | Err(InvalidRecord::Outside) => {}
                Err(refusal) => {
                    return Err(FetchError::Record {
                        owner: Box::new(owner),
                        rtype,
                        refusal,
                    });
                }
            }
            let ends = is_soa && has_begun;
            has_begun = true;
            Ok(ends)
        })?;
        if is_done {
            break;
        }
    }
    // Sorting a large zone would block other tasks of this thread.
    let built = tokio::task::spawn_blocking(move || builder.finish()).await;
    let built = built.map_err(|error| FetchError::Connection(io::Error::other(error)))?;
    built.map_err(FetchError::Zone)
}

/// The response messages to a query.
struct Responses {
    stream: TcpStream,
    question: Question,
    id: u16,
    message: Vec<u8>,
}

impl Responses {
    /// Connects and sends the query.
    async fn query(master: SocketAddr, zone: Name, rtype: Type) -> Result<Self, FetchError> {
        let question = Question::new(zone, rtype, Class::IN);
        let id = rand::random();
        let mut message = vec![0, 0];
        message.extend(write_query(
            id,
            &question,
            false,
            false,
            false,
            None,
            &Options::default(),
        ));
        let length = u16::try_from(message.len() - 2).expect("a question is short");
        message[..2].copy_from_slice(&length.to_be_bytes());
        let sending = async {
            let mut stream = TcpStream::connect(master).await?;
            stream.write_all(&message).await?;
            Ok::<_, io::Error>(stream)
        };
        let stream = timeout(IO_TIMEOUT, sending)
            .await
            .map_err(|_| FetchError::NoResponse)??;
        message.clear();
        Ok(Self {
            stream,
            question,
            id,
            message,
        })
    }

    /// Reads the next message, and returns its length in bytes.
    async fn next(&mut self) -> Result<usize, FetchError> {
        let read = async {
            let length = usize::from(self.stream.read_u16().await?);
            self.message.resize(length, 0);
            self.stream.read_exact(&mut self.message).await
        };
        let read = timeout(IO_TIMEOUT, read)
            .await
            .map_err(|_| FetchError::NoResponse)?;
        Ok(read?)
    }

    /// Calls `take` for each record of the answer section until it returns true; returns whether it
    /// did.
    fn each(
        &self,
        mut take: impl FnMut(Name, Type, u32, &[u8]) -> Result<bool, FetchError>,
    ) -> Result<bool, FetchError> {
        let header = Header::read(&self.message).ok_or(MalformedMessage::NoHeader)?;
        if header.id != self.id || !header.has(Header::RESPONSE) {
            return Err(FetchError::Other);
        }
        let rcode = Rcode(header.flags & 0x0F);
        if rcode != Rcode::NOERROR {
            return Err(FetchError::Refused(rcode));
        }
        let mut reader = Reader::new(&self.message);
        // The question section may be empty in all messages but the first (RFC 5936 section 2.2.1).
        for _ in 0..header.counts[0] {
            let (name, rtype, class) = reader.question()?;
            if !Question::new(name, rtype, class).same_as(&self.question) {
                return Err(FetchError::Other);
            }
        }
        let mut data = Vec::new();
        for _ in 0..header.counts[1] {
            let record = reader.record()?;
            if record.class != Class::IN {
                return Err(FetchError::Other);
            }
            data.clear();
            expand(&self.message, &record, &mut data)?;
            if take(record.owner, record.rtype, record.ttl, &data)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
