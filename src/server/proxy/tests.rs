use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn any_bytes_are_parsed_without_a_panic(start in 0..3_usize, rest in prop::collection::vec(any::<u8>(), 0..300)) {
        let start = [&b""[..], LINE_START, SIGNATURE][start];
        let bytes = [start, &rest].concat();
        if let Ok(Start::Header(header)) = Start::read(&bytes) {
            prop_assert!(header.length <= bytes.len());
            prop_assert_eq!(Start::read(&bytes[..header.length - 1]), Ok(Start::Unfinished));
        }
    }
}

/// A header of version 2.
fn binary_header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([0x20 | command, family]);
    header.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    header.extend(body);
    header
}

fn read(bytes: &[u8]) -> ProxyHeader {
    match Start::read(bytes).unwrap() {
        Start::Header(header) => header,
        other => panic!("{other:?}"),
    }
}

fn ends(header: ProxyHeader) -> (String, String) {
    let addresses = header.addresses.unwrap();
    (addresses.client.to_string(), addresses.server.to_string())
}

const V4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 1, 0x12, 0x34, 0, 53];

#[test]
fn version_1_has_both_addresses() {
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.1 4660 53\r\nrest";
    let header = read(line);
    assert_eq!((header.length, header.version), (line.len() - 4, 1));
    let addresses = ends(header);
    assert_eq!(
        addresses,
        ("192.0.2.1:4660".into(), "198.51.100.1:53".into())
    );
    let addresses = ends(read(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n"));
    assert_eq!(addresses, ("[2001:db8::1]:1".into(), "[::1]:2".into()));
    for unknown in [
        "PROXY UNKNOWN\r\n",
        "PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n",
    ] {
        assert_eq!(read(unknown.as_bytes()).addresses, None);
    }
}

#[test]
fn version_2_has_both_addresses_and_may_have_extensions() {
    let mut body = V4.to_vec();
    body.extend([4, 0, 1, 0]); // a TLV of type NOOP
    let bytes = binary_header(1, 0x11, &body);
    let header = read(&bytes);
    assert_eq!((header.length, header.version), (bytes.len(), 2));
    assert!(!header.addresses.unwrap().datagrams);
    let addresses = ends(header);
    assert_eq!(
        addresses,
        ("192.0.2.1:4660".into(), "198.51.100.1:53".into())
    );
    assert!(
        read(&binary_header(1, 0x12, V4))
            .addresses
            .unwrap()
            .datagrams
    );
    let mut v6 = [0; 36];
    (v6[15], v6[31], v6[33]) = (1, 2, 7);
    let addresses = ends(read(&binary_header(1, 0x21, &v6)));
    assert_eq!(addresses, ("[::1]:7".into(), "[::2]:0".into()));
    for without_client in [
        binary_header(0, 0x11, V4),
        binary_header(0, 0, &[]),
        binary_header(1, 0, &[]),
        binary_header(1, 0x31, &[0; 216]),
    ] {
        assert_eq!(read(&without_client).addresses, None);
    }
}

#[test]
fn every_prefix_of_a_header_is_unfinished_and_other_bytes_are_bare() {
    for header in [
        b"PROXY TCP4 192.0.2.1 198.51.100.1 4660 53\r\n".to_vec(),
        binary_header(1, 0x11, V4),
    ] {
        for end in 0..header.len() {
            assert_eq!(Start::read(&header[..end]), Ok(Start::Unfinished), "{end}");
        }
    }
    for bare in [&b"PROXZ"[..], b"\r\n\r\n\0\r\nQUIX\n", b"\0\x20", b"G"] {
        assert_eq!(Start::read(bare), Ok(Start::Bare));
    }
}

#[test]
fn malformed_headers_are_errors() {
    for text in [
        "PROXY TCP4 192.0.2.1 198.51.100.1 4660\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 4660 53 9\r\n",
        "PROXY TCP4 ::1 ::1 4660 53\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 65536 53\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.1 1 53\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 1 53\n",
    ] {
        assert_eq!(Start::read(text.as_bytes()), Err(Malformed::Text), "{text}");
    }
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
    assert_eq!(Start::read(endless.as_bytes()), Err(Malformed::Text));
    let short = binary_header(1, 0x11, &V4[..11]);
    assert_eq!(Start::read(&short), Err(Malformed::Short));
    assert_eq!(
        Start::read(&binary_header(2, 0x11, V4)),
        Err(Malformed::Command)
    );
    let mut third = binary_header(1, 0x11, V4);
    third[12] = 0x31;
    assert_eq!(Start::read(&third), Err(Malformed::Version(3)));
    third[12] = 0x21;
    third[14] = 0x10;
    assert_eq!(Start::read(&third), Err(Malformed::TooLong));
}

#[test]
fn headers_of_allowed_networks_are_used() {
    let policy = ProxyPolicy {
        allow: vec!["192.0.2.0/24".parse().unwrap()],
        others: Treatment::Reject,
        sessions: None,
    };
    for (peer, treatment) in [
        ("192.0.2.9", Treatment::Use),
        ("::ffff:192.0.2.9", Treatment::Use),
        ("198.51.100.1", Treatment::Reject),
        ("::1", Treatment::Reject),
    ] {
        assert_eq!(policy.of(peer.parse().unwrap()), treatment, "{peer}");
    }
}
