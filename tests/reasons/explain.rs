//! `lodestone explain`, by its command line.

use std::process::Output;

use super::{server::program, world};

fn explain(arguments: &[&str]) -> (Output, tempfile::TempDir) {
    let manifests = world::manifests();
    let output = program()
        .arg("explain")
        .args(arguments)
        .arg("--manifests")
        .arg(manifests.path())
        .output()
        .unwrap();
    (output, manifests)
}

fn shown(output: &Output) -> String {
    let both = [output.stdout.clone(), output.stderr.clone()].concat();
    String::from_utf8(both).unwrap()
}

#[test]
fn the_search_list_of_a_namespace_is_walked() {
    let (output, _manifests) = explain(&["web-service.payroll", "--from", "shop"]);
    let text = shown(&output);
    for wanted in [
        "with the search list shop.svc.cluster.local. svc.cluster.local. cluster.local. (ndots 5)",
        "1. web-service.payroll.shop.svc.cluster.local.",
        r#"NXDOMAIN: service "payroll" not found in namespace "shop""#,
        "object: none; there would have to be a Service shop/payroll",
        "2. web-service.payroll.svc.cluster.local.",
        "object: Service payroll/web-service, cluster address 10.96.42.10, ports http 80/tcp, metrics 9090/tcp",
        "web-service.payroll.svc.cluster.local. 5 IN A 10.96.42.10",
        "Answer: web-service.payroll.svc.cluster.local. (query 2)",
    ] {
        assert!(text.contains(wanted), "{wanted}:\n{text}");
    }
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_service_without_a_ready_endpoint_is_answered_with_a_caution() {
    let (output, _manifests) = explain(&["front"]);
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let wanted = "Caution: connections to Service default/front fail: it has no endpoint: no pod matches its \
                  selector, or its workload is scaled to 0\n";
    assert!(text.contains(wanted), "{text}");
    let (output, _manifests) = explain(&["db", "--from", "shop"]);
    assert!(!shown(&output).contains("Caution"), "{}", shown(&output));
}

#[test]
fn the_asking_pod_may_be_named() {
    let (output, _manifests) = explain(&["db", "--from", "shop/db-0", "--type", "srv"]);
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.contains("with the search list shop.svc.cluster.local."),
        "{text}"
    );
}

#[test]
fn an_address_stands_for_its_name_and_a_url_is_refused() {
    let (output, _manifests) = explain(&["10.96.42.10"]);
    let text = shown(&output);
    assert!(
        text.contains("10.42.96.10.in-addr.arpa. PTR, as a complete name"),
        "{text}"
    );
    assert!(
        text.contains("IN PTR web-service.payroll.svc.cluster.local."),
        "{text}"
    );
    let (output, _manifests) = explain(&["http://web-service.payroll:80/"]);
    let text = shown(&output);
    assert!(
        text.contains("it is a URL: use the host name in it"),
        "{text}"
    );
}

#[test]
fn programs_get_json() {
    let (output, _manifests) = explain(&[
        "_sql._tcp.db.shop.svc.cluster.local.",
        "--type",
        "srv",
        "--format",
        "json",
    ]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["answered"], true, "{value}");
    let query = &value["queries"][0];
    assert_eq!(query["rcode"], "NOERROR");
    assert_eq!(query["steps"][1]["plugin"], "kubernetes");
    assert_eq!(query["reason"], serde_json::Value::Null);
    let answer = query["answer"][0].as_str().unwrap();
    assert!(
        answer.ends_with("SRV 0 100 5432 db-0.db.shop.svc.cluster.local."),
        "{answer}"
    );
}

#[test]
fn mistakes_on_the_command_line_are_named() {
    for (arguments, wanted) in [
        (&["a..b"][..], "error: 'a..b' is no domain name"),
        (&["web", "--type", "AX"], "error: 'AX' is no record type"),
        (
            &["web", "--from", "shop/web-1"],
            "error: pod 'shop/web-1' is not known",
        ),
    ] {
        let (output, _manifests) = explain(arguments);
        let text = shown(&output);
        assert!(text.contains(wanted), "{arguments:?}: {text}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let output = program()
        .args(["explain", "web", "--conf", "/none"])
        .output()
        .unwrap();
    let text = shown(&output);
    assert!(text.contains("cannot read the Corefile /none"), "{text}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_missing_corefile_is_named() {
    let empty = tempfile::tempdir().unwrap();
    if std::path::Path::new("/etc/coredns/Corefile").exists() {
        eprintln!("skipped: this machine has a Corefile where a pod has it");
        return;
    }
    let output = program()
        .args(["explain", "web", "--socket", "off"])
        .env_remove("KUBERNETES_SERVICE_HOST")
        .current_dir(empty.path())
        .output()
        .unwrap();
    let text = shown(&output);
    let wanted = "error: no lodestone server is running here, and neither ./Corefile nor /etc/coredns/Corefile exists\n\
                  help: name a Corefile with --conf, or a DNS server to query with --server";
    assert!(text.contains(wanted), "{text}");
    assert_eq!(output.status.code(), Some(2));

    std::fs::write(empty.path().join("Corefile"), ".:1053 {\n whoami\n}\n").unwrap();
    let output = program()
        .args(["explain", "web.", "--socket", "off"])
        .current_dir(empty.path())
        .output()
        .unwrap();
    let text = shown(&output);
    assert!(text.contains("whoami"), "{text}");
}
