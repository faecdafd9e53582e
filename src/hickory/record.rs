//! Records as hickory-proto's types.

use hickory_server::proto::{
    rr::{DNSClass, Name, RData, Record, RecordType, rdata::NULL},
    serialize::binary::{BinDecodable, BinDecoder, Restrict},
};

use crate::wire::{Class, NameRef, Type};

/// Types whose data hickory-proto encodes to the bytes that it decoded. All others are passed as
/// unknown types (RFC 3597), so that their data is unchanged.
const TYPED: [Type; 9] = [
    Type::A,
    Type::AAAA,
    Type::CNAME,
    Type::MX,
    Type::NS,
    Type::PTR,
    Type::SOA,
    Type::SRV,
    Type::TXT,
];

/// A record with this data, in wire format with uncompressed names.
pub(super) fn record(
    owner: NameRef<'_>,
    rtype: Type,
    class: Class,
    ttl: u32,
    data: &[u8],
) -> Option<Record> {
    let mut record = Record::from_rdata(name(owner)?, ttl, rdata(rtype, data));
    record.dns_class = DNSClass::from(class.0);
    Some(record)
}

/// A name, with its spelling preserved.
pub(super) fn name(name: NameRef<'_>) -> Option<Name> {
    Name::read(&mut BinDecoder::new(name.as_wire())).ok()
}

fn rdata(rtype: Type, data: &[u8]) -> RData {
    let code = RecordType::from(rtype.0);
    if data.is_empty() {
        // hickory-proto's representation of a record without data, for any type.
        return RData::Update0(code);
    }
    if TYPED.contains(&rtype)
        && let Ok(length) = u16::try_from(data.len())
        && let Ok(read) = RData::read(&mut BinDecoder::new(data), code, Restrict::new(length))
    {
        return read;
    }
    let rdata = NULL::with(data.to_vec());
    RData::Unknown { code, rdata }
}

#[cfg(test)]
mod tests {
    use hickory_server::proto::serialize::binary::{BinEncodable, BinEncoder};

    use super::*;
    use crate::wire;

    #[test]
    fn the_data_of_every_record_is_preserved() {
        let owner = wire::Name::parse("Web.example").unwrap();
        for (rtype, data) in [
            (Type::A, &b"\x0A\0\0\x01"[..]),
            (Type::A, b"too long for an address"),
            (Type::A, b""),
            (Type::TXT, b"\x02ab\0\x01c"),
            (Type::SRV, b"\0\x01\0\x02\0\x35\x01A\x01b\0"),
            (Type::NS, b"\x02Ns\x07example\0"),
            // An SVCB record with unordered parameters, which hickory-proto rejects.
            (Type(64), b"\0\x01\0\0\x03\0\x02\0\x35\0\x01\0\x03\x02h2"),
            (Type(65_280), b"\xC0\x0C"),
        ] {
            let record = record(owner.as_ref(), rtype, Class::IN, 5, data).unwrap();
            let mut bytes = Vec::new();
            record.emit(&mut BinEncoder::new(&mut bytes)).unwrap();
            let at = owner.as_wire().len();
            assert_eq!(&bytes[..at], owner.as_wire());
            // Compressed where RFC 1035 allows it: "example" occurs in the owner.
            let written: &[u8] = match rtype {
                Type::NS => b"\x02Ns\xC0\x04",
                _ => data,
            };
            let mut rest = rtype.0.to_be_bytes().to_vec();
            rest.extend([0, 1, 0, 0, 0, 5, 0, u8::try_from(written.len()).unwrap()]);
            rest.extend(written);
            assert_eq!(bytes[at..], rest, "{rtype}");
        }
    }
}
