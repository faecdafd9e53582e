//! A headless Service of five thousand endpoints, asked as clients ask: over datagrams, and anew
//! over a stream when told that something is missing.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
};

use hickory_proto::rr::RecordType;
use lodestone::{
    message::read_reply,
    reply::{Reply, Section},
    wire::Name,
};

use crate::process::{self, Server};

const NAME: &str = "big.shop.svc.cluster.local.";

/// A headless Service of so many slices of so many endpoints.
fn manifests(slices: u8, each: u8) -> String {
    let mut text = String::from(
        "apiVersion: v1\nkind: Service\nmetadata: {name: big, namespace: shop}\n\
         spec: {clusterIP: None, ports: [{name: http, port: 80}]}\n",
    );
    for slice in 0..slices {
        let endpoint = |last: u8| format!("{{addresses: [10.1.{slice}.{last}]}}");
        let endpoints: Vec<_> = (0..each).map(endpoint).collect();
        write!(
            text,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: big-{slice}, namespace: shop, labels: {{kubernetes.io/service-name: big}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: 80, protocol: TCP}}]\n\
             endpoints: [{}]\n",
            endpoints.join(", ")
        )
        .unwrap();
    }
    text
}

/// A server of that Service, and its manifests' directory.
fn serve(slices: u8, each: u8) -> (Server, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("big.yaml");
    std::fs::write(path, manifests(slices, each)).unwrap();
    let server = Server::start(&format!(
        ".:0 {{\n bind 127.0.0.1\n kubernetes cluster.local {{\n manifests {}\n }}\n}}\n",
        directory.path().display()
    ));
    (server, directory)
}

/// What comes back over a datagram.
fn ask_udp(server: &Server, query: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(process::PATIENCE)).unwrap();
    socket.connect(server.address).unwrap();
    socket.send(query).unwrap();
    let mut octets = vec![0; 65_535];
    let length = socket.recv(&mut octets).unwrap();
    octets.truncate(length);
    octets
}

/// What comes back over a stream.
fn ask_tcp(server: &Server, query: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(process::PATIENCE)).unwrap();
    let length = u16::try_from(query.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], query].concat()).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut octets = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut octets).unwrap();
    octets
}

fn read(octets: &[u8]) -> Reply {
    let mut reply = Reply::default();
    read_reply(octets, &mut reply).unwrap();
    reply
}

#[test]
fn five_thousand_endpoints_are_cut_to_the_room_there_is() {
    let (server, _directory) = serve(50, 100);
    let query = process::question(7, NAME, RecordType::A);
    let octets = ask_udp(&server, &query);
    let cut = read(&octets);
    assert!(cut.truncated && octets.len() <= 512);
    // The header and the question take 44 octets, each record 16.
    assert_eq!(cut.section(Section::Answer).len(), (512 - 44) / 16);

    let whole = read(&ask_tcp(&server, &query));
    // No message is longer than 65,535 octets: that much of it, said to be a part.
    let answers = whole.section(Section::Answer);
    assert!(whole.truncated);
    assert_eq!(answers.len(), (65_535 - 44) / 16);
    let addresses: BTreeSet<_> = answers.iter().map(|record| whole.data(record)).collect();
    assert_eq!(addresses.len(), answers.len(), "each once");
}

#[test]
fn addresses_of_srv_targets_that_do_not_fit_are_missed_and_targets_are_written_out() {
    let (server, _directory) = serve(1, 6);
    let query = process::question(7, NAME, RecordType::SRV);
    let cut = read(&ask_udp(&server, &query));
    assert_eq!(cut.section(Section::Answer).len(), 6);
    let glue = cut.section(Section::Additional).len();
    assert!(cut.truncated && (1..6).contains(&glue), "{glue} of 6");

    let octets = ask_tcp(&server, &query);
    let whole = read(&octets);
    assert!(!whole.truncated);
    assert_eq!(whole.section(Section::Additional).len(), 6);
    for last in 0..6 {
        let target = Name::parse(&format!("10-1-0-{last}.{NAME}")).unwrap();
        let written_out = octets.windows(target.as_wire().len());
        let times = written_out.filter(|it| *it == target.as_wire()).count();
        assert_eq!(times, 1, "once in the SRV record; the owner points there");
    }
}
