use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn no_octets_are_too_odd(start in 0..3_usize, rest in prop::collection::vec(any::<u8>(), 0..300)) {
        let start = [&b""[..], LINE_START, SIGNATURE][start];
        let octets = [start, &rest].concat();
        if let Ok(Start::Header(header)) = Start::read(&octets) {
            prop_assert!(header.length <= octets.len());
            prop_assert_eq!(Start::read(&octets[..header.length - 1]), Ok(Start::Unfinished));
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

fn read(octets: &[u8]) -> Header {
    match Start::read(octets).unwrap() {
        Start::Header(header) => header,
        other => panic!("{other:?}"),
    }
}

fn ends(header: Header) -> (String, String) {
    let addresses = header.addresses.unwrap();
    (addresses.client.to_string(), addresses.asked.to_string())
}

const V4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 1, 0x12, 0x34, 0, 53];

#[test]
fn a_line_tells_both_ends() {
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.1 4660 53\r\nrest";
    let header = read(line);
    assert_eq!((header.length, header.version), (line.len() - 4, 1));
    let told = ends(header);
    assert_eq!(told, ("192.0.2.1:4660".into(), "198.51.100.1:53".into()));
    let told = ends(read(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n"));
    assert_eq!(told, ("[2001:db8::1]:1".into(), "[::1]:2".into()));
    for unknown in [
        "PROXY UNKNOWN\r\n",
        "PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n",
    ] {
        assert_eq!(read(unknown.as_bytes()).addresses, None);
    }
}

#[test]
fn version_two_tells_both_ends_and_may_say_more() {
    let mut body = V4.to_vec();
    body.extend([4, 0, 1, 0]); // a field that means nothing
    let octets = binary_header(1, 0x11, &body);
    let header = read(&octets);
    assert_eq!((header.length, header.version), (octets.len(), 2));
    assert!(!header.addresses.unwrap().datagrams);
    let told = ends(header);
    assert_eq!(told, ("192.0.2.1:4660".into(), "198.51.100.1:53".into()));
    assert!(
        read(&binary_header(1, 0x12, V4))
            .addresses
            .unwrap()
            .datagrams
    );
    let mut v6 = [0; 36];
    (v6[15], v6[31], v6[33]) = (1, 2, 7);
    let told = ends(read(&binary_header(1, 0x21, &v6)));
    assert_eq!(told, ("[::1]:7".into(), "[::2]:0".into()));
    for nobody in [
        binary_header(0, 0x11, V4),
        binary_header(0, 0, &[]),
        binary_header(1, 0, &[]),
        binary_header(1, 0x31, &[0; 216]),
    ] {
        assert_eq!(read(&nobody).addresses, None);
    }
}

#[test]
fn every_prefix_is_unfinished_and_other_octets_are_bare() {
    for whole in [
        b"PROXY TCP4 192.0.2.1 198.51.100.1 4660 53\r\n".to_vec(),
        binary_header(1, 0x11, V4),
    ] {
        for end in 0..whole.len() {
            assert_eq!(Start::read(&whole[..end]), Ok(Start::Unfinished), "{end}");
        }
    }
    for bare in [&b"PROXZ"[..], b"\r\n\r\n\0\r\nQUIX\n", b"\0\x20", b"G"] {
        assert_eq!(Start::read(bare), Ok(Start::Bare));
    }
}

#[test]
fn what_is_no_header_is_told() {
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
fn those_who_are_named_are_believed() {
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
