//! A reply in wire format, decoded here and encoded again by hickory-server.
//!
//! Header, question, records and OPT record are preserved, the bytes are not: hickory-server writes
//! the owner of the first record in full, where Lodestone writes a pointer to the question. So a
//! reply grows by that name, and a signature of its bytes (TSIG) would be invalid.

use hickory_server::{
    net::NetError,
    proto::{
        op::{Edns, Header, Metadata, ResponseCode},
        rr::{
            Record,
            rdata::opt::{EdnsCode, EdnsOption},
        },
        serialize::binary::{BinDecodable, BinDecoder},
    },
    server::{ResponseHandler, ResponseInfo},
    zone_handler::{MessageResponseBuilder, Queries},
};

use super::record::record;
use crate::{
    edns,
    reply::expand,
    wire::{self, HEADER_LENGTH, RawRecord, Reader, Type},
};

/// A reply, decoded.
pub(crate) struct Response {
    metadata: Metadata,
    queries: Queries,
    /// The answer, authority and additional sections.
    sections: [Vec<Record>; 3],
    edns: Option<Edns>,
}

impl Response {
    /// Decodes a reply of this server; `None` if hickory-proto cannot represent it.
    pub(crate) fn read(message: &[u8]) -> Option<Self> {
        let counts = wire::Header::read(message)?.counts;
        let mut metadata = Header::read(&mut BinDecoder::new(message)).ok()?.metadata;
        let mut decoder = BinDecoder::new(message);
        decoder.read_slice(HEADER_LENGTH).ok()?;
        let queries = Queries::read(&mut decoder, counts[0].into()).ok()?;
        let mut reader = Reader::new(message);
        for _ in 0..counts[0] {
            reader.question().ok()?;
        }
        let mut sections = [const { Vec::new() }; 3];
        let mut edns = None;
        for (section, count) in sections.iter_mut().zip(&counts[1..]) {
            for _ in 0..*count {
                let raw = reader.record().ok()?;
                if raw.rtype == Type::OPT {
                    edns = Some(opt(&raw, message)?);
                    continue;
                }
                let mut data = Vec::new();
                expand(message, &raw, &mut data).ok()?;
                let owner = raw.owner.as_ref();
                section.push(record(owner, raw.rtype, raw.class, raw.ttl, &data)?);
            }
        }
        if let Some(edns) = &edns {
            let low = metadata.response_code.low();
            metadata.response_code = ResponseCode::from(edns.rcode_high(), low);
        }
        Some(Self {
            metadata,
            queries,
            sections,
            edns,
        })
    }

    /// Encodes and sends it with hickory-server.
    pub(crate) async fn send(
        &self,
        handler: &mut impl ResponseHandler,
    ) -> Result<ResponseInfo, NetError> {
        let [answers, authorities, additionals] = &self.sections;
        let builder = MessageResponseBuilder::new(&self.queries, self.edns.as_ref());
        let response = builder.build(self.metadata, answers, authorities, &[], additionals);
        handler.send_response(response).await
    }
}

/// An OPT record (RFC 6891 section 6.1); the order of its options is preserved.
fn opt(raw: &RawRecord, message: &[u8]) -> Option<Edns> {
    let [rcode_high, version, flags, low_flags] = raw.ttl.to_be_bytes();
    let mut edns = Edns::new();
    edns.set_max_payload(raw.class.0)
        .set_rcode_high(rcode_high)
        .set_version(version)
        .set_dnssec_ok(flags & 0x80 != 0);
    edns.flags_mut().z = u16::from_be_bytes([flags & 0x7F, low_flags]);
    for option in edns::walk(raw.data(message)) {
        let (code, data) = option.ok()?;
        let option = EdnsOption::Unknown(code, data.to_vec());
        edns.options_mut()
            .options
            .push((EdnsCode::from(code), option));
    }
    Some(edns)
}
