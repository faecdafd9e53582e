use super::*;
use crate::{
    config::Source,
    corefile::{Disk, Severity},
};

/// `SEVERITY LINE: MESSAGE` of each diagnostic, with DIR for the directory.
fn messages(directory: &std::path::Path, text: &str) -> Vec<String> {
    let shown = directory.display().to_string();
    let text = text.replace("DIR", &shown);
    let source = Source {
        name: "Corefile",
        text: &text,
        loader: &Disk,
        interfaces: &crate::interfaces::Interfaces::default(),
        default_port: 53,
    };
    let config = Config::read(&source).unwrap();
    let found = trial(&config, 53).into_iter().map(|one| {
        let severity = match one.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let place = one.span.unwrap();
        let message = one.message.replace(&shown, "DIR");
        format!("{severity} {}:{}: {message}", place.line, place.column)
    });
    found.collect()
}

#[test]
fn files_are_checked_as_at_start() {
    let directory = tempfile::tempdir().unwrap();
    let host = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("cert.pem", &host.cert.pem());
    write("key.pem", &host.signing_key.serialize_pem());
    write("hosts", "192.0.2.1 a\n");
    write("empty", "");
    let good = "tls://. {\n    tls DIR/cert.pem DIR/key.pem\n    hosts DIR/hosts\n}\n";
    assert_eq!(messages(directory.path(), good), [""; 0]);
    let bad = "tls://. {\n    tls DIR/cert.pem DIR/empty\n    hosts DIR/none\n    \
        forward . DIR/resolv.conf\n}\n";
    let found = messages(directory.path(), bad);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(
        found[0].starts_with("warning 3:11: plugin/hosts: "),
        "{found:#?}"
    );
    assert!(
        found[1].starts_with("error 4:15: plugin/forward: "),
        "{found:#?}"
    );
    assert!(found[2].starts_with("error 2:"), "{found:#?}");
}

#[test]
fn file_errors_are_reported_at_the_argument() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).unwrap();
    };
    let [one, other] =
        ["a", "b"].map(|name| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap());
    write("cert", &one.cert.pem());
    write("otherkey", &other.signing_key.serialize_pem());
    write("cut", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    write("yaml", "apiVersion: v1\nclusters: [\n");
    let context = "apiVersion: v1\nkind: Config\nclusters: []\nusers: []\ncontexts: []\n";
    write("context", &format!("{context}current-context: nope\n"));
    for (lines, place, words) in [
        (
            "tls cert otherkey",
            "2:1",
            "the key does not belong to the certificate",
        ),
        ("tls cert none", "2:10", "it does not exist"),
        (
            "tls cut otherkey",
            "2:5",
            "'-----END CERTIFICATE-----' is missing",
        ),
        ("tls cert cert", "2:5", "it contains 'CERTIFICATE'"),
        (
            "kubernetes {\nkubeconfig yaml\n}",
            "3:12",
            "invalid YAML: unclosed bracket",
        ),
        (
            "kubernetes {\nkubeconfig context\n}",
            "3:12",
            "it has no context 'nope'",
        ),
        (
            "kubernetes {\nkubeconfig none\n}",
            "3:12",
            "cannot read DIR/none: it does not exist",
        ),
    ] {
        let root = format!("root {}\n", directory.path().display());
        let files = lines.replace("kubeconfig ", "kubeconfig DIR/");
        let scheme = if lines.starts_with("tls") {
            "tls://"
        } else {
            ""
        };
        let text = format!("{scheme}. {{\n{files}\nwhoami\n{root}}}\n");
        let found = messages(directory.path(), &text);
        assert_eq!(found.len(), 1, "{lines}: {found:#?}");
        assert!(found[0].contains(words), "{lines}: {found:#?}");
        assert!(
            found[0].starts_with(&format!("error {place}: ")),
            "{lines}: {found:#?}"
        );
        assert!(
            !found[0].contains('\n') && !found[0].contains("os error"),
            "{found:#?}"
        );
    }
}

#[test]
fn warnings_are_reported_at_the_line_concerned() {
    let directory = tempfile::tempdir().unwrap();
    let text = ".:53 {\n    file DIR/one.db a.example\n    file DIR/two.db b.example\n}\n";
    let found = messages(directory.path(), text);
    let places = ["warning 2:10: ", "warning 3:10: "];
    assert_eq!(found.len(), places.len(), "{found:#?}");
    for (message, place) in found.iter().zip(places) {
        assert!(message.starts_with(place), "{found:#?}");
    }
}

#[test]
fn blocks_of_one_listener_must_have_one_certificate() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let write = |ext: &str, text: String| {
            std::fs::write(directory.path().join(format!("{name}.{ext}")), text).unwrap();
        };
        write("pem", made.cert.pem());
        write("key", made.signing_key.serialize_pem());
    }
    let text = |scheme: &str, second: &str| {
        format!(
            "{scheme}://a.example {{\n    tls DIR/a.pem DIR/a.key\n    whoami\n}}\n\
             {scheme}://b.example {{\n    {second}\n    whoami\n}}\n"
        )
    };
    for scheme in ["tls", "https", "grpc", "quic", "https3"] {
        let same = text(scheme, "tls DIR/./a.pem DIR/./a.key");
        assert_eq!(messages(directory.path(), &same), [""; 0], "{scheme}");
        let other = text(scheme, "tls DIR/b.pem DIR/b.key");
        let found = messages(directory.path(), &other);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(
            found[0].starts_with("error 5:1: conflicting TLS"),
            "{found:#?}"
        );
        assert!(
            found[0].ends_with("server certificates differ"),
            "{found:#?}"
        );
    }
    // A block with a view shares its listener too.
    let view = text(
        "tls",
        "tls DIR/b.pem DIR/b.key\n    view v {\n        expr true\n    }",
    );
    let found = messages(directory.path(), &view.replace("b.example", "a.example"));
    assert!(
        found
            .iter()
            .any(|one| one.contains("server certificates differ")),
        "{found:#?}"
    );
    // An unreadable file is reported once, where it is loaded.
    let broken = text("tls", "tls DIR/none DIR/a.key");
    let found = messages(directory.path(), &broken);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("DIR/none"), "{found:#?}");
}

#[test]
fn missing_cluster_access_is_not_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let text = ".:53 {\n    kubernetes cluster.local {\n        pods verified\n    }\n    \
        k8s_external a.example\n    autopath @kubernetes\n    transfer {\n        to *\n    }\n}\n";
    assert_eq!(messages(directory.path(), text), [""; 0]);
    let text = ".:53 {\n    kubernetes cluster.local {\n        kubeconfig DIR/none\n    }\n}\n";
    let found = messages(directory.path(), text);
    assert!(
        found[0].starts_with("error 3:20: plugin/kubernetes: "),
        "{found:#?}"
    );
}

#[test]
fn manifests_are_read_as_after_the_start() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.yaml"), "kind: Service\nspec: [\n").unwrap();
    let text = ". {\n    kubernetes cluster.local {\n        manifests DIR\n    }\n}\n";
    let found = messages(directory.path(), text);
    assert_eq!(found.len(), 1, "{found:#?}");
    let wanted = "warning 3:19: plugin/kubernetes: manifests: DIR/a.yaml line ";
    assert!(found[0].starts_with(wanted), "{found:#?}");
}
