//! Questions to a master: what is the serial, and the whole zone (AXFR, RFC 5936), over TCP.

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

/// How long a connection, a write or the next message may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a whole zone may take.
const WHOLE: Duration = Duration::from_mins(10);
/// Octets of a whole zone at most, as it is sent.
const MAX_OCTETS: usize = 256 * 1024 * 1024;

/// Why a master's zone is not to be had.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each says it
pub enum FetchError {
    #[error("{}", crate::plain::io(.0))]
    Connection(#[from] io::Error),
    #[error("it is silent")]
    Silent,
    #[error("it takes too long")]
    Slow,
    #[error("it answers {0}")]
    Refused(Rcode),
    #[error("the answer is to another question")]
    Other,
    #[error("the answer cannot be read: {0}")]
    Malformed(#[from] MalformedMessage),
    #[error("the answer has no SOA record where one belongs")]
    NoSoa,
    #[error("{owner} {rtype}: {refusal}")]
    Record {
        owner: Box<Name>,
        rtype: Type,
        refusal: InvalidRecord,
    },
    #[error("{0}")]
    Zone(InvalidRecord),
    #[error("it sends more than 256 MiB")]
    TooMuch,
}

/// The serial of a zone.
pub async fn serial(master: SocketAddr, zone: Name) -> Result<u32, FetchError> {
    let mut answers = Answers::ask(master, zone, Type::SOA).await?;
    answers.next().await?;
    let mut serial = None;
    answers.each(|owner, rtype, _, data| {
        if rtype == Type::SOA && owner.as_ref().eq_ignore_case(zone.as_ref()) {
            // Behind two names stand five numbers of four octets.
            let at = data.len().checked_sub(20);
            let octets = at.and_then(|at| data[at..].first_chunk::<4>());
            serial = octets.map(|octets| u32::from_be_bytes(*octets));
        }
        Ok(false)
    })?;
    serial.ok_or(FetchError::NoSoa)
}

/// The whole zone.
pub async fn zone(master: SocketAddr, zone: Name) -> Result<Zone, FetchError> {
    let fetched = timeout(WHOLE, fetch(master, zone)).await;
    fetched.map_err(|_| FetchError::Slow)?
}

async fn fetch(master: SocketAddr, zone: Name) -> Result<Zone, FetchError> {
    let mut answers = Answers::ask(master, zone, Type::AXFR).await?;
    let mut builder = ZoneBuilder::new(zone);
    let mut received = 0;
    let mut is_begun = false;
    loop {
        received += answers.next().await?;
        if received > MAX_OCTETS {
            return Err(FetchError::TooMuch);
        }
        // The SOA record comes first, and once more when all is told (RFC 5936 §2.2).
        let is_done = answers.each(|owner, rtype, ttl, data| {
            let is_soa = rtype == Type::SOA && owner.as_ref().eq_ignore_case(zone.as_ref());
            if !is_begun && !is_soa {
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
            let ends = is_soa && is_begun;
            is_begun = true;
            Ok(ends)
        })?;
        if is_done {
            break;
        }
    }
    // Sorting a large zone takes a while, in which others should not wait.
    let built = tokio::task::spawn_blocking(move || builder.finish()).await;
    let built = built.map_err(|error| FetchError::Connection(io::Error::other(error)))?;
    built.map_err(FetchError::Zone)
}

/// The messages that answer a question.
struct Answers {
    stream: TcpStream,
    question: Question,
    id: u16,
    message: Vec<u8>,
}

impl Answers {
    /// Connects and asks.
    async fn ask(master: SocketAddr, zone: Name, rtype: Type) -> Result<Self, FetchError> {
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
        let asked = async {
            let mut stream = TcpStream::connect(master).await?;
            stream.write_all(&message).await?;
            Ok::<_, io::Error>(stream)
        };
        let stream = timeout(PATIENCE, asked)
            .await
            .map_err(|_| FetchError::Silent)??;
        message.clear();
        Ok(Self {
            stream,
            question,
            id,
            message,
        })
    }

    /// Reads the next message, and gives its length in octets.
    async fn next(&mut self) -> Result<usize, FetchError> {
        let read = async {
            let length = usize::from(self.stream.read_u16().await?);
            self.message.resize(length, 0);
            self.stream.read_exact(&mut self.message).await
        };
        let read = timeout(PATIENCE, read)
            .await
            .map_err(|_| FetchError::Silent)?;
        Ok(read?)
    }

    /// Calls `take` for each answer of the message until it says that it has all; whether it did.
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
        // Only the first message of several has to repeat the question (RFC 5936 §2.2.1).
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
