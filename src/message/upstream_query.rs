//! Writes queries to upstreams (RFC 1035 section 4, RFC 6891).

use crate::{
    edns::Options,
    query::{Edns, OPT_LENGTH, Question},
    wire::{HEADER_LENGTH, Header, Type},
};

/// Writes a query for `question`, in its original spelling. Adds an OPT record if `edns` is set or
/// there are `options`. The client's NSID option is not forwarded.
pub fn write_query(
    id: u16,
    question: &Question,
    recursion_desired: bool,
    checking_disabled: bool,
    authentic_data: bool,
    edns: Option<Edns>,
    options: &Options,
) -> Vec<u8> {
    let name = question.name.as_wire();
    let edns = edns.or_else(|| (!options.is_empty()).then_some(Edns::OURS));
    let mut flags = 0;
    for (set, bit) in [
        (recursion_desired, Header::RECURSION_DESIRED),
        (checking_disabled, Header::CHECKING_DISABLED),
        (authentic_data, Header::AUTHENTIC),
    ] {
        if set {
            flags |= bit;
        }
    }
    let mut header = [0; HEADER_LENGTH];
    let words = [id, flags, 1, 0, 0, u16::from(edns.is_some())];
    for (bytes, word) in header.chunks_exact_mut(2).zip(words) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    let opt = edns.map_or(0, |_| OPT_LENGTH + options.as_wire().len());
    // Exact, so that it becomes a boxed slice without a copy.
    let mut out = Vec::with_capacity(HEADER_LENGTH + name.len() + 4 + opt);
    out.extend_from_slice(&header);
    out.extend_from_slice(name);
    let ([t0, t1], [c0, c1]) = (
        question.rtype.0.to_be_bytes(),
        question.class.0.to_be_bytes(),
    );
    out.extend_from_slice(&[t0, t1, c0, c1]);
    if let Some(edns) = edns {
        out.push(0);
        out.extend(Type::OPT.0.to_be_bytes());
        out.extend(edns.udp_payload.to_be_bytes());
        // Extended rcode, version, flags (RFC 6891 section 6.1.3).
        out.extend([0, 0, if edns.dnssec_ok { 0x80 } else { 0 }, 0]);
        let length = u16::try_from(options.as_wire().len()).expect("at most Options::MAX");
        out.extend(length.to_be_bytes());
        out.extend(options.as_wire());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        message::read_query,
        wire::{Class, Name},
    };

    fn question() -> Question {
        Question::new(
            Name::parse("Www.Example.org").unwrap(),
            Type::AAAA,
            Class::IN,
        )
    }

    #[test]
    fn messages_round_trip() {
        let edns = Edns {
            udp_payload: 1232,
            version: 0,
            dnssec_ok: true,
            wants_nsid: false,
            is_padded: false,
        };
        let mut options = Options::default();
        options.push(Options::SUBNET, b"net");
        let bytes = write_query(0xABCD, &question(), true, true, false, Some(edns), &options);
        let header = Header::read(&bytes).unwrap();
        assert_eq!(header.id, 0xABCD);
        assert!(header.has(Header::RECURSION_DESIRED) && header.has(Header::CHECKING_DISABLED));
        assert!(!header.has(Header::AUTHENTIC) && !header.has(Header::RESPONSE));
        let parsed = read_query(&bytes, &header).unwrap();
        assert_eq!(parsed.question, question(), "spelling is kept");
        assert_eq!(parsed.edns, Some(edns));
        assert_eq!(parsed.options, options);
    }

    #[test]
    fn a_query_without_opt_gets_a_reply_without_opt() {
        let bytes = write_query(
            1,
            &question(),
            false,
            false,
            true,
            None,
            &Options::default(),
        );
        let header = Header::read(&bytes).unwrap();
        assert_eq!(header.counts, [1, 0, 0, 0]);
        assert_eq!(header.flags, Header::AUTHENTIC);
        assert_eq!(bytes.len(), HEADER_LENGTH + 17 + 4);
    }

    #[test]
    fn options_add_an_opt_record() {
        let mut options = Options::default();
        options.push(65001, b"x");
        let bytes = write_query(1, &question(), true, false, true, None, &options);
        let parsed = read_query(&bytes, &Header::read(&bytes).unwrap()).unwrap();
        assert_eq!(parsed.edns.unwrap().udp_payload, Edns::OUR_UDP_PAYLOAD);
        assert_eq!(parsed.options, options);
    }
}
