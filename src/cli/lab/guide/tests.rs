use super::*;
use crate::cli::lab::{sample, scratch::ScratchDirectory};
use std::fs;

const ADDRESS: &str = "127.0.0.1:1053";

fn outside() -> Addresses {
    let [internet, company, slow, dead] =
        [1153, 1154, 1155, 1156].map(|port| ([127, 0, 0, 1], port).into());
    Addresses {
        internet,
        company,
        slow,
        dead,
    }
}

#[test]
fn the_sample_page_matches_the_recorded_one() {
    let parent = tempfile::tempdir().unwrap();
    let mut scratch = ScratchDirectory::make(parent.path()).unwrap();
    sample::write_files(&mut scratch).unwrap();
    let objects = Objects::read(scratch.directory()).unwrap();
    assert_eq!(objects.unread, [""; 0]);
    let context = LabContext {
        address: ADDRESS.parse().unwrap(),
        directory: Path::new("/tmp/lodestone-lab-000000"),
        corefile: Path::new("/tmp/lodestone-lab-000000/Corefile"),
        sample: true,
        outside: outside(),
        program: "lodestone",
        page: Some("127.0.0.1:8053".parse().unwrap()),
    };
    let page = text(&objects, &context);
    // To accept a change: write `page` to the file and review the diff.
    assert_eq!(page, include_str!("sample.txt"), "the page is now:\n{page}");
}

#[test]
fn valid_documents_of_a_broken_file_are_shown() {
    let page = page_of(&[(
        "mine.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: eighty}]}}\n---\n\
         kind: [\n---\n{apiVersion: v1, kind: ServiceList, items: [{metadata: {name: b}}, \
         {metadata: {name: c}, spec: {clusterIP: 10.0.0.9, selector: null, ports: null}}]}\n",
    )]);
    for line in [
        "2 Namespaces, 2 Services and 0 Pods in ",
        "Partly invalid; the log names the line: mine.yaml\n",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
}

#[test]
fn only_topics_with_objects_are_shown() {
    let page = page_of(&[(
        "mine.yaml",
        "{apiVersion: v1, kind: Service, metadata: {name: api}, spec: {clusterIP: 10.0.0.9, ports: [{port: 80}]}}",
    )]);
    for line in [
        "lodestone lab: your manifests, answered at 127.0.0.1 port 1053, UDP and TCP.",
        "2 Namespaces, 1 Service and 0 Pods in ",
        " is /tmp/Core file: edits to it",
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
        // Deterministic, chosen as by a cluster.
        "  # in full: 10.",
        "; its node ports is not in DNS",
        "headless: its ready pods, 10.1.0.1 and 10.1.0.2; 10.1.0.3 is not ready and not among them",
        "a pod of a StatefulSet, by its own name: 10.1.0.2",
        "such as 10-1-0-1.peers.a.svc.cluster.local.",
        "+short -x 10.1.0.1",
        "  dig -p 1053 @127.0.0.1 10-1-0-3.peers.a.svc.cluster.local | grep -E 'status|EDE'",
    ] {
        assert!(page.contains(line), "{line:?} is not in\n{page}");
    }
}

#[test]
fn empty_directories_get_instructions() {
    let page = page_of(&[("notes.txt", "kind: Service")]);
    assert!(
        page.contains("There is no Service and no Pod in "),
        "{page}"
    );
    assert!(page.contains("lodestone lab\n"), "{page}");
    assert!(!page.contains("dig"), "{page}");
}

#[test]
fn unreadable_files_are_listed() {
    let page = page_of(&[("bad.yaml", "kind: [Service"), ("worse.yml", "\u{0}")]);
    assert!(page.contains("not shown here: bad.yaml\n"), "{page}");
    assert!(page.contains("not shown here: worse.yml\n"), "{page}");
}

#[test]
fn servers_on_all_addresses_are_queried_at_loopback() {
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
    let context = LabContext {
        address: ADDRESS.parse().unwrap(),
        directory: directory.path(),
        corefile: Path::new("/tmp/Core file"),
        sample: false,
        outside: outside(),
        program: "lodestone",
        page: None,
    };
    text(&objects, &context)
}
