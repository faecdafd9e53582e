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
    query::Question,
    reply::{Reply, Section},
};

use crate::process::{self, Server};

const NAME: &str = "big.shop.svc.cluster.local.";

fn manifests() -> String {
    let mut text = String::from(
        "apiVersion: v1\nkind: Service\nmetadata: {name: big, namespace: shop}\n\
         spec: {clusterIP: None, ports: [{name: http, port: 80}]}\n",
    );
    for slice in 0..50 {
        let endpoint = |last: u8| format!("{{addresses: [10.1.{slice}.{last}]}}");
        let endpoints: Vec<_> = (0..100).map(endpoint).collect();
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

fn read(octets: &[u8]) -> (Question, Reply) {
    let mut reply = Reply::default();
    let question = read_reply(octets, &mut reply).unwrap();
    (question, reply)
}

#[test]
fn five_thousand_endpoints_are_cut_to_the_room_there_is() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("big.yaml"), manifests()).unwrap();
    let server = Server::start(&format!(
        ".:0 {{\n bind 127.0.0.1\n kubernetes cluster.local {{\n manifests {}\n }}\n}}\n",
        directory.path().display()
    ));
    let query = process::question(7, NAME, RecordType::A);

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(process::PATIENCE)).unwrap();
    socket.connect(server.address).unwrap();
    socket.send(&query).unwrap();
    let mut octets = vec![0; 65_535];
    let length = socket.recv(&mut octets).unwrap();
    let (_, cut) = read(&octets[..length]);
    assert!(cut.truncated && length <= 512);
    // The header and the question take 44 octets, each record 16.
    assert_eq!(cut.section(Section::Answer).len(), (512 - 44) / 16);

    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(process::PATIENCE)).unwrap();
    let framed = [
        &u16::try_from(query.len()).unwrap().to_be_bytes()[..],
        &query,
    ]
    .concat();
    stream.write_all(&framed).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut octets = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut octets).unwrap();
    let (_, whole) = read(&octets);
    // No message is longer than 65,535 octets: that much of it, said to be a part.
    let answers = whole.section(Section::Answer);
    assert!(whole.truncated);
    assert_eq!(answers.len(), (65_535 - 44) / 16);
    let addresses: BTreeSet<_> = answers.iter().map(|record| whole.data(record)).collect();
    assert_eq!(addresses.len(), answers.len(), "each once");
}
