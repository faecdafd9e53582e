use super::*;
use crate::cli::lab::{sample, scratch::Scratch};
use std::fs;

const ADDRESS: &str = "127.0.0.1:1053";

#[test]
fn the_sample_page_reads_as_it_should() {
    let parent = tempfile::tempdir().unwrap();
    let mut scratch = Scratch::make(parent.path()).unwrap();
    sample::lay_out(&mut scratch).unwrap();
    let objects = Objects::read(scratch.directory()).unwrap();
    assert_eq!(objects.unread, [""; 0]);
    let place = Place {
        address: ADDRESS.parse().unwrap(),
        directory: Path::new("/tmp/lodestone-lab-000000"),
        corefile: Path::new("/tmp/lodestone-lab-000000/Corefile"),
        sample: true,
        outside: true,
    };
    let page = text(&objects, &place);
    // To accept a change: print `page` into the file, and read the difference.
    assert_eq!(page, include_str!("sample.txt"), "the page is now:\n{page}");
}

#[test]
fn a_bad_document_leaves_the_rest_of_its_file_on_the_page() {
    let page = page_of(&[(
        "mine.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: eighty}]}}\n---\n\
         kind: [\n---\n{apiVersion: v1, kind: ServiceList, items: [{metadata: {name: b}}, \
         {metadata: {name: c}, spec: {clusterIP: 10.0.0.9, selector: null, ports: null}}]}\n",
    )]);
    for line in [
        "2 Namespaces, 2 Services and 0 Pods in ",
        "Not readable in part; the log has the line: mine.yaml\n",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
}

#[test]
fn a_page_speaks_of_what_is_there_and_of_nothing_else() {
    let page = page_of(&[(
        "mine.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: api}, spec: {clusterIP: 10.0.0.9, ports: [{port: 80}]}}",
    )]);
    for line in [
        "lodestone lab: your manifests, answered at 127.0.0.1 port 1053, UDP and TCP.",
        "2 Namespaces, 1 Service and 0 Pods in ",
        " is /tmp/Core file: edit it",
        ">> '/tmp/Core file'\n",
        "  # in full: 10.0.0.9",
        "  dig -p 1053 @127.0.0.1 +short api.default.svc.cluster.local",
        "  dig -p 1053 @127.0.0.1 +short +ndots=5 +domain=svc.cluster.local api.default",
        "  dig -p 1053 @127.0.0.1 +short -x 10.0.0.9",
    ] {
        assert!(page.contains(line), "{line:?} is not in\n{page}");
    }
    for word in [
        "NodePort",
        "SRV",
        "headless",
        "ExternalName",
        "alone, as a pod of",
    ] {
        assert!(!page.contains(word), "{word:?} is in\n{page}");
    }
}

#[test]
fn lists_slices_and_missing_addresses_are_completed() {
    let page = page_of(&[(
        "all.json",
        r#"{"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "a"},
             "spec": {"type": "NodePort", "ports": [{"port": 80}]}},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "peers", "namespace": "a"},
             "spec": {"clusterIP": "None", "ports": [{"name": "p", "port": 7}]}},
            {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
             "metadata": {"name": "peers-1", "namespace": "a", "labels": {"kubernetes.io/service-name": "peers"}},
             "endpoints": [{"addresses": ["10.1.0.1"]}, {"addresses": ["10.1.0.2"], "hostname": "two"},
                           {"addresses": ["10.1.0.3"], "conditions": {"ready": false}}]}
        ]}"#,
    )]);
    for line in [
        // Chosen as a cluster would, and always the same.
        "  # in full: 10.",
        "; its node ports is no matter of DNS",
        "headless: its ready pods, 10.1.0.1 and 10.1.0.2; 10.1.0.3 is not ready and not among them",
        "a pod of a StatefulSet, by its own name: 10.1.0.2",
        "such as 10-1-0-1.peers.a.svc.cluster.local.",
        "+short -x 10.1.0.1",
        "  dig -p 1053 @127.0.0.1 10-1-0-3.peers.a.svc.cluster.local | grep status",
    ] {
        assert!(page.contains(line), "{line:?} is not in\n{page}");
    }
}

#[test]
fn an_empty_directory_is_told_what_to_do() {
    let page = page_of(&[("notes.txt", "kind: Service")]);
    assert!(
        page.contains("There is no Service and no Pod in "),
        "{page}"
    );
    assert!(page.contains("lodestone lab\n"), "{page}");
    assert!(!page.contains("dig"), "{page}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let page = page_of(&[("bad.yaml", "kind: [Service"), ("worse.yml", "\u{0}")]);
    assert!(page.contains("left out here: bad.yaml\n"), "{page}");
    assert!(page.contains("left out here: worse.yml\n"), "{page}");
}

#[test]
fn a_server_at_every_address_is_asked_at_one() {
    assert_eq!(dig("0.0.0.0:53".parse().unwrap()), "dig -p 53 @127.0.0.1");
    assert_eq!(dig("[::]:53".parse().unwrap()), "dig -p 53 @::1");
    assert_eq!(dig("[::1]:1053".parse().unwrap()), "dig -p 1053 @::1");
}

fn page_of(files: &[(&str, &str)]) -> String {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(directory.path().join(name), content).unwrap();
    }
    let objects = Objects::read(directory.path()).unwrap();
    let place = Place {
        address: ADDRESS.parse().unwrap(),
        directory: directory.path(),
        corefile: Path::new("/tmp/Core file"),
        sample: false,
        outside: true,
    };
    text(&objects, &place)
}
