//! The parts that a build can leave out: refused by the name of their feature where they are missing,
//! and not needed by kubeadm's Corefile. `.ci/run` runs this with all features and with none.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::{fs, process::Output};

use hickory_proto::rr::RecordType;
use lodestone::features::Feature;

#[path = "process/server.rs"]
#[allow(dead_code)] // the tests of the process need the rest
mod process;

use process::{Server, program};

/// A use of each feature in a Corefile, and where it stands.
const USES: &[(Feature, &str, &str)] = &[
    (
        Feature::Dnstap,
        ".:53 {\n    dnstap /run/tap.sock\n}\n",
        "2:5",
    ),
    (Feature::Etcd, ".:53 {\n    etcd a.example\n}\n", "2:5"),
    (
        Feature::Grpc,
        ".:53 {\n    grpc . 192.0.2.1:443\n}\n",
        "2:5",
    ),
    (
        Feature::Grpc,
        ".:53 {\n    grpc_server {\n        max_streams 9\n    }\n}\n",
        "2:5",
    ),
    (Feature::Grpc, "grpc://.:443 {\n    whoami\n}\n", "1:1"),
    (
        Feature::Https,
        ".:53 {\n    forward . 192.0.2.1 https://192.0.2.2\n}\n",
        "2:25",
    ),
    (
        Feature::Https,
        ".:53 {\n    https {\n        max_streams 9\n    }\n}\n",
        "2:5",
    ),
    (Feature::Https, "https://.:443 {\n    whoami\n}\n", "1:1"),
    (
        Feature::Quic,
        ".:53 {\n    forward . quic://192.0.2.2\n}\n",
        "2:15",
    ),
    (
        Feature::Quic,
        ".:53 {\n    https3 {\n        max_streams 9\n    }\n}\n",
        "2:5",
    ),
    (
        Feature::Quic,
        ".:53 {\n    quic {\n        max_streams 9\n    }\n}\n",
        "2:5",
    ),
    (Feature::Quic, "https3://.:443 {\n    whoami\n}\n", "1:1"),
    (Feature::Quic, "quic://.:853 {\n    whoami\n}\n", "1:1"),
    (
        Feature::Template,
        ".:53 {\n    template IN A a.example {\n        rcode NXDOMAIN\n    }\n}\n",
        "2:5",
    ),
    (Feature::Trace, ".:53 {\n    trace\n}\n", "2:5"),
];

fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().unwrap()
}

#[test]
fn a_corefile_with_a_missing_feature_is_refused_by_the_features_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Corefile");
    for (feature, corefile, place) in USES {
        fs::write(&path, corefile).unwrap();
        let output = run(&["check", path.to_str().unwrap()]);
        let errors = String::from_utf8(output.stderr).unwrap();
        let missing = format!("built without the feature `{feature}`");
        assert_eq!(errors.contains(&missing), !feature.is_built(), "{errors}");
        if !feature.is_built() {
            assert_eq!(output.status.code(), Some(1), "{errors}");
            assert!(errors.contains(&format!("Corefile:{place}\n")), "{errors}");
            assert!(
                errors.contains(&format!("--features {feature}")),
                "{errors}"
            );
        }
    }
}

#[test]
fn every_feature_but_that_of_the_lab_has_a_use_here() {
    for feature in Feature::ALL {
        let uses = USES.iter().filter(|(of, ..)| *of == feature).count();
        assert_eq!(uses > 0, feature != Feature::Lab, "{feature}");
    }
}

#[test]
fn features_are_those_of_the_manifest_and_on_unless_a_build_says_otherwise() {
    let manifest = include_str!("../Cargo.toml");
    let list = Feature::ALL
        .map(|feature| format!("\"{feature}\""))
        .join(", ");
    assert!(
        manifest.contains(&format!("\ndefault = [{list}]\n")),
        "{list}"
    );
}

#[test]
fn the_verb_lab_is_there_or_names_its_feature() {
    let output = run(&["lab", "--help"]);
    assert_eq!(output.status.success(), Feature::Lab.is_built());
    let errors = String::from_utf8(output.stderr).unwrap();
    let missing = errors.contains("built without the feature `lab`");
    assert_eq!(missing, !Feature::Lab.is_built(), "{errors}");
}

#[test]
fn kubeadms_corefile_needs_no_feature() {
    let directory = tempfile::tempdir().unwrap();
    let manifests = directory.path().join("cluster.yaml");
    let service = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  namespace: shop\nspec:\n  \
                   clusterIP: 10.96.0.9\n  ports:\n  - port: 80\n";
    fs::write(manifests, service).unwrap();
    let folder = directory.path().display();
    let corefile = [
        (".:53 {", ".:0 {\n    bind 127.0.0.1"),
        ("    health {", "    health 127.0.0.1:0 {"),
        ("    ready\n", "    ready 127.0.0.1:0\n"),
        (
            "        pods insecure",
            &format!("        manifests {folder}\n        pods insecure"),
        ),
        ("prometheus :9153", "prometheus 127.0.0.1:0"),
        ("/etc/resolv.conf", "127.0.0.1:1"),
    ]
    .into_iter()
    .fold(
        include_str!("../Corefile.example").to_owned(),
        |text, (from, to)| {
            assert!(text.contains(from), "the example has no '{from}'");
            text.replace(from, to)
        },
    );
    let server = Server::start(&corefile);
    let reply = server.ask("web.shop.svc.cluster.local.", RecordType::A);
    assert_eq!(reply, "NoError 10.96.0.9");
}
